// The tuning tables of the CPU kernels, one a machine. They change no result, only its speed.
//
// `AnyMachine` holds what all machines share. A machine's own table derives from it and may set any constant anew.
// `Tuning` is the table of the instruction set that a file is compiled for. KC, the depth of a block, is no tuning: it
// is the law's SEGMENT (order.h). A constant's comment says its unit, its meaning and its source:
//
//     [registers]  follows from the number of vector registers
//     [cache]      follows from the size or the shape of a cache
//     [SPR]        tuned on two cores of an Intel Xeon of the Sapphire Rapids generation with AVX-512, by the layers of
//                  ResNet-50 at 224 x 224 in float32 (docs/performance.md); other machines use it unmeasured
//     [chosen]     a round number that is large or small enough; no measurement of it is on record
#pragma once

#include <cstddef>
#include <cstdint>

#include "order.h"

namespace lucid {

constexpr int CACHE_LINE = 64;                 // bytes
constexpr size_t PAGE = 4096;                  // bytes
constexpr size_t HUGE_PAGE = size_t(2) << 20;  // bytes

struct AnyMachine {
    // -- contractions: blocks (gemm.h)
    static constexpr int64_t NC_BYTES = 2048;  // bytes of a row of a block of B, which has 512 KiB of L2 [cache]
    static constexpr int64_t MC_TILES = 32;    // micro-tiles in the rows of a block of C [chosen]
    static constexpr int64_t MICRO_KERNEL_CYCLES = 3600;  // cycles of one micro-kernel over a segment [SPR, roughly]
    static constexpr int64_t PACK_A_CYCLES = 900;         // cycles of packing a tile of A [SPR, roughly]
    static constexpr int64_t FETCH_B_CYCLES = 1000;       // cycles of fetching a panel of B [SPR, roughly]
    static constexpr int64_t BLOCKS_A_THREAD = 4;       // blocks wanted, so that all threads end together [chosen]
    static constexpr int64_t LONG_BLOCKS_A_THREAD = 2;  // the same of a long k: each block reads all of B [chosen]

    // -- contractions: packing (gemm.h, conv.h)
    static constexpr int A_PITCH = SEGMENT + 16;   // values from row to row of a packed A: no power of two [cache]
    static constexpr int UNROLL = 4;               // terms of a run, unrolled in the micro-kernel [SPR: 12 % faster]
    static constexpr int64_t PACK_PANELS = 4;      // panels of B that are packed side by side [chosen]
    static constexpr int64_t PACK_ROWS = 64;       // rows of B that a task packs [chosen]
    static constexpr int64_t TILES_WORTH_PACKING = 3;  // micro-tiles; for fewer, B is read where it lies [SPR, roughly]
    static constexpr int64_t PAD_LINES = 16;       // lines that a task copies to give an image its padding [chosen]

    // -- contractions: the pixels of a weight gradient (conv.h)
    static constexpr int PIXEL_PITCH = 16;  // values of a pixel in a copied tile: whole vectors, MR or more [registers]
    static constexpr int64_t USES_WORTH_COPYING = 16;         // micro-kernels that read a tile: then it is copied [SPR]
    static constexpr int64_t USES_WORTH_COPYING_ALIASED = 4;  // the same where pixels are ALIASED_BYTES apart [SPR]
    static constexpr int64_t ALIASED_BYTES = 4096;  // bytes: lines that far apart share a set of the L1 cache [cache]

    // -- reductions (reduce.h)
    static constexpr uintptr_t STREAM_PREFETCH = 8192;  // bytes from what is read to what is prefetched [SPR]
    static constexpr int64_t ROWS_AT_ONCE = 4;       // rows that are read side by side, each a stream [SPR]
    static constexpr int64_t COLUMNS_A_TASK = 512;   // columns whose running sums stay in the L1 cache [cache]
    static constexpr int64_t COMBINE_COLUMNS = 256;  // columns whose segments a task adds up, at least [chosen]
    static constexpr int SEGMENTS_AT_ONCE = 8;       // segments of one sum that are added up side by side [chosen]
    static constexpr int64_t SEGMENTS_A_TASK = 4;    // so many times SEGMENTS_AT_ONCE are a task, at least [chosen]

    // -- pooling and transposition (pool.h, transpose.h)
    static constexpr int64_t POOL_CHANNELS = 64;       // channels whose averages are summed side by side [cache]
    static constexpr int64_t MAX_POOL_CHANNELS = 16;   // channels in a task of a gradient, at least: a line [cache]
    static constexpr int64_t TRANSPOSE_COLUMNS = 256;  // columns of few rows that stay in the L1 cache [cache]
    static constexpr int64_t SWAP_COLUMNS = 1024;      // pixels that a task moves to channels last [chosen]

    // -- threads (threads.h, threads.cpp)
    static constexpr int64_t GRAIN = 32768;        // elements of a cheap operation in a task, at least [chosen]
    static constexpr int64_t SLOW_GRAIN = 1024;    // the same of a costly operation, as exp [chosen]
    static constexpr int64_t TASKS_A_THREAD = 4;   // tasks wanted, so that all threads end together [chosen]
    static constexpr int SPIN_MICROSECONDS = 100;  // microseconds that an idle worker waits before it sleeps [chosen]
};

// A micro-tile of C has MR rows of NV vectors: MR * NV sums, NV vectors of B and one value of A stay in registers.
struct Avx512 : AnyMachine {
    static constexpr int MR = 14, NV = 2;  // 31 of 32 registers of 64 bytes [registers]
};
struct Avx2 : AnyMachine {
    static constexpr int MR = 6, NV = 2;  // 15 of 16 registers of 32 bytes [registers]
};
struct Neon : AnyMachine {
    static constexpr int MR = 12, NV = 2;  // 27 of 32 registers of 16 bytes [registers]
};
struct Sse2 : AnyMachine {
    static constexpr int MR = 4, NV = 1;  // 6 of 16 registers of 16 bytes: an fma in steps needs the rest [registers]
};

#if defined(LUCID_VECTOR_BYTES)
namespace LUCID_ISA {
#if LUCID_VECTOR_BYTES == 64
using Tuning = Avx512;
#elif LUCID_VECTOR_BYTES == 32
using Tuning = Avx2;
#elif defined(__aarch64__)
using Tuning = Neon;
#else
using Tuning = Sse2;
#endif
}  // namespace LUCID_ISA
#endif

}  // namespace lucid
