// Values moved from one order of axes to another.
#pragma once

#include <utility>

#include "../threads.h"
#include "../tuning.h"
#include "../vec.h"

namespace lucid {
namespace LUCID_ISA {

// Rows i and i + STEP of a square trade the parts of their columns that lie on the other side of the diagonal.
template <int STEP, class V, int... COLUMN>
inline void trade(V& upper, V& lower, std::integer_sequence<int, COLUMN...>) {
    constexpr int L = sizeof...(COLUMN);
    const V u = upper, l = lower;
    upper = __builtin_shufflevector(u, l, (COLUMN & STEP ? COLUMN - STEP + L : COLUMN)...);
    lower = __builtin_shufflevector(u, l, (COLUMN & STEP ? COLUMN + L : COLUMN + STEP)...);
}

template <int STEP, class V, int L>
inline void trade_all(V (&row)[L]) {
    if constexpr (STEP < L) {
#pragma GCC unroll 16
        for (int i = 0; i < L; ++i)
            if (!(i & STEP)) trade<STEP>(row[i], row[i + STEP], std::make_integer_sequence<int, L>());
        trade_all<2 * STEP>(row);
    }
}

// A square as large as a vector is long.
template <class T>
static void transpose_square(const T* from, int64_t from_pitch, T* to, int64_t to_pitch) {
    constexpr int L = LANES<T>;
    Vec<T> row[L];
#pragma GCC unroll 16
    for (int i = 0; i < L; ++i) row[i] = load(from + i * from_pitch);
    trade_all<1>(row);
#pragma GCC unroll 16
    for (int i = 0; i < L; ++i) store(to + i * to_pitch, row[i]);
}

// (rows, columns) with row pitch `from_pitch` to (columns, rows), in pieces that stay in the cache: squares, or, of few
// rows, one row after the other.
template <class T>
static void transpose(const T* from, int64_t from_pitch, int64_t rows, int64_t columns, T* to, int64_t to_pitch) {
    constexpr int64_t L = LANES<T>, COLUMNS = Tuning::TRANSPOSE_COLUMNS;
    for (int64_t r0 = 0; r0 < rows; r0 += L) {
        const int64_t r1 = r0 + L < rows ? r0 + L : rows;
        int64_t c = 0;
        if (r1 - r0 == L)
            for (; c + L <= columns; c += L)
                transpose_square(from + r0 * from_pitch + c, from_pitch, to + c * to_pitch + r0, to_pitch);
        while (c < columns) {
            const int64_t end = c + COLUMNS < columns ? c + COLUMNS : columns;
            for (int64_t r = r0; r < r1; ++r)
                for (int64_t i = c; i < end; ++i) to[i * to_pitch + r] = from[r * from_pitch + i];
            c = end;
        }
    }
}

// (n, rows, columns) to (n, columns, rows): images to channels last, and back.
template <class T>
static void swap_axes(int64_t n, int64_t rows, int64_t columns, const T* x, T* y) {
    constexpr int64_t COLUMNS = Tuning::SWAP_COLUMNS;
    const int64_t pieces = (columns + COLUMNS - 1) / COLUMNS;
    parallel(n * pieces, [&](int64_t task) {
        const int64_t image = task / pieces, c0 = task % pieces * COLUMNS;
        const int64_t count = columns - c0 < COLUMNS ? columns - c0 : COLUMNS;
        transpose(x + image * rows * columns + c0, columns, rows, count, y + (image * columns + c0) * rows, rows);
    });
}

}  // namespace LUCID_ISA
}  // namespace lucid
