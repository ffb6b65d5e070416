// Contractions (ARITHMETIC.md, sections 2 and 3): one driver for the convolution, its two gradients and the matrix product.
//
// C[m, n] is a sum over k of A[m, k] * B[k, n]. The micro-kernel holds a tile of C in registers through one segment of k,
// vectorised across n; A is copied segment by segment into a small buffer with constant strides (which also makes
// padding, strides and gathers vanish), B is read in panels as wide as the tile. A task owns a block of C:
//
//     for each segment of k:            the block of B is packed; it stays in the second-level cache
//         for each tile of rows:        the tile of A is copied; it stays in the first-level cache
//             for each panel of columns: micro-kernel
//
// What differs by instruction set is the shape of the tile, in `Tile`.
#pragma once

#include <cstdlib>
#include <cstring>

#include "kernels.h"
#include "order.h"
#include "threads.h"
#include "vec.h"

namespace lucid {
namespace LUCID_ISA {

// Rows and vectors of the register tile; MR * NV accumulators + NV of B + 1 broadcast fit the register file.
struct Tile {
#if LUCID_VECTOR_BYTES == 64
    static constexpr int MR = 14, NV = 2;  // 32 registers
#elif LUCID_VECTOR_BYTES == 32
    static constexpr int MR = 6, NV = 2;  // 16 registers
#elif defined(__aarch64__)
    static constexpr int MR = 12, NV = 2;  // 32 registers of 16 bytes
#else
    static constexpr int MR = 4, NV = 1;
#endif
};

constexpr int64_t BLOCK_COLUMNS_BYTES = 2048;  // of one row of a B block: 256 rows of it are 512 KiB
constexpr int64_t BLOCK_ROW_TILES = 16;

// A operand layouts in the buffer: element (i, k) at a[i * ROW_PITCH + k], or at a[k * COLUMN_PITCH + i].
constexpr int ROW_PITCH = SEGMENT + 16;  // not a power of two: rows fall into different cache sets
constexpr int COLUMN_PITCH = 16;

template <class V, class T>
inline V load_as(const T* p) {
    if constexpr (sizeof(V) == sizeof(T))
        return *p;
    else
        return load(p);
}

// The epilogue of an element at address `c`: the same roundings that the operations behind the contraction would apply
// one by one, while the value is still in registers. `V` is a vector or one value.
template <class V, class T>
inline V finish(const Epilogue<T>& e, V value, int64_t column, const T* c) {
    if (e.bias) value = value + load_as<V>(e.bias + column);
    if (e.scale) {
        const V centred = value - load_as<V>(e.mean + column);
        if constexpr (sizeof(V) == sizeof(T))
            value = fma1(centred, e.scale[column], e.shift[column]);
        else
            value = fma(centred, load(e.scale + column), load(e.shift + column));
    }
    if (e.residual) value = value + load_as<V>(e.residual + (c - e.output));
    if (e.relu) value = value <= V{} ? V{} : value;
    return value;
}

template <class T>
struct Operand {
    int64_t m, n, k;
    const T* b;       // B[k, n] at b[k * ldb + n]; with ldb == PACKED, the panels of pack_panels
    int64_t ldb;
    int64_t period;   // no tile of rows crosses a multiple of it; m where that does not matter
    Epilogue<T> epilogue;
};

template <class T>
constexpr int PANEL = Tile::NV * LANES<T>;

constexpr int64_t PACKED = -1;

// One segment of one tile: rows[i][column ..] = s, or += s, and then the epilogue if there is one.
template <class T, int MR, int NV, bool BY_COLUMN>
static void micro_kernel(const T* a, const T* b, int64_t ldb, int length, T* const* rows, int64_t column, int columns,
                         bool add, const Epilogue<T>* epilogue) {
    Vec<T> acc[MR][NV], sum[MR][NV];  // of the run, and of the runs before it (this one in the first-level cache)
    int k = 0;
    do {
        const int run = smaller(RUN, length - k);
#pragma GCC unroll 16
        for (int i = 0; i < MR; ++i)
#pragma GCC unroll 4
            for (int v = 0; v < NV; ++v) acc[i][v] = Vec<T>{};
#pragma GCC unroll 1
        for (int j = 0; j < run; ++j) {
            Vec<T> bv[NV];
#pragma GCC unroll 4
            for (int v = 0; v < NV; ++v) bv[v] = load(b + v * LANES<T>);
#pragma GCC unroll 16
            for (int i = 0; i < MR; ++i) {
                const Vec<T> av = splat(BY_COLUMN ? a[i] : a[i * ROW_PITCH]);
#pragma GCC unroll 4
                for (int v = 0; v < NV; ++v) acc[i][v] = fma(av, bv[v], acc[i][v]);
            }
            a += BY_COLUMN ? COLUMN_PITCH : 1;
            b += ldb;
        }
        if (k == 0) {
#pragma GCC unroll 16
            for (int i = 0; i < MR; ++i)
#pragma GCC unroll 4
                for (int v = 0; v < NV; ++v) sum[i][v] = acc[i][v];
        } else {
#pragma GCC unroll 16
            for (int i = 0; i < MR; ++i)
#pragma GCC unroll 4
                for (int v = 0; v < NV; ++v) sum[i][v] = sum[i][v] + acc[i][v];
        }
        k += RUN;
    } while (k < length);

    if (columns == NV * LANES<T>) {
#pragma GCC unroll 16
        for (int i = 0; i < MR; ++i)
#pragma GCC unroll 4
            for (int v = 0; v < NV; ++v) {
                T* c = rows[i] + column + v * LANES<T>;
                Vec<T> value = sum[i][v];
                if (add) value = load(c) + value;
                if (epilogue) value = finish(*epilogue, value, column + v * LANES<T>, c);
                store(c, value);
            }
        return;
    }
    for (int i = 0; i < MR; ++i) {
        T tile[NV * LANES<T>];
        for (int v = 0; v < NV; ++v) store(tile + v * LANES<T>, sum[i][v]);
        T* c = rows[i] + column;
        for (int n = 0; n < columns; ++n) {
            T value = tile[n];
            if (add) value = c[n] + value;
            if (epilogue) value = finish(*epilogue, value, column + n, c + n);
            c[n] = value;
        }
    }
}

template <class T>
using MicroKernel = void (*)(const T*, const T*, int64_t, int, T* const*, int64_t, int, bool, const Epilogue<T>*);

template <class T, int NV, bool BY_COLUMN>
struct MicroKernels {
    template <int MR>
    static MicroKernel<T> pick(int rows) {
        if constexpr (MR == 0)
            return nullptr;
        else
            return rows == MR ? &micro_kernel<T, MR, NV, BY_COLUMN> : pick<MR - 1>(rows);
    }
};

// Rows are dealt to tiles as evenly as can be: 49 rows are 13 + 12 + 12 + 12, not 14 + 14 + 14 + 7.
struct RowTiles {
    int64_t period, in_period, count;

