// Where a grid's numbers lie on an image (ARITHMETIC.md, section 8.2). Read by the C++ and by the CUDA kernels.
#pragma once

#include "../functions.h"

namespace lucid {

LUCID_FN double grid_floor(double x) { return __builtin_floor(x); }

// A place along a side, and its derivative by the number that names it.
struct GridPlace {
    double p, slope;
};

LUCID_FN GridPlace grid_place(double v, int64_t size, bool align, bool border, bool reflection) {
    const double last = double(size) - 1.0;
    double p = align ? (v + 1.0) / 2.0 * last : ((v + 1.0) * double(size) - 1.0) / 2.0;
    double slope = align ? last / 2.0 : double(size) / 2.0;
    if (reflection) {
        const double least = align ? 0.0 : -0.5, span = align ? last : double(size);
        double d = p - least;
        if (d < 0.0) slope = -slope;
        d = d < 0.0 ? -d : d;
        const double flips = span > 0.0 ? grid_floor(d / span) : d * 0.0;
        d = span > 0.0 ? d - flips * span : d * 0.0;
        const bool odd = flips - 2.0 * grid_floor(flips / 2.0) != 0.0;
        p = (odd ? span - d : d) + least;
        if (odd) slope = -slope;
    }
    if (border || reflection) {
        if (!(p > 0.0 && p < last)) slope = 0.0;
        p = p > 0.0 ? p : 0.0;
        p = p < last ? p : last;
    }
    return {p, slope};
}

// The taps of one place of a grid: up to four pixels of the image, -1 outside, with their weights; and what the
// derivative takes.
struct GridTaps {
    int count;
    int64_t pixel[4];
    double weight[4];
    double down, across, slope_x, slope_y;
};

LUCID_FN GridTaps grid_taps(double vx, double vy, int64_t height, int64_t width, bool nearest, bool align, bool border,
                            bool reflection) {
    const GridPlace x = grid_place(vx, width, align, border, reflection);
    const GridPlace y = grid_place(vy, height, align, border, reflection);
    const double left = nearest ? __builtin_rint(x.p) : grid_floor(x.p);
    const double low = nearest ? __builtin_rint(y.p) : grid_floor(y.p);
    GridTaps taps;
    taps.count = nearest ? 1 : 4;
    taps.across = x.p - left, taps.down = y.p - low;
    taps.slope_x = x.slope, taps.slope_y = y.slope;
    for (int t = 0; t < taps.count; ++t) {
        const double row = low + (t / 2), column = left + (t % 2);
        const bool exists = row >= 0.0 && row < double(height) && column >= 0.0 && column < double(width);
        taps.pixel[t] = exists ? int64_t(row) * width + int64_t(column) : -1;
        taps.weight[t] = nearest ? 1.0 : (t / 2 ? taps.down : 1.0 - taps.down) * (t % 2 ? taps.across : 1.0 - taps.across);
    }
    return taps;
}

}  // namespace lucid
