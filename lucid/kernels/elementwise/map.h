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

// A vector of one value (and not V{} + value, which makes 0 of -0).
template <class V, class T>
inline V filled(T value) {
    V v;
    for (size_t i = 0; i < sizeof(V) / sizeof(T); ++i) v[i] = value;
    return v;
}

// An operand of map_over: where it begins for each row, and whether it moves along a row or is one value there.
template <class T>
struct Over {
    const T* values;
    int64_t outer, middle, inner;
    const T* row(int64_t i, int64_t j) const { return values + i * outer + j * middle; }
};

// y[i][j][k] = f(a[..], b[..]): rows of `inner` elements, in vectors.
template <bool WIDE, class T, class F>
static void map_over(int64_t outer, int64_t middle, int64_t inner, T* y, const F& f, Over<T> a, Over<T> b) {
    using V = Lanes<T, WIDE>;
    constexpr int64_t STEP = sizeof(V) / sizeof(T);
    const int64_t grain = (WIDE ? SLOW_GRAIN : GRAIN) / inner + 1;
    parallel_range(outer * middle, grain, [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) {
            const T* p = a.row(row / middle, row % middle);
            const T* q = b.row(row / middle, row % middle);
            T* to = y + row * inner;
            const V one_p = filled<V>(*p), one_q = filled<V>(*q);
            const auto step = [&](int64_t i, int64_t count) {
                const V u = a.inner ? taken<V>(p + i, count) : one_p;
                const V v = b.inner ? taken<V>(q + i, count) : one_q;
                const V made = f(u, v);
                __builtin_memcpy(to + i, &made, size_t(count) * sizeof(T));
            };
            int64_t i = 0;
            for (; i + STEP <= inner; i += STEP) step(i, STEP);
            if (i < inner) step(i, inner - i);
        }
    });
}

template <bool WIDE, class T, class F, class... X>
inline void map(int64_t n, T* y, const F& f, const X*... x) {
    parallel_range(n, WIDE ? SLOW_GRAIN : GRAIN,
                   [&](int64_t begin, int64_t end) { map_range<WIDE>(begin, end, y, f, x...); });
}

}  // namespace LUCID_ISA
}  // namespace lucid
