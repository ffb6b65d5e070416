// Random numbers: ARITHMETIC.md, section 11.
#pragma once

#include "../elementwise/map.h"
#include "normal.h"

namespace lucid {
namespace LUCID_ISA {

template <class T>
static void philox(uint64_t seed, uint64_t stream, uint64_t block, int64_t n, uint32_t* y) {
    parallel_range((n + 3) / 4, 4096, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
            uint32_t word[4];
            philox4x32(seed, stream, block + uint64_t(i), word);
            for (int64_t j = 0; j < 4 && 4 * i + j < n; ++j) y[4 * i + j] = word[j];
        }
    });
}

template <class T, class F>
inline void draw(uint64_t seed, uint64_t stream, uint64_t block, int64_t n, T* y, const F& value_of) {
    constexpr int64_t A_BLOCK = sizeof(T) == 4 ? 4 : 2;  // values
    parallel_range((n + A_BLOCK - 1) / A_BLOCK, SLOW_GRAIN, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
            uint32_t word[4];
            philox4x32(seed, stream, block + uint64_t(i), word);
            for (int64_t j = 0; j < A_BLOCK && i * A_BLOCK + j < n; ++j)
                y[i * A_BLOCK + j] = value_of(sizeof(T) == 4 ? uniform_of_word(word[j])
                                                             : uniform_of_words(word[2 * j % 4], word[(2 * j + 1) % 4]));
        }
    });
}

template <class T>
static void uniform(uint64_t seed, uint64_t stream, uint64_t block, int64_t n, double low, double high, T* y) {
    draw(seed, stream, block, n, y, [&](double u) { return T(low + (high - low) * u); });
}

template <class T>
static void normal(uint64_t seed, uint64_t stream, uint64_t block, int64_t n, double mean, double std, T* y) {
    draw(seed, stream, block, n, y, [&](double u) { return T(mean + std * normal64(u)); });
}

}  // namespace LUCID_ISA
}  // namespace lucid
