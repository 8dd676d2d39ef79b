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

#if LANES == 16
// NaN stays NaN: the instructions return their second operand then.
INLINE Vec at_least(Vec x, float low) { return (Vec)_mm512_max_ps((__m512)all(low), (__m512)x); }
INLINE Vec at_most(Vec x, float high) { return (Vec)_mm512_min_ps((__m512)all(high), (__m512)x); }
#else
INLINE Vec at_least(Vec x, float low) { return choose(x < all(low), all(low), x); }
INLINE Vec at_most(Vec x, float high) { return choose(x > all(high), all(high), x); }
#endif

INLINE Vec horner(Vec x, Vec sum) { (void)x; return sum; }
template <typename... Rest>
INLINE Vec horner(Vec x, Vec sum, float next, Rest... rest) { return horner(x, sum * x + next, rest...); }

INLINE Vec magnitude(Vec x) { return as_float(as_int(x) & 0x7fffffff); }
// The larger of two, of which the second does not count where it is NaN.
INLINE Vec larger(Vec x, Vec y) { return choose(y > x, y, x); }
INLINE Vec positive(Vec x) { return at_least(x, 0.0f); }

// Near where exp(x) leaves the normal floats.
constexpr float EXP_LOW = -87.33f, EXP_HIGH = 88.6f;
constexpr float LOG2_E = 1.44269504088896f, LN_2 = 0.693147180559945f;

#if LANES >= 8
#include "tables.h"

// exp(x) for x from EXP_LOW to EXP_HIGH: 2^(whole LANES-ths) from a table, times a cubic of what is left.
INLINE Vec exponential_inside(Vec x) {
    const Vec shifted = x * LOG2_E + TO_POINTS;
    const Vec whole = shifted - TO_POINTS;
    // ln 2 in two parts, of which the first has so few digits that its product with whole is exact.
    const Vec rest = (x - whole * 0.693145752f) - whole * 1.42860677e-6f;
    const Vec power = power_of_points(shifted);
    return power + power * (rest * horner(rest, all(EXP_CUBE), EXP_SQUARE, 1.0f));
}

// 2^x for x in the inner loops: exactly 1 at 0, relative error 2e-7 beside that of x; x from -126 to 127.
INLINE Vec decay_inside(Vec x) {
#if LANES == 16
    // A product of its own: with it drawn into the sums below, the multipliers would have more to do than the adders.
    asm("" : "+v"(x));
#endif
    const Vec shifted = x + TO_POINTS;
    const Vec rest = x - (shifted - TO_POINTS);
    const Vec power = power_of_points(shifted);
    return power + power * (rest * horner(rest, all(POWER_CUBE), POWER_SQUARE, LN_2));
}

// log(1 + w) for w in [0, 1], relative error 2e-7: the logarithm of 1 + j / (LANES - 1), and a polynomial of what is left.
INLINE Vec log_one_plus(Vec w) {
    const Vec shifted = w * (LANES - 1.0f) + 12582912.0f;
    const VecInt point = as_int(shifted);
    const Vec rest = (w * (LANES - 1.0f) - (shifted - 12582912.0f)) * look_up(TABLES.inverse, point);
    return look_up(TABLES.log, point) + rest * horner(rest, all(LOG_FIFTH), LOG_FOURTH, LOG_CUBE, LOG_SQUARE, 1.0f);
}
#else
// 2^(whole + rest) for power = 2^rest, in two halves: 2^-127 has no normal exponent, and a single factor of 2^128 none at all.
INLINE Vec scale(Vec power, Vec whole) {
    const VecInt exponent = __builtin_convertvector(whole, VecInt);
    const VecInt half = exponent >> 1;
    return power * as_float((half + 127) << 23) * as_float((exponent - half + 127) << 23);
}
INLINE Vec exponential_inside(Vec x) {
    const Vec whole = (x * LOG2_E + 12582912.0f) - 12582912.0f;  // 1.5 * 2^23: the sum has no place for a fraction
    const Vec rest = (x - whole * 0.693145752f) - whole * 1.42860677e-6f;
    return scale(horner(rest, all(1.0f / 5040), 1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f), whole);
}
INLINE Vec decay_inside(Vec x) {
    const Vec shifted = x + 12582912.0f;
    const Vec rest = x - (shifted - 12582912.0f);
    const Vec power = horner(rest, all(0.0013333538081496954f), 0.009666245430707932f, 0.05550500378012657f, 0.24022351205348969f,
                             0.6931471228599548f, 1.0f);
    return as_float(as_int(power) + (as_int(shifted) << 23));
}
INLINE Vec log_one_plus(Vec w) {
    return w * horner(w, all(0.005232692696154118f), -0.029505232349038124f, 0.07822594046592712f, -0.13663244247436523f,
                      0.19106006622314453f, -0.2484298199415207f, 0.3331909775733948f, -0.4999949336051941f, 0.9999999403953552f);
}
#endif

// exp(x), within 2e-7 of the truth relative to it; 0 below EXP_LOW, infinite above EXP_HIGH, NaN at NaN.
INLINE Vec exponential(Vec x) {
    const Vec inside = exponential_inside(at_most(at_least(x, EXP_LOW), EXP_HIGH));
    return choose(x > EXP_HIGH, all(__builtin_inff()), choose(x < EXP_LOW, Vec{}, inside));
}

// 2^x for any x in the inner loops: as decay_inside, and next to nothing below its range. What lies below 2^-125 makes no difference to a
// float32 state. MILD where is_mild has told that every x is inside: nothing is cut off, and the result is the same.
template <bool MILD>
INLINE Vec decay(Vec x) { return decay_inside(MILD ? x : at_most(at_least(x, -125.0f), 127.0f)); }
INLINE bool is_mild(Vec largest) {
    float lanes[LANES];
    store(lanes, largest);
    bool beyond = false;
    for (int i = 0; i < LANES; i++) beyond |= lanes[i] > 124.0f;
    return !beyond;
}

// 1 / x for x from 1 to 1e38, within 1e-7.
INLINE Vec reciprocal(Vec x) {
#if LANES == 16
    const Vec about = (Vec)_mm512_rcp14_ps((__m512)x);
    return about + about * (1.0f - x * about);
#else
    return 1.0f / x;
#endif
}

// softplus(x) and its slope, the logistic function.
INLINE Vec exponential_below(Vec x) { return choose(x < EXP_LOW, Vec{}, exponential_inside(at_least(x, EXP_LOW))); }
INLINE Vec softplus(Vec x, Vec *slope) {
    const Vec w = exponential_below(-magnitude(x));
    *slope = choose(x > 0.0f, all(1.0f), w) * reciprocal(1.0f + w);
    return positive(x) + log_one_plus(w);
}
INLINE Vec softplus(Vec x) { return positive(x) + log_one_plus(exponential_below(-magnitude(x))); }

// Below EXP_LOW it is no normal float, and flushed to zero.
INLINE Vec logistic(Vec x) { return reciprocal(1.0f + exponential_inside(at_most(at_least(-x, EXP_LOW), EXP_HIGH))); }

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
