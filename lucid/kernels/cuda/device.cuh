// What every kernel file starts with. A file is compiled for one dtype, LUCID_T: by NVRTC or nvcc for a GPU, by a C++
// compiler against emulate.h for the `emulated` backend. Contraction of a product and a sum is switched off by the
// compilers' options (lucid/backends/_cuda_run.py, CMakeLists.txt); a kernel says `fma` where the law says fma.
#pragma once

#include "../random/normal.h"
#include "../order.h"

#ifdef __CUDACC__
// KERNEL(name, threads of a block, parameters) { body }
#define KERNEL(name, threads, ...) extern "C" __global__ void __launch_bounds__(threads) name(__VA_ARGS__)
#define DEVICE __device__ inline
// What is made of `value` from here on is made here: the compiler may not keep it in registers through the loop around.
#define MADE_HERE(value) asm volatile("" : "+l"(value))
#else
#define MADE_HERE(value)
#include "emulate.h"
#endif

namespace lucid {
using namespace LUCID_ISA;

namespace {

using T = LUCID_T;
using scalar::exp64;
using scalar::log64;

// A pointer that may be null, to a result that is not always wanted.
template <class V>
using Maybe = V*;

template <class I>
DEVICE I smaller(I a, I b) {
    return a < b ? a : b;
}

template <class I>
DEVICE I larger(I a, I b) {
    return a > b ? a : b;
}

// Whether `value` takes the place of `best`, which came before it: a NaN wins, of equals the first stays.
template <bool MAX, class V>
DEVICE bool beats(V value, V best) {
    return best == best && (value != value || (MAX ? value > best : value < best));
}

// 16 bytes, which a thread loads and stores at once.
struct alignas(16) Pack {
    static constexpr int LANES = 16 / sizeof(T);
    T v[LANES];
};

DEVICE bool aligned(const void* p) { return reinterpret_cast<uint64_t>(p) % sizeof(Pack) == 0; }

// Every thread of a grid takes the elements first_index(), first_index() + index_step(), ...
DEVICE int64_t first_index() { return int64_t(blockIdx.x) * blockDim.x + threadIdx.x; }
DEVICE int64_t index_step() { return int64_t(gridDim.x) * blockDim.x; }

// use(load(0)), use(load(1)), .. in order; while AT_ONCE values are used, as many more are on their way from memory. What a
// thread loads is worth nothing until it is there, so a loop that loads and adds in turn would wait for each.
template <int AT_ONCE, class V, class Load, class Use>
DEVICE void in_batches(int64_t count, const Load& load, const Use& use) {
    V now[AT_ONCE], next[AT_ONCE];
    int64_t t = 0;
    if (count >= AT_ONCE)
#pragma unroll
        for (int i = 0; i < AT_ONCE; ++i) next[i] = load(i);
    for (; t + AT_ONCE <= count; t += AT_ONCE) {
#pragma unroll
        for (int i = 0; i < AT_ONCE; ++i) now[i] = next[i];
        if (t + 2 * AT_ONCE <= count)
#pragma unroll
            for (int i = 0; i < AT_ONCE; ++i) next[i] = load(t + AT_ONCE + i);
#pragma unroll
        for (int i = 0; i < AT_ONCE; ++i) use(now[i]);
    }
    for (; t < count; ++t) use(load(t));
}

// A sum in the order of section 2, told its segments' sums one by one.
struct SegmentSums {
    double group = 0.0, total = 0.0;
    int64_t segments = 0;

    DEVICE void add(double segment) {
        group = segments % GROUP == 0 ? segment : group + segment;
        if (++segments % GROUP == 0) close_group();
    }

    DEVICE double finish() {
        if (segments % GROUP != 0) close_group();
        return total;
    }

    DEVICE void close_group() { total = segments <= GROUP ? group : total + group; }
};

// The same, told its terms.
struct OrderedSum {
    SegmentSums sums;
    double segment = 0.0;
    int terms = 0;

    DEVICE void add(double term) {
        segment = segment + term;
        if (++terms == SEGMENT) close_segment();
    }

    DEVICE double finish() {
        if (terms > 0) close_segment();
        return sums.finish();
    }

    DEVICE void close_segment() {
        sums.add(segment);
        segment = 0.0;
        terms = 0;
    }
};

}  // namespace
}  // namespace lucid
