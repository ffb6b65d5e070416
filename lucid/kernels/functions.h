// Philox and the fractions made of its words (ARITHMETIC.md, section 11), for the C++ and the CUDA compiler.
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
#else
#define LUCID_FN static inline
#endif

namespace lucid {

union Bits64 {
    uint64_t u;
    double d;
};

LUCID_FN double double_of(uint64_t u) {
    Bits64 b;
    b.u = u;
    return b.d;
}

LUCID_FN uint64_t bits_of(double d) {
    Bits64 b;
    b.d = d;
    return b.u;
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

LUCID_FN double uniform_of_word(uint32_t r) { return (double(r) + 0.5) * double_of(0x3DF0000000000000ull); }

LUCID_FN double uniform_of_words(uint32_t r0, uint32_t r1) {
    return (double(r0 >> 6) * 67108864.0 + double(r1 >> 6) + 0.5) * double_of(0x3CB0000000000000ull);
}

}  // namespace lucid
