// Threads over the rows of the short convolution. Included by scan.cpp, after its driver.

namespace {

struct ConvUnit {
    int64_t item, begin, end;
};

std::vector<ConvUnit> conv_units(const Conv &conv) {
    std::vector<ConvUnit> units;
    for (int64_t item = 0; item < conv.num_items; item++) {
        const int64_t length = conv.items[item].length;
        for (int64_t begin = 0; begin < length; begin += CONV_ROWS)
            units.push_back({item, begin, begin + CONV_ROWS < length ? begin + CONV_ROWS : length});
    }
    return units;
}

}  // namespace

extern "C" {

int64_t vlm_conv_abi() { return sizeof(Conv); }
int64_t vlm_conv_rows() { return CONV_ROWS; }

// 0 when done, 1 without memory.
int64_t vlm_conv_forward(const char *name, const Conv *conv) {
    const Kernels *kernels = find(name);
    const std::vector<ConvUnit> units = conv_units(*conv);
    return !in_parallel(units.size(), conv->threads, 0, [&](int64_t unit, float *) {
        kernels->conv_forward(*conv, conv->items[units[unit].item], units[unit].begin, units[unit].end);
    });
}

int64_t vlm_conv_backward(const char *name, const Conv *conv) {
    const Kernels *kernels = find(name);
    const std::vector<ConvUnit> units = conv_units(*conv);
    return !in_parallel(units.size(), conv->threads, kernels->conv_scratch(*conv), [&](int64_t unit, float *scratch) {
        float *part = conv->parts + unit * (conv->taps + 1) * conv->d;
        kernels->conv_backward(*conv, conv->items[units[unit].item], units[unit].begin, units[unit].end, part, scratch);
    });
}
}
