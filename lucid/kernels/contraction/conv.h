// Convolution and its two gradients as contractions (ARITHMETIC.md, section 3): each says how a tile of A is gathered
// from an image and where a row of C lies; gemm.h does the rest. And the matrix product, the plainest of them.
//
// Images have planes (one where they are two-sided). Where rows are pixels, a contraction makes one plane of the result
// of every image: all its rows then meet the same planes under a tap, so that it is known once a segment which taps are
// in a plane outside.
#pragma once

#include <vector>

#include "gemm.h"
#include "../kernels.h"
#include "../memory.h"
#include "../elementwise/transpose.h"

namespace lucid {
namespace LUCID_ISA {

template <class T>
inline void copy_values(T* to, const T* from, int n) {
    int i = 0;
    for (; i + LANES<T> <= n; i += LANES<T>) store(to + i, load(from + i));
    if (i < n && n >= LANES<T>)  // the last vector overlaps the one before
        store(to + n - LANES<T>, load(from + n - LANES<T>));
    else
        for (; i < n; ++i) to[i] = from[i];
}

template <class T>
inline void zero_values(T* to, int64_t n) {
    int64_t i = 0;
    for (; i + LANES<T> <= n; i += LANES<T>) store(to + i, Vec<T>{});
    for (; i < n; ++i) to[i] = T(0);
}

template <class T>
struct RowBuffer {
    alignas(CACHE_LINE) T values[Tuning::MR * Tuning::A_PITCH];
};

// A pixel of a grid of images, and then its neighbours in order: divisions happen once.
struct PixelIterator {
    int64_t width, height, w, h, n;

    PixelIterator(int64_t m, int64_t width_, int64_t height_)
        : width(width_), height(height_), w(m % width), h(m / width % height), n(m / (width * height)) {}

    void next() {
        if (++w < width) return;
        w = 0;
        if (++h < height) return;
        h = 0;
        ++n;
    }
};

// An image of `pitch` values a pixel.
struct Image {
    int64_t depth, height, width, pitch;

    int64_t plane() const { return height * width; }
    int64_t values() const { return depth * plane() * pitch; }
};

struct Place {
    int64_t h, w;
};

// Where a tap meets an image: in a plane, and relative to a pixel's place.
struct Tap {
    int64_t plane;
    Place place;
};

// Of a line of pixels: a place to which it is added lies outside every image.
constexpr int64_t OUTSIDE = INT64_MIN / 2;

// What is computed once for a segment of k (and a tap, where a tile has one) and then serves every tile that shares
// them: the last ENTRIES of such values.
template <class Value, int ENTRIES = 1>
class SegmentCache {
  public:
    // The value of (tap, k0), computed by `compute(value)` unless it is there; `keep` is an entry that stays.
    template <class Compute>
    const Value& get(int64_t tap, int64_t k0, const Value* keep, const Compute& compute) {
        for (const Entry& e : entries_)
            if (e.tap == tap && e.k0 == k0) return e.value;
        Entry& entry = entries_[ENTRIES > 1 && keep == &entries_[0].value];
        entry.tap = tap;
        entry.k0 = k0;
        compute(entry.value);
        return entry.value;
    }

  private:
    struct Entry {
        int64_t tap = -1, k0 = -1;
        Value value;
    };
    Entry entries_[ENTRIES];
};

// Where A lies for each k of a segment, before the offset that a tile adds.
template <class T>
struct Addresses {
    const T* at[SEGMENT] = {};
};

// What a segment of k, which is (tap, channel), takes of an image around a pixel: spans of channels that lie side by
// side. Where all taps are inside, spans that adjoin are copied as one. A tap in a plane outside is so at any pixel.
template <class T>
struct Gather {
    struct Span {
        Place tap;
        int64_t offset;  // from the first value of the pixel's place in plane 0
        int length;
    };
    int count, joined_count;
    Span span[SEGMENT], joined[SEGMENT];
    Place least, most;

    // `tap_at(t)` says where tap t meets the image.
    template <class TapAt>
    void compute(int64_t k0, int length, int64_t channels, const Image& image, const TapAt& tap_at) {
        count = joined_count = 0;
        int64_t t = k0 / channels, channel = k0 % channels;
        for (int left = length; left > 0; ++t, channel = 0) {
            const int taken = int(smaller<int64_t>(left, channels - channel));
            auto [plane, tap] = tap_at(t);
            int64_t line = plane * image.height + tap.h;
            if (plane < 0 || plane >= image.depth) {
                tap.h = OUTSIDE;
                line = 0;
            }
            const Span next{tap, (line * image.width + tap.w) * image.pitch + channel, taken};
            if (count == 0) least = most = tap;
            least = {smaller(least.h, tap.h), smaller(least.w, tap.w)};
            most = {larger(most.h, tap.h), larger(most.w, tap.w)};
            Span& before = joined[larger(joined_count - 1, 0)];
            if (count > 0 && before.offset + before.length == next.offset)
                before.length += taken;
            else
                joined[joined_count++] = next;
            span[count++] = next;
            left -= taken;
        }
    }

