// The optimiser: section 10 of ARITHMETIC.md.
#include "../cuda/device.cuh"
#include "../elementwise/printed_names.h"
#include "printed.h"

namespace lucid {

namespace {
constexpr int STEP_THREADS = 256;

DEVICE double value_of(const T* at, int64_t i) { return at ? double(at[i]) : 0.0; }

DEVICE void keep(T* at, int64_t i, double value) {
    if (at) at[i] = T(value);
}
}

KERNEL(sgd, STEP_THREADS, int64_t n, double lr, double momentum, double dampening, double weight_decay, bool nesterov,
       bool maximize, bool first, const T* grad, T* param, T* velocity) {
    for (int64_t i = first_index(); i < n; i += index_step()) {
        const T p = param[i], d = scalar::sgd_gradient(grad[i], p, weight_decay, maximize);
        T v = d;
        if (momentum != 0.0) velocity[i] = v = scalar::sgd_velocity(d, velocity[i], momentum, dampening, first);
        param[i] = scalar::sgd_parameter(p, d, v, lr, momentum, nesterov);
    }
}

// A kernel for each rule, update_NAME.
#define UPDATE(name, arguments)                                                                                      \
    KERNEL(update_##name, STEP_THREADS, int64_t n, double n0, double n1, double n2, double n3, double n4, double n5, \
           double n6, double n7, double n8, double n9, const T* grad, T* param, Maybe<T> memory0, Maybe<T> memory1,  \
           Maybe<T> memory2) {                                                                                       \
        for (int64_t i = first_index(); i < n; i += index_step()) {                                                  \
            const double g = double(grad[i]);                                                                        \
            double p = double(param[i]), m0 = value_of(memory0, i), m1 = value_of(memory1, i),                       \
                   m2 = value_of(memory2, i);                                                                        \
            scalar::name arguments;                                                                                  \
            param[i] = T(p);                                                                                         \
            keep(memory0, i, m0);                                                                                    \
            keep(memory1, i, m1);                                                                                    \
            keep(memory2, i, m2);                                                                                    \
            (void)n4, (void)n5, (void)n6, (void)n7, (void)n8, (void)n9;                                              \
        }                                                                                                            \
    }
LUCID_RULES(UPDATE)

}  // namespace lucid
