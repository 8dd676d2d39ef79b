// What Python, the driver and the kernels share. Plain C layout: vlm/ssm/native/library.py mirrors it with ctypes.
#pragma once

#include <cstddef>
#include <cstdint>

// Steps of one tile. The forward pass keeps the state at the start of every tile, and the backward pass recomputes a tile from it.
constexpr int64_t TILE = 64;
// Channels of one unit of work. Part of the arithmetic: gradients of B and C are summed inside a chunk first, then over chunks.
constexpr int64_t CHUNK = 128;

enum Type : int32_t { FLOAT32 = 0, BFLOAT16 = 1 };

// (b, t, ...) with the last axis contiguous; strides count elements. data is null where the tensor is absent.
struct Rows {
    void *data;
    int64_t batch_stride, time_stride;
    int64_t type;
};

// One sequence: rows [start, start + length) of one row of the batch; rows from there to start + padded are written as zero.
struct Item {
    int64_t batch, start, length, padded;
    int64_t first_tile;  // number of its first tile among the tiles of all items
};

struct Scan {
    int64_t num_items, d, n, num_tiles;
    int64_t softplus, reverse, threads;
    int64_t num_slots;  // backward: items i, i + num_slots, ... share one partial gradient of A, D, delta_bias
    int64_t num_rows;   // backward: rows of one partial gradient of B and C, b * t
    int64_t t;
    const Item *items;
    Rows u, delta, z, B, C, out;
    const float *A, *D, *delta_bias, *initial_state;  // contiguous
    float *last_state;   // (items, d, n)
    float *checkpoints;  // (tiles, d rounded up to 16, n rounded up to 4) in the kernels' order, or null
    // Backward only.
    Rows grad_out, grad_u, grad_delta, grad_z;
    const float *grad_last;                          // (items, d, n) or null
    float *grad_initial;                             // (items, d, n) or null
    float *part_A, *part_D, *part_bias;              // (slots, d, n), (slots, d), (slots, d)
    float *part_B, *part_C;                          // (chunks, rows, n)
};

struct Conv;  // conv.h

struct Kernels {
    const char *name;
    int64_t lanes;
    int64_t (*forward_scratch)(const Scan &);  // floats
    int64_t (*backward_scratch)(const Scan &);
    void (*forward)(const Scan &, int64_t item, int64_t chunk, float *scratch);
    void (*backward)(const Scan &, int64_t slot, int64_t chunk, float *scratch);
    void (*exponential)(const float *in, float *out, int64_t count);  // count is a multiple of lanes
    void (*softplus)(const float *in, float *out, int64_t count);
    void (*conv_forward)(const Conv &, const Item &, int64_t begin, int64_t end);
    int64_t (*conv_scratch)(const Conv &);  // floats
    void (*conv_backward)(const Conv &, const Item &, int64_t begin, int64_t end, float *part, float *scratch);
};

static inline int64_t round_up(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }
static inline int64_t chunks_of(const Scan &scan) { return (scan.d + CHUNK - 1) / CHUNK; }