    // `values` are the image's first; the pixel may lie outside.
    void copy(const T* values, const Image& image, const Place& at, T* to) const {
        const auto [h, w] = at;
        const int64_t pixel = (h * image.width + w) * image.pitch;
        if (h + least.h >= 0 && h + most.h < image.height && w + least.w >= 0 && w + most.w < image.width) {
            for (int i = 0; i < joined_count; to += joined[i++].length)
                copy_values(to, values + (pixel + joined[i].offset), joined[i].length);
            return;
        }
        for (int i = 0; i < count; to += span[i++].length) {
            const Span& r = span[i];
            const int64_t ih = h + r.tap.h, iw = w + r.tap.w;
            if (ih < 0 || ih >= image.height || iw < 0 || iw >= image.width)
                zero_values(to, r.length);
            else
                copy_values(to, values + (pixel + r.offset), r.length);
        }
    }
};

// A of a convolution or of its input gradient: rows are pixels of a grid, and take what lies around a place of an
// image. `Source` says where C's rows lie, and where a tap meets the image (`tap_at`).
template <class T, class Source>
struct GatherSource {
    static constexpr bool BY_PIXEL = false;
    using TileA = PackedTile<T>;
    struct Buffer : RowBuffer<T> {
        SegmentCache<Gather<T>> gathers;
    };
    const T* values;  // the first of the group's channels
    Image image;
    int64_t channels;  // of the group
    int64_t grid_w, grid_h;
    int64_t stride_h, stride_w, start_h, start_w;  // the grid's pixel is at pixel * stride + start in the image

    Place place(const PixelIterator& p) const { return {p.h * stride_h + start_h, p.w * stride_w + start_w}; }

    const T* first_value(const PixelIterator& p) const { return values + p.n * image.values(); }

    const Source& source() const { return static_cast<const Source&>(*this); }

    void prefetch(const RowTile& tile, Prefetch& prefetch) const {
        const auto [plane, tap] = source().tap_at(tile.k0 / channels);
        const int64_t behind = plane * image.plane() * image.pitch + tile.k0 % channels;
        PixelIterator p(tile.m0, grid_w, grid_h);
        for (int i = 0; i < tile.rows; ++i, p.next()) {
            const Place at = place(p);
            const int64_t pixel = (at.h + tap.h) * image.width + at.w + tap.w;
            prefetch.set_row(i, address(first_value(p), pixel * image.pitch + behind));
        }
    }

    PackedTile<T> tile(const RowTile& tile, const RowTile&, int64_t, Buffer& buffer) const {
        const Gather<T>& gather = buffer.gathers.get(0, tile.k0, nullptr, [&](Gather<T>& g) {
            g.compute(tile.k0, tile.length, channels, image, [&](int64_t t) { return source().tap_at(t); });
        });
        PixelIterator p(tile.m0, grid_w, grid_h);
        for (int i = 0; i < tile.rows; ++i, p.next())
            gather.copy(first_value(p), image, place(p), buffer.values + i * Tuning::A_PITCH);
        return {buffer.values};
    }
};

// -- forward: rows are output pixels of one plane, k is (kd, kh, kw, ci), columns are output channels -----------------

// The rows of C of a tile, of which the first plane begins at `y`; those of other images lie as many planes on.
template <class T>
inline void rows_of_plane(const Conv& s, const RowTile& tile, T* y, T** to) {
    const int64_t plane = s.oh * s.ow;
    for (int i = 0; i < tile.rows; ++i) {
        const int64_t m = tile.m0 + i, others = s.od > 1 ? m / plane * (s.od - 1) * plane : 0;
        to[i] = y + (m + others) * s.o;
    }
}

template <class T>
struct ForwardSource : GatherSource<T, ForwardSource<T>> {
    const Conv& s;
    T* y;           // of the plane, the first of the group's channels
    int64_t plane;  // of the image, which the first tap meets

    ForwardSource(const Conv& shape, const T* x, T* y_, int64_t group, int64_t od)
        : GatherSource<T, ForwardSource<T>>{x + group * (shape.c / shape.groups), {shape.d, shape.h, shape.w, shape.c},
                                            shape.c / shape.groups, shape.ow, shape.oh, shape.stride_h, shape.stride_w,
                                            -shape.pad_h, -shape.pad_w},
          s(shape), y(y_ + od * shape.oh * shape.ow * shape.o + group * (shape.o / shape.groups)),
          plane(od * shape.stride_d - shape.pad_d) {}

