// What kernels.def lists, as C++: enumerations, structures, and one table of kernels a dtype.
#pragma once

#include <cstdint>

#include "elementwise/printed_names.h"

namespace lucid {

template <class V>
using Maybe = V*;

#define ENUM(name, ...) enum class name { __VA_ARGS__ };
#define STRUCT(name, ...) struct name { __VA_ARGS__ };
#define STRUCT_OF_T(name, ...) template <class T> struct name { __VA_ARGS__ };
#include "kernels.def"

// Whether anything follows.
template <class T>
bool follows(const Epilogue<T>& e) {
    return e.bias || e.scale || e.residual || e.relu;
}

template <class T>
struct Kernels {
#define KERNEL(result, name, ...) result (*name)(__VA_ARGS__);
#include "kernels.def"
};

struct Isa {
    const char* name;
    Kernels<float> f32;
    Kernels<double> f64;
    void (*fingerprint)(const void* data, int64_t bytes, uint64_t* words);  // eight of them

    template <class T>
    const Kernels<T>& of() const {
        if constexpr (sizeof(T) == 4)
            return f32;
        else
            return f64;
    }
};

// The instruction sets of this build that this processor can run, best first; the end is null.
const Isa* const* supported_isas();

}  // namespace lucid
