// The backward pass of one chunk of channels over the items of one slot. Included inside the namespace of each kernel_*.cpp, after kernel.h.
//
// Tiles are taken from an item's last to its first. A tile is recomputed forward from its checkpoint, keeping the decay and the state before
// each step, and then run backward:
//     dh_t = g_t C_t + carry        carry = exp(delta A) dh_t        w = carry h_{t-1}
//     grad of delta u = sum of dh B over n        of delta A = w        of B = dh delta u        of C = g h
// where g is the gradient before the gate.

template <int STATES, bool MILD>
static void recompute_states(const float *A, const float *state, const float *delta, const float *input, const float *g, const float *B,
                             const float *C, float *y, float *grad_C, float *decays, float *before, int64_t steps, int64_t states, bool first,
                             const Ahead &ahead) {
    Vec h[STATES];
#pragma GCC unroll 16
    for (int k = 0; k < STATES; k++) h[k] = load(state + k * LANES);
    for (int64_t s = 0; s < steps; s++) {
        const Vec step = load(delta + s * LANES), in = load(input + s * LANES), grad = load(g + s * LANES);
        const float *b = B + s * states, *c = C + s * states;
        float *decay_row = decays + s * STATES * LANES, *before_row = before + s * STATES * LANES, *grad_row = grad_C + s * states * LANES;
        if (first) ahead.ask(s);
        Vec sum = first ? Vec{} : load(y + s * LANES);
#pragma GCC unroll 16
        for (int k = 0; k < STATES; k++) {
            const Vec a = decay<MILD>(step * load(A + k * LANES));
            store(decay_row + k * LANES, a);
            store(before_row + k * LANES, h[k]);
            h[k] = a * h[k] + in * b[k];
            sum += h[k] * c[k];
            store(grad_row + k * LANES, load(grad_row + k * LANES) + grad * h[k]);
        }
        store(y + s * LANES, sum);
    }
}

template <int STATES>
static void backward_states(const float *A, float *carried, float *grad_A, const float *delta, const float *input, const float *g,
                            const float *B, const float *C, float *grad_input, float *grad_decay, float *grad_B, const float *decays,
                            const float *before, int64_t steps, int64_t states, bool first, const Ahead &ahead) {
    Vec carry[STATES], sum_A[STATES];
#pragma GCC unroll 16
    for (int k = 0; k < STATES; k++) carry[k] = load(carried + k * LANES), sum_A[k] = load(grad_A + k * LANES);
    for (int64_t s = steps - 1; s >= 0; s--) {
        const Vec step = load(delta + s * LANES), in = load(input + s * LANES), grad = load(g + s * LANES);
        const float *b = B + s * states, *c = C + s * states;
        const float *decay_row = decays + s * STATES * LANES, *before_row = before + s * STATES * LANES;
        float *grad_row = grad_B + s * states * LANES;
        if (first) ahead.ask(s);
        Vec of_input = first ? Vec{} : load(grad_input + s * LANES), of_decay = first ? Vec{} : load(grad_decay + s * LANES);
#pragma GCC unroll 16
        for (int k = 0; k < STATES; k++) {
            const Vec dh = carry[k] + grad * c[k];
            store(grad_row + k * LANES, load(grad_row + k * LANES) + dh * in);
            of_input += dh * b[k];
            carry[k] = load(decay_row + k * LANES) * dh;
            const Vec w = carry[k] * load(before_row + k * LANES);
            sum_A[k] += w * step;
            of_decay += w * load(A + k * LANES);
        }
        store(grad_input + s * LANES, of_input);
        store(grad_decay + s * LANES, of_decay);
    }
#pragma GCC unroll 16
    for (int k = 0; k < STATES; k++) store(carried + k * LANES, carry[k]), store(grad_A + k * LANES, sum_A[k]);
}

// The buffers of one tile and one group: rows of LANES floats, except where said.
struct Tile {
    float *B, *C;                                                       // (step, states)
    float *delta, *slope, *u, *input, *g, *gate, *y, *grad_input, *grad_decay;
    float *decays, *before;                                             // (step, BACKWARD_STATES, LANES)
    float *grad_B, *grad_C;                                             // (step, states, LANES), summed over the chunk's groups
};

template <int STATES, bool MILD>
static void backward_block(const Tile &tile, int64_t k, const float *A, const float *state, float *carried, float *grad_A, int64_t steps,
                           int64_t states, const Ahead &reads, const Ahead &writes) {
    const int64_t at = k * LANES;
    recompute_states<STATES, MILD>(A + at, state + at, tile.delta, tile.input, tile.g, tile.B + k, tile.C + k, tile.y, tile.grad_C + at, tile.decays,
                             tile.before, steps, states, k == 0, reads);
    backward_states<STATES>(A + at, carried + at, grad_A + at, tile.delta, tile.input, tile.g, tile.B + k, tile.C + k, tile.grad_input,
                            tile.grad_decay, tile.grad_B + at, tile.decays, tile.before, steps, states, k == 0, writes);
}