    RowTiles(int64_t m, int64_t period_)
        : period(period_), in_period((period_ + Tile::MR - 1) / Tile::MR), count(m / period_ * in_period) {}

    int64_t start(int64_t tile) const {
        return tile / in_period * period + period * (tile % in_period) / in_period;
    }
};

// How many tasks a contraction is cut into, by rows and by columns.
struct Blocks {
    int64_t rows, columns;
};

// Many rows: a block of B stays in the second-level cache while the rows of a block pass by.
template <class T>
static Blocks blocks_of_cache_size(int64_t tiles, int64_t panels) {
    const auto count = [](int64_t n, int64_t size) { return (n + size - 1) / size; };
    int64_t tiles_a_block = smaller(tiles, BLOCK_ROW_TILES);
    int64_t panels_a_block = smaller(panels, BLOCK_COLUMNS_BYTES / int64_t(PANEL<T> * sizeof(T)));
    const int64_t wanted = num_threads() == 1 ? 1 : 4 * num_threads();
    while (count(tiles, tiles_a_block) * count(panels, panels_a_block) < wanted) {
        int64_t& larger_side = panels_a_block > 4 || tiles_a_block == 1 ? panels_a_block : tiles_a_block;
        if (larger_side == 1) break;
        larger_side = (larger_side + 1) / 2;
    }
    return {count(tiles, tiles_a_block), count(panels, panels_a_block)};
}

// A long k (a weight gradient): every block of rows reads all of B and every block of columns all of A, so as few
// blocks as keep the threads busy, cut where that costs the fewest reads.
static inline Blocks blocks_of_few_reads(int64_t tiles, int64_t panels, int64_t m, int64_t n) {
    const int64_t wanted = smaller<int64_t>(num_threads() == 1 ? 1 : 2 * num_threads(), tiles * panels);
    Blocks best{tiles, panels};
    for (int64_t rows = 1; rows <= smaller(tiles, wanted); ++rows) {
        const int64_t columns = smaller(panels, (wanted + rows - 1) / rows);
        if (rows * columns >= wanted && rows * n + columns * m < best.rows * n + best.columns * m) best = {rows, columns};
    }
    return best;
}

// Columns column .. of B as a panel, k by k, filled up with zeros.
template <class T>
static void pack_panel(int64_t k, int64_t n, const T* b, int64_t ldb, int64_t column, T* panel) {
    const int64_t columns = smaller<int64_t>(PANEL<T>, n - column);
    if (columns == PANEL<T>) {
        for (int64_t i = 0; i < k; ++i)
            for (int j = 0; j < PANEL<T>; j += LANES<T>) store(panel + i * PANEL<T> + j, load(b + i * ldb + column + j));
        return;
    }
    for (int64_t i = 0; i < k; ++i) {
        for (int64_t j = 0; j < columns; ++j) panel[i * PANEL<T> + j] = b[i * ldb + column + j];
        for (int64_t j = columns; j < PANEL<T>; ++j) panel[i * PANEL<T> + j] = T(0);
    }
}

// All panels of B, one after the other: a B that is read many times lies better so, since a panel is then one stream.
template <class T>
static void pack_panels(int64_t k, int64_t n, const T* b, int64_t ldb, T* panels) {
    parallel((n + PANEL<T> - 1) / PANEL<T>, [&](int64_t i) {
        pack_panel(k, n, b, ldb, i * PANEL<T>, panels + i * k * PANEL<T>);
    });
}

template <class T>
static int64_t packed_size(int64_t k, int64_t n) {
    return (n + PANEL<T> - 1) / PANEL<T> * k * PANEL<T>;
}

// Memory of a thread for the block of B it works on; kept from task to task.
struct Scratch {
    void* memory = nullptr;
    size_t size = 0;

