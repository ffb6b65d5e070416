// CUDA for a C++ compiler: as much of it as the kernels use. A block's threads are fibers that run, one at a time, from
// barrier to barrier, in ascending or descending order in turn, so that a missing barrier shows as a different result; a
// barrier that some threads of a block do not reach is an error.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>
#include <utility>

#include "../names.h"

struct Index3 {
    unsigned x, y, z;
};
extern Index3 threadIdx, blockIdx, blockDim, gridDim;

#define __shared__ static  // blocks run one after the other
#define DEVICE inline

struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(16) double2 {
    double x, y;
};

inline float __fmaf_rn(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
inline double __fma_rn(double a, double b, double c) { return __builtin_fma(a, b, c); }
inline float __fsqrt_rn(float x) { return __builtin_sqrtf(x); }
inline double __dsqrt_rn(double x) { return __builtin_sqrt(x); }
inline int atomicMin(int* at, int value) {
    const int before = *at;
    if (value < before) *at = value;
    return before;
}
inline int atomicMax(int* at, int value) {
    const int before = *at;
    if (value > before) *at = value;
    return before;
}

namespace lucid {
namespace emulator {

void barrier();

// A kernel's parameters, spelled as lucid/backends/_cuda_run.py spells the arguments: p and a type for a pointer, s and a size for
// a structure.
template <class P>
std::string spelling() {
    using V = std::remove_cv_t<P>;
    if constexpr (std::is_pointer_v<V>)
        return "p" + spelling<std::remove_pointer_t<V>>();
    else if constexpr (std::is_class_v<V>)
        return "s" + std::to_string(sizeof(V));
    else if constexpr (std::is_floating_point_v<V>)
        return sizeof(V) == 4 ? "f4" : "f8";
    else
        return (std::is_signed_v<V> ? "i" : "u") + std::to_string(sizeof(V));
}

struct Kernel {
    virtual ~Kernel() = default;
    virtual void run(void** arguments) const = 0;
    std::string signature;
};

void add(const std::string& name, const Kernel*);

template <class... P>
struct KernelOf final : Kernel {
    void (*function)(P...);

    KernelOf(const char* dtype, const char* name, void (*f)(P...)) : function(f) {
        ((signature += spelling<P>() + " "), ...);
        add(std::string(dtype) + " " + name, this);
    }

    void run(void** arguments) const override { call(arguments, std::index_sequence_for<P...>()); }

    template <std::size_t... I>
    void call(void** arguments, std::index_sequence<I...>) const {
        function(*static_cast<std::remove_cv_t<P>*>(arguments[I])...);
    }
};

}  // namespace emulator
}  // namespace lucid

#define __syncthreads() lucid::emulator::barrier()

#define KERNEL(name, threads, ...)                                                                               \
    static void name(__VA_ARGS__);                                                                               \
    static const ::lucid::emulator::KernelOf LUCID_PASTE(kernel_, name)(LUCID_TEXT(LUCID_T), LUCID_TEXT(name), &name); \
    static void name(__VA_ARGS__)
