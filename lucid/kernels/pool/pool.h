// Pooling over channels-last images (ARITHMETIC.md, section 8).
#pragma once

#include "../reduce/reduce.h"
#include "../windows.h"

namespace lucid {
namespace LUCID_ISA {

// A side of the windows.
struct Side {
    int64_t in, out, kernel, stride, pad;
    bool adaptive;

    Window window(int64_t i) const { return lucid::window(adaptive, i, in, out, kernel, stride, pad); }

    // The windows that cover a position, from .begin to .end - 1.
    Window covering(int64_t position) const {
        int64_t first, last;
        lucid::covering(adaptive, position, in, out, kernel, stride, pad, first, last);
        return {first, last + 1, 0};
    }
};

struct Sides {
    Side depth, vertical, horizontal;

    explicit Sides(const Pool& s)
        : depth{s.d, s.od, s.kd, s.stride_d, s.pad_d, s.adaptive},
          vertical{s.h, s.oh, s.kh, s.stride_h, s.pad_h, s.adaptive},
          horizontal{s.w, s.ow, s.kw, s.stride_w, s.pad_w, s.adaptive} {}
};

inline int64_t length(const Window& w) { return larger<int64_t>(w.end - w.begin, 0); }

// The elements of a box, in order, pixel by pixel.
struct Box {
    const Window &depth, &vertical, &horizontal;
    int64_t d = depth.begin, h = vertical.begin, w = horizontal.begin;

    int64_t size() const { return length(depth) * length(vertical) * length(horizontal); }

