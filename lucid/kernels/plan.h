// An inference plan: the steps of a fused graph over one arena, run without the interpreter. Which steps there are, what
// is fused into what and where a value lies is decided in lucid/graph; a plan only runs them.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "kernels.h"
#include "memory.h"

namespace lucid {

// Where a value lies: an offset into the arena in elements, or one of these.
constexpr int64_t NOWHERE = -1, INPUT = -2, OUTPUT = -3;

struct SystemFree {
    size_t bytes;
    void operator()(void* memory) const { system_free(memory, bytes); }
};
template <class T>
using Memory = std::unique_ptr<T, SystemFree>;

template <class T>
class Plan {
  public:
    // The coefficients of a normalisation (ARITHMETIC.md, section 7); all null where there is none.
    struct Norm {
        const T *mean = nullptr, *scale = nullptr, *shift = nullptr;
    };

    Plan(const Kernels<T>& kernels, int64_t arena_elements);

    // (n, channels, pixels) to (n, pixels, channels).
    void to_channels_last(int64_t n, int64_t channels, int64_t pixels, int64_t x, int64_t y);
    // Copies the weight as kernels read it, and returns that: packed_weight_size values.
    T* conv(const Conv& s, int64_t x, const T* weight, const T* bias, Norm norm, int64_t residual, bool relu, int64_t y);
    T* linear(int64_t rows, int64_t columns, int64_t k, int64_t x, const T* weight, const T* bias, int64_t y);
    void norm(int64_t rows, int64_t channels, int64_t x, Norm norm, bool relu, int64_t y);
    void max_pool(const Pool& s, int64_t x, int64_t y);
    void avg_pool(const Pool& s, int64_t x, int64_t y);
    void unary(Unary op, int64_t n, int64_t x, int64_t y);
    void binary(Binary op, int64_t n, int64_t a, int64_t b, int64_t y);
    // y[n, pixel, c] = a[n, pixel, c] * b[n, c], the weighting of channels in squeeze-and-excitation.
    void scale_channels(int64_t n, int64_t pixels, int64_t channels, int64_t a, int64_t b, int64_t y);

    // Steps `first` to `end` - 1; a run of all of them may be cut, to look at what lies in the arena in between.
    void run(const T* input, T* output, int64_t first, int64_t end);
    int64_t steps() const { return int64_t(steps_.size()); }
    int64_t packed_size(const Conv& s) const { return kernels_.packed_weight_size(s, nullptr); }
    T* arena() const { return arena_.get(); }
    int64_t arena_elements() const { return int64_t(arena_.get_deleter().bytes / sizeof(T)); }
    static Conv conv_of_linear(int64_t rows, int64_t columns, int64_t k) {
        return {rows, 1, 1, k, 1, 1, columns, 1, 1, 1, 1, 0, 0, 1, 1, 1};
    }

  private:
    T* at(int64_t place) { return place == NOWHERE ? nullptr : place == INPUT ? input_ : place == OUTPUT ? output_ : arena_.get() + place; }

    const Kernels<T>& kernels_;
    Memory<T> arena_;
    // Packed weights lie close together, so that small ones share huge pages too.
    T* room_for_weights(int64_t elements);
    std::vector<Memory<T>> weights_;
    int64_t room_ = 0;  // elements left in the last of them
    std::vector<std::function<void()>> steps_;
    T *input_ = nullptr, *output_ = nullptr;  // of the run in progress
};

}  // namespace lucid
