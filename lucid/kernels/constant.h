// Values that are types, so that a function is compiled for each of them.
#pragma once

#include <cstdint>

namespace lucid {
namespace LUCID_ISA {

template <int64_t N>
struct Count {
    constexpr operator int64_t() const { return N; }
};

template <bool VALUE>
struct Bool {
    constexpr operator bool() const { return VALUE; }
};

}  // namespace LUCID_ISA
}  // namespace lucid
