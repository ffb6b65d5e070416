// Values moved from one order of axes to another.
#pragma once

#include "threads.h"
#include "vec.h"

namespace lucid {
namespace LUCID_ISA {

// (rows, columns) with row pitch `from_pitch` to (columns, rows), in pieces that stay in the cache: squares, or, of few rows,
// one row after the other.
template <class T>
static void transpose(const T* from, int64_t from_pitch, int64_t rows, int64_t columns, T* to, int64_t to_pitch) {
    constexpr int64_t B = 16;
    if (rows < B) {
        constexpr int64_t PIECE = 256;
        for (int64_t c0 = 0; c0 < columns; c0 += PIECE) {
            const int64_t c1 = c0 + PIECE < columns ? c0 + PIECE : columns;
            for (int64_t r = 0; r < rows; ++r)
                for (int64_t c = c0; c < c1; ++c) to[c * to_pitch + r] = from[r * from_pitch + c];
        }
        return;
    }
    for (int64_t r0 = 0; r0 < rows; r0 += B)
        for (int64_t c0 = 0; c0 < columns; c0 += B) {
            const int64_t r1 = r0 + B < rows ? r0 + B : rows, c1 = c0 + B < columns ? c0 + B : columns;
            for (int64_t c = c0; c < c1; ++c)
                for (int64_t r = r0; r < r1; ++r) to[c * to_pitch + r] = from[r * from_pitch + c];
        }
}

// (n, rows, columns) to (n, columns, rows): images to channels last, and back.
template <class T>
static void swap_axes(int64_t n, int64_t rows, int64_t columns, const T* x, T* y) {
    constexpr int64_t PIECE = 1024;
    const int64_t pieces = (columns + PIECE - 1) / PIECE;
    parallel(n * pieces, [&](int64_t task) {
        const int64_t image = task / pieces, c0 = task % pieces * PIECE;
        const int64_t count = columns - c0 < PIECE ? columns - c0 : PIECE;
        transpose(x + image * rows * columns + c0, columns, rows, count, y + (image * columns + c0) * rows, rows);
    });
}

}  // namespace LUCID_ISA
}  // namespace lucid