static int64_t backward_scratch(const Scan &scan) {
    const int64_t states = round_up(scan.n, 4);
    return 2 * TILE * states + 9 * TILE * LANES + 2 * TILE * BACKWARD_STATES * LANES + 2 * TILE * states * LANES + 3 * CHUNK * states + 2 * CHUNK
           + 3 * states * LANES + 2 * LANES;
}

static void backward_item(const Scan &scan, int64_t item_number, int64_t chunk, const Tile &tile, const float *A, float *carried, float *grad_A,
                          float *grad_D, float *grad_bias) {
    const Item &item = scan.items[item_number];
    const int64_t n = scan.n, states = round_up(n, 4), groups = groups_of_chunk(scan, chunk), group_floats = states * LANES;
    const int64_t first_channel = chunk * CHUNK, tiles = (item.length + TILE - 1) / TILE;
    for (int64_t group = 0; group < groups; group++) {
        const int64_t channel = first_channel + group * LANES;
        const float *last = scan.grad_last ? scan.grad_last + (item_number * scan.d + channel) * n : nullptr;
        transpose_in(last, n, states, lanes_of(scan, channel), 1, carried + group * group_floats);
    }
    const Walk u_rows = walk(scan.u, item, scan.reverse), delta_rows = walk(scan.delta, item, scan.reverse);
    const Walk z_rows = walk(scan.z, item, scan.reverse), grad_rows = walk(scan.grad_out, item, scan.reverse);
    const Walk grad_u_rows = walk(scan.grad_u, item, scan.reverse), grad_delta_rows = walk(scan.grad_delta, item, scan.reverse);
    const Walk grad_z_rows = walk(scan.grad_z, item, scan.reverse);
    for (int64_t number = tiles - 1; number >= 0; number--) {
        const int64_t begin = number * TILE, steps = item.length - begin < TILE ? item.length - begin : TILE;
        read_weights(scan.B, item, scan.reverse, begin, steps, n, states, tile.B);
        read_weights(scan.C, item, scan.reverse, begin, steps, n, states, tile.C);
        __builtin_memset(tile.grad_B, 0, 4 * steps * group_floats);
        __builtin_memset(tile.grad_C, 0, 4 * steps * group_floats);
        for (int64_t group = 0; group < groups; group++) {
            const int64_t channel = first_channel + group * LANES, lanes = lanes_of(scan, channel);
            const Vec bias = per_channel(scan.delta_bias, channel, lanes), skip = per_channel(scan.D, channel, lanes);
            Vec longest = {};
            for (int64_t s = 0; s < steps; s++) {
                Vec step = read(delta_rows, begin + s, channel, lanes) + bias, slope = all(1.0f);
                if (scan.softplus) step = softplus(step, &slope);
                const Vec u = read(u_rows, begin + s, channel, lanes);
                Vec g = read(grad_rows, begin + s, channel, lanes);
                if (scan.z.data) {
                    const Vec gate = read(z_rows, begin + s, channel, lanes), open = logistic(gate);
                    store(tile.gate + s * LANES, g * open * (1.0f + gate * (1.0f - open)));
                    g *= gate * open;
                }
                longest = larger(longest, magnitude(step));
                store(tile.delta + s * LANES, step);
                store(tile.slope + s * LANES, slope);
                store(tile.u + s * LANES, u);
                store(tile.input + s * LANES, step * u);
                store(tile.g + s * LANES, g);
            }
            const float *A_group = A + group * group_floats, *state = checkpoint(scan, item.first_tile + number, channel, states);
            const bool mild = is_mild(longest * largest_of(A_group, states));
            float *carry = carried + group * group_floats, *sum_A = grad_A + group * group_floats;
            Ahead reads, writes;
            if (group + 1 < groups) {
                reads.add(u_rows, begin, channel + LANES);
                reads.add(delta_rows, begin, channel + LANES);
                reads.add(grad_rows, begin, channel + LANES);
                if (scan.z.data) reads.add(z_rows, begin, channel + LANES);
            }
            writes.add(grad_u_rows, begin, channel);
            writes.add(grad_delta_rows, begin, channel);
            if (scan.z.data) writes.add(grad_z_rows, begin, channel);
            for (int64_t k = 0; k < states;) {
                const bool wide = states - k >= 8 && BACKWARD_STATES >= 8;
                const auto run = wide ? (mild ? backward_block<8, true> : backward_block<8, false>)
                                      : (mild ? backward_block<4, true> : backward_block<4, false>);
                run(tile, k, A_group, state, carry, sum_A, steps, states, reads, writes);
                k += wide ? 8 : 4;
            }
            Vec sum_D = load(grad_D + group * LANES), sum_bias = load(grad_bias + group * LANES);
            for (int64_t s = 0; s < steps; s++) {
                const Vec u = load(tile.u + s * LANES), g = load(tile.g + s * LANES), of_input = load(tile.grad_input + s * LANES);
                const Vec of_delta = (of_input * u + LN_2 * load(tile.grad_decay + s * LANES)) * load(tile.slope + s * LANES);
                sum_D += g * u;
                sum_bias += of_delta;
                write(grad_u_rows, begin + s, channel, lanes, of_input * load(tile.delta + s * LANES) + skip * g);
                write(grad_delta_rows, begin + s, channel, lanes, of_delta);
                if (scan.z.data)
                    write(grad_z_rows, begin + s, channel, lanes, (load(tile.y + s * LANES) + skip * u) * load(tile.gate + s * LANES));
            }
            store(grad_D + group * LANES, sum_D);
            store(grad_bias + group * LANES, sum_bias);
        }
        for (int64_t s = 0; s < steps; s++) {
            const int64_t row = item.start + (scan.reverse ? item.length - 1 - begin - s : begin + s);
            const int64_t at = ((chunk * scan.num_rows) + item.batch * scan.t + row) * n;
            sum_lanes(tile.grad_B + s * group_floats, n, scan.part_B + at);
            sum_lanes(tile.grad_C + s * group_floats, n, scan.part_C + at);
        }
    }
    for (int64_t group = 0; group < groups && scan.grad_initial; group++) {
        const int64_t channel = first_channel + group * LANES;
        transpose_out(carried + group * group_floats, n, lanes_of(scan, channel), scan.grad_initial + (item_number * scan.d + channel) * n);
    }
    const int64_t channels = scan.d - first_channel < CHUNK ? scan.d - first_channel : CHUNK;
    clear_padding(scan.grad_u, item, first_channel, channels);
    clear_padding(scan.grad_delta, item, first_channel, channels);
    if (scan.z.data) clear_padding(scan.grad_z, item, first_channel, channels);
    for (int64_t row = item.start + item.length; row < item.start + item.padded; row++) {
        const int64_t at = ((chunk * scan.num_rows) + item.batch * scan.t + row) * n;
        __builtin_memset(scan.part_B + at, 0, 4 * n);
        __builtin_memset(scan.part_C + at, 0, 4 * n);
    }
}

