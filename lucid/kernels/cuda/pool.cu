// Pooling of images (N, H, W, C): section 8 of ARITHMETIC.md. A thread makes one result; neighbours are neighbours in memory.
#include "../windows.h"
#include "device.cuh"

namespace lucid {
namespace {

constexpr int POOL_THREADS = 256;

// lucid/backends/cuda.py fills it in, field by field.
struct Pool {
    int64_t n, h, w, c, oh, ow, kh, kw, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w;
    int64_t count_include_pad, adaptive;

    DEVICE Window down(int64_t o) const { return window(adaptive, o, h, oh, kh, stride_h, pad_h); }
    DEVICE Window across(int64_t o) const { return window(adaptive, o, w, ow, kw, stride_w, pad_w); }
    DEVICE double count(const Window& v, const Window& u) const {
        return count_include_pad ? double(v.size * u.size) : double((v.end - v.begin) * (u.end - u.begin));
    }
};

// An element of (n, height, width, channels) in memory.
struct Place {
    int64_t n, h, w, c;

    DEVICE Place(int64_t at, int64_t height, int64_t width, int64_t channels) {
        if (at <= 0xFFFFFFFFll)  // a division of 64 bits is three times as long
            divide(uint32_t(at), uint32_t(height), uint32_t(width), uint32_t(channels));
        else
            divide(at, height, width, channels);
    }

