// Transcendental functions, normal deviates and Philox (ARITHMETIC.md, sections 6 and 11). One source for the C++ and the
// CUDA compiler, built from + - * / sqrt alone; it must be compiled without contraction of a product and a sum.
#pragma once

#ifdef __CUDACC_RTC__  // NVRTC has no standard headers
using int32_t = int;
using int64_t = long long;
using uint32_t = unsigned int;
using uint64_t = unsigned long long;
#else
#include <cstdint>
#endif

#ifdef __CUDACC__
#define LUCID_FN __device__ inline
#define LUCID_SQRT __dsqrt_rn
#else
#define LUCID_FN static inline
#define LUCID_SQRT __builtin_sqrt
#endif

namespace lucid {

union Bits64 {
    uint64_t u;
    double d;
};

LUCID_FN double from_bits(uint64_t u) {
    Bits64 b;
    b.u = u;
    return b.d;
}

LUCID_FN uint64_t to_bits(double d) {
    Bits64 b;
    b.d = d;
    return b.u;
}

// 2^k for -1022 <= k <= 1023, exact.
LUCID_FN double power_of_two(int64_t k) { return from_bits(uint64_t(k + 1023) << 52); }

// Nearest integer, ties to even, for |x| < 2^51: adding 1.5 * 2^52 leaves no room for a fraction.
LUCID_FN double round_to_integer(double x) {
    const double magic = 6755399441055744.0;
    return (x + magic) - magic;
}

LUCID_FN double exp64(double x) {
    const double inv_ln2 = from_bits(0x3FF71547652B82FEull);
    const double ln2_hi = from_bits(0x3FE62E42FEE00000ull), ln2_lo = from_bits(0x3DEA39EF35793C76ull);
    const double p1 = from_bits(0x3FC555555555553Eull), p2 = from_bits(0xBF66C16C16BEBD93ull);
    const double p3 = from_bits(0x3F11566AAF25DE2Cull), p4 = from_bits(0xBEBBBD41C5D26BF1ull);
    const double p5 = from_bits(0x3E66376972BEA4D0ull);
    if (x != x) return x;
    if (x > 709.782712893384) return from_bits(0x7FF0000000000000ull);
    if (x < -745.1332191019412) return 0.0;
    const double k = round_to_integer(x * inv_ln2);
    const double hi = x - k * ln2_hi;
    const double lo = k * ln2_lo;
    const double r = hi - lo;
    const double t = r * r;
    const double c = r - t * (p1 + t * (p2 + t * (p3 + t * (p4 + t * p5))));
    const double y = 1.0 - ((lo - (r * c) / (2.0 - c)) - hi);
    const int64_t n = int64_t(k);
    const int64_t n1 = n >> 1;
    return (y * power_of_two(n1)) * power_of_two(n - n1);
}

LUCID_FN double log64(double x) {
    const double ln2_hi = from_bits(0x3FE62E42FEE00000ull), ln2_lo = from_bits(0x3DEA39EF35793C76ull);
    const double lg1 = from_bits(0x3FE5555555555593ull), lg2 = from_bits(0x3FD999999997FA04ull);
    const double lg3 = from_bits(0x3FD2492494229359ull), lg4 = from_bits(0x3FCC71C51D8E78AFull);
    const double lg5 = from_bits(0x3FC7466496CB03DEull), lg6 = from_bits(0x3FC39A09D078C69Full);
    const double lg7 = from_bits(0x3FC2F112DF3E5244ull);
    const double infinity = from_bits(0x7FF0000000000000ull);
    if (x != x) return x;
    if (x < 0.0) return from_bits(0x7FF8000000000000ull);
    if (x == 0.0) return -infinity;
    if (x == infinity) return x;
    int64_t k = 0;
    if (x < from_bits(0x0010000000000000ull)) {  // subnormal: scaling by 2^54 is exact
        x = x * 18014398509481984.0;
        k = -54;
    }
    uint64_t u = to_bits(x);
    k += int64_t(u >> 52) - 1023;
    u = (u & 0x000FFFFFFFFFFFFFull) | 0x3FF0000000000000ull;
    if (u >= 0x3FF6A09E667F3BCDull) {  // m >= sqrt(2): halve it
        u -= 0x0010000000000000ull;
        k += 1;
    }
    const double f = from_bits(u) - 1.0;
    const double s = f / (2.0 + f);
    const double z = s * s;
    const double w = z * z;
    const double t1 = w * (lg2 + w * (lg4 + w * lg6));
    const double t2 = z * (lg1 + w * (lg3 + w * (lg5 + w * lg7)));
    const double r = t2 + t1;
    const double h = (0.5 * f) * f;
    const double dk = double(k);
    return dk * ln2_hi - ((h - (s * (h + r) + dk * ln2_lo)) - f);
}

LUCID_FN double sigmoid64(double x) { return 1.0 / (1.0 + exp64(-x)); }

LUCID_FN double horner8(const double* c, double x) {
    double value = c[7];
    for (int i = 6; i >= 0; --i) value = value * x + c[i];
    return value;
}

// Wichura, Algorithm AS 241 (PPND16), Applied Statistics 37 (1988).
LUCID_FN double normal64(double u) {
    const double a[8] = {3.3871328727963666080e0,  1.3314166789178437745e+2, 1.9715909503065514427e+3,
                         1.3731693765509461125e+4, 4.5921953931549871457e+4, 6.7265770927008700853e+4,
                         3.3430575583588128105e+4, 2.5090809287301226727e+3};
    const double b[8] = {1.0,
                         4.2313330701600911252e+1,
                         6.8718700749205790830e+2,
                         5.3941960214247511077e+3,
                         2.1213794301586595867e+4,
                         3.9307895800092710610e+4,
                         2.8729085735721942674e+4,
                         5.2264952788528545610e+3};
    const double c[8] = {1.42343711074968357734e0,  4.63033784615654529590e0,  5.76949722146069140550e0,
                         3.64784832476320460504e0,  1.27045825245236838258e0,  2.41780725177450611770e-1,
                         2.27238449892691845833e-2, 7.74545014278341407640e-4};
    const double d[8] = {1.0,
                         2.05319162663775882187e0,
                         1.67638483018380384940e0,
                         6.89767334985100004550e-1,
                         1.48103976427480074590e-1,
                         1.51986665636164571966e-2,
                         5.47593808499534494600e-4,
                         1.05075007164441684324e-9};
    const double e[8] = {6.65790464350110377720e0,  5.46378491116411436990e0,  1.78482653991729133580e0,
                         2.96560571828504891230e-1, 2.65321895265761230930e-2, 1.24266094738807843860e-3,
                         2.71155556874348757815e-5, 2.01033439929228813265e-7};
    const double f[8] = {1.0,
                         5.99832206555887937690e-1,
                         1.36929880922735805310e-1,
                         1.48753612908506148525e-2,
                         7.86869131145613259100e-4,
                         1.84631831751005468180e-5,
                         1.42151175831644588870e-7,
                         2.04426310338993978564e-15};
    const double q = u - 0.5;
    if ((q < 0 ? -q : q) <= 0.425) {
        const double r = 0.180625 - q * q;
        return (q * horner8(a, r)) / horner8(b, r);
    }
    double r = LUCID_SQRT(-log64(q < 0 ? u : 1.0 - u));
    double z;
    if (r <= 5.0) {
        r = r - 1.6;
        z = horner8(c, r) / horner8(d, r);
    } else {
        r = r - 5.0;
        z = horner8(e, r) / horner8(f, r);
    }
    return q < 0 ? -z : z;
}

// Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011: Philox4x32-10.
LUCID_FN void philox4x32(uint64_t seed, uint64_t stream, uint64_t block, uint32_t out[4]) {
    uint32_t k0 = uint32_t(seed), k1 = uint32_t(seed >> 32);
    uint32_t c0 = uint32_t(block), c1 = uint32_t(block >> 32), c2 = uint32_t(stream), c3 = uint32_t(stream >> 32);
    for (int round = 0; round < 10; ++round) {
        const uint64_t p0 = uint64_t(0xD2511F53u) * c0;
        const uint64_t p1 = uint64_t(0xCD9E8D57u) * c2;
        const uint32_t n0 = uint32_t(p1 >> 32) ^ c1 ^ k0;
        const uint32_t n2 = uint32_t(p0 >> 32) ^ c3 ^ k1;
        c0 = n0;
        c1 = uint32_t(p1);
        c2 = n2;
        c3 = uint32_t(p0);
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

LUCID_FN double uniform_of_word(uint32_t r) { return (double(r) + 0.5) * from_bits(0x3DF0000000000000ull); }

LUCID_FN double uniform_of_words(uint32_t r0, uint32_t r1) {
    return (double(r0 >> 6) * 67108864.0 + double(r1 >> 6) + 0.5) * from_bits(0x3CB0000000000000ull);
}

}  // namespace lucid
