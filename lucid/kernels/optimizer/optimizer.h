// The optimiser: ARITHMETIC.md, section 10.
#pragma once

#include "../constant.h"
#include "../elementwise/map.h"

namespace lucid {
namespace LUCID_ISA {

template <class T>
static void sgd(const Sgd& s, int64_t n, T* param, const T* grad, T* velocity) {
    parallel_range(n, GRAIN, [&](int64_t begin, int64_t end) {
        const Sgd own = s;  // which no store changes
        const auto update = [=](int64_t i, auto count) {
            using V = Vec<T>;
            const V p = taken<V>(param + i, count);
            const V d = scalar::sgd_gradient(taken<V>(grad + i, count), p, own.weight_decay, own.maximize);
            V v = d;
            if (own.momentum != 0.0) {
                v = scalar::sgd_velocity(d, taken<V>(velocity + i, count), own.momentum, own.dampening, own.first);
                put(velocity + i, v, count);
            }
            put(param + i, scalar::sgd_parameter(p, d, v, own.lr, own.momentum, own.nesterov), count);
        };
        int64_t i = begin;
        for (; i + LANES<T> <= end; i += LANES<T>) update(i, Count<LANES<T>>{});
        if (i < end) update(i, end - i);
    });
}

}  // namespace LUCID_ISA
}  // namespace lucid
