// Pooling over channels-last images (ARITHMETIC.md, section 8).
#pragma once

#include <vector>

#include "../reduce/reduce.h"
#include "../windows.h"
#include "grid.h"

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

// The taps of one place along a side.
struct Taps {
    const int64_t* at;
    const double* weight;
    int64_t count;
};

struct TapTable {
    const int64_t *first, *at;
    const double* weight;

    Taps row(int64_t i) const { return {at + first[i], weight + first[i], first[i + 1] - first[i]}; }
};

// The taps of an output row: rows of the image and their weights, along the depth and vertically together.
template <class T>
struct RowTaps {
    std::vector<const T*> from;
    std::vector<double> weight;

    void collect(const Pool& s, const T* image, const Taps& deep, const Taps& down) {
        from.clear(), weight.clear();
        for (int64_t d = 0; d < deep.count; ++d)
            for (int64_t h = 0; h < down.count; ++h) {
                from.push_back(image + (deep.at[d] * s.h + down.at[h]) * s.w * s.c);
                weight.push_back(deep.weight[d] * down.weight[h]);
            }
    }
};

// STRIP vectors of doubles from channel `c` on, of one pixel: the weighted sum in order.
template <int STRIP, class V, class T>
inline void weighted_sum(const T* const* from, const double* weight, int64_t taps, int64_t c, T* to) {
    constexpr int LANES_OF = sizeof(V) / sizeof(double);
    V sum[STRIP];
    for (int i = 0; i < STRIP; ++i) sum[i] = load_wide<V>(from[0] + c + i * LANES_OF) * weight[0];
    for (int64_t t = 1; t < taps; ++t)
        for (int i = 0; i < STRIP; ++i) sum[i] = sum[i] + load_wide<V>(from[t] + c + i * LANES_OF) * weight[t];
    for (int i = 0; i < STRIP; ++i) {
        if constexpr (LANES_OF == 1) {
            to[c + i] = T(sum[i]);
        } else if constexpr (sizeof(T) == sizeof(double)) {
            store(to + c + i * LANES_OF, sum[i]);
        } else {
            const Part<float> narrowed = made(sum[i], static_cast<Part<float>*>(nullptr));
            __builtin_memcpy(to + c + i * LANES_OF, &narrowed, sizeof(narrowed));
        }
    }
}

// One pixel of all channels; from[] and weight[] are its taps.
template <class T>
inline void resampled_pixel(const T* const* from, const double* weight, int64_t taps, int64_t channels, T* to) {
    int64_t c = 0;
    if (taps == 0) {
        for (; c < channels; ++c) to[c] = T(0);
        return;
    }
    if (taps == 1 && weight[0] == 1.0) {
        for (; c < channels; ++c) to[c] = from[0][c];
        return;
    }
    constexpr int WIDE = LANES<double>;
    for (; c + 4 * WIDE <= channels; c += 4 * WIDE) weighted_sum<4, Vec<double>>(from, weight, taps, c, to);
    for (; c + WIDE <= channels; c += WIDE) weighted_sum<1, Vec<double>>(from, weight, taps, c, to);
    for (; c < channels; ++c) weighted_sum<1, double>(from, weight, taps, c, to);
}

// A stretch of an output row in which each place has `taps` taps: element e (pixel and channel) takes the elements
// at[t][e] of a row of the image with the weights weight[t][e].
struct Stretch {
    int64_t begin, end, taps;
    std::vector<int64_t> at;
    std::vector<double> weight;
};

// The stretches of all output rows, for few channels.
inline std::vector<Stretch> stretches(const Pool& s, const TapTable& across) {
    std::vector<Stretch> found;
    for (int64_t ow = 0; ow < s.ow; ++ow) {
        const int64_t taps = across.row(ow).count;
        if (found.empty() || found.back().taps != taps) found.push_back({ow * s.c, ow * s.c, taps, {}, {}});
        found.back().end += s.c;
    }
    for (Stretch& one : found)
        for (int64_t t = 0; t < one.taps; ++t)
            for (int64_t e = one.begin; e < one.end; ++e) {
                const Taps taps = across.row(e / s.c);
                one.at.push_back(taps.at[t] * s.c + e % s.c);
                one.weight.push_back(taps.weight[t]);
            }
    return found;
}

// One output row by its stretches: the order of each sum is that of its taps, and elements lie side by side.
template <class T>
inline void resampled_row(const RowTaps<T>& rows, const std::vector<Stretch>& across, double* sum, T* to) {
    for (const Stretch& one : across) {
        const int64_t length = one.end - one.begin;
        bool begun = false;
        for (int64_t e = 0; e < length; ++e) sum[e] = 0.0;
        for (size_t r = 0; r < rows.from.size(); ++r) {
            const T* from = rows.from[r];
            const double factor = rows.weight[r];
            for (int64_t t = 0; t < one.taps; ++t) {
                const int64_t* at = one.at.data() + t * length;
                const double* weight = one.weight.data() + t * length;
                if (begun)
                    for (int64_t e = 0; e < length; ++e) sum[e] = sum[e] + factor * weight[e] * double(from[at[e]]);
                else
                    for (int64_t e = 0; e < length; ++e) sum[e] = factor * weight[e] * double(from[at[e]]);
                begun = true;
            }
        }
        for (int64_t e = 0; e < length; ++e) to[one.begin + e] = T(sum[e]);
    }
}

