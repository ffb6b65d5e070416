// The tuning table of the CUDA kernels. It changes no result, only its speed.
//
// A constant's comment says its unit, its meaning and its source:
//
//     [H200]    measured on an NVIDIA H200 with ResNet-50 (docs/performance.md); other GPUs use it unmeasured
//     [chosen]  a round number that is large or small enough; no measurement of it is on record
#pragma once

namespace lucid {
namespace {

// -- contractions (gemm.cuh)
constexpr int BK = 16;     // values of k that a block loads at a time; divides a run [chosen]
constexpr int UNROLL = 8;  // of BK, even: unrolled, and not so many that the loop outgrows the instruction cache [H200]

// A block computes BM by BN values of C, a thread TM by TN of them; RESIDENT blocks share a multiprocessor's registers.
// By SPEED, the share of a multiprocessor's FMA peak that they reach [H200, roughly], lucid/backends/_cuda_cut.py chooses;
// it reads this table.
enum TileName { LARGE, NARROW, SMALL };

template <class T, TileName NAME>
struct TileOf;
template <>
struct TileOf<float, LARGE> {
    static constexpr int BM = 128, BN = 128, TM = 8, TN = 8, RESIDENT = 1;
    static constexpr double SPEED = 0.53;
};
template <>
struct TileOf<float, NARROW> {
    static constexpr int BM = 128, BN = 64, TM = 8, TN = 8, RESIDENT = 2;
    static constexpr double SPEED = 0.52;
};
template <>
struct TileOf<float, SMALL> {
    static constexpr int BM = 64, BN = 64, TM = 8, TN = 4, RESIDENT = 3;
    static constexpr double SPEED = 0.50;
};
template <TileName NAME>
struct TileOf<double, NAME> {  // a float64 takes two registers: one tile serves all
    static constexpr int BM = 64, BN = 64, TM = 4, TN = 4, RESIDENT = 1;
    static constexpr double SPEED = 0.70;
};

// -- the sum of a contraction's chunks (contraction.cu)
constexpr int COMBINE_THREADS = 256;  // threads of a block [chosen]
constexpr int GROUP_LANES = 8;        // groups that are added up side by side [chosen]
constexpr int SLOTS_AT_ONCE = 8;      // slots that a thread loads ahead [chosen]

}  // namespace
}  // namespace lucid
