// Pooling of images (N, H, W, C): section 8 of ARITHMETIC.md. A thread makes one result; neighbours are neighbours in memory.
#include "../windows.h"
#include "grid.h"
#include "../cuda/device.cuh"

namespace lucid {
namespace {

constexpr int POOL_THREADS = 256;

// lucid/backends/cuda.py fills it in, field by field.
struct Pool {
    int64_t n, d, h, w, c, od, oh, ow, kd, kh, kw, stride_d, stride_h, stride_w, pad_d, pad_h, pad_w;
    int64_t dilation_d, dilation_h, dilation_w;
    int64_t count_include_pad, adaptive;

    DEVICE Window deep(int64_t o) const { return window(adaptive, o, d, od, kd, stride_d, pad_d); }
    DEVICE Window down(int64_t o) const { return window(adaptive, o, h, oh, kh, stride_h, pad_h); }
    DEVICE Window across(int64_t o) const { return window(adaptive, o, w, ow, kw, stride_w, pad_w); }
    DEVICE double count(const Window& t, const Window& v, const Window& u) const {
        return count_include_pad ? double(t.size * v.size * u.size)
                                 : double((t.end - t.begin) * (v.end - v.begin) * (u.end - u.begin));
    }
};

// An element of (n, depth, height, width, channels) in memory; the depth is 1 unless DEEP.
template <bool DEEP>
struct Place {
    int64_t n, d, h, w, c;

    DEVICE Place(int64_t at, int64_t depth, int64_t height, int64_t width, int64_t channels) {
        if (at <= 0xFFFFFFFFll)  // a division of 64 bits is three times as long
            divide(uint32_t(at), uint32_t(depth), uint32_t(height), uint32_t(width), uint32_t(channels));
        else
            divide(at, depth, height, width, channels);
    }

