// The kernels for every other processor: four lanes, which SSE2 and NEON have.
#include <initializer_list>

#include "conv.h"

#define LANES 4
#define FORWARD_STATES 8
#define BACKWARD_STATES 4

namespace plain {
#include "simd.h"
#include "rows.h"
#include "kernel.h"
#include "kernel_backward.h"
#include "conv_kernel.h"
}  // namespace plain

extern const Kernels plain_kernels;
const Kernels plain_kernels = {"plain", LANES, plain::forward_scratch, plain::backward_scratch, plain::forward, plain::backward,
                              plain::exponentials, plain::softpluses,
                              plain::conv_forward, plain::conv_scratch, plain::conv_backward};
