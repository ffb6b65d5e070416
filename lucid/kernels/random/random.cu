// Random numbers: section 11 of ARITHMETIC.md. A thread makes one block of four words.
#include "../cuda/device.cuh"

namespace lucid {
namespace {

constexpr int RANDOM_THREADS = 256;

template <class F>
DEVICE void draw(uint64_t seed, uint64_t stream, uint64_t block, int64_t n, T* y, const F& value_of) {
    constexpr int VALUES = sizeof(T) == 4 ? 4 : 2;
    for (int64_t i = first_index(); i * VALUES < n; i += index_step()) {
        uint32_t word[4];
        philox4x32(seed, stream, block + uint64_t(i), word);
        for (int j = 0; j < VALUES; ++j)
            if (i * VALUES + j < n)
                y[i * VALUES + j] = value_of(sizeof(T) == 4 ? uniform_of_word(word[j])
                                                           : uniform_of_words(word[2 * j % 4], word[(2 * j + 1) % 4]));
    }
}

}  // namespace

KERNEL(philox, RANDOM_THREADS, uint64_t seed, uint64_t stream, uint64_t block, int64_t n, uint32_t* y) {
    for (int64_t i = first_index(); i * 4 < n; i += index_step()) {
        uint32_t word[4];
        philox4x32(seed, stream, block + uint64_t(i), word);
        for (int j = 0; j < 4; ++j)
            if (i * 4 + j < n) y[i * 4 + j] = word[j];
    }
}

KERNEL(uniform, RANDOM_THREADS, uint64_t seed, uint64_t stream, uint64_t block, int64_t n, double low, double high, T* y) {
    draw(seed, stream, block, n, y, [=](double u) { return T(low + (high - low) * u); });
}

KERNEL(normal, RANDOM_THREADS, uint64_t seed, uint64_t stream, uint64_t block, int64_t n, double mean, double std, T* y) {
    draw(seed, stream, block, n, y, [=](double u) { return T(mean + std * normal64(u)); });
}

}  // namespace lucid