    Tap tap_at(int64_t tap) const {
        const int64_t kd = s.kd > 1 ? tap / (s.kh * s.kw) : 0;
        tap -= kd * s.kh * s.kw;
        return {plane + kd * s.dilation_d, {tap / s.kw * s.dilation_h, tap % s.kw * s.dilation_w}};
    }

    void rows(const RowTile& tile, T** to) const { rows_of_plane(s, tile, y, to); }
};

// With fewer rows, packing all of B costs more than reading it where it lies.
constexpr int64_t ROWS_WORTH_PACKING = Tuning::TILES_WORTH_PACKING * Tuning::MR;

// Memory for panels that are used once.
template <class T>
struct Packed {
    const size_t bytes;
    T* const values;
    explicit Packed(int64_t elements)
        : bytes(size_t(elements) * sizeof(T)), values(static_cast<T*>(take_memory(bytes))) {}
    ~Packed() { give_memory(values, bytes); }
    Packed(const Packed&) = delete;
};

// Images of few channels: all (kw, ci) of a kernel row lie side by side, and so do neighbouring windows. (With padding
// so wide that whole windows lie in it, a copy of the images with their padding could be far larger than all else.)
inline bool thin(const Conv& s) {
    return s.groups == 1 && s.dilation_w == 1 && s.c < Tuning::MR && s.kw > 1 && s.pad_w < s.kw &&
           s.pad_h <= (s.kh - 1) * s.dilation_h && s.pad_d <= (s.kd - 1) * s.dilation_d;
}

// A copy of the images with their padding, and what the shape then is.
template <class T>
struct Padded {
    Conv shape;
    const Packed<T> images;

    Padded(const Conv& s, const T* x)
        : shape(without_padding(s)), images(shape.n * shape.d * shape.h * shape.w * shape.c) {
        parallel_range(shape.n * shape.d * shape.h, Tuning::PAD_LINES, [&](int64_t begin, int64_t end) {
            for (int64_t line = begin; line < end; ++line) {
                const int64_t plane = line / shape.h, h = line % shape.h - s.pad_h;
                const int64_t n = plane / shape.d, d = plane % shape.d - s.pad_d;
                const int64_t before = s.pad_w * s.c, inside = s.w * s.c;
                T* to = images.values + line * shape.w * s.c;
                if (h < 0 || h >= s.h || d < 0 || d >= s.d) {
                    zero_values(to, shape.w * s.c);
                    continue;
                }
                zero_values(to, before);
                std::memcpy(to + before, x + ((n * s.d + d) * s.h + h) * inside, size_t(inside) * sizeof(T));
                zero_values(to + before + inside, before);
            }
        });
    }

    static Conv without_padding(Conv s) {
        s.d += 2 * s.pad_d;
        s.h += 2 * s.pad_h;
        s.w += 2 * s.pad_w;
        s.pad_d = s.pad_h = s.pad_w = 0;
        return s;
    }
};

// Forward on thin images without padding: A is read where it lies.
template <class T>
struct ThinSource {
    static constexpr bool BY_PIXEL = false;
    using TileA = WindowTile<T>;
    using Buffer = SegmentCache<Addresses<T>>;
    const Conv& s;
    const T* x;  // the first plane that the plane of the result meets
    T* y;        // that plane

    ThinSource(const Conv& shape, const T* x_, T* y_, int64_t od)
        : s(shape), x(x_ + od * shape.stride_d * shape.h * shape.w * shape.c),
          y(y_ + od * shape.oh * shape.ow * shape.o) {}

    void rows(const RowTile& tile, T** to) const { rows_of_plane(s, tile, y, to); }

    void prefetch(const RowTile&, Prefetch&) const {}

