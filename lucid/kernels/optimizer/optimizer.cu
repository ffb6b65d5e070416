// The optimiser: section 10 of ARITHMETIC.md.
#include "../cuda/device.cuh"

namespace lucid {

namespace {
constexpr int STEP_THREADS = 256;
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

}  // namespace lucid