    template <class I>
    DEVICE void divide(I at, I depth, I height, I width, I channels) {
        c = at % channels;
        at /= channels;
        w = at % width;
        at /= width;
        h = at % height;
        at /= height;
        d = DEEP ? at % depth : 0;
        n = DEEP ? at / depth : at;
    }
};

}  // namespace

template <bool DEEP>
DEVICE void max_of_windows(const Pool& s, const T* x, T* y, int32_t* index) {
    for (int64_t at = first_index(); at < s.n * (DEEP ? s.od : 1) * s.oh * s.ow * s.c; at += index_step()) {
        const Place<DEEP> o(at, s.od, s.oh, s.ow, s.c);
        T best = from_bits(0xFFF0000000000000ull);
        int64_t where = -1, d0 = o.d * s.stride_d - s.pad_d, h0 = o.h * s.stride_h - s.pad_h;
        int64_t w0 = o.w * s.stride_w - s.pad_w, planes = s.kd, rows = s.kh, columns = s.kw;
        if (s.adaptive) {
            const Window t = DEEP ? s.deep(o.d) : Window{0, 1, 1}, v = s.down(o.h), u = s.across(o.w);
            d0 = t.begin, h0 = v.begin, w0 = u.begin;
            planes = t.size, rows = v.size, columns = u.size;
        }
        for (int64_t kd = 0; kd < (DEEP ? planes : 1); ++kd) {
            const int64_t d = DEEP ? d0 + kd * s.dilation_d : 0;
            if (DEEP && (d < 0 || d >= s.d)) continue;
            const int64_t plane = DEEP ? o.n * s.d + d : o.n;
            for (int64_t kh = 0; kh < rows; ++kh) {
                const int64_t h = h0 + kh * s.dilation_h;
                if (h < 0 || h >= s.h) continue;
                for (int64_t kw = 0; kw < columns; ++kw) {
                    const int64_t w = w0 + kw * s.dilation_w;
                    if (w < 0 || w >= s.w) continue;
                    const T value = x[((plane * s.h + h) * s.w + w) * s.c + o.c];
                    if (where < 0 || beats<true>(value, best)) {
                        best = value;
                        where = (DEEP ? d * s.h + h : h) * s.w + w;
                    }
                }
            }
        }
        y[at] = best;
        if (index) index[at] = int32_t(where);
    }
}

KERNEL(max_pool, POOL_THREADS, const Pool s, const T* x, T* y, Maybe<int32_t> index) {
    max_of_windows<false>(s, x, y, index);
}

KERNEL(max_pool_deep, POOL_THREADS, const Pool s, const T* x, T* y, Maybe<int32_t> index) {
    max_of_windows<true>(s, x, y, index);
}

// The gradient of max pooling is gathered: an element adds the windows that chose it, in ascending order. Which windows
// can have chosen it is read off the indices: `window_bounds` finds, for each plane (row, column) of windows, between
// which planes of the image its choices lie; `covering_windows` turns that round. bounds[0] holds the least, bounds[1]
// the largest.
KERNEL(no_bounds, POOL_THREADS, int64_t windows, int32_t* bounds) {
    for (int64_t i = first_index(); i < windows; i += index_step()) {
        bounds[i] = 0x7FFFFFFF;
        bounds[windows + i] = -1;
    }
}

// One side: the results are (n, before, windows, after), where `after` counts channels, too; a place of the image lies
// at place / pitch % positions along the side.
KERNEL(window_bounds, POOL_THREADS, int64_t n, int64_t before, int64_t windows, int64_t after, int64_t pitch,
       int64_t positions, const int32_t* index, int32_t* bounds) {
    __shared__ int least, largest;
    for (int64_t task = blockIdx.x; task < n * windows; task += gridDim.x) {
        const int64_t image = task / windows, o = task % windows;
        if (threadIdx.x == 0) {
            least = 0x7FFFFFFF;
            largest = -1;
        }
        __syncthreads();
        int low = 0x7FFFFFFF, high = -1;
        for (int64_t i = threadIdx.x; i < before * after; i += blockDim.x) {
            const int at = index[((image * before + i / after) * windows + o) * after + i % after];
            if (at < 0) continue;
            const int place = at / int(pitch) % int(positions);
            low = smaller(low, place);
            high = larger(high, place);
        }
        if (high >= 0) {
            atomicMin(&least, low);
            atomicMax(&largest, high);
        }
        __syncthreads();
        if (threadIdx.x == 0 && largest >= 0) {
            atomicMin(bounds + o, least);
            atomicMax(bounds + windows + o, largest);
        }
        __syncthreads();
    }
}

// ranges[0][p] and ranges[1][p]: the first and the last window whose bounds hold position p.
KERNEL(covering_windows, POOL_THREADS, int64_t positions, int64_t windows, const int32_t* bounds, int32_t* ranges) {
    for (int64_t p = first_index(); p < positions; p += index_step()) {
        int first = 0x7FFFFFFF, last = -1;
        for (int o = 0; o < windows; ++o)
            if (bounds[o] <= p && p <= bounds[windows + o]) {
                first = smaller(first, o);
                last = o;
            }
        ranges[p] = first;
        ranges[positions + p] = last;
    }
}

// Of the windows oh0 to oh1, ow0 to ow1 of a plane, in order, those that chose place `own`.
DEVICE void add_chosen(const Pool& s, const T* dy, const int32_t* index, int64_t own, int64_t plane, int64_t c,
                       int64_t oh0, int64_t oh1, int64_t ow0, int64_t ow1, T& sum) {
    for (int64_t oh = oh0; oh <= oh1; ++oh)
        for (int64_t ow = ow0; ow <= ow1; ++ow) {
            const int64_t o = ((plane * s.oh + oh) * s.ow + ow) * s.c + c;
            if (index[o] == own) sum = sum + dy[o];
        }
}

KERNEL(max_pool_grad, POOL_THREADS, const Pool s, const T* dy, const int32_t* index, const int32_t* down,
       const int32_t* across, T* dx) {
    for (int64_t at = first_index(); at < s.n * s.h * s.w * s.c; at += index_step()) {
        const Place<false> i(at, 1, s.h, s.w, s.c);
        T sum = T(0);
        add_chosen(s, dy, index, i.h * s.w + i.w, i.n, i.c, down[i.h], down[s.h + i.h], across[i.w],
                   across[s.w + i.w], sum);
        dx[at] = sum;
    }
}

KERNEL(max_pool_grad_deep, POOL_THREADS, const Pool s, const T* dy, const int32_t* index, const int32_t* deep,
       const int32_t* down, const int32_t* across, T* dx) {
    for (int64_t at = first_index(); at < s.n * s.d * s.h * s.w * s.c; at += index_step()) {
        const Place<true> i(at, s.d, s.h, s.w, s.c);
        const int64_t own = (i.d * s.h + i.h) * s.w + i.w;
        T sum = T(0);
        for (int64_t od = deep[i.d]; od <= deep[s.d + i.d]; ++od)
            add_chosen(s, dy, index, own, i.n * s.od + od, i.c, down[i.h], down[s.h + i.h], across[i.w],
                       across[s.w + i.w], sum);
        dx[at] = sum;
    }
}

template <bool DEEP>
DEVICE void means(const Pool& s, const T* x, T* y) {
    for (int64_t at = first_index(); at < s.n * (DEEP ? s.od : 1) * s.oh * s.ow * s.c; at += index_step()) {
        const Place<DEEP> o(at, s.od, s.oh, s.ow, s.c);
        const Window t = DEEP ? s.deep(o.d) : Window{0, 1, 1}, v = s.down(o.h), u = s.across(o.w);
        OrderedSum sum;
        for (int64_t d = t.begin; d < t.end; ++d) {
            const int64_t plane = DEEP ? o.n * s.d + d : o.n;
            for (int64_t h = v.begin; h < v.end; ++h)
                for (int64_t w = u.begin; w < u.end; ++w) sum.add(double(x[((plane * s.h + h) * s.w + w) * s.c + o.c]));
        }
        y[at] = T(sum.finish() / s.count(t, v, u));
    }
}

KERNEL(avg_pool, POOL_THREADS, const Pool s, const T* x, T* y) { means<false>(s, x, y); }

KERNEL(avg_pool_deep, POOL_THREADS, const Pool s, const T* x, T* y) { means<true>(s, x, y); }

template <bool DEEP>
DEVICE void means_grad(const Pool& s, const T* dy, T* dx) {
    for (int64_t at = first_index(); at < s.n * (DEEP ? s.d : 1) * s.h * s.w * s.c; at += index_step()) {
        const Place<DEEP> i(at, s.d, s.h, s.w, s.c);
        int64_t od0 = 0, od1 = 0, oh0, oh1, ow0, ow1;
        if (DEEP) covering(s.adaptive, i.d, s.d, s.od, s.kd, s.stride_d, s.pad_d, od0, od1);
        covering(s.adaptive, i.h, s.h, s.oh, s.kh, s.stride_h, s.pad_h, oh0, oh1);
        covering(s.adaptive, i.w, s.w, s.ow, s.kw, s.stride_w, s.pad_w, ow0, ow1);
        OrderedSum sum;
        for (int64_t od = od0; od <= od1; ++od) {
            const Window t = DEEP ? s.deep(od) : Window{0, 1, 1};
            const int64_t plane = DEEP ? i.n * s.od + od : i.n;
            for (int64_t oh = oh0; oh <= oh1; ++oh)
                for (int64_t ow = ow0; ow <= ow1; ++ow)
                    sum.add(double(dy[((plane * s.oh + oh) * s.ow + ow) * s.c + i.c]) /
                            s.count(t, s.down(oh), s.across(ow)));
        }
        dx[at] = T(sum.finish());
    }
}

KERNEL(avg_pool_grad, POOL_THREADS, const Pool s, const T* dy, T* dx) { means_grad<false>(s, dy, dx); }

KERNEL(avg_pool_grad_deep, POOL_THREADS, const Pool s, const T* dy, T* dx) { means_grad<true>(s, dy, dx); }

KERNEL(grid_sample, POOL_THREADS, const Pool s, bool nearest, bool align, bool border, bool reflection, const T* x,
       const T* grid, T* y) {
    for (int64_t e = first_index(); e < s.n * s.oh * s.ow * s.c; e += index_step()) {
        const int64_t place = e / s.c, c = e % s.c, n = place / (s.oh * s.ow);
        const GridTaps taps = grid_taps(double(grid[2 * place]), double(grid[2 * place + 1]), s.h, s.w, nearest, align, border,
                                        reflection);
        double sum = 0.0;
        bool begun = false;
        for (int t = 0; t < taps.count; ++t) {
            if (taps.pixel[t] < 0 || taps.weight[t] == 0.0) continue;
            const double term = taps.weight[t] * double(x[(n * s.h * s.w + taps.pixel[t]) * s.c + c]);
            sum = begun ? sum + term : term;
            begun = true;
        }
        y[e] = T(sum);
    }
}

// A thread has one channel of one image, and goes through the places in order.
KERNEL(grid_sample_input_grad, POOL_THREADS, const Pool s, bool nearest, bool align, bool border, bool reflection,
       const T* dy, const T* grid, T* dx) {
    for (int64_t e = first_index(); e < s.n * s.c; e += index_step()) {
        const int64_t n = e / s.c, c = e % s.c, places = s.oh * s.ow;
        T* image = dx + n * s.h * s.w * s.c + c;
        for (int64_t i = 0; i < s.h * s.w; ++i) image[i * s.c] = T(0);
        for (int64_t place = n * places; place < (n + 1) * places; ++place) {
            const GridTaps taps = grid_taps(double(grid[2 * place]), double(grid[2 * place + 1]), s.h, s.w, nearest, align,
                                            border, reflection);
            for (int t = 0; t < taps.count; ++t) {
                if (taps.pixel[t] < 0 || taps.weight[t] == 0.0) continue;
                T& to = image[taps.pixel[t] * s.c];
                to = to + T(taps.weight[t] * double(dy[place * s.c + c]));
            }
        }
    }
}

KERNEL(grid_sample_grid_grad, POOL_THREADS, const Pool s, bool nearest, bool align, bool border, bool reflection,
       const T* dy, const T* x, const T* grid, T* dgrid) {
    for (int64_t place = first_index(); place < s.n * s.oh * s.ow; place += index_step()) {
        const T* image = x + place / (s.oh * s.ow) * s.h * s.w * s.c;
        const GridTaps taps = grid_taps(double(grid[2 * place]), double(grid[2 * place + 1]), s.h, s.w, nearest, align, border,
                                        reflection);
        OrderedSum across, down;
        for (int64_t c = 0; c < s.c; ++c) {
            double corner[4];
            for (int t = 0; t < 4; ++t) corner[t] = taps.pixel[t] < 0 ? 0.0 : double(image[taps.pixel[t] * s.c + c]);
            const double g = double(dy[place * s.c + c]);
            across.add(((corner[1] - corner[0]) * (1.0 - taps.down) + (corner[3] - corner[2]) * taps.down) * g);
            down.add(((corner[2] - corner[0]) * (1.0 - taps.across) + (corner[3] - corner[1]) * taps.across) * g);
        }
        dgrid[2 * place] = taps.slope_x != 0.0 ? T(across.finish() * taps.slope_x) : T(0);
        dgrid[2 * place + 1] = taps.slope_y != 0.0 ? T(down.finish() * taps.slope_y) : T(0);
    }
}

template <bool DEEP>
DEVICE void weighted_sums(const Pool& s, const T* x, const int64_t* first, const int64_t* at, const double* weight, T* y) {
    const int64_t *down = first + s.od, *across = down + s.oh;
    for (int64_t e = first_index(); e < s.n * (DEEP ? s.od : 1) * s.oh * s.ow * s.c; e += index_step()) {
        const Place<DEEP> o(e, s.od, s.oh, s.ow, s.c);
        double sum = 0.0;
        bool begun = false;
        for (int64_t d = first[o.d]; d < first[o.d + 1]; ++d) {
            const int64_t plane = DEEP ? o.n * s.d + at[d] : o.n;
            for (int64_t h = down[o.h]; h < down[o.h + 1]; ++h)
                for (int64_t w = across[o.w]; w < across[o.w + 1]; ++w) {
                    const double value = x[((plane * s.h + at[h]) * s.w + at[w]) * s.c + o.c];
                    const double term = weight[d] * weight[h] * weight[w] * value;
                    sum = begun ? sum + term : term;
                    begun = true;
                }
        }
        y[e] = T(sum);
    }
}

KERNEL(resample, POOL_THREADS, const Pool s, const T* x, const int64_t* first, const int64_t* at, const double* weight, T* y) {
    weighted_sums<false>(s, x, first, at, weight, y);
}

KERNEL(resample_deep, POOL_THREADS, const Pool s, const T* x, const int64_t* first, const int64_t* at, const double* weight,
       T* y) {
    weighted_sums<true>(s, x, first, at, weight, y);
}

}  // namespace lucid
