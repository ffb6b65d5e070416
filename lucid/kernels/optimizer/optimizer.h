// The optimiser: ARITHMETIC.md, section 10.
#pragma once

#include "../constant.h"
#include "../elementwise/map.h"
#include "printed.h"

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

// Values that a rule changes, as float64; of what is not there, zeros, which are not kept.
template <class T>
struct Changed {
    T* at;
    Vec<double> value = {};

    Changed(T* array, int64_t i, int64_t count) : at(array ? array + i : nullptr) {
        if (at) value = wide(taken<Part<T>>(at, count));
    }
    void keep(int64_t count) const {
        if (at) put(at, narrow<Part<T>>(value), count);
    }
};

// Calls apply(parameter, gradient, memory ..) for vectors of float64.
template <class T, class F>
static void update_all(int64_t n, T* param, const T* grad, T* memory0, T* memory1, T* memory2, F apply) {
    parallel_range(n, GRAIN, [=](int64_t begin, int64_t end) {
        const auto one = [=](int64_t i, auto count) {
            Changed<T> p(param, i, count), m0(memory0, i, count), m1(memory1, i, count), m2(memory2, i, count);
            apply(p.value, wide(taken<Part<T>>(grad + i, count)), m0.value, m1.value, m2.value);
            p.keep(count);
            m0.keep(count);
            m1.keep(count);
            m2.keep(count);
        };
        int64_t i = begin;
        for (; i + LANES<double> <= end; i += LANES<double>) one(i, Count<LANES<double>>{});
        if (i < end) one(i, end - i);
    });
}

template <class T>
static void update(Rule rule, const Numbers& numbers, int64_t n, T* param, const T* grad, T* memory0, T* memory1, T* memory2) {
    const Numbers own = numbers;
    using V = Vec<double>;
    switch (rule) {
#define LUCID_CASE(name, arguments)                                                                                  \
    case Rule::name:                                                                                                 \
        return update_all(n, param, grad, memory0, memory1, memory2, [own](V& p, V g, V& m0, V& m1, V& m2) {         \
            [[maybe_unused]] const auto [n0, n1, n2, n3, n4, n5, n6, n7, n8, n9] = own;                              \
            scalar::name arguments;                                                                                  \
            (void)m1, (void)m2;                                                                                      \
        });
        LUCID_RULES(LUCID_CASE)
#undef LUCID_CASE
    }
}

}  // namespace LUCID_ISA
}  // namespace lucid
