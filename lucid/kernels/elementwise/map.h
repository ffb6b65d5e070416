// A function of each element over arrays, in vectors, by all threads.
#pragma once

#include <cstdlib>
#include <type_traits>

#include "../kernels.h"
#include "../threads.h"
#include "../tuning.h"
#include "../vec.h"
#include "quick.h"

namespace lucid {
namespace LUCID_ISA {

constexpr int64_t GRAIN = Tuning::GRAIN, SLOW_GRAIN = Tuning::SLOW_GRAIN;

// The vector in which a function that computes in float64 (or does not) takes values of T.
template <class T, bool WIDE>
using Lanes = std::conditional_t<WIDE, Part<T>, Vec<T>>;

// `count` values as a vector, zeros after them; as many as it has, if that is not said.
template <class V, class T>
inline V taken(const T* p, int64_t count = sizeof(V) / sizeof(T)) {
    V v = {};
    __builtin_memcpy(&v, p, size_t(count) * sizeof(T));
    return v;
}

template <class V, class T>
inline void put(T* p, V v, int64_t count) {
    __builtin_memcpy(p, &v, size_t(count) * sizeof(T));
}

// y[i] = f(x[i]...) for i from begin to end, in vectors; the last one is filled up. (By value: a store through y may not be
// taken for one into them.)
template <bool WIDE, class T, class F, class... X>
static void map_range(int64_t begin, int64_t end, T* y, F f, const X*... x) {
    using V = Lanes<T, WIDE>;
    constexpr int64_t STEP = sizeof(V) / sizeof(T), AT_ONCE = WIDE ? 1 : 4;  // vectors
    const auto put = [&](int64_t i) {
        const V v = f(taken<V>(x + i)...);
        __builtin_memcpy(y + i, &v, sizeof(V));
    };
    int64_t i = begin;
    for (; i + AT_ONCE * STEP <= end; i += AT_ONCE * STEP)
        for (int j = 0; j < AT_ONCE; ++j) put(i + j * STEP);
    for (; i + STEP <= end; i += STEP) put(i);
    if (i == end) return;
    const V v = f(taken<V>(x + i, end - i)...);
    __builtin_memcpy(y + i, &v, size_t(end - i) * sizeof(T));
}

template <bool WIDE, class T, class F, class... X>
inline void map(int64_t n, T* y, const F& f, const X*... x) {
    parallel_range(n, WIDE ? SLOW_GRAIN : GRAIN,
                   [&](int64_t begin, int64_t end) { map_range<WIDE>(begin, end, y, f, x...); });
}

}  // namespace LUCID_ISA
}  // namespace lucid
