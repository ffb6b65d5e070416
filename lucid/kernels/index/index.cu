// Indexed accumulation: sections 12 and 12.1 of ARITHMETIC.md. Its order is worked out before (backends/cuda.py).
#include "../cuda/device.cuh"

namespace lucid {

namespace {
constexpr int INDEX_THREADS = 256;
}

// y[place[k]] += values[order[k]], where `place` ascends and equal places keep the order in which they are to be added: the
// first thread of a place adds all that go there.
KERNEL(index_add, INDEX_THREADS, int64_t n, const int64_t* place, const int64_t* order, const T* values, T* y) {
    for (int64_t i = first_index(); i < n; i += index_step()) {
        if (i > 0 && place[i - 1] == place[i]) continue;
        T sum = y[place[i]];
        for (int64_t k = i; k < n && place[k] == place[i]; ++k) sum = sum + values[order[k]];
        y[place[i]] = sum;
    }
}

}  // namespace lucid