    void* of(size_t bytes) {
        if (bytes > size) {
            std::free(memory);
            size = (bytes + 4095) / 4096 * 4096;
            memory = std::aligned_alloc(4096, size);
        }
        return memory;
    }
    ~Scratch() { std::free(memory); }
};

// Packing a block costs as much as about this many tiles of rows would lose by reading it where it lies.
constexpr int64_t TILES_WORTH_PACKING = 3;

// `Source` says where A comes from and C goes:
//     bool BY_COLUMN                                       the buffer's layout
//     void fill(m0, rows, k0, length, T* buffer) const     copy a piece of A
//     T* row(m) const                                      address of C[m, 0]
template <class T, class Source>
static void contract(const Operand<T>& p, const Source& source) {
    constexpr int NR = PANEL<T>;
    if (p.m <= 0 || p.n <= 0) return;
    if (p.k <= 0) {
        for (int64_t m = 0; m < p.m; ++m)
            for (int64_t n = 0; n < p.n; ++n) source.row(m)[n] = finish(p.epilogue, T(0), n, source.row(m) + n);
        return;
    }
    const int64_t panels = (p.n + NR - 1) / NR;
    const RowTiles tiles(p.m, p.period);
    const Blocks blocks = Source::BY_COLUMN ? blocks_of_few_reads(tiles.count, panels, p.m, p.n)
                                            : blocks_of_cache_size<T>(tiles.count, panels);
    const int64_t segments = (p.k + SEGMENT - 1) / SEGMENT;

    parallel(blocks.rows * blocks.columns, [&](int64_t task) {
        const int64_t r = task % blocks.rows, c = task / blocks.rows;
        const int64_t first_tile = tiles.count * r / blocks.rows, end_tile = tiles.count * (r + 1) / blocks.rows;
        const int64_t first_panel = panels * c / blocks.columns, end_panel = panels * (c + 1) / blocks.columns;
        const int64_t column0 = first_panel * NR, width = smaller(p.n, end_panel * NR) - column0;
        const int64_t row0 = tiles.start(first_tile), height = tiles.start(end_tile) - row0;

        alignas(64) T buffer[Source::BY_COLUMN ? SEGMENT * COLUMN_PITCH : Tile::MR * ROW_PITCH];
        T* rows[Tile::MR];
        // B of this task: packed by the caller, packed here, or, for few rows, read where it lies but for a last panel that
        // is narrower than the micro-kernel and would be read past its end.
        static thread_local Scratch scratch;
        // (The B of a weight gradient is an image, whose pixels lie side by side already.)
        const bool by_caller = p.ldb == PACKED;
        const bool here = !by_caller && !Source::BY_COLUMN && end_tile - first_tile >= TILES_WORTH_PACKING;
        const int64_t packed_from = here ? first_panel : p.n / NR;  // the first panel that is packed here
        T* block = nullptr;
        if (!by_caller && packed_from < end_panel)
            block = static_cast<T*>(scratch.of(size_t(end_panel - packed_from) * SEGMENT * NR * sizeof(T)));
        // From the second group on, a group is summed beside C and then added to it.
        T* group_sum = nullptr;
        if (segments > GROUP) group_sum = static_cast<T*>(std::malloc(size_t(height * width) * sizeof(T)));

        for (int64_t segment = 0; segment < segments; ++segment) {
            const int64_t k0 = segment * SEGMENT;
            const int length = int(smaller<int64_t>(SEGMENT, p.k - k0));
            const bool add = segment % GROUP != 0, beside = segment >= GROUP;
            const bool end_of_sum = segment == segments - 1;
            if (block)
                for (int64_t panel = packed_from; panel < end_panel; ++panel)
                    pack_panel(length, p.n, p.b + k0 * p.ldb, p.ldb, panel * NR, block + (panel - packed_from) * SEGMENT * NR);
            const Epilogue<T>* epilogue = end_of_sum && !beside && p.epilogue.any() ? &p.epilogue : nullptr;
            for (int64_t tile = first_tile; tile < end_tile; ++tile) {
                const int64_t m0 = tiles.start(tile);
                const int mr = int(tiles.start(tile + 1) - m0);
                source.fill(m0, mr, k0, length, buffer);
                for (int i = 0; i < mr; ++i)
                    rows[i] = beside ? group_sum + (m0 + i - row0) * width - column0 : source.row(m0 + i);
                const MicroKernel<T> wide =
                    MicroKernels<T, Tile::NV, Source::BY_COLUMN>::template pick<Tile::MR>(mr);
                for (int64_t panel = first_panel; panel < end_panel; ++panel) {
                    const int64_t n0 = panel * NR;
                    const int columns = int(smaller<int64_t>(NR, p.n - n0));
                    const bool in_block = block && panel >= packed_from;
                    const T* b = by_caller  ? p.b + (panel * p.k + k0) * NR
                                 : in_block ? block + (panel - packed_from) * SEGMENT * NR
                                            : p.b + k0 * p.ldb + n0;
                    const int64_t ldb = by_caller || in_block ? NR : p.ldb;
                    if (Tile::NV > 1 && columns <= LANES<T>)
                        MicroKernels<T, 1, Source::BY_COLUMN>::template pick<Tile::MR>(mr)(
                            buffer, b, ldb, length, rows, n0, columns, add, epilogue);
                    else
                        wide(buffer, b, ldb, length, rows, n0, columns, add, epilogue);
                }
            }
            if (beside && (end_of_sum || segment % GROUP == GROUP - 1)) {
                for (int64_t m = 0; m < height; ++m) {
                    T* c = source.row(row0 + m) + column0;
                    const T* g = group_sum + m * width;
                    for (int64_t n = 0; n < width; ++n) {
                        const T value = c[n] + g[n];
                        c[n] = end_of_sum ? finish(p.epilogue, value, column0 + n, c + n) : value;
                    }
                }
            }
        }
        std::free(group_sum);
    });
}

}  // namespace LUCID_ISA
}  // namespace lucid