    WindowTile<T> tile(const RowTile& tile, const RowTile&, int64_t, Buffer& buffer) const {
        const int64_t k0 = tile.k0, in_line = s.kw * s.c;
        const Addresses<T>& addresses = buffer.get(0, k0, nullptr, [&](Addresses<T>& a) {
            PixelIterator tap(k0, in_line, s.kh);  // whose "image" is a plane of the kernel
            for (int k = 0; k < tile.length; ++k, tap.next())
                a.at[k] = x + (tap.n * s.dilation_d * s.h + tap.h * s.dilation_h) * s.w * s.c + tap.w;
        });
        const PixelIterator p(tile.m0, s.ow, s.oh);
        return {addresses.at, ((p.n * s.d * s.h + p.h * s.stride_h) * s.w + p.w * s.stride_w) * s.c, s.stride_w * s.c};
    }
};

// -- each channel by itself: where every group has one channel in and one out, a matrix product would have one column,
// but channels lie side by side, in the image as in the weight ---------------------------------------------------------

inline bool depthwise(const Conv& s) { return s.groups > 1 && s.groups == s.c && s.c == s.o; }

// STRIP vectors of one pixel from channel c on: the sum of section 2 over the taps, then the epilogue. from[t] is the
// pixel that tap t meets.
template <int STRIP, class V, class T>
inline void depthwise_sums(const T* const* from, const T* weight, int64_t taps, int64_t channels, int64_t c,
                           const Epilogue<T>& epilogue, T* y) {
    constexpr int WIDTH = sizeof(V) / sizeof(T);
    V total[STRIP], group[STRIP], segment[STRIP], run[STRIP];
    for (int64_t g = 0; g < taps; g += GROUP * SEGMENT) {
        const int64_t group_end = smaller(g + GROUP * SEGMENT, taps);
        for (int64_t s = g; s < group_end; s += SEGMENT) {
            const int64_t segment_end = smaller(s + SEGMENT, taps);
            for (int64_t r = s; r < segment_end; r += RUN) {
                for (int i = 0; i < STRIP; ++i) run[i] = V{};
                for (int64_t t = r; t < smaller(r + RUN, segment_end); ++t)
                    for (int i = 0; i < STRIP; ++i) {
                        const V a = load_as<V>(from[t] + c + i * WIDTH);
                        const V b = load_as<V>(weight + t * channels + c + i * WIDTH);
                        if constexpr (sizeof(V) == sizeof(T))
                            run[i] = fma1(a, b, run[i]);
                        else
                            run[i] = fma(a, b, run[i]);
                    }
                for (int i = 0; i < STRIP; ++i) segment[i] = r == s ? run[i] : segment[i] + run[i];
            }
            for (int i = 0; i < STRIP; ++i) group[i] = s == g ? segment[i] : group[i] + segment[i];
        }
        for (int i = 0; i < STRIP; ++i) total[i] = g == 0 ? group[i] : total[i] + group[i];
    }
    for (int i = 0; i < STRIP; ++i) {
        const EpilogueColumns<V> columns(epilogue, c + i * WIDTH);
        T* to = y + c + i * WIDTH;
        const V value = apply_epilogue(epilogue, columns, total[i], to);
        __builtin_memcpy(to, &value, sizeof(value));
    }
}

// The pixels that the taps of one output pixel meet, and how far each is from what it meets at the next one of the row.
template <class T>
struct DepthwiseTaps {
    const Conv& s;
    const T *image, *zeros;
    std::vector<const T*> from;
    std::vector<int64_t> step;
    int64_t next = -1;  // the output pixel for which a step from here would do

    DepthwiseTaps(const Conv& s_, const T* x, const T* zeros_)
        : s(s_), image(x), zeros(zeros_), from(s_.kd * s_.kh * s_.kw), step(from.size()) {}

    void meet(int64_t pixel) {
        const int64_t ow = pixel % s.ow, row = pixel / s.ow, plane = row / s.oh;
        const int64_t w0 = ow * s.stride_w - s.pad_w, end = w0 + (s.kw - 1) * s.dilation_w;
        const bool inside = w0 >= 0 && end < s.w;
        if (inside && ow > 0 && next == pixel) {
            for (size_t t = 0; t < from.size(); ++t) from[t] += step[t];
        } else {
            find(plane / s.od, plane % s.od * s.stride_d - s.pad_d, row % s.oh * s.stride_h - s.pad_h, w0);
        }
        next = inside ? pixel + 1 : -1;
    }

