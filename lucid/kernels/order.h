// The order of a sum (ARITHMETIC.md, section 2). Read by the C++ and by the CUDA kernels.
#pragma once

namespace lucid {

constexpr int RUN = 32;       // terms in a run (contractions alone)
constexpr int SEGMENT = 256;  // terms in a segment
constexpr int GROUP = 32;     // segments in a group

}  // namespace lucid
