// Vectors of LANES floats by the compilers' vector extension, which GCC and Clang have for every processor.
// Included once by each kernel_*.cpp inside that file's own namespace: code made for one processor must never be linked into another's.

typedef float Vec __attribute__((vector_size(4 * LANES)));
typedef int32_t VecInt __attribute__((vector_size(4 * LANES)));
typedef uint16_t VecShort __attribute__((vector_size(2 * LANES)));

#define INLINE static inline __attribute__((always_inline))

INLINE Vec all(float value) { return value - Vec{}; }
INLINE VecInt all_int(int32_t value) { return value - VecInt{}; }
INLINE Vec as_float(VecInt bits) { return (Vec)bits; }
INLINE VecInt as_int(Vec value) { return (VecInt)value; }
INLINE Vec choose(VecInt mask, Vec yes, Vec no) { return as_float((mask & as_int(yes)) | (~mask & as_int(no))); }

INLINE Vec load(const float *from) {
    Vec value;
    __builtin_memcpy(&value, from, sizeof value);
    return value;
}
INLINE void store(float *to, Vec value) { __builtin_memcpy(to, &value, sizeof value); }

INLINE Vec load_bfloat16(const uint16_t *from) {
    VecShort half;
    __builtin_memcpy(&half, from, sizeof half);
    return as_float(__builtin_convertvector(half, VecInt) << 16);
}
INLINE void store_bfloat16(uint16_t *to, Vec value) {
    const VecInt bits = as_int(value);
    // To the nearest, ties to even; NaN stays NaN.
    const VecInt rounded = bits + 0x7fff + ((bits >> 16) & 1);
    const VecInt kept = ((value == value) & (rounded >> 16)) | ((value != value) & ((bits >> 16) | 0x40));
    const VecShort half = __builtin_convertvector(kept, VecShort);
    __builtin_memcpy(to, &half, sizeof half);
}

