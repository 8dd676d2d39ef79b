// Depthwise causal convolution with SiLU over rows [begin, end) of one item, counted in the order of the scan. Included as kernel.h is.

// One number a channel; quick where the group is full.
INLINE Vec numbers(const float *from, int64_t channel, int64_t lanes) {
    return lanes == LANES ? load(from + channel) : per_channel(from, channel, lanes);
}

// The convolution before its SiLU, of one step and one group of channels.
INLINE Vec conv_linear(const Conv &conv, const Walk &x, int64_t step, int64_t channel, int64_t lanes) {
    Vec sum = numbers(conv.bias, channel, lanes);
    const int64_t seen = step < conv.taps - 1 ? step + 1 : conv.taps;
    for (int64_t back = 0; back < seen; back++)
        sum += numbers(conv.weight + (conv.taps - 1 - back) * conv.d, channel, lanes) * read(x, step - back, channel, lanes);
    return sum;
}

// The same with everything known: full groups of float32, away from the item's begin.
template <int64_t TAPS>
INLINE Vec conv_linear_full(const Conv &conv, const Walk &x, int64_t step, int64_t channel) {
    Vec sum = load(conv.bias + channel);
    for (int64_t back = 0; back < TAPS; back++)
        sum += load(conv.weight + (TAPS - 1 - back) * conv.d + channel) * load(x.floats(step - back) + channel);
    return sum;
}

INLINE Vec conv_at(const Conv &conv, const Walk &x, int64_t step, int64_t channel, int64_t lanes) {
    if (conv.taps == 4 && step >= 3 && lanes == LANES && x.type == FLOAT32) return conv_linear_full<4>(conv, x, step, channel);
    return conv_linear(conv, x, step, channel, lanes);
}

INLINE int64_t lanes_at(int64_t d, int64_t channel) { return d - channel < LANES ? d - channel : LANES; }

static void conv_forward(const Conv &conv, const Item &item, int64_t begin, int64_t end) {
    const Walk x = walk(conv.x, item, conv.reverse), out = walk(conv.out, item, conv.reverse);
    for (int64_t step = begin; step < end; step++)
        for (int64_t channel = 0; channel < conv.d; channel += LANES) {
            const int64_t lanes = lanes_at(conv.d, channel);
            const Vec linear = conv_at(conv, x, step, channel, lanes);
            write(out, step, channel, lanes, linear * logistic(linear));
        }
}

static int64_t conv_scratch(const Conv &conv) { return (CONV_ROWS + conv.taps - 1) * round_up(conv.d, LANES); }

// The gradients of weight and bias for one group of channels. Sums and the window of inputs stay in registers while the rows are walked down.
template <int64_t TAPS>
INLINE void conv_sums(const Conv &conv, const Walk &x, int64_t begin, int64_t end, int64_t channel, int64_t lanes, const float *slopes,
                      int64_t width, float *part) {
    Vec sums[TAPS + 1] = {}, window[TAPS] = {};
    for (int64_t back = 1; back < TAPS; back++)
        if (begin >= back) window[TAPS - 1 - back] = read(x, begin - back, channel, lanes);
    for (int64_t step = begin; step < end; step++, slopes += width) {
        const Vec slope = load(slopes);
        window[TAPS - 1] = read(x, step, channel, lanes);
        for (int64_t tap = 0; tap < TAPS; tap++) sums[tap] += slope * window[tap];
        sums[TAPS] += slope;
        for (int64_t tap = 1; tap < TAPS; tap++) window[tap - 1] = window[tap];
    }
    for (int64_t tap = 0; tap <= TAPS; tap++) __builtin_memcpy(part + tap * conv.d + channel, &sums[tap], 4 * lanes);
}

// grad_x of the rows, and their part of the gradients of weight and bias. The slope of SiLU is computed again, also for the rows after them,
// which these rows reach.
static void conv_backward(const Conv &conv, const Item &item, int64_t begin, int64_t end, float *part, float *scratch) {
    const Walk x = walk(conv.x, item, conv.reverse), grad_out = walk(conv.grad_out, item, conv.reverse);
    const Walk grad_x = walk(conv.grad_x, item, conv.reverse);
    const int64_t width = round_up(conv.d, LANES);
    const int64_t last = end + conv.taps - 1 < item.length ? end + conv.taps - 1 : item.length;
    for (int64_t step = begin; step < last; step++)
        for (int64_t channel = 0; channel < conv.d; channel += LANES) {
            const int64_t lanes = lanes_at(conv.d, channel);
            const Vec linear = conv_at(conv, x, step, channel, lanes), open = logistic(linear);
            const Vec slope = read(grad_out, step, channel, lanes) * open * (1.0f + linear * (1.0f - open));
            store(scratch + (step - begin) * width + channel, slope);
        }
    for (int64_t step = begin; step < end; step++) {
        const int64_t reached = last - step < conv.taps ? last - step : conv.taps;
        for (int64_t channel = 0; channel < conv.d; channel += LANES) {
            const int64_t lanes = lanes_at(conv.d, channel);
            const float *slopes = scratch + (step - begin) * width + channel;
            Vec sum = {};
            for (int64_t ahead = 0; ahead < reached; ahead++)
                sum += numbers(conv.weight + (conv.taps - 1 - ahead) * conv.d, channel, lanes) * load(slopes + ahead * width);
            write(grad_x, step, channel, lanes, sum);
        }
    }
    for (int64_t channel = 0; channel < conv.d; channel += LANES) {
        const int64_t lanes = lanes_at(conv.d, channel);
        if (conv.taps == 4) {
            conv_sums<4>(conv, x, begin, end, channel, lanes, scratch + channel, width, part);
            continue;
        }
        for (int64_t tap = 0; tap <= conv.taps; tap++) {
            const int64_t back = conv.taps - 1 - tap;  // -1 for the bias
            Vec sum = {};
            for (int64_t step = begin; step < end; step++) {
                const Vec slope = load(scratch + (step - begin) * width + channel);
                if (tap == conv.taps) sum += slope;
                else if (step >= back) sum += slope * read(x, step - back, channel, lanes);
            }
            __builtin_memcpy(part + tap * conv.d + channel, &sum, 4 * lanes);
        }
    }
}
