// The kernels for AVX-512 (F, DQ, BW, VL): compiled with those flags, called only where the processor has them.
#include <immintrin.h>
#include <initializer_list>

#include "conv.h"

#define LANES 16
#define FORWARD_STATES 16
#define BACKWARD_STATES 8

namespace avx512 {
#include "simd.h"
#include "rows.h"
#include "kernel.h"
#include "kernel_backward.h"
#include "conv_kernel.h"
}  // namespace avx512

extern const Kernels avx512_kernels;
const Kernels avx512_kernels = {"avx512", LANES, avx512::forward_scratch, avx512::backward_scratch, avx512::forward, avx512::backward,
                              avx512::exponentials, avx512::softpluses,
                              avx512::conv_forward, avx512::conv_scratch, avx512::conv_backward};
