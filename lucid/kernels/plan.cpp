#include "plan.h"

#include <utility>

#include "memory.h"
#include "threads.h"

namespace lucid {

namespace {

template <class T>
Memory<T> allocate(int64_t elements) {
    const size_t bytes = size_t(elements) * sizeof(T);
    return {static_cast<T*>(system_allocate(bytes)), SystemFree{bytes}};
}

}  // namespace

template <class T>
Plan<T>::Plan(const Kernels<T>& kernels, int64_t arena_elements)
    : kernels_(kernels), arena_(allocate<T>(arena_elements)) {}

template <class T>
T* Plan<T>::room_for_weights(int64_t elements) {
    constexpr int64_t LINE = CACHE_LINE / sizeof(T), CHUNK = 16 * HUGE_PAGE / sizeof(T);
    elements = (elements + LINE - 1) / LINE * LINE;
    if (elements > room_) {
        room_ = elements > CHUNK ? elements : CHUNK;  // what is never touched costs nothing
        weights_.push_back(allocate<T>(room_));
    }
    const Memory<T>& last = weights_.back();
    T* const room = last.get() + last.get_deleter().bytes / sizeof(T) - room_;
    room_ -= elements;
    return room;
}

template <class T>
void Plan<T>::to_channels_last(int64_t n, int64_t channels, int64_t pixels, int64_t x, int64_t y) {
    steps_.push_back([=] { kernels_.swap_axes(n, channels, pixels, at(x), at(y)); });
}

template <class T>
T* Plan<T>::conv(const Conv& s, int64_t x, const T* weight, const T* bias, Norm norm, int64_t residual, bool relu,
                   int64_t y) {
    T* const panels = room_for_weights(kernels_.packed_weight_size(s, nullptr));
    kernels_.pack_weight(s, weight, panels);
    steps_.push_back([=] {
        Epilogue<T> e;
        e.bias = bias;
        e.mean = norm.mean;
        e.scale = norm.scale;
        e.shift = norm.shift;
        e.residual = at(residual);
        e.relu = relu;
        kernels_.conv(s, at(x), panels, true, e, at(y));
    });
    return panels;
}

template <class T>
T* Plan<T>::linear(int64_t rows, int64_t columns, int64_t k, int64_t x, const T* weight, const T* bias, int64_t y) {
    // The same contraction as a convolution of images of one pixel, whose weight is packed once.
    return conv(conv_of_linear(rows, columns, k), x, weight, bias, {}, NOWHERE, false, y);
}

template <class T>
void Plan<T>::norm(int64_t rows, int64_t channels, int64_t x, Norm norm, bool relu, int64_t y) {
    steps_.push_back([=] { kernels_.normalize(rows, channels, at(x), norm.mean, norm.scale, norm.shift, nullptr, relu, at(y)); });
}

template <class T>
void Plan<T>::max_pool(const Pool& s, int64_t x, int64_t y) {
    steps_.push_back([=] { kernels_.max_pool(s, at(x), at(y), nullptr); });
}

template <class T>
void Plan<T>::avg_pool(const Pool& s, int64_t x, int64_t y) {
    steps_.push_back([=] { kernels_.avg_pool(s, at(x), at(y)); });
}

template <class T>
void Plan<T>::unary(Unary op, int64_t n, int64_t x, int64_t y) {
    steps_.push_back([=] { kernels_.unary(op, n, at(x), at(y)); });
}

template <class T>
void Plan<T>::binary(Binary op, int64_t n, int64_t a, int64_t b, int64_t y) {
    steps_.push_back([=] { kernels_.binary(op, n, at(a), at(b), at(y)); });
}

template <class T>
void Plan<T>::scale_channels(int64_t n, int64_t pixels, int64_t channels, int64_t a, int64_t b, int64_t y) {
    steps_.push_back([=] {
        const T *values = at(a), *factors = at(b);
        T* to = at(y);
        parallel_range(n * pixels, 64, [&](int64_t begin, int64_t end) {
            for (int64_t i = begin; i < end; ++i)
                for (int64_t c = 0; c < channels; ++c)
                    to[i * channels + c] = values[i * channels + c] * factors[i / pixels * channels + c];
        });
    });
}

template <class T>
void Plan<T>::run(const T* input, T* output, int64_t first, int64_t end) {
    input_ = const_cast<T*>(input);  // no step writes to it
    output_ = output;
    for (int64_t i = first; i < end; ++i) steps_[size_t(i)]();
}

template class Plan<float>;
template class Plan<double>;

}  // namespace lucid
