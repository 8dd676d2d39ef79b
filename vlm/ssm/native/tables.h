// Values of 2^x and log x at LANES points, for look-ups within one register. Included by simd.h inside the namespace of each kernel_*.cpp.

constexpr int POINT_BITS = LANES == 16 ? 4 : 3;
// Added to a number it leaves, in the low bits of the sum, how many LANES-ths that number is.
constexpr float TO_POINTS = 12582912.0f / LANES;

// Nearest in the largest error over one LANES-th: 2^x = 1 + x (LN_2 + x (..)), e^x = 1 + x (1 + x (..)), log(1 + x) = x (1 + x (..)).
#if LANES == 16
constexpr float POWER_SQUARE = 0.24023428559303284f, POWER_CUBE = 0.055505409836769104f;
constexpr float EXP_SQUARE = 0.5000162124633789f, EXP_CUBE = 0.16667057573795319f;
constexpr float LOG_SQUARE = -0.4999999403953552f, LOG_CUBE = 0.33333322405815125f, LOG_FOURTH = -0.2502310276031494f,
                LOG_FIFTH = 0.20026269555091858f;
#else
constexpr float POWER_SQUARE = 0.2402576059103012f, POWER_CUBE = 0.05550931766629219f;
constexpr float EXP_SQUARE = 0.5000647306442261f, EXP_CUBE = 0.16668230295181274f;
constexpr float LOG_SQUARE = -0.49999865889549255f, LOG_CUBE = 0.333330899477005f, LOG_FOURTH = -0.2510609030723572f,
                LOG_FIFTH = 0.2012099027633667f;
#endif

struct Tables {
    int32_t power[LANES];   // bits of 2^(j / LANES), less those that adding the shifted number of LANES-ths brings in
    float inverse[LANES];   // 1 / (LANES - 1 + j)
    float log[LANES];       // log(1 + j / (LANES - 1))
};

constexpr double log_of(double x) {  // x from 1 to 2
    const double z = (x - 1) / (x + 1);
    double sum = 0, power = z;
    for (int k = 1; k < 40; k += 2, power *= z * z) sum += power / k;
    return 2 * sum;
}

constexpr Tables make_tables() {
    Tables tables = {};
    double power = 1;
    for (int j = 0; j < LANES; j++, power *= LANES == 16 ? 1.0442737824274138403 : 1.0905077326652576592) {
        tables.power[j] = 0x3f800000 + (int32_t)((power - 1) * (1 << 23) + 0.5) - (j << (23 - POINT_BITS));
        tables.inverse[j] = (float)(1.0 / (LANES - 1 + j));
        tables.log[j] = (float)log_of(1 + (double)j / (LANES - 1));
    }
    return tables;
}
alignas(64) static constexpr Tables TABLES = make_tables();

// The point whose number is in the low bits of each lane of ``where``.
INLINE VecInt look_up(const int32_t *points, VecInt where) {
    VecInt table;
    __builtin_memcpy(&table, points, sizeof table);
#if LANES == 16
    return (VecInt)_mm512_permutexvar_epi32((__m512i)where, (__m512i)table);
#else
    return (VecInt)_mm256_permutevar8x32_epi32((__m256i)table, (__m256i)where);
#endif
}
INLINE Vec look_up(const float *points, VecInt where) { return as_float(look_up((const int32_t *)points, where)); }

// 2^x for x the number of LANES-ths that ``shifted`` = x + TO_POINTS ends in.
INLINE Vec power_of_points(Vec shifted) {
    return as_float(look_up(TABLES.power, as_int(shifted)) + (as_int(shifted) << (23 - POINT_BITS)));
}
