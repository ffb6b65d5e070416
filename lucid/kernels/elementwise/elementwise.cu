// What treats each value on its own (sections 5 and 6 of ARITHMETIC.md), and the exchange of axes.
#include "../elementwise/printed_names.h"
#include "../cuda/device.cuh"

namespace lucid {
namespace {

constexpr int THREADS = 256;

DEVICE double other_float(float x) { return x; }
DEVICE float other_float(double x) { return float(x); }

// y[i] = f(x[i]...) for all i; whole packs where every array lies on their boundaries.
template <class F>
DEVICE void map1(int64_t n, const T* x, T* y, const F& f) {
    const bool packs = aligned(x) && aligned(y);
    const int64_t whole = packs ? n / Pack::LANES : 0;
    for (int64_t i = first_index(); i < whole; i += index_step()) {
        Pack p = reinterpret_cast<const Pack*>(x)[i];
        for (int j = 0; j < Pack::LANES; ++j) p.v[j] = f(p.v[j]);
        reinterpret_cast<Pack*>(y)[i] = p;
    }
    for (int64_t i = whole * Pack::LANES + first_index(); i < n; i += index_step()) y[i] = f(x[i]);
}

template <class F>
DEVICE void map2(int64_t n, const T* a, const T* b, T* y, const F& f) {
    const bool packs = aligned(a) && aligned(b) && aligned(y);
    const int64_t whole = packs ? n / Pack::LANES : 0;
    for (int64_t i = first_index(); i < whole; i += index_step()) {
        Pack p = reinterpret_cast<const Pack*>(a)[i];
        const Pack q = reinterpret_cast<const Pack*>(b)[i];
        for (int j = 0; j < Pack::LANES; ++j) p.v[j] = f(p.v[j], q.v[j]);
        reinterpret_cast<Pack*>(y)[i] = p;
    }
    for (int64_t i = whole * Pack::LANES + first_index(); i < n; i += index_step()) y[i] = f(a[i], b[i]);
}

using Other = decltype(other_float(T()));  // the float dtype that T is not

}  // namespace

// A kernel for each function, unary_NAME and binary_NAME.
#define UNARY(name, wide)                                                    \
    KERNEL(unary_##name, THREADS, int64_t n, const T* x, T* y) {             \
        map1(n, x, y, [](T v) { return scalar::name(v); });                  \
    }
LUCID_UNARY(UNARY)

#define BINARY(name, wide)                                                   \
    KERNEL(binary_##name, THREADS, int64_t n, const T* a, const T* b, T* y) { \
        map2(n, a, b, y, [](T u, T v) { return scalar::name(u, v); });       \
    }
LUCID_BINARY(BINARY)

// What moves no bits of floats but looks at them, or narrows them, is here because CuPy's own kernels take a subnormal for zero.
#define COMPARE(name, operation)                                             \
    KERNEL(compare_##name, THREADS, int64_t n, const T* a, const T* b, bool* y) { \
        for (int64_t i = first_index(); i < n; i += index_step()) y[i] = a[i] operation b[i]; \
    }
COMPARE(equal, ==)
COMPARE(not_equal, !=)
COMPARE(less, <)
COMPARE(less_equal, <=)
COMPARE(greater, >)
COMPARE(greater_equal, >=)

KERNEL(convert, THREADS, int64_t n, const T* x, Other* y) {
    for (int64_t i = first_index(); i < n; i += index_step()) y[i] = Other(x[i]);
}

KERNEL(fill, THREADS, int64_t n, double value, T* y) {
    for (int64_t i = first_index(); i < n; i += index_step()) y[i] = T(value);
}

KERNEL(power, THREADS, int64_t n, const T* x, double exponent, T* y) {
    if (exponent == 0.5) return map1(n, x, y, [](T v) { return scalar::power_root(v); });
    if (exponent == 3.0) return map1(n, x, y, [](T v) { return scalar::power_cube(v); });
    if (exponent == -1.0 || exponent == 0.0 || exponent == 1.0 || exponent == 2.0) {
        const int64_t whole = int64_t(exponent);
        return map1(n, x, y, [=](T v) { return scalar::power_whole(v, whole); });
    }
    map1(n, x, y, [=](T v) { return scalar::power_real(v, exponent); });
}

// y[n, pixel, c] = a[n, pixel, c] * b[n, c]
KERNEL(scale_channels, THREADS, int64_t n, int64_t pixels, int64_t channels, const T* a, const T* b, T* y) {
    for (int64_t i = first_index(); i < n * pixels * channels; i += index_step())
        y[i] = a[i] * b[i / (pixels * channels) * channels + i % channels];
}

// (n, channels, pixels) to (n, pixels, channels), through a tile so that both sides are read and written in whole lines.
KERNEL(swap_axes, THREADS, int64_t n, int64_t channels, int64_t pixels, const T* x, T* y) {
    constexpr int SIDE = 32, LINES = THREADS / SIDE;
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
