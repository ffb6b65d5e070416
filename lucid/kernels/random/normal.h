// Normal deviates (ARITHMETIC.md, section 11): which of the printed polynomials holds where.
#pragma once

#include "../elementwise/printed.h"

namespace lucid {
namespace LUCID_ISA {

// Wichura, Algorithm AS 241 (PPND16), Applied Statistics 37 (1988).
LUCID_FN double normal64(double u) {
    const double q = u - 0.5;
    if (magnitude(q) <= 0.425) return scalar::normal_centre(q);
    const double r = square_root(-scalar::log64(q < 0 ? u : 1.0 - u));
    const double z = r <= 5.0 ? scalar::normal_near(r) : scalar::normal_far(r);
    return q < 0 ? -z : z;
}

}  // namespace LUCID_ISA
}  // namespace lucid
