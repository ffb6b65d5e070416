// Assembles the kernels of one instruction set into its table. Each isa_*.cpp is compiled with its own machine flags and
// includes this file once; nothing here may come from a shared inline function of the standard library, which another
// instruction set's object file could replace.
#pragma once

#include "conv.h"
#include "fingerprint.h"
#include "norm.h"
#include "pointwise.h"
#include "pool.h"
#include "transpose.h"

namespace lucid {
namespace LUCID_ISA {

template <class T>
static void philox(uint64_t seed, uint64_t stream, uint64_t block, int64_t n, uint32_t* y) {
    philox_words(seed, stream, block, n, y);
}

template <class T>
constexpr Kernels<T> kernels() {
    Kernels<T> table{};
#define KERNEL(result, name, ...) table.name = name<T>;
#include "kernels.def"
    return table;
}

}  // namespace LUCID_ISA
}  // namespace lucid
