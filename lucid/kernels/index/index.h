// Indexed accumulation: ARITHMETIC.md, section 12.
#pragma once

#include "../kernels.h"

namespace lucid {
namespace LUCID_ISA {

template <class T>
static void index_add(int64_t n, const int64_t* index, const T* values, T* y) {
    for (int64_t i = 0; i < n; ++i) y[index[i]] = y[index[i]] + values[i];
}

}  // namespace LUCID_ISA
}  // namespace lucid