    void next() {
        if (++w < horizontal.end) return;
        w = horizontal.begin;
        if (++h < vertical.end) return;
        h = vertical.begin;
        ++d;
    }
};

// What the sum of a window is divided by.
inline double window_count(const Pool& s, const Window& d, const Window& v, const Window& h) {
    return s.count_include_pad ? double(d.size * v.size * h.size)
                               : double((d.end - d.begin) * (v.end - v.begin) * (h.end - h.begin));
}

// A pooling of adaptive windows as one whose windows are as large as one of them.
inline Pool with_window(Pool s, const Window& d, const Window& v, const Window& h) {
    s.kd = d.size, s.kh = v.size, s.kw = h.size;
    return s;
}

// One window of all channels. `Index` holds the place of a pixel in its image: int64_t where that has 2^31 or more.
template <class T, class Index>
[[gnu::always_inline]] inline void max_of_window(const Pool& s, const T* image, int64_t d0, int64_t h0, int64_t w0,
                                                 T* best, Index* where) {
    bool first = true;
    for (int64_t c = 0; c < s.c; ++c) best[c] = -T(__builtin_inff());
    for (int64_t c = 0; where && c < s.c; ++c) where[c] = -1;
    for (int64_t kd = 0; kd < s.kd; ++kd) {
        const int64_t id = d0 + kd * s.dilation_d;
        if (id < 0 || id >= s.d) continue;
        for (int64_t kh = 0; kh < s.kh; ++kh) {
            const int64_t ih = h0 + kh * s.dilation_h;
            if (ih < 0 || ih >= s.h) continue;
            for (int64_t kw = 0; kw < s.kw; ++kw) {
                const int64_t iw = w0 + kw * s.dilation_w;
                if (iw < 0 || iw >= s.w) continue;
                const int64_t pixel = (id * s.h + ih) * s.w + iw;
                const Index at = Index(pixel);
                const T* from = image + pixel * s.c;
                if (first) {
                    for (int64_t c = 0; c < s.c; ++c) best[c] = from[c];
                    for (int64_t c = 0; where && c < s.c; ++c) where[c] = at;
                    first = false;
                    continue;
                }
                if (!where) {
                    for (int64_t c = 0; c < s.c; ++c) best[c] = extreme<T, true>(best[c], from[c]);
                    continue;
                }
                for (int64_t c = 0; c < s.c; ++c) {
                    const T value = from[c], old = best[c];
                    const bool take = (value > old) | ((value != value) & (old == old));
                    best[c] = take ? value : old;
                    where[c] = take ? at : where[c];
                }
            }
        }
    }
}

template <class T, class Index = int32_t>
static void max_pool(const Pool& s, const T* x, T* y, Index* index) {
    const Sides sides(s);
    parallel_range(s.n * s.od * s.oh, 1, [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) {
            const int64_t plane = row / s.oh, n = plane / s.od, od = plane % s.od, oh = row % s.oh;
            const T* image = x + n * s.d * s.h * s.w * s.c;
            for (int64_t ow = 0; ow < s.ow; ++ow) {
                const int64_t at = (row * s.ow + ow) * s.c;
                if (s.adaptive) {
                    const Window d = sides.depth.window(od), v = sides.vertical.window(oh), h = sides.horizontal.window(ow);
                    max_of_window<T, Index>(with_window(s, d, v, h), image, d.begin, v.begin, h.begin, y + at,
                                            index ? index + at : nullptr);
                    continue;
                }
                max_of_window<T, Index>(s, image, od * s.stride_d - s.pad_d, oh * s.stride_h - s.pad_h,
                                        ow * s.stride_w - s.pad_w, y + at, index ? index + at : nullptr);
            }
        }
    });
}

template <class T, class Index = int32_t>
static void max_pool_grad(const Pool& s, const T* dy, const Index* index, T* dx) {
    // Windows overlap, so an image is one task, or, where there are few images, some of its channels are.
    constexpr int64_t LEAST = Tuning::MAX_POOL_CHANNELS;
    const int64_t wanted = Tuning::TASKS_A_THREAD * num_threads() / larger<int64_t>(1, s.n) + 1;
    const int64_t strips = smaller((s.c + LEAST - 1) / LEAST, wanted);
    parallel(s.n * strips, [&](int64_t task) {
        const int64_t n = task / strips, strip = task % strips;
        const int64_t c0 = s.c * strip / strips, c1 = s.c * (strip + 1) / strips;
        const int64_t pixels = s.d * s.h * s.w, rows = s.od * s.oh;
        T* image = dx + n * pixels * s.c;
        // Pixels become zero shortly before something is added to them: then they are still in the cache.
        int64_t zeroed = 0;
        const auto zero_until = [&](int64_t end) {
            for (; zeroed < end; ++zeroed)
                for (int64_t c = c0; c < c1; ++c) image[zeroed * s.c + c] = T(0);
        };
        for (int64_t row = n * rows; row < (n + 1) * rows; ++row) {
            Index last = -1;
            for (int64_t o = row * s.ow; o < (row + 1) * s.ow; ++o)
                for (int64_t c = c0; c < c1; ++c) last = larger(last, index[o * s.c + c]);
            zero_until(int64_t(last) + 1);
            for (int64_t o = row * s.ow; o < (row + 1) * s.ow; ++o)
                for (int64_t c = c0; c < c1; ++c) {
                    const int64_t at = index[o * s.c + c];
                    if (at < 0) continue;
                    T& to = image[at * s.c + c];
                    to = to + dy[o * s.c + c];
                }
        }
        zero_until(pixels);
    });
}

template <class T>
static void max_pool_wide(const Pool& s, const T* x, T* y, int64_t* index) {
    max_pool<T>(s, x, y, index);
}

template <class T>
static void max_pool_grad_wide(const Pool& s, const T* dy, const int64_t* index, T* dx) {
    max_pool_grad<T>(s, dy, index, dx);
}

constexpr int64_t POOL_CHANNELS = Tuning::POOL_CHANNELS;

// total[c] = the sum of value(t, c) over t, in the order of section 2, for up to POOL_CHANNELS channels. `add_term(t,
// sum)` adds term t to sum[0 ..].
template <class AddTerm>
inline void side_by_side_sums(int64_t terms, int channels, const AddTerm& add_term, double* total) {
    double group[POOL_CHANNELS], sum[POOL_CHANNELS];
    for (int c = 0; c < channels; ++c) total[c] = sum[c] = 0.0;
    for (int64_t t = 0; t < terms; ++t) {
        add_term(t, sum);
        if ((t + 1) % SEGMENT != 0 && t + 1 != terms) continue;
        const int64_t segment = t / SEGMENT;
        const bool group_ends = segment % GROUP == GROUP - 1 || t + 1 == terms;
        for (int c = 0; c < channels; ++c) {
            group[c] = segment % GROUP == 0 ? sum[c] : group[c] + sum[c];
            if (group_ends) total[c] = segment < GROUP ? group[c] : total[c] + group[c];
            sum[c] = 0.0;
        }
    }
}

// body(row, c0, channels) for rows 0 .. rows - 1 and strips of channels.
template <class Body>
inline void parallel_strips(int64_t rows, int64_t channels, const Body& body) {
    const int64_t strips = (channels + POOL_CHANNELS - 1) / POOL_CHANNELS;
    parallel_range(rows * strips, 1, [&](int64_t begin, int64_t end) {
        for (int64_t task = begin; task < end; ++task) {
            const int64_t c0 = task % strips * POOL_CHANNELS;
            body(task / strips, c0, int(smaller(POOL_CHANNELS, channels - c0)));
        }
    });
}

template <class T>
static void avg_pool(const Pool& s, const T* x, T* y) {
    const Sides sides(s);
    parallel_strips(s.n * s.od * s.oh, s.c, [&](int64_t row, int64_t c0, int channels) {
        const int64_t plane = row / s.oh;
        const Window d = sides.depth.window(plane % s.od), v = sides.vertical.window(row % s.oh);
        const T* image = x + plane / s.od * s.d * s.h * s.w * s.c + c0;
        for (int64_t ow = 0; ow < s.ow; ++ow) {
            const Window h = sides.horizontal.window(ow);
            double total[POOL_CHANNELS];
            Box at{d, v, h};
            side_by_side_sums(
                at.size(), channels,
                [&](int64_t, double* sum) {
                    const T* from = image + ((at.d * s.h + at.h) * s.w + at.w) * s.c;
                    for (int c = 0; c < channels; ++c) sum[c] = sum[c] + double(from[c]);
                    at.next();
                },
                total);
            const double count = window_count(s, d, v, h);
            T* to = y + (row * s.ow + ow) * s.c + c0;
            for (int c = 0; c < channels; ++c) to[c] = T(total[c] / count);
        }
    });
}

template <class T>
static void avg_pool_grad(const Pool& s, const T* dy, T* dx) {
    const Sides sides(s);
    parallel_strips(s.n * s.d * s.h, s.c, [&](int64_t row, int64_t c0, int channels) {
        const int64_t plane = row / s.h;
        const Window d = sides.depth.covering(plane % s.d), v = sides.vertical.covering(row % s.h);
        const T* gradient = dy + plane / s.d * s.od * s.oh * s.ow * s.c + c0;
        for (int64_t iw = 0; iw < s.w; ++iw) {
            const Window h = sides.horizontal.covering(iw);
            double total[POOL_CHANNELS];
            Box at{d, v, h};
            side_by_side_sums(
                at.size(), channels,
                [&](int64_t, double* sum) {
                    const double count = window_count(s, sides.depth.window(at.d), sides.vertical.window(at.h),
                                                      sides.horizontal.window(at.w));
                    const T* from = gradient + ((at.d * s.oh + at.h) * s.ow + at.w) * s.c;
                    for (int c = 0; c < channels; ++c) sum[c] = sum[c] + double(from[c]) / count;
                    at.next();
                },
                total);
            T* to = dx + (row * s.w + iw) * s.c + c0;
            for (int c = 0; c < channels; ++c) to[c] = T(total[c]);
        }
    });
}

}  // namespace LUCID_ISA
}  // namespace lucid
