// Indexed accumulation, and places along an axis: ARITHMETIC.md, sections 12 and 12.1.
#pragma once

#include <cstring>

#include "../kernels.h"
#include "../order.h"
#include "../threads.h"
#include "../tuning.h"
#include "../vec.h"

namespace lucid {
namespace LUCID_ISA {

// A place that the compiler knows nothing of, so that it reads one element after the other: the instructions that gather and
// scatter vectors take twice as long.
inline int64_t one(int64_t place) {
    __asm__("" : "+r"(place));
    return place;
}

template <class T>
static void index_add(int64_t n, const int64_t* index, const T* values, T* y) {
    for (int64_t i = 0; i < n; ++i) y[index[i]] = y[index[i]] + values[i];
}

template <class T>
static void gather(int64_t outer, int64_t terms, int64_t inner, int64_t count, bool whole, const T* x, const int64_t* index,
                   T* y) {
    const int64_t grain = larger<int64_t>(1, Tuning::GRAIN / larger<int64_t>(1, inner));
    parallel_range(outer * count, grain, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end;) {  // what lies in one outer slice
            const T* from = x + i / count * terms * inner;
            const int64_t first = i % count, last = smaller(count, first + end - i);
            const int64_t* at = whole ? index : index + (i - first) * inner;
            T* to = y + i * inner;
            if (whole) {
                for (int64_t j = first; j < last; ++j, to += inner)
                    std::memcpy(to, from + at[j] * inner, size_t(inner) * sizeof(T));
            } else if (inner == 1) {
                for (int64_t j = first; j < last; ++j) *to++ = from[one(at[j])];
            } else {
                for (int64_t j = first; j < last; ++j, to += inner)
                    for (int64_t k = 0; k < inner; ++k) to[k] = from[one(at[j * inner + k]) * inner + k];
            }
            i += last - first;
        }
    });
}

// `change(y, value)` for every value, in their order at each place. Tasks share out what never meets: outer slices, and
// columns of the inner ones.
template <class T, class Change>
static void at_places(int64_t outer, int64_t terms, int64_t inner, int64_t count, bool whole, const int64_t* index,
                      const T* values, T* y, const Change& change) {
    constexpr int64_t LINE = CACHE_LINE / int64_t(sizeof(T));
    const int64_t wanted = (num_threads() + outer - 1) / larger<int64_t>(1, outer);
    const int64_t parts = larger<int64_t>(1, smaller(wanted, inner / LINE)), work = count * inner / parts;
    parallel_range(outer * parts, larger<int64_t>(1, Tuning::GRAIN / larger<int64_t>(1, work)), [&](int64_t begin, int64_t end) {
        for (int64_t task = begin; task < end; ++task) {
            const int64_t o = task / parts, part = task % parts;
            const int64_t first = inner * part / parts, last = inner * (part + 1) / parts;
            T* slices = y + o * terms * inner;
            if (inner == 1) {
                const int64_t* at = whole ? index : index + o * count;
                for (int64_t i = 0; i < count; ++i) change(slices[one(at[i])], values[o * count + i]);
                continue;
            }
            for (int64_t i = 0; i < count; ++i) {
                const int64_t from = (o * count + i) * inner;
                if (whole) {
                    T* to = slices + index[i] * inner;
                    for (int64_t k = first; k < last; ++k) change(to[k], values[from + k]);
                } else {
                    for (int64_t k = first; k < last; ++k) change(slices[one(index[from + k]) * inner + k], values[from + k]);
                }
            }
        }
    });
}

template <class T>
static void scatter(int64_t outer, int64_t terms, int64_t inner, int64_t count, bool whole, const int64_t* index,
                    const T* values, T* y) {
    at_places(outer, terms, inner, count, whole, index, values, y, [](T& to, T value) { to = value; });
}

template <class T>
static void scatter_add(int64_t outer, int64_t terms, int64_t inner, int64_t count, bool whole, const int64_t* index,
                        const T* values, T* y) {
    at_places(outer, terms, inner, count, whole, index, values, y, [](T& to, T value) { to = to + value; });
}

}  // namespace LUCID_ISA
}  // namespace lucid
