// The kernels for every other processor: four lanes, which SSE2 and NEON have.
#include <initializer_list>

#include "scan.h"

#define LANES 4
#define FORWARD_STATES 8
#define BACKWARD_STATES 4

namespace plain {
#include "simd.h"
#include "rows.h"
#include "kernel.h"
#include "kernel_backward.h"
}  // namespace plain

extern const Kernels plain_kernels;
const Kernels plain_kernels = {"plain", LANES, plain::forward_scratch, plain::backward_scratch, plain::forward, plain::backward,
                              plain::exponentials, plain::softpluses};
