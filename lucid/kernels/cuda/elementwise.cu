// What treats each value on its own: sections 5 and 6 of ARITHMETIC.md, the running statistics of 7, the optimiser (10),
// and indexed accumulation (12).
#include "../elementwise/printed_names.h"
#include "device.cuh"

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

// `exponent` is an integer below 2^30, given as `whole`, unless `real` says otherwise; 0.5 is the caller's (it is a root).
KERNEL(power, THREADS, int64_t n, const T* x, bool real, double exponent, int64_t whole, T* y) {
    if (real) return map1(n, x, y, [=](T v) { return scalar::power_real(v, exponent); });
    map1(n, x, y, [=](T v) { return scalar::power_whole(v, whole); });
}

// y[n, pixel, c] = a[n, pixel, c] * b[n, c]
KERNEL(scale_channels, THREADS, int64_t n, int64_t pixels, int64_t channels, const T* a, const T* b, T* y) {
    for (int64_t i = first_index(); i < n * pixels * channels; i += index_step())
        y[i] = a[i] * b[i / (pixels * channels) * channels + i % channels];
}

KERNEL(running_update, THREADS, int64_t n, double factor, double momentum, const double* statistic, T* running) {
    for (int64_t i = first_index(); i < n; i += index_step()) {
        const double old = double(running[i]);
        running[i] = T(old + momentum * ((factor != 1.0 ? statistic[i] * factor : statistic[i]) - old));
    }
}

KERNEL(sgd, THREADS, int64_t n, double lr, double momentum, double dampening, double weight_decay, bool nesterov,
       bool maximize, bool first, const T* grad, T* param, T* velocity) {
    for (int64_t i = first_index(); i < n; i += index_step()) {
        const T p = param[i], d = scalar::sgd_gradient(grad[i], p, weight_decay, maximize);
        T v = d;
        if (momentum != 0.0) velocity[i] = v = scalar::sgd_velocity(d, velocity[i], momentum, dampening, first);
        param[i] = scalar::sgd_parameter(p, d, v, lr, momentum, nesterov);
    }
}

// y[place[k]] += values[order[k]], where `place` ascends and equal places keep the order in which they are to be added: the
// first thread of a place adds all that go there. y starts as zeros.
KERNEL(index_add, THREADS, int64_t n, const int64_t* place, const int64_t* order, const T* values, T* y) {
    for (int64_t i = first_index(); i < n; i += index_step()) {
        if (i > 0 && place[i - 1] == place[i]) continue;
        T sum = T(0);
        for (int64_t k = i; k < n && place[k] == place[i]; ++k) sum = sum + values[order[k]];
        y[place[i]] = sum;
    }
}

}  // namespace lucid