    template <class I>
    DEVICE void divide(I at, I height, I width, I channels) {
        c = at % channels;
        at /= channels;
        w = at % width;
        at /= width;
        h = at % height;
        n = at / height;
    }
};

}  // namespace

KERNEL(max_pool, POOL_THREADS, const Pool s, const T* x, T* y, Maybe<int32_t> index) {
    for (int64_t at = first_index(); at < s.n * s.oh * s.ow * s.c; at += index_step()) {
        const Place o(at, s.oh, s.ow, s.c);
        T best = from_bits(0xFFF0000000000000ull);
        int64_t where = -1;
        for (int64_t kh = 0; kh < s.kh; ++kh) {
            const int64_t h = o.h * s.stride_h - s.pad_h + kh * s.dilation_h;
            if (h < 0 || h >= s.h) continue;
            for (int64_t kw = 0; kw < s.kw; ++kw) {
                const int64_t w = o.w * s.stride_w - s.pad_w + kw * s.dilation_w;
                if (w < 0 || w >= s.w) continue;
                const T value = x[((o.n * s.h + h) * s.w + w) * s.c + o.c];
                if (where < 0 || beats<true>(value, best)) {
                    best = value;
                    where = h * s.w + w;
                }
            }
        }
        y[at] = best;
        if (index) index[at] = int32_t(where);
    }
}

// The gradient of max pooling is gathered: an element adds the windows that chose it, in ascending order. Which windows can
// have chosen it is read off the indices: `window_bounds` finds, for each row (or column) of windows, between which rows of the
// image its choices lie; `covering_windows` turns that round. bounds[0] holds the least, bounds[1] the largest.
KERNEL(no_bounds, POOL_THREADS, int64_t windows, int32_t* bounds) {
    for (int64_t i = first_index(); i < windows; i += index_step()) {
        bounds[i] = 0x7FFFFFFF;
        bounds[windows + i] = -1;
    }
}

KERNEL(window_bounds, POOL_THREADS, const Pool s, bool vertical, const int32_t* index, int32_t* bounds) {
    __shared__ int least, largest;
    const int64_t windows = vertical ? s.oh : s.ow, others = vertical ? s.ow : s.oh;
    for (int64_t task = blockIdx.x; task < s.n * windows; task += gridDim.x) {
        const int64_t n = task / windows, o = task % windows;
        if (threadIdx.x == 0) {
            least = 0x7FFFFFFF;
            largest = -1;
        }
        __syncthreads();
        int low = 0x7FFFFFFF, high = -1;
        for (int64_t i = threadIdx.x; i < others * s.c; i += blockDim.x) {
            const int64_t row = vertical ? o : i / s.c, column = vertical ? i / s.c : o;
            const int at = index[((n * s.oh + row) * s.ow + column) * s.c + i % s.c];
            if (at < 0) continue;
            const int place = vertical ? at / int(s.w) : at % int(s.w);
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

KERNEL(max_pool_grad, POOL_THREADS, const Pool s, const T* dy, const int32_t* index, const int32_t* down,
       const int32_t* across, T* dx) {
    for (int64_t at = first_index(); at < s.n * s.h * s.w * s.c; at += index_step()) {
        const Place i(at, s.h, s.w, s.c);
        const int64_t own = i.h * s.w + i.w;
        T sum = T(0);
        for (int64_t oh = down[i.h]; oh <= down[s.h + i.h]; ++oh)
            for (int64_t ow = across[i.w]; ow <= across[s.w + i.w]; ++ow) {
                const int64_t o = ((i.n * s.oh + oh) * s.ow + ow) * s.c + i.c;
                if (index[o] == own) sum = sum + dy[o];
            }
        dx[at] = sum;
    }
}

KERNEL(avg_pool, POOL_THREADS, const Pool s, const T* x, T* y) {
    for (int64_t at = first_index(); at < s.n * s.oh * s.ow * s.c; at += index_step()) {
        const Place o(at, s.oh, s.ow, s.c);
        const Window v = s.down(o.h), u = s.across(o.w);
        OrderedSum sum;
        for (int64_t h = v.begin; h < v.end; ++h)
            for (int64_t w = u.begin; w < u.end; ++w) sum.add(double(x[((o.n * s.h + h) * s.w + w) * s.c + o.c]));
        y[at] = T(sum.finish() / s.count(v, u));
    }
}

KERNEL(avg_pool_grad, POOL_THREADS, const Pool s, const T* dy, T* dx) {
    for (int64_t at = first_index(); at < s.n * s.h * s.w * s.c; at += index_step()) {
        const Place i(at, s.h, s.w, s.c);
        int64_t oh0, oh1, ow0, ow1;
        covering(s.adaptive, i.h, s.h, s.oh, s.kh, s.stride_h, s.pad_h, oh0, oh1);
        covering(s.adaptive, i.w, s.w, s.ow, s.kw, s.stride_w, s.pad_w, ow0, ow1);
        OrderedSum sum;
        for (int64_t oh = oh0; oh <= oh1; ++oh)
            for (int64_t ow = ow0; ow <= ow1; ++ow)
                sum.add(double(dy[((i.n * s.oh + oh) * s.ow + ow) * s.c + i.c]) / s.count(s.down(oh), s.across(ow)));
        dx[at] = T(sum.finish());
    }
}

// (n, channels, pixels) to (n, pixels, channels), through a tile so that both sides are read and written in whole lines.
KERNEL(swap_axes, POOL_THREADS, int64_t n, int64_t channels, int64_t pixels, const T* x, T* y) {
    constexpr int SIDE = 32, LINES = POOL_THREADS / SIDE;
    __shared__ T tile[SIDE][SIDE + 1];
    const int64_t tiles_c = (channels + SIDE - 1) / SIDE, tiles_p = (pixels + SIDE - 1) / SIDE;
    const int lane = threadIdx.x % SIDE, line = threadIdx.x / SIDE;
    for (int64_t task = blockIdx.x; task < n * tiles_c * tiles_p; task += gridDim.x) {
        const int64_t p0 = task % tiles_p * SIDE, c0 = task / tiles_p % tiles_c * SIDE, image = task / (tiles_p * tiles_c);
        for (int i = line; i < SIDE; i += LINES)
            if (c0 + i < channels && p0 + lane < pixels) tile[i][lane] = x[(image * channels + c0 + i) * pixels + p0 + lane];
        __syncthreads();
        for (int i = line; i < SIDE; i += LINES)
            if (p0 + i < pixels && c0 + lane < channels) y[(image * pixels + p0 + i) * channels + c0 + lane] = tile[lane][i];
        __syncthreads();
    }
}

}  // namespace lucid