    void find(int64_t n, int64_t d0, int64_t h0, int64_t w0) {
        size_t t = 0;
        for (int64_t kd = 0; kd < s.kd; ++kd)
            for (int64_t kh = 0; kh < s.kh; ++kh)
                for (int64_t kw = 0; kw < s.kw; ++kw, ++t) {
                    const int64_t d = d0 + kd * s.dilation_d, h = h0 + kh * s.dilation_h, w = w0 + kw * s.dilation_w;
                    const bool row_exists = d >= 0 && d < s.d && h >= 0 && h < s.h, exists = row_exists && w >= 0 && w < s.w;
                    from[t] = exists ? image + (((n * s.d + d) * s.h + h) * s.w + w) * s.c : zeros;
                    step[t] = row_exists ? s.stride_w * s.c : 0;
                }
    }
};

template <class T>
static void depthwise_conv(const Conv& s, const T* x, const T* weight, Epilogue<T> epilogue, T* y) {
    constexpr int WIDTH = LANES<T>;
    const std::vector<T> zeros(s.c, T(0));
    const int64_t taps = s.kd * s.kh * s.kw;
    epilogue.output = y;
    parallel_range(s.n * s.od * s.oh * s.ow, 16, [&](int64_t begin, int64_t end) {
        DepthwiseTaps<T> met(s, x, zeros.data());
        for (int64_t pixel = begin; pixel < end; ++pixel) {
            met.meet(pixel);
            T* to = y + pixel * s.c;
            int64_t c = 0;
            for (; c + 4 * WIDTH <= s.c; c += 4 * WIDTH)
                depthwise_sums<4, Vec<T>>(met.from.data(), weight, taps, s.c, c, epilogue, to);
            for (; c + WIDTH <= s.c; c += WIDTH)
                depthwise_sums<1, Vec<T>>(met.from.data(), weight, taps, s.c, c, epilogue, to);
            for (; c < s.c; ++c) depthwise_sums<1, T>(met.from.data(), weight, taps, s.c, c, epilogue, to);
        }
    });
}

// Weights for `conv` with `packed`: the panels of each group, one group after the other; of channels by themselves as
// they are.
template <class T>
static int64_t packed_weight_size(const Conv& s, const T* = nullptr) {
    if (depthwise(s)) return s.kd * s.kh * s.kw * s.o;
    return s.groups * packed_size<T>(s.kd * s.kh * s.kw * (s.c / s.groups), s.o / s.groups);
}

template <class T>
static void pack_weight(const Conv& s, const T* weight, T* to) {
    const int64_t og = s.o / s.groups, k = s.kd * s.kh * s.kw * (s.c / s.groups);
    if (depthwise(s)) {
        for (int64_t i = 0; i < k * s.o; ++i) to[i] = weight[i];
        return;
    }
    for (int64_t g = 0; g < s.groups; ++g)
        pack_panels(RowsOfB<T>{weight + g * og, s.o, k, og}, to + g * packed_size<T>(k, og));
}

template <class T>
static void conv(const Conv& s, const T* x, const T* weight, bool packed, const Epilogue<T>& epilogue, T* y) {
    const int64_t og = s.o / s.groups, k = s.kd * s.kh * s.kw * (s.c / s.groups), pixels = s.n * s.oh * s.ow;
    if (depthwise(s)) return depthwise_conv(s, x, weight, epilogue, y);
    if (!packed && pixels * s.od >= ROWS_WORTH_PACKING) {
        const Packed<T> panels(packed_weight_size<T>(s));
        pack_weight(s, weight, panels.values);
        return conv(s, x, panels.values, true, epilogue, y);
    }
    if (thin(s)) {
        const Padded<T> padded(s, x);
        Epilogue<T> e = epilogue;
        e.output = y;
        for (int64_t od = 0; od < s.od; ++od)
            gemm(Problem<T>{pixels, s.o, k, weight, packed ? PACKED : s.o, s.ow, e},
                 ThinSource<T>(padded.shape, padded.images.values, y, od));
        return;
    }
    for (int64_t g = 0; g < s.groups; ++g) {
        const auto of_group = [&](const T* p) { return p ? p + g * og : nullptr; };
        Epilogue<T> e = epilogue;
        e.bias = of_group(e.bias);
        e.mean = of_group(e.mean);
        e.scale = of_group(e.scale);
        e.shift = of_group(e.shift);
        e.output = y;
        const T* b = weight + (packed ? g * packed_size<T>(k, og) : g * og);
        for (int64_t od = 0; od < s.od; ++od)
            gemm(Problem<T>{pixels, og, k, b, packed ? PACKED : s.o, pixels, e}, ForwardSource<T>(s, x, y, g, od));
    }
}

// -- input gradient: rows are input pixels of a class and plane, k is (kd, kh, kw, co), columns are input channels ----
// With a stride, the pixels whose coordinates have the same residue see the same taps; each class is one contraction.

struct Axis {
    int64_t first, count;     // pixels first, first + stride, ...
    int64_t taps;             // the class sees taps tap0, tap0 + tap_step, ...
    int64_t tap0, tap_step;
    int64_t offset0, offset_step;  // under tap t, pixel j meets output j + offset0 - t * offset_step