template <class T>
static void resample(const Pool& s, const T* x, const int64_t* first, const int64_t* at, const double* weight, T* y) {
    const TapTable deep{first, at, weight}, down{first + s.od, at, weight}, across{first + s.od + s.oh, at, weight};
    std::vector<Stretch> wide_rows;
    if (s.c < LANES<double>) wide_rows = stretches(s, across);
    const bool by_stretches = !wide_rows.empty() && int64_t(wide_rows.size()) * 8 <= s.ow + 16;
    parallel_range(s.n * s.od * s.oh, 1, [&](int64_t begin, int64_t end) {
        RowTaps<T> rows;
        std::vector<const T*> from;
        std::vector<double> factor, sum(by_stretches ? s.ow * s.c : 0);
        for (int64_t row = begin; row < end; ++row) {
            const int64_t plane = row / s.oh;
            const T* image = x + plane / s.od * s.d * s.h * s.w * s.c;
            rows.collect(s, image, deep.row(plane % s.od), down.row(row % s.oh));
            if (by_stretches) {
                resampled_row(rows, wide_rows, sum.data(), y + row * s.ow * s.c);
                continue;
            }
            for (int64_t ow = 0; ow < s.ow; ++ow) {
                const Taps taps = across.row(ow);
                from.clear(), factor.clear();
                for (size_t r = 0; r < rows.from.size(); ++r)
                    for (int64_t t = 0; t < taps.count; ++t) {
                        from.push_back(rows.from[r] + taps.at[t] * s.c);
                        factor.push_back(rows.weight[r] * taps.weight[t]);
                    }
                resampled_pixel(from.data(), factor.data(), int64_t(from.size()), s.c, y + (row * s.ow + ow) * s.c);
            }
        }
    });
}

template <class T>
static void grid_sample(const Pool& s, bool nearest, bool align, bool border, bool reflection, const T* x, const T* grid,
                        T* y) {
    parallel_range(s.n * s.oh, 1, [&](int64_t begin, int64_t end) {
        for (int64_t place = begin * s.ow; place < end * s.ow; ++place) {
            const T* image = x + place / (s.oh * s.ow) * s.h * s.w * s.c;
            const GridTaps taps = grid_taps(double(grid[2 * place]), double(grid[2 * place + 1]), s.h, s.w, nearest, align,
                                            border, reflection);
            const T* from[4];
            double weight[4];
            int64_t count = 0;
            for (int t = 0; t < taps.count; ++t) {
                if (taps.pixel[t] < 0 || taps.weight[t] == 0.0) continue;
                from[count] = image + taps.pixel[t] * s.c;
                weight[count++] = taps.weight[t];
            }
            resampled_pixel(from, weight, count, s.c, y + place * s.c);
        }
    });
}

template <class T>
static void grid_sample_input_grad(const Pool& s, bool nearest, bool align, bool border, bool reflection, const T* dy,
                                   const T* grid, T* dx) {
    // Places may meet anywhere, so an image is one task, or, where there are few images, some of its channels are.
    constexpr int64_t LEAST = Tuning::MAX_POOL_CHANNELS;
    const int64_t wanted = Tuning::TASKS_A_THREAD * num_threads() / larger<int64_t>(1, s.n) + 1;
    const int64_t strips = smaller((s.c + LEAST - 1) / LEAST, wanted), pixels = s.h * s.w, places = s.oh * s.ow;
    parallel(s.n * strips, [&](int64_t task) {
        const int64_t n = task / strips, strip = task % strips;
        const int64_t c0 = s.c * strip / strips, c1 = s.c * (strip + 1) / strips;
        T* image = dx + n * pixels * s.c;
        for (int64_t i = 0; i < pixels; ++i)
            for (int64_t c = c0; c < c1; ++c) image[i * s.c + c] = T(0);
        for (int64_t place = n * places; place < (n + 1) * places; ++place) {
            const GridTaps taps = grid_taps(double(grid[2 * place]), double(grid[2 * place + 1]), s.h, s.w, nearest, align,
                                            border, reflection);
            for (int t = 0; t < taps.count; ++t) {
                if (taps.pixel[t] < 0 || taps.weight[t] == 0.0) continue;
                T* to = image + taps.pixel[t] * s.c;
                const T* from = dy + place * s.c;
                for (int64_t c = c0; c < c1; ++c) to[c] = to[c] + T(taps.weight[t] * double(from[c]));
            }
        }
    });
}

template <class T>
static void grid_sample_grid_grad(const Pool& s, bool nearest, bool align, bool border, bool reflection, const T* dy,
                                  const T* x, const T* grid, T* dgrid) {
    parallel_range(s.n * s.oh, 1, [&](int64_t begin, int64_t end) {
        for (int64_t place = begin * s.ow; place < end * s.ow; ++place) {
            const T* image = x + place / (s.oh * s.ow) * s.h * s.w * s.c;
            const GridTaps taps = grid_taps(double(grid[2 * place]), double(grid[2 * place + 1]), s.h, s.w, nearest, align,
                                            border, reflection);
            const T* gradient = dy + place * s.c;
            const auto corner = [&](int t, int64_t c) {
                return taps.pixel[t] < 0 ? 0.0 : double(image[taps.pixel[t] * s.c + c]);
            };
            double total[2] = {0.0, 0.0};
            side_by_side_sums(
                s.c, 2,
                [&](int64_t c, double* sum) {
                    const double a = corner(0, c), b = corner(1, c), e = corner(2, c), f = corner(3, c);
                    const double g = double(gradient[c]);
                    sum[0] = sum[0] + ((b - a) * (1.0 - taps.down) + (f - e) * taps.down) * g;
                    sum[1] = sum[1] + ((e - a) * (1.0 - taps.across) + (f - b) * taps.across) * g;
                },
                total);
            dgrid[2 * place] = taps.slope_x != 0.0 ? T(total[0] * taps.slope_x) : T(0);
            dgrid[2 * place + 1] = taps.slope_y != 0.0 ? T(total[1] * taps.slope_y) : T(0);
        }
    });
}

}  // namespace LUCID_ISA
}  // namespace lucid
