// Between tensors and vectors: rows of either type, in scan order, with a last group of fewer than LANES channels.
// Included inside the namespace of each kernel_*.cpp, after simd.h.

struct Walk {
    char *first;      // the element of channel 0 at the first step that is scanned
    int64_t bytes;    // to the next step
    int64_t type;

    float *floats(int64_t step) const { return (float *)(first + step * bytes); }
    uint16_t *halves(int64_t step) const { return (uint16_t *)(first + step * bytes); }
};

INLINE Walk walk(const Rows &rows, const Item &item, int64_t reverse) {
    const int64_t size = rows.type == FLOAT32 ? 4 : 2;
    const int64_t row = item.start + (reverse ? item.length - 1 : 0);
    char *first = (char *)rows.data + (item.batch * rows.batch_stride + row * rows.time_stride) * size;
    return {first, (reverse ? -rows.time_stride : rows.time_stride) * size, rows.type};
}

// Lines that are wanted soon: one of each of up to four tensors a step, asked for while the processor is busy with arithmetic.
struct Ahead {
    const char *at[4];
    int64_t bytes[4];
    int count = 0;

    void add(const Walk &rows, int64_t step, int64_t channel) {
        at[count] = rows.first + step * rows.bytes + channel * (rows.type == FLOAT32 ? 4 : 2);
        bytes[count++] = rows.bytes;
    }
    void ask(int64_t step) const {
        for (int i = 0; i < count; i++) __builtin_prefetch(at[i] + step * bytes[i], 0, 2);
    }
};

// WHOLE says that rows are float32 and lanes are LANES.
template <bool WHOLE = false>
INLINE Vec read(const Walk &rows, int64_t step, int64_t channel, int64_t lanes) {
    if (WHOLE) return load(rows.floats(step) + channel);
    if (rows.type == FLOAT32) {
        const float *from = rows.floats(step) + channel;
        if (lanes == LANES) return load(from);
        Vec value = {};
        __builtin_memcpy(&value, from, 4 * lanes);
        return value;
    }
    const uint16_t *from = rows.halves(step) + channel;
    if (lanes == LANES) return load_bfloat16(from);
    uint16_t padded[LANES] = {};
    __builtin_memcpy(padded, from, 2 * lanes);
    return load_bfloat16(padded);
}

template <bool WHOLE = false>
INLINE void write(const Walk &rows, int64_t step, int64_t channel, int64_t lanes, Vec value) {
    if (WHOLE) return store(rows.floats(step) + channel, value);
    if (rows.type == FLOAT32) {
        float *to = rows.floats(step) + channel;
        if (lanes == LANES) store(to, value);
        else __builtin_memcpy(to, &value, 4 * lanes);
        return;
    }
    uint16_t *to = rows.halves(step) + channel;
    if (lanes == LANES) return store_bfloat16(to, value);
    uint16_t padded[LANES];
    store_bfloat16(padded, value);
    __builtin_memcpy(to, padded, 2 * lanes);
}

// One number a channel, zero where absent.
INLINE Vec per_channel(const float *values, int64_t channel, int64_t lanes) {
    Vec value = {};
    if (values) __builtin_memcpy(&value, values + channel, 4 * lanes);
    return value;
}

// Zeros in the rows beyond the item's end, for the channels of one chunk.
static void clear_padding(const Rows &rows, const Item &item, int64_t channel, int64_t channels) {
    const int64_t size = rows.type == FLOAT32 ? 4 : 2;
    for (int64_t row = item.start + item.length; row < item.start + item.padded; row++)
        __builtin_memset((char *)rows.data + (item.batch * rows.batch_stride + row * rows.time_stride + channel) * size, 0, channels * size);
}

// B or C of some steps as floats (step, states), zero in the states beyond n.
static void read_weights(const Rows &rows, const Item &item, int64_t reverse, int64_t begin, int64_t steps, int64_t n, int64_t states, float *to) {
    const Walk from = walk(rows, item, reverse);
    for (int64_t s = 0; s < steps; s++, to += states) {
        if (from.type == FLOAT32) {
            const float *row = from.floats(begin + s);
            for (int64_t k = 0; k < n; k++) to[k] = row[k];
        } else {
            const uint16_t *row = from.halves(begin + s);
            for (int64_t k = 0; k < n; k++) {
                const uint32_t bits = (uint32_t)row[k] << 16;
                __builtin_memcpy(to + k, &bits, 4);
            }
        }
        for (int64_t k = n; k < states; k++) to[k] = 0;
    }
}

// (channels, n) of one group as (states, LANES), and back; lanes and states that the problem does not have are 0.
static void transpose_in(const float *from, int64_t n, int64_t states, int64_t lanes, float factor, float *to) {
    __builtin_memset(to, 0, 4 * states * LANES);
    if (from)
        for (int64_t lane = 0; lane < lanes; lane++)
            for (int64_t k = 0; k < n; k++) to[k * LANES + lane] = factor * from[lane * n + k];
}
static void transpose_out(const float *from, int64_t n, int64_t lanes, float *to) {
    for (int64_t lane = 0; lane < lanes; lane++)
        for (int64_t k = 0; k < n; k++) to[lane * n + k] = from[k * LANES + lane];
}