    int64_t tap(int64_t t) const { return tap0 + t * tap_step; }
    int64_t offset(int64_t t) const { return offset0 - t * offset_step; }
};

inline int64_t greatest_common_divisor(int64_t a, int64_t b) { return b == 0 ? a : greatest_common_divisor(b, a % b); }

inline Axis residue_class(int64_t residue, int64_t size, int64_t stride, int64_t pad, int64_t dilation,
                          int64_t kernel) {
    Axis axis{};
    axis.first = residue;
    axis.count = residue < size ? (size - residue + stride - 1) / stride : 0;
    const int64_t divisor = greatest_common_divisor(stride, dilation);
    axis.tap_step = stride / divisor;
    axis.offset_step = dilation / divisor;
    for (axis.tap0 = 0; axis.tap0 < smaller(kernel, axis.tap_step); ++axis.tap0) {
        const int64_t numerator = residue + pad - axis.tap0 * dilation;
        if (numerator % stride == 0) {
            axis.offset0 = numerator / stride;
            axis.taps = (kernel - axis.tap0 + axis.tap_step - 1) / axis.tap_step;
            break;
        }
    }
    return axis;
}

// The three sides of a class.
struct Axes {
    Axis depth, vertical, horizontal;

    int64_t taps() const { return depth.taps * vertical.taps * horizontal.taps; }

    struct Numbers {
        int64_t d, h, w;
    };
    // Tap t by its number along each side.
    Numbers numbers(int64_t t) const {
        const int64_t in_plane = vertical.taps * horizontal.taps, d = depth.taps > 1 ? t / in_plane : 0;
        t -= d * in_plane;
        return {d, t / horizontal.taps, t % horizontal.taps};
    }
};

template <class T>
struct InputGradSource : GatherSource<T, InputGradSource<T>> {
    const Conv& s;
    T* dx;  // of the plane, the first of the group's channels
    const Axes& axes;
    int64_t plane;  // number of the plane in its class

    InputGradSource(const Conv& shape, const T* dy, T* dx_, int64_t group, const Axes& axes_, int64_t plane_)
        : GatherSource<T, InputGradSource<T>>{dy + group * (shape.o / shape.groups),
                                              {shape.od, shape.oh, shape.ow, shape.o}, shape.o / shape.groups,
                                              axes_.horizontal.count, axes_.vertical.count, 1, 1, 0, 0},
          s(shape),
          dx(dx_ + (axes_.depth.first + plane_ * shape.stride_d) * shape.h * shape.w * shape.c +
             group * (shape.c / shape.groups)),
          axes(axes_), plane(plane_) {}

    Tap tap_at(int64_t tap) const {
        const auto [d, h, w] = axes.numbers(tap);
        return {plane + axes.depth.offset(d), {axes.vertical.offset(h), axes.horizontal.offset(w)}};
    }

    void rows(const RowTile& tile, T** to) const {
        PixelIterator p(tile.m0, axes.horizontal.count, axes.vertical.count);
        for (int i = 0; i < tile.rows; ++i, p.next()) {
            const int64_t h = axes.vertical.first + p.h * s.stride_h, w = axes.horizontal.first + p.w * s.stride_w;
            to[i] = dx + ((p.n * s.d * s.h + h) * s.w + w) * s.c;
        }
    }
};

// The weights that a class sees, as panels of its B: row (tap, co), column ci.
template <class T>
static void pack_class(const Conv& s, const T* weight, int64_t group, const Axes& axes, T* panels) {
    const int64_t og = s.o / s.groups, cg = s.c / s.groups, taps = axes.taps();
    constexpr int NR = PANEL<T>;
    parallel((cg + NR - 1) / NR * taps, [&](int64_t task) {
        const int64_t panel = task / taps, tap = task % taps;
        const auto [d, h, w] = axes.numbers(tap);
        const int64_t kd = axes.depth.tap(d), kh = axes.vertical.tap(h), kw = axes.horizontal.tap(w);
        const int64_t ci = panel * NR, columns = smaller<int64_t>(NR, cg - ci);
        T* to = panels + (panel * taps + tap) * og * NR;
        transpose(weight + (((kd * s.kh + kh) * s.kw + kw) * cg + ci) * s.o + group * og, s.o, columns, og, to, NR);
        if (columns < NR)
            for (int64_t co = 0; co < og; ++co)
                for (int64_t j = columns; j < NR; ++j) to[co * NR + j] = T(0);
    });
}

// One class of one group.
template <class T>
static void class_input_grad(const Conv& s, const T* dy, const T* weight, int64_t group, const Axes& axes,
                             const Epilogue<T>& epilogue, T* panels, T* dx) {
    pack_class(s, weight, group, axes, panels);
    const int64_t pixels = s.n * axes.vertical.count * axes.horizontal.count, cg = s.c / s.groups;
    const Problem<T> p{pixels, cg, axes.taps() * (s.o / s.groups), panels, PACKED, pixels, epilogue};
    for (int64_t plane = 0; plane < axes.depth.count; ++plane)
        gemm(p, InputGradSource<T>(s, dy, dx, group, axes, plane));
}

template <class T>
static void conv_input_grad(const Conv& s, const T* dy, const T* weight, const T* accumulate_into, T* dx) {
    Epilogue<T> e;
    e.residual = accumulate_into;
    e.output = dx;
    const Packed<T> panels(packed_size<T>(s.kd * s.kh * s.kw * (s.o / s.groups), s.c / s.groups));
    for (int64_t g = 0; g < s.groups; ++g)
        for (int64_t rd = 0; rd < smaller(s.stride_d, s.d); ++rd)
            for (int64_t rh = 0; rh < smaller(s.stride_h, s.h); ++rh)
                for (int64_t rw = 0; rw < smaller(s.stride_w, s.w); ++rw) {
                    const Axes axes{residue_class(rd, s.d, s.stride_d, s.pad_d, s.dilation_d, s.kd),
                                    residue_class(rh, s.h, s.stride_h, s.pad_h, s.dilation_h, s.kh),
                                    residue_class(rw, s.w, s.stride_w, s.pad_w, s.dilation_w, s.kw)};
                    class_input_grad(s, dy, weight, g, axes, e, panels.values, dx);
                }
}

// -- weight gradient: rows are (kd, kh, kw, ci), k is the output pixel, columns are output channels -------------------

// A tap here is a run of rows that lie side by side in the image at any pixel: the channels of one (kd, kh, kw), or,
// where the input has few channels, all (kw, ci) of one (kd, kh). No tile crosses from one tap to the next, so that the
// micro-kernel can read A where it lies, through the addresses of a segment's pixels. A tile that is read often is
// copied first, and sooner where pixels lie a multiple of 4 KiB apart, so that their lines drive each other out of the
// first-level cache.
template <class T>
struct WeightGradSource {
    static constexpr bool BY_PIXEL = true;
    using TileA = PixelTile<T>;
    static constexpr int PITCH = Tuning::PIXEL_PITCH;
    struct Buffer {
        SegmentCache<Addresses<T>, 2> addresses;  // this tile's and the next one's
        const T* copied_at[SEGMENT];
        alignas(CACHE_LINE) T copied[SEGMENT * PITCH];

