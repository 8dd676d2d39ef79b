// The short convolution: what Python, the driver and the kernels share. vlm/ssm/native/conv.py mirrors it with ctypes.
#pragma once

#include "scan.h"

// Rows of one unit of work: few enough that they stay in the cache between the passes over them. Part of the arithmetic.
constexpr int64_t CONV_ROWS = 32;

struct Conv {
    int64_t num_items, d, taps, reverse, threads;
    const Item *items;
    Rows x, out;
    const float *weight, *bias;  // (taps, d), the present step last; (d)
    // Backward only.
    Rows grad_out, grad_x;
    float *parts;  // (units, taps + 1, d): gradients of weight and, last, of bias
};
