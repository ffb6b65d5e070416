// Pooling over channels-last images (ARITHMETIC.md, section 8).
#pragma once

#include "reduce.h"
#include "windows.h"

namespace lucid {
namespace LUCID_ISA {

inline void covering(const Pool& s, bool vertical, int64_t position, int64_t& first, int64_t& last) {
    if (vertical)
        lucid::covering(s.adaptive, position, s.h, s.oh, s.kh, s.stride_h, s.pad_h, first, last);
    else
        lucid::covering(s.adaptive, position, s.w, s.ow, s.kw, s.stride_w, s.pad_w, first, last);
}

inline Window vertical_window(const Pool& s, int64_t oh) {
    return window(s.adaptive, oh, s.h, s.oh, s.kh, s.stride_h, s.pad_h);
}
inline Window horizontal_window(const Pool& s, int64_t ow) {
    return window(s.adaptive, ow, s.w, s.ow, s.kw, s.stride_w, s.pad_w);
}
inline double window_count(const Pool& s, const Window& v, const Window& h) {
    return s.count_include_pad ? double(v.size * h.size) : double((v.end - v.begin) * (h.end - h.begin));
}

// `Index` holds the place of a pixel in its plane: int64_t where a plane has 2^31 pixels or more.
template <class T, class Index = int32_t>
static void max_pool(const Pool& s, const T* x, T* y, Index* index) {
    parallel_range(s.n * s.oh, 1, [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) {
            const int64_t n = row / s.oh, oh = row % s.oh;
            const T* image = x + n * s.h * s.w * s.c;
            for (int64_t ow = 0; ow < s.ow; ++ow) {
                T* best = y + (row * s.ow + ow) * s.c;
                Index* where = index ? index + (row * s.ow + ow) * s.c : nullptr;
                bool first = true;
                for (int64_t c = 0; c < s.c; ++c) best[c] = -T(__builtin_inff());
                for (int64_t c = 0; where && c < s.c; ++c) where[c] = -1;
                for (int64_t kh = 0; kh < s.kh; ++kh) {
                    const int64_t ih = oh * s.stride_h - s.pad_h + kh * s.dilation_h;
                    if (ih < 0 || ih >= s.h) continue;
                    for (int64_t kw = 0; kw < s.kw; ++kw) {
                        const int64_t iw = ow * s.stride_w - s.pad_w + kw * s.dilation_w;
                        if (iw < 0 || iw >= s.w) continue;
                        const int64_t pixel = ih * s.w + iw;
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
        T* image = dx + n * s.h * s.w * s.c;
        // Pixels become zero shortly before something is added to them: then they are still in the cache.
        int64_t zeroed = 0;
        const auto zero_until = [&](int64_t end) {
            for (; zeroed < end; ++zeroed)
                for (int64_t c = c0; c < c1; ++c) image[zeroed * s.c + c] = T(0);
        };
        for (int64_t row = n * s.oh; row < (n + 1) * s.oh; ++row) {
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
        zero_until(s.h * s.w);
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
    parallel_strips(s.n * s.oh, s.c, [&](int64_t row, int64_t c0, int channels) {
        const Window v = vertical_window(s, row % s.oh);
        const T* image = x + row / s.oh * s.h * s.w * s.c + c0;
        for (int64_t ow = 0; ow < s.ow; ++ow) {
            const Window h = horizontal_window(s, ow);
            const int64_t width = larger<int64_t>(h.end - h.begin, 0);
            double total[POOL_CHANNELS];
            side_by_side_sums(
                larger<int64_t>(v.end - v.begin, 0) * width, channels,
                [&](int64_t t, double* sum) {
                    const T* from = image + ((v.begin + t / width) * s.w + h.begin + t % width) * s.c;
                    for (int c = 0; c < channels; ++c) sum[c] = sum[c] + double(from[c]);
                },
                total);
            const double count = window_count(s, v, h);
            T* to = y + (row * s.ow + ow) * s.c + c0;
            for (int c = 0; c < channels; ++c) to[c] = T(total[c] / count);
        }
    });
}

template <class T>
static void avg_pool_grad(const Pool& s, const T* dy, T* dx) {
    parallel_strips(s.n * s.h, s.c, [&](int64_t row, int64_t c0, int channels) {
        int64_t oh0, oh1;
        covering(s, true, row % s.h, oh0, oh1);
        const T* gradient = dy + row / s.h * s.oh * s.ow * s.c + c0;
        for (int64_t iw = 0; iw < s.w; ++iw) {
            int64_t ow0, ow1;
            covering(s, false, iw, ow0, ow1);
            const int64_t width = larger<int64_t>(ow1 - ow0 + 1, 0);
            double total[POOL_CHANNELS];
            side_by_side_sums(
                larger<int64_t>(oh1 - oh0 + 1, 0) * width, channels,
                [&](int64_t t, double* sum) {
                    const int64_t oh = oh0 + t / width, ow = ow0 + t % width;
                    const double count = window_count(s, vertical_window(s, oh), horizontal_window(s, ow));
                    const T* from = gradient + (oh * s.ow + ow) * s.c;
                    for (int c = 0; c < channels; ++c) sum[c] = sum[c] + double(from[c]) / count;
                },
                total);
            T* to = dx + (row * s.w + iw) * s.c + c0;
            for (int c = 0; c < channels; ++c) to[c] = T(total[c]);
        }
    });
}

}  // namespace LUCID_ISA
}  // namespace lucid