        Buffer() {
            for (int k = 0; k < SEGMENT; ++k) copied_at[k] = copied + k * PITCH;
        }
    };
    const Conv& s;  // without padding where whole rows are taken
    const T* x;
    T* dweight;
    int64_t group, group_channels;
    bool whole_rows;
    int64_t tap_rows;
    const T* zeros;  // tap_rows of them: what a pixel outside the image is

    void rows(const RowTile& tile, T** to) const {
        for (int i = 0; i < tile.rows; ++i) to[i] = dweight + (tile.m0 + i) * s.o + group * (s.o / s.groups);
    }

    void prefetch(const RowTile&, Prefetch&) const {}

    PixelTile<T> tile(const RowTile& tile, const RowTile& next, int64_t uses, Buffer& buffer) const {
        const int64_t row0 = tile.m0 % tap_rows, next_row0 = next.m0 % tap_rows;
        const Addresses<T>& here = addresses(tile, nullptr, buffer);
        const Addresses<T>& next_pixels = addresses(next, &here, buffer);
        // The line in which the next tile ends; if it begins in another, that is the last one of this tile.
        const int64_t next_offset = smaller(next_row0 + PITCH, tap_rows) - 1;
        const bool aliased = s.stride_w * s.c * int64_t(sizeof(T)) % Tuning::ALIASED_BYTES == 0;
        if (uses < (aliased ? Tuning::USES_WORTH_COPYING_ALIASED : Tuning::USES_WORTH_COPYING))
            return {here.at, row0, next_pixels.at, next_offset};
        const bool wide = row0 + PITCH <= tap_rows;  // a whole line of the pixel's channels is there to be read
        for (int k = 0; k < tile.length; ++k) {
            const T* from = here.at[k] + row0;
            T* to = buffer.copied + k * PITCH;
            if (wide)
                for (int v = 0; v < PITCH; v += LANES<T>) store(to + v, load(from + v));
            else
                for (int i = 0; i < tile.rows; ++i) to[i] = from[i];
        }
        return {buffer.copied_at, 0, next_pixels.at, next_offset};
    }

    // The addresses of a tile's pixels; those to `keep` stay.
    const Addresses<T>& addresses(const RowTile& tile, const Addresses<T>* keep, Buffer& buffer) const {
        const int64_t tap = tile.m0 / tap_rows;
        return buffer.addresses.get(tap, tile.k0, keep,
                                    [&](Addresses<T>& a) { compute(tap, tile.k0, tile.length, a.at); });
    }

