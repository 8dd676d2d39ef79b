// The forward pass of one item and one chunk of channels. Included inside the namespace of each kernel_*.cpp, after rows.h.
//
// A vector holds LANES neighbouring channels; the states of one group of channels stay in registers over a tile of steps, in blocks of at
// most FORWARD_STATES. Around that loop, tile by tile, rows are read and written in loops of independent steps, so that many cache misses
// are under way at once.

INLINE int64_t groups_of_chunk(const Scan &scan, int64_t chunk) {
    const int64_t channels = scan.d - chunk * CHUNK < CHUNK ? scan.d - chunk * CHUNK : CHUNK;
    return (channels + LANES - 1) / LANES;
}
INLINE int64_t lanes_of(const Scan &scan, int64_t channel) { return scan.d - channel < LANES ? scan.d - channel : LANES; }
INLINE float *checkpoint(const Scan &scan, int64_t tile, int64_t channel, int64_t states) {
    return scan.checkpoints + (tile * round_up(scan.d, 16) + channel) * states;
}

// The largest size in each lane of some vectors.
INLINE Vec largest_of(const float *vectors, int64_t count) {
    Vec largest = {};
    for (int64_t k = 0; k < count; k++) largest = larger(largest, magnitude(load(vectors + k * LANES)));
    return largest;
}

template <int STATES, bool MILD>
static void forward_states(const float *A, float *state, const float *delta, const float *input, const float *B, const float *C, float *y,
                           int64_t steps, int64_t states, bool first, const Ahead &ahead) {
    Vec h[STATES];
#pragma GCC unroll 16
    for (int k = 0; k < STATES; k++) h[k] = load(state + k * LANES);
    for (int64_t s = 0; s < steps; s++) {
        const Vec step = load(delta + s * LANES), in = load(input + s * LANES);
        const float *b = B + s * states, *c = C + s * states;
        if (first) ahead.ask(s);
        Vec even = first ? Vec{} : load(y + s * LANES), odd = {};
#pragma GCC unroll 16
        for (int k = 0; k < STATES; k++) {
            h[k] = decay<MILD>(step * load(A + k * LANES)) * h[k] + in * b[k];
            if (k % 2) odd += h[k] * c[k];
            else even += h[k] * c[k];
        }
        store(y + s * LANES, even + odd);
    }
#pragma GCC unroll 16
    for (int k = 0; k < STATES; k++) store(state + k * LANES, h[k]);
}

template <bool MILD>
static void forward_tile(const float *A, float *state, const float *delta, const float *input, const float *B, const float *C, float *y,
                         int64_t steps, int64_t states, const Ahead &ahead) {
    for (int64_t k = 0; k < states;) {
        const int64_t left = states - k;
        const int64_t at = k * LANES;
        if (left >= 16 && FORWARD_STATES >= 16) {
            forward_states<16, MILD>(A + at, state + at, delta, input, B + k, C + k, y, steps, states, k == 0, ahead);
            k += 16;
        } else if (left >= 8) {
            forward_states<8, MILD>(A + at, state + at, delta, input, B + k, C + k, y, steps, states, k == 0, ahead);
            k += 8;
        } else {
            forward_states<4, MILD>(A + at, state + at, delta, input, B + k, C + k, y, steps, states, k == 0, ahead);
            k += 4;
        }
    }
}

// Step sizes and inputs of a tile for one group of channels; returns the largest step in each lane.
template <bool WHOLE, bool SOFT>
static Vec read_steps(const Scan &scan, const Walk &u_rows, const Walk &delta_rows, int64_t begin, int64_t steps, int64_t channel,
                      float *delta, float *input) {
    const int64_t lanes = WHOLE ? LANES : lanes_of(scan, channel);
    const Vec bias = per_channel(scan.delta_bias, channel, lanes);
    Vec longest = {};
    for (int64_t s = 0; s < steps; s++) {
        Vec step = read<WHOLE>(delta_rows, begin + s, channel, lanes) + bias;
        if (SOFT) step = softplus(step);
        longest = larger(longest, magnitude(step));
        store(delta + s * LANES, step);
        store(input + s * LANES, step * read<WHOLE>(u_rows, begin + s, channel, lanes));
    }
    return longest;
}