// 2^(whole + rest) for a whole number of at least -126.5 in size, |rest| <= 0.5 and power = 2^rest.
#if LANES == 16
INLINE Vec nearest(Vec x) { return (Vec)_mm512_roundscale_ps((__m512)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
INLINE Vec scale(Vec power, Vec whole) { return (Vec)_mm512_scalef_ps((__m512)power, (__m512)whole); }
// NaN stays NaN: the instructions return their second operand then.
INLINE Vec at_least(Vec x, float low) { return (Vec)_mm512_max_ps((__m512)all(low), (__m512)x); }
INLINE Vec at_most(Vec x, float high) { return (Vec)_mm512_min_ps((__m512)all(high), (__m512)x); }
#else
INLINE Vec nearest(Vec x) {
    const Vec magic = all(12582912.0f);  // 1.5 * 2^23: the sum has no place for a fraction
    return (x + magic) - magic;
}
INLINE Vec scale(Vec power, Vec whole) {
    // In two halves: 2^-127 has no normal exponent, and a single factor of 2^128 none at all.
    const VecInt exponent = __builtin_convertvector(whole, VecInt);
    const VecInt half = exponent >> 1;
    return power * as_float((half + 127) << 23) * as_float((exponent - half + 127) << 23);
}
INLINE Vec at_least(Vec x, float low) { return choose(x < all(low), all(low), x); }
INLINE Vec at_most(Vec x, float high) { return choose(x > all(high), all(high), x); }
#endif

INLINE Vec horner(Vec x, Vec sum) { (void)x; return sum; }
template <typename... Rest>
INLINE Vec horner(Vec x, Vec sum, float next, Rest... rest) { return horner(x, sum * x + next, rest...); }

// exp(x), within 2e-7 of the truth relative to it; 0 below -87.4, infinite above 88.8, NaN at NaN.
INLINE Vec exponential(Vec x) {
    const Vec inside = at_most(at_least(x, -104.0f), 89.0f);
    const Vec whole = nearest(inside * 1.44269504f);
    // ln 2 in two parts, of which the first has so few digits that its product with whole is exact.
    const Vec rest = (inside - whole * 0.693145752f) - whole * 1.42860677e-6f;
    const Vec power = horner(rest, all(1.0f / 5040), 1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f);
    return scale(power, whole);
}

// 2^x for x <= 0 in the inner loops: exactly 1 at 0, relative error 2e-7 beside that of x, 0 or below 1e-37 where x < -125.
// Five terms and one rounding less than exponential; what lies below 2^-125 makes no difference to a float32 state.
INLINE Vec decay(Vec x) {
#if LANES == 16
    const Vec whole = nearest(x);
#else
    x = at_least(x, -125.0f);
    const Vec shifted = x + 12582912.0f;
    const Vec whole = shifted - 12582912.0f;
#endif
    const Vec rest = x - whole;
    const Vec power = horner(rest, all(0.0013333538081496954f), 0.009666245430707932f, 0.05550500378012657f, 0.24022351205348969f,
                             0.6931471228599548f, 1.0f);
#if LANES == 16
    return scale(power, whole);
#else
    return as_float(as_int(power) + (as_int(shifted) << 23));
#endif
}

// log(1 + w) for w in [0, 1], relative error 2e-7.
INLINE Vec log_one_plus(Vec w) {
    return w * horner(w, all(0.005232692696154118f), -0.029505232349038124f, 0.07822594046592712f, -0.13663244247436523f,
                      0.19106006622314453f, -0.2484298199415207f, 0.3331909775733948f, -0.4999949336051941f, 0.9999999403953552f);
}

INLINE Vec magnitude(Vec x) { return as_float(as_int(x) & 0x7fffffff); }
INLINE Vec positive(Vec x) { return at_least(x, 0.0f); }

// softplus(x) and its slope, the logistic function.
INLINE Vec softplus(Vec x, Vec *slope) {
    const Vec w = exponential(-magnitude(x));
    *slope = choose(x > 0.0f, all(1.0f), w) / (1.0f + w);
    return positive(x) + log_one_plus(w);
}
INLINE Vec softplus(Vec x) { return positive(x) + log_one_plus(exponential(-magnitude(x))); }

// An infinite exponential gives the right 0.
INLINE Vec logistic(Vec x) { return 1.0f / (1.0f + exponential(-x)); }

INLINE float sum_of_lanes(Vec value) {
    float lanes[LANES];
    store(lanes, value);
    for (int width = LANES / 2; width > 0; width /= 2)
        for (int i = 0; i < width; i++) lanes[i] += lanes[i + width];
    return lanes[0];
}

#if !defined(__clang__)
// Lanes whose number has the bit WIDTH take the sum of two neighbours of odd, the others that of even.
template <int WIDTH>
INLINE Vec fold(Vec even, Vec odd) {
    VecInt own, other;
    for (int i = 0; i < LANES; i++) {
        own[i] = i & WIDTH ? LANES + i : i;
        other[i] = i & WIDTH ? LANES + (i ^ WIDTH) : i ^ WIDTH;
    }
    return __builtin_shuffle(even, odd, own) + __builtin_shuffle(even, odd, other);
}
template <int WIDTH>
INLINE Vec sums_of(const float *vectors) {
    if constexpr (WIDTH == 1) return fold<1>(load(vectors), load(vectors + LANES));
    else return fold<WIDTH>(sums_of<WIDTH / 2>(vectors), sums_of<WIDTH / 2>(vectors + WIDTH * LANES));
}
#endif

// to[k] = the sum of the lanes of vector k.
INLINE void sum_lanes(const float *vectors, int64_t count, float *to) {
    int64_t k = 0;
#if !defined(__clang__)
    // LANES sums at once, halving the number of vectors and doubling the number of sums in each.
    for (; k + LANES <= count; k += LANES) store(to + k, sums_of<LANES / 2>(vectors + k * LANES));
#endif
    for (; k < count; k++) to[k] = sum_of_lanes(load(vectors + k * LANES));
}