    void compute(int64_t tap, int64_t k0, int64_t length, const T** addresses) const {
        const int64_t line = whole_rows ? tap : tap / s.kw, kw = whole_rows ? 0 : tap % s.kw;
        const int64_t dd = line / s.kh * s.dilation_d - s.pad_d, dh = line % s.kh * s.dilation_h - s.pad_h;
        const int64_t dw = kw * s.dilation_w - s.pad_w;
        int64_t ow = k0 % s.ow, oh = k0 / s.ow % s.oh, plane = k0 / (s.ow * s.oh), od = plane % s.od, n = plane / s.od;
        // The windows of a row whose pixel lies inside the image.
        const int64_t first = dw >= 0 ? 0 : (-dw + s.stride_w - 1) / s.stride_w;
        const int64_t end = s.w > dw ? smaller(s.ow, (s.w - dw + s.stride_w - 1) / s.stride_w) : 0;
        for (int k = 0; k < length;) {
            const int64_t id = od * s.stride_d + dd, ih = oh * s.stride_h + dh, stop = smaller(s.ow, ow + length - k);
            const bool inside = ih >= 0 && ih < s.h && id >= 0 && id < s.d;
            const int64_t from = inside ? smaller(stop, larger(ow, first)) : stop;
            const int64_t until = larger(from, smaller(stop, end));
            const T** at = addresses + k - ow;
            for (int64_t i = ow; i < from; ++i) at[i] = zeros;
            const int64_t pixel0 = ((n * s.d + id) * s.h + ih) * s.w + from * s.stride_w + dw;
            const T* pixel = x + (inside ? pixel0 * s.c + group * group_channels : 0);
            for (int64_t i = from; i < until; ++i, pixel += s.stride_w * s.c) at[i] = pixel;
            for (int64_t i = until; i < stop; ++i) at[i] = zeros;
            k += int(stop - ow);
            ow = 0;
            if (++oh < s.oh) continue;
            oh = 0;
            if (++od < s.od) continue;
            od = 0;
            ++n;
        }
    }
};

template <class T>
static void conv_weight_grad(const Conv& s, const T* dy, const T* x, T* dweight) {
    const int64_t og = s.o / s.groups, cg = s.c / s.groups;
    if (thin(s) && (s.pad_d || s.pad_h || s.pad_w)) {
        const Padded<T> padded(s, x);
        return conv_weight_grad(padded.shape, dy, padded.images.values, dweight);
    }
    const bool whole_rows = thin(s);
    const int64_t tap_rows = whole_rows ? s.kw * s.c : cg;
    T* zeros = static_cast<T*>(std::calloc(size_t(tap_rows), sizeof(T)));
    for (int64_t g = 0; g < s.groups; ++g) {
        const WeightGradSource<T> source{s, x, dweight, g, cg, whole_rows, tap_rows, zeros};
        const int64_t m = s.kd * s.kh * s.kw * cg, k = s.n * s.od * s.oh * s.ow;
        gemm(Problem<T>{m, og, k, dy + g * og, s.o, tap_rows, {}}, source);
    }
    std::free(zeros);
}

// -- matrix product ---------------------------------------------------------------------------------------------------

template <class T>
struct MatrixSource {
    static constexpr bool BY_PIXEL = false;
    using TileA = PackedTile<T>;
    using Buffer = RowBuffer<T>;
    const T* a;
    T* y;
    int64_t k, n;

    void rows(const RowTile& tile, T** to) const {
        for (int i = 0; i < tile.rows; ++i) to[i] = y + (tile.m0 + i) * n;
    }

    void prefetch(const RowTile& tile, Prefetch& prefetch) const {
        const auto [m0, rows, k0, length] = tile;
        for (int64_t i = 0; i < rows; ++i) prefetch.set_row(i, a + (m0 + i) * k + k0);
    }

    PackedTile<T> tile(const RowTile& tile, const RowTile&, int64_t, Buffer& memory) const {
        const auto [m0, rows, k0, length] = tile;
        for (int i = 0; i < rows; ++i) copy_values(memory.values + i * Tuning::A_PITCH, a + (m0 + i) * k + k0, length);
        return {memory.values};
    }
};

template <class T>
static void matmul(int64_t batch, int64_t m, int64_t n, int64_t k, const T* a, int64_t a_stride, const T* b,
                   int64_t b_stride, const Epilogue<T>& epilogue, T* y) {
    for (int64_t i = 0; i < batch; ++i) {
        Epilogue<T> e = epilogue;
        e.output = y;
        const Problem<T> p{m, n, k, b + i * b_stride, n, m, e};
        gemm(p, MatrixSource<T>{a + i * a_stride, y + i * m * n, k, n});
    }
}

}  // namespace LUCID_ISA
}  // namespace lucid