// The outputs of a tile for one group of channels, from what the states give.
template <bool WHOLE>
static void write_steps(const Scan &scan, const Walk &u_rows, const Walk &z_rows, const Walk &out_rows, int64_t begin, int64_t steps,
                        int64_t channel, const float *y) {
    const int64_t lanes = WHOLE ? LANES : lanes_of(scan, channel);
    const Vec skip = per_channel(scan.D, channel, lanes);
    const bool gated = scan.z.data;
    for (int64_t s = 0; s < steps; s++) {
        Vec out = load(y + s * LANES) + skip * read<WHOLE>(u_rows, begin + s, channel, lanes);
        if (gated) {
            const Vec gate = read<WHOLE>(z_rows, begin + s, channel, lanes);
            out *= gate * logistic(gate);
        }
        write<WHOLE>(out_rows, begin + s, channel, lanes, out);
    }
}

static int64_t forward_scratch(const Scan &scan) {
    const int64_t states = round_up(scan.n, 4);
    return 2 * TILE * states + 3 * TILE * LANES + 2 * CHUNK * states + 2 * LANES * states;
}

static void forward(const Scan &scan, int64_t item_number, int64_t chunk, float *scratch) {
    const Item &item = scan.items[item_number];
    const int64_t n = scan.n, states = round_up(n, 4), groups = groups_of_chunk(scan, chunk), group_floats = states * LANES;
    float *B = scratch, *C = B + TILE * states, *delta = C + TILE * states, *input = delta + TILE * LANES, *y = input + TILE * LANES;
    float *A = y + TILE * LANES, *state = A + groups * group_floats;
    const int64_t first_channel = chunk * CHUNK;
    for (int64_t g = 0; g < groups; g++) {
        const int64_t channel = first_channel + g * LANES, lanes = lanes_of(scan, channel);
        const float *initial = scan.initial_state ? scan.initial_state + (item_number * scan.d + channel) * n : nullptr;
        transpose_in(scan.A + channel * n, n, states, lanes, LOG2_E, A + g * group_floats);
        transpose_in(initial, n, states, lanes, 1, state + g * group_floats);
    }
    const Walk u_rows = walk(scan.u, item, scan.reverse), delta_rows = walk(scan.delta, item, scan.reverse);
    const Walk z_rows = walk(scan.z, item, scan.reverse), out_rows = walk(scan.out, item, scan.reverse);
    const bool whole = !(scan.u.type | scan.delta.type | scan.z.type | scan.out.type);
    for (int64_t begin = 0; begin < item.length; begin += TILE) {
        const int64_t steps = item.length - begin < TILE ? item.length - begin : TILE;
        read_weights(scan.B, item, scan.reverse, begin, steps, n, states, B);
        read_weights(scan.C, item, scan.reverse, begin, steps, n, states, C);
        for (int64_t g = 0; g < groups; g++) {
            const int64_t channel = first_channel + g * LANES, lanes = lanes_of(scan, channel);
            float *h = state + g * group_floats;
            if (scan.checkpoints)
                __builtin_memcpy(checkpoint(scan, item.first_tile + begin / TILE, channel, states), h, 4 * group_floats);
            const auto read_them = whole && lanes == LANES ? (scan.softplus ? read_steps<true, true> : read_steps<true, false>)
                                                           : (scan.softplus ? read_steps<false, true> : read_steps<false, false>);
            const Vec longest = read_them(scan, u_rows, delta_rows, begin, steps, channel, delta, input);
            const bool mild = is_mild(longest * largest_of(A + g * group_floats, states));
            Ahead ahead;
            if (scan.z.data) ahead.add(z_rows, begin, channel);
            ahead.add(out_rows, begin, channel);
            if (g + 1 < groups) {
                ahead.add(u_rows, begin, channel + LANES);
                ahead.add(delta_rows, begin, channel + LANES);
            } else if (begin + 2 * TILE <= item.length) {
                ahead.add(u_rows, begin + TILE, first_channel);
                ahead.add(delta_rows, begin + TILE, first_channel);
            }
            (mild ? forward_tile<true> : forward_tile<false>)(A + g * group_floats, h, delta, input, B, C, y, steps, states, ahead);
            (whole && lanes == LANES ? write_steps<true> : write_steps<false>)(scan, u_rows, z_rows, out_rows, begin, steps, channel, y);
        }
    }
    for (int64_t g = 0; g < groups; g++) {
        const int64_t channel = first_channel + g * LANES;
        transpose_out(state + g * group_floats, n, lanes_of(scan, channel), scan.last_state + (item_number * scan.d + channel) * n);
    }
    clear_padding(scan.out, item, first_channel, scan.d - first_channel < CHUNK ? scan.d - first_channel : CHUNK);
}

static void exponentials(const float *in, float *out, int64_t count) {
    for (int64_t i = 0; i < count; i += LANES) store(out + i, exponential(load(in + i)));
}
static void softpluses(const float *in, float *out, int64_t count) {
    for (int64_t i = 0; i < count; i += LANES) store(out + i, softplus(load(in + i)));
}
