// Products along an axis: section 4.2 of ARITHMETIC.md. A thread has a row, which is one chain.
#include "../cuda/device.cuh"

namespace lucid {

namespace {
constexpr int SCAN_THREADS = 256;
}

KERNEL(cumprod, SCAN_THREADS, int64_t outer, int64_t terms, int64_t inner, const T* x, T* y) {
    for (int64_t row = first_index(); row < outer * inner; row += index_step()) {
        const int64_t at = row / inner * terms * inner + row % inner;
        double p = 1.0;
        for (int64_t t = 0; t < terms; ++t) y[at + t * inner] = T(p = p * double(x[at + t * inner]));
    }
}

// The gradient of cumprod; `after` holds s, a number for each element.
KERNEL(cumprod_slopes, SCAN_THREADS, int64_t outer, int64_t terms, int64_t inner, const T* dy, const T* x, double* after, T* dx) {
    for (int64_t row = first_index(); row < outer * inner; row += index_step()) {
        const int64_t at = row / inner * terms * inner + row % inner;
        double s = 0.0, p = 1.0;
        for (int64_t t = terms - 1; t >= 0; --t) {
            const int64_t here = at + t * inner;
            s = t == terms - 1 ? double(dy[here]) : double(dy[here]) + double(x[here + inner]) * s;
            after[here] = s;
        }
        for (int64_t t = 0; t < terms; ++t) {
            const int64_t here = at + t * inner;
            dx[here] = T(t == 0 ? after[here] : p * after[here]);
            p = p * double(x[here]);
        }
    }
}

}  // namespace lucid
