// The kernels for AVX2 and FMA: compiled with those flags, called only where the processor has them.
#include <immintrin.h>
#include <initializer_list>

#include "conv.h"

#define LANES 8
#define FORWARD_STATES 8
#define BACKWARD_STATES 4

namespace avx2 {
#include "simd.h"
#include "rows.h"
#include "kernel.h"
#include "kernel_backward.h"
#include "conv_kernel.h"
}  // namespace avx2

extern const Kernels avx2_kernels;
const Kernels avx2_kernels = {"avx2", LANES, avx2::forward_scratch, avx2::backward_scratch, avx2::forward, avx2::backward,
                              avx2::exponentials, avx2::softpluses,
                              avx2::conv_forward, avx2::conv_scratch, avx2::conv_backward};