static void backward(const Scan &scan, int64_t slot, int64_t chunk, float *scratch) {
    const int64_t n = scan.n, states = round_up(n, 4), groups = groups_of_chunk(scan, chunk), group_floats = states * LANES;
    Tile tile;
    float *next = scratch;
    const auto take = [&next](int64_t floats) { return (next += floats) - floats; };
    tile.decays = take(TILE * BACKWARD_STATES * LANES), tile.before = take(TILE * BACKWARD_STATES * LANES);
    tile.grad_B = take(TILE * group_floats), tile.grad_C = take(TILE * group_floats);
    for (float **rows : {&tile.delta, &tile.slope, &tile.u, &tile.input, &tile.g, &tile.gate, &tile.y, &tile.grad_input, &tile.grad_decay})
        *rows = take(TILE * LANES);
    tile.B = take(TILE * states), tile.C = take(TILE * states);
    float *A = take(groups * group_floats), *carried = take(groups * group_floats), *grad_A = take(groups * group_floats);
    float *grad_D = take(groups * LANES), *grad_bias = take(groups * LANES);
    __builtin_memset(grad_A, 0, 4 * (groups * group_floats));
    __builtin_memset(grad_D, 0, 4 * (2 * groups * LANES));
    const int64_t first_channel = chunk * CHUNK;
    for (int64_t group = 0; group < groups; group++) {
        const int64_t channel = first_channel + group * LANES;
        transpose_in(scan.A + channel * n, n, states, lanes_of(scan, channel), LOG2_E, A + group * group_floats);
    }
    for (int64_t item = slot; item < scan.num_items; item += scan.num_slots)
        backward_item(scan, item, chunk, tile, A, carried, grad_A, grad_D, grad_bias);
    for (int64_t group = 0; group < groups; group++) {
        const int64_t channel = first_channel + group * LANES, lanes = lanes_of(scan, channel), at = slot * scan.d + channel;
        transpose_out(grad_A + group * group_floats, n, lanes, scan.part_A + at * n);
        __builtin_memcpy(scan.part_D + at, grad_D + group * LANES, 4 * lanes);
        __builtin_memcpy(scan.part_bias + at, grad_bias + group * LANES, 4 * lanes);
    }
}
