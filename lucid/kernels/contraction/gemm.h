// Contractions (ARITHMETIC.md, sections 2 and 3): one driver for the convolution, its two gradients and the matrix
// product.
//
// C[m, n] is a sum over k of A[m, k] * B[k, n]. The loops are those of BLIS (Van Zee and van de Geijn, 2015), with a
// block of k as deep as the law's segment (KC = SEGMENT):
//
//     5th loop      blocks of columns (NC)  }  the tasks of the threads: each owns a block of C (`gemm`)
//     3rd loop      blocks of rows (MC)     }
//     4th loop      segments of k (KC)         the block of B is packed; it stays in the second-level cache
//     1st loop      tiles of rows (MR)         the tile of A is packed; it stays in the first-level cache
//     2nd loop      panels of columns (NR)     B in panels as wide as the micro-tile, vectorised across n
//     micro-kernel  runs of k, and their terms: a micro-tile of C in registers
//
// The 1st loop stands outside the 2nd, since a tile of A is packed when it is used: that makes padding, strides and
// gathers vanish. A weight gradient reads A where the pixels lie. While a micro-kernel computes, it prefetches what the
// next ones read (`Prefetch`): in a network every layer meets operands that are far from the cache.
//
// What differs by machine stands in tuning.h.
#pragma once

#include <cstdlib>
#include <cstring>

#include "../kernels.h"
#include "../order.h"
#include "../threads.h"
#include "../tuning.h"
#include "../vec.h"

namespace lucid {
namespace LUCID_ISA {

template <class V, class T>
inline V load_as(const T* p) {
    if constexpr (sizeof(V) == sizeof(T))
        return *p;
    else
        return load(p);
}

// The parts of an epilogue for the columns from `column` on. `V` is a vector or one value.
template <class V>
struct EpilogueColumns {
    V bias{}, mean{}, scale{}, shift{};

    EpilogueColumns() = default;
    template <class T>
    EpilogueColumns(const Epilogue<T>& e, int64_t column) {
        if (e.bias) bias = load_as<V>(e.bias + column);
        if (!e.scale) return;
        mean = load_as<V>(e.mean + column);
        scale = load_as<V>(e.scale + column);
        shift = load_as<V>(e.shift + column);
    }
};

// The epilogue of a value of C at address `c`, while it is still in registers: the same roundings as those of the
// operations that follow the contraction, one by one.
template <class V, class T>
inline V apply_epilogue(const Epilogue<T>& e, const EpilogueColumns<V>& columns, V value, const T* c) {
    if (e.bias) value = value + columns.bias;
    if (e.scale) {
        if constexpr (sizeof(V) == sizeof(T))
            value = fma1(value - columns.mean, columns.scale, columns.shift);
        else
            value = fma(value - columns.mean, columns.scale, columns.shift);
    }
    if (e.residual) value = value + load_as<V>(e.residual + (c - e.output));
    if (e.relu) value = value <= V{} ? V{} : value;
    return value;
}

// One contraction.
template <class T>
struct Problem {
    int64_t m, n, k;
    const T* b;      // B[k, n] at b[k * ldb + n]; with ldb == PACKED, the panels of pack_panels
    int64_t ldb;
    int64_t period;  // no tile of rows crosses a multiple of it; m where that does not matter
    Epilogue<T> epilogue;
};

constexpr int64_t PACKED = -1;

// NR of BLIS: the columns of a panel of B and of a micro-tile.
template <class T>
constexpr int PANEL = Tuning::NV * LANES<T>;

// The part of a panel of B that one micro-kernel reads: `ld` values from row to row.
template <class T>
struct PanelB {
    const T* values;
    int64_t ld;
};

// One tile of A in one segment.
struct RowTile {
    int64_t m0;
    int rows;
    int64_t k0;
    int length;
};

// -- prefetching ------------------------------------------------------------------------------------------------------

// Where element `i` would lie, also if it is outside the array: for prefetches alone, where any address is harmless.
template <class T>
inline const void* address(const T* p, int64_t i) {
    return reinterpret_cast<const void*>(reinterpret_cast<uintptr_t>(p) + uintptr_t(i) * sizeof(T));
}

// What a micro-kernel prefetches in each of its runs: RUN / 2 lines of each of two rows of the next tile of A (or lines
// of pixels, see PixelTile), and RUN lines of the next segment of B.
struct Prefetch {
    struct Run {
        const char *a[2], *b;
    } run[SEGMENT / RUN];

    void clear() {
        for (auto& r : run) r = {{unused(), unused()}, unused()};
    }
    void clear_rows() {
        for (auto& r : run) r.a[0] = r.a[1] = unused();
    }
    // Row i of the next tile of A starts at `p`.
    void set_row(int64_t i, const void* p) { run[i / 2].a[i % 2] = static_cast<const char*>(p); }

    // The panel of the next segment of B, of which one of `parts` micro-kernels prefetches its part.
    void set_panel(const void* p, int64_t part, int64_t parts) {
        constexpr int64_t bytes = RUN * CACHE_LINE, chunks = SEGMENT * int64_t(Tuning::NV * VECTOR_BYTES) / bytes;
        const int64_t from = chunks * part / parts, until = chunks * (part + 1) / parts;
        for (int64_t i = 0; i < SEGMENT / RUN; ++i)
            run[i].b = from + i < until ? static_cast<const char*>(p) + (from + i) * bytes : unused();
    }

    // The same of `width` columns of the next segment's rows, which are not packed yet: whole chunks of them.
    template <class T>
    void set_rows_of_b(const T* p, int64_t ldb, int64_t width, int64_t rows, int64_t part, int64_t parts) {
        constexpr int64_t chunk = RUN * CACHE_LINE / int64_t(sizeof(T));
        if (width == ldb) {  // one stream
            width *= rows;
            rows = 1;
        }
        const int64_t in_row = width / chunk, chunks = in_row * rows;
        const int64_t from = chunks * part / parts, until = chunks * (part + 1) / parts;
        int64_t row = from / larger<int64_t>(in_row, 1), at = from - row * in_row;
        for (int64_t i = 0; i < SEGMENT / RUN; ++i) {
            run[i].b = from + i < until ? reinterpret_cast<const char*>(p + row * ldb + at * chunk) : unused();
            if (++at >= in_row) {
                at = 0;
                ++row;
            }
        }
    }

  private:
    static const char* unused() {
        alignas(CACHE_LINE) static const char lines[RUN * CACHE_LINE] = {};
        return lines;
    }
};

// -- A as the micro-kernel reads it -----------------------------------------------------------------------------------
// Element (i, k) of the tile is `element(column(k), i)`. `prefetch` is called for term k, number `u` of those that are
// unrolled; `line` is how far the run's prefetches have come.

inline void prefetch_row(const Prefetch::Run& next, int64_t line, int u) {
    __builtin_prefetch(next.a[u % 2] + line + u / 2 * CACHE_LINE, 0, 2);
}

// A copy of the tile.
template <class T>
struct PackedTile {
    const T* at;
    const T* column(int k) const { return at + k; }
    T element(const T* column, int i) const { return column[i * Tuning::A_PITCH]; }
    void prefetch(const Prefetch::Run& next, int64_t line, int, int u) const { prefetch_row(next, line, u); }
};

// An image whose pixels are the contraction's index: k is a pixel, rows lie side by side in it.
template <class T>
struct PixelTile {
    const T* const* at;
    int64_t offset;
    const T* const* next;  // the pixels of the next tile, to be prefetched
    int64_t next_offset;
    const T* column(int k) const { return at[k] + offset; }
    T element(const T* column, int i) const { return column[i]; }
    void prefetch(const Prefetch::Run&, int64_t, int k, int u) const {
        if (u % 2 == 0) __builtin_prefetch(address(next[k], next_offset), 0, 2);
    }
    // The first micro-kernel of a tile prefetches the next one's even pixels, the second the odd ones.
    void advance_prefetch(bool first) {
        if (first) {
            ++next;
        } else {
            next = at;
            next_offset = offset;
        }
    }
};

// Windows of an image that overlap, `pitch` values from row to row.
template <class T>
struct WindowTile {
    const T* const* at;
    int64_t offset, pitch;
    const T* column(int k) const { return at[k] + offset; }
    T element(const T* column, int i) const { return column[i * pitch]; }
    void prefetch(const Prefetch::Run& next, int64_t line, int, int u) const { prefetch_row(next, line, u); }
};

// -- the micro-kernel -------------------------------------------------------------------------------------------------

// Runs of one tile from k on: sum[i][v] = r, or += r, for each. COUNT terms a run where that is known beforehand, else
// one run of `count`. (A function of its own, so that the compiler has the whole register file for the sums.)
template <class T, int MR, int NV, int COUNT, class A>
[[gnu::noinline]] static void run_kernel(const A a, const T* b, int64_t ldb, int k, int count,
                                         const Prefetch::Run* next, bool first, Vec<T> (&sum)[MR][NV]) {
    constexpr int UNROLL = COUNT ? Tuning::UNROLL : 1;
    do {
        const int steps = COUNT ? COUNT : count;
        Vec<T> acc[MR][NV];
#pragma GCC unroll 16
        for (int i = 0; i < MR; ++i)
#pragma GCC unroll 4
            for (int v = 0; v < NV; ++v) acc[i][v] = Vec<T>{};
        int64_t line = 0;
#pragma GCC unroll 1
        for (int j = 0; j < steps; j += UNROLL) {
#pragma GCC unroll 4
            for (int u = 0; u < UNROLL; ++u) {
                Vec<T> bv[NV];
#pragma GCC unroll 4
                for (int v = 0; v < NV; ++v) bv[v] = load(b + v * LANES<T>);
                const T* const column = a.column(k + j + u);
                if (COUNT) {
                    a.prefetch(*next, line, k + j + u, u);
                    __builtin_prefetch(next->b + 2 * line + u * CACHE_LINE, 0, 2);
                }
#pragma GCC unroll 16
                for (int i = 0; i < MR; ++i) {
                    const Vec<T> av = splat(a.element(column, i));
#pragma GCC unroll 4
                    for (int v = 0; v < NV; ++v) acc[i][v] = fma(av, bv[v], acc[i][v]);
                }
                b += ldb;
            }
            line += UNROLL / 2 * CACHE_LINE;
        }
        if (first) {
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
        first = false;
        k += steps;
        ++next;
    } while (COUNT && (count -= COUNT) > 0);
}

// Where a micro-tile goes: rows[i][column ..] = s, or += s, and then the epilogue if there is one.
template <class T>
struct TileC {
    T* const* rows;
    int64_t column;
    int columns;
    bool accumulate;
    const Epilogue<T>* epilogue;

    // What `store` will read. (Inlined always: a function that only prefetches does nothing that the compiler sees, and
    // it leaves out a call of it.)
    [[gnu::always_inline]] inline void prefetch(int count, int vectors) const {
        if (!accumulate && !epilogue) return;
        for (int i = 0; i < count; ++i) {
            const T* c = rows[i] + column;
            for (int v = 0; v < vectors * VECTOR_BYTES; v += CACHE_LINE) {
                __builtin_prefetch(reinterpret_cast<const char*>(c) + v, 1, 3);
                if (epilogue && epilogue->residual) {
                    const T* residual = epilogue->residual + (c - epilogue->output);
                    __builtin_prefetch(reinterpret_cast<const char*>(residual) + v, 0, 3);
                }
            }
        }
    }
};

// Whole vectors, and an epilogue.
template <class T, int NV>
[[gnu::noinline]] static void store_with_epilogue(const Vec<T> (*sum)[NV], int count, const TileC<T>& tile) {
    const Epilogue<T> e = *tile.epilogue;  // of our own: no store can change it, so that it stays in registers
    const auto [rows, column, count_columns, accumulate, epilogue] = tile;
    EpilogueColumns<Vec<T>> columns[NV];
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) columns[v] = {e, column + v * LANES<T>};
    for (int i = 0; i < count; ++i)
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) {
            T* const c = rows[i] + column + v * LANES<T>;
            store(c, apply_epilogue(e, columns[v], accumulate ? load(c) + sum[i][v] : sum[i][v], c));
        }
}

// Fewer columns than the vectors have. (Inlined: `count` is then a constant.)
template <class T, int NV>
static inline void store_partial(const Vec<T> (*sum)[NV], int count, const TileC<T>& tile) {
    const auto [rows, column, columns, accumulate, epilogue] = tile;
    for (int i = 0; i < count; ++i) {
        T row[NV * LANES<T>];
        for (int v = 0; v < NV; ++v) store(row + v * LANES<T>, sum[i][v]);
        T* c = rows[i] + column;
        for (int n = 0; n < columns; ++n) {
            T value = row[n];
            if (accumulate) value = c[n] + value;
            if (epilogue) value = apply_epilogue(*epilogue, EpilogueColumns<T>(*epilogue, column + n), value, c + n);
            c[n] = value;
        }
    }
}

// One segment of one micro-tile.
template <class T, int MR, int NV, class A>
static void micro_kernel(A a, PanelB<T> b, int length, const TileC<T>& tile, const Prefetch& next) {
    tile.prefetch(MR, NV);
    Vec<T> sum[MR][NV];
    const int whole = length / RUN * RUN;
    if (whole > 0) run_kernel<T, MR, NV, RUN>(a, b.values, b.ld, 0, whole, next.run, true, sum);
    if (whole < length)
        run_kernel<T, MR, NV, 0>(a, b.values + whole * b.ld, b.ld, whole, length - whole, next.run, whole == 0, sum);

    if (tile.columns != NV * LANES<T>) return store_partial<T, NV>(sum, MR, tile);
    if (tile.epilogue) return store_with_epilogue<T, NV>(sum, MR, tile);
    T* const* const rows = tile.rows;
    const int64_t column = tile.column;
    const bool accumulate = tile.accumulate;
#pragma GCC unroll 16
    for (int i = 0; i < MR; ++i)
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) {
            T* c = rows[i] + column + v * LANES<T>;
            store(c, accumulate ? load(c) + sum[i][v] : sum[i][v]);
        }
}

template <class T, class A>
using MicroKernel = void (*)(A, PanelB<T>, int, const TileC<T>&, const Prefetch&);

template <class T, int NV, class A, int MR = Tuning::MR>
static MicroKernel<T, A> pick_kernel(int rows) {
    if constexpr (MR == 0)
        return nullptr;
    else if (rows != MR)
        return pick_kernel<T, NV, A, MR - 1>(rows);
    else
        return &micro_kernel<T, MR, NV, A>;
}

// -- blocks -----------------------------------------------------------------------------------------------------------

// Rows are dealt to tiles as evenly as can be: 49 rows are 13 + 12 + 12 + 12, not 14 + 14 + 14 + 7.
struct RowTiles {
    int64_t period, in_period, count;

    RowTiles(int64_t m, int64_t period_)
        : period(period_), in_period((period_ + Tuning::MR - 1) / Tuning::MR), count(m / period_ * in_period) {}

    int64_t start(int64_t tile) const {
        return tile / in_period * period + share(period, tile % in_period, in_period);
    }

    // a * b / c for b < c; the product may have more than 64 bits.
    static constexpr int64_t share(int64_t a, int64_t b, int64_t c) {
        constexpr int64_t SHORT = INT64_C(1) << 31;
        return a <= SHORT && b <= SHORT ? a * b / c : int64_t(__extension__(__int128)(a) * b / c);
    }
};

static_assert(RowTiles::share(49, 3, 4) == 36);
static_assert(RowTiles::share(INT64_C(1) << 40, (INT64_C(1) << 36) - 1, INT64_C(1) << 36) == (INT64_C(1) << 40) - 16);

// How many tasks a contraction is cut into, by rows and by columns.
struct Blocks {
    int64_t rows, columns;
};

inline int64_t blocks_wanted(int64_t a_thread) { return num_threads() == 1 ? 1 : a_thread * num_threads(); }

// Many rows: a block of B, and what is summed of C, stay in the second-level cache while the rows of a block pass by.
// Among the cuts that fit there and keep all threads busy, the one whose longest thread is done first.
template <class T>
static Blocks blocks_of_cache_size(int64_t tiles, int64_t panels) {
    const auto count = [](int64_t n, int64_t size) { return (n + size - 1) / size; };
    const int64_t threads = num_threads(), wanted = blocks_wanted(Tuning::BLOCKS_A_THREAD);
    const int64_t rows = count(tiles, Tuning::MC_TILES);
    const int64_t columns = count(panels, Tuning::NC_BYTES / int64_t(PANEL<T> * sizeof(T)));
    const int64_t most_rows = smaller(tiles, rows + wanted), most_columns = smaller(panels, columns + wanted);
    Blocks best{tiles, panels};
    int64_t least = INT64_MAX;
    for (int64_t r = rows; r <= most_rows; ++r)
        for (int64_t c = columns; c <= most_columns; ++c) {
            if (r * c < smaller(wanted, tiles * panels) && (r < most_rows || c < most_columns)) continue;
            const int64_t t = count(tiles, r), p = count(panels, c);
            const int64_t cycles = count(r * c, threads) * (t * p * Tuning::MICRO_KERNEL_CYCLES +
                                                            t * Tuning::PACK_A_CYCLES + p * Tuning::FETCH_B_CYCLES);
            if (cycles < least) {
                least = cycles;
                best = {r, c};
            }
        }
    return best;
}

// A long k (a weight gradient): every block of rows reads all of B and every block of columns all of A, so as few
// blocks as keep the threads busy, cut where that costs the fewest reads.
static inline Blocks blocks_of_few_reads(int64_t tiles, int64_t panels, int64_t m, int64_t n) {
    const int64_t wanted = smaller(blocks_wanted(Tuning::LONG_BLOCKS_A_THREAD), tiles * panels);
    Blocks best{tiles, panels};
    for (int64_t rows = 1; rows <= smaller(tiles, wanted); ++rows) {
        const int64_t columns = smaller(panels, (wanted + rows - 1) / rows);
        if (rows * columns >= wanted && rows * n + columns * m < best.rows * n + best.columns * m)
            best = {rows, columns};
    }
    return best;
}

// -- packing B --------------------------------------------------------------------------------------------------------

// Rows of B that are packed together: value (i, n) lies at values[i * ld + n].
template <class T>
struct RowsOfB {
    const T* values;
    int64_t ld, rows, columns;
};

// Columns column .. as a panel, row by row, filled up with zeros.
template <class T>
static void pack_panel(const RowsOfB<T>& b, int64_t column, T* panel) {
    constexpr int64_t NR = PANEL<T>;
    const int64_t columns = smaller(NR, b.columns - column), ld = b.ld, rows = b.rows;
    const T* const from = b.values + column;
    if (columns == NR) {
        for (int64_t i = 0; i < rows; ++i)
            for (int64_t j = 0; j < NR; j += LANES<T>) store(panel + i * NR + j, load(from + i * ld + j));
        return;
    }
    for (int64_t i = 0; i < rows; ++i) {
        for (int64_t j = 0; j < columns; ++j) panel[i * NR + j] = from[i * ld + j];
        for (int64_t j = columns; j < NR; ++j) panel[i * NR + j] = T(0);
    }
}

// The same of panels `first` .. `end` - 1, `pitch` values from one to the next. Some go side by side, so that more of a
// row of B is read at a time.
template <class T>
static void pack_rows(const RowsOfB<T>& b, int64_t first, int64_t end, T* panels, int64_t pitch) {
    constexpr int64_t NR = PANEL<T>, SIDE = Tuning::PACK_PANELS;
    const auto [from, ld, rows, columns] = b;
    int64_t panel = first;
    for (; panel + SIDE <= end && (panel + SIDE) * NR <= columns; panel += SIDE) {
        T* to = panels + (panel - first) * pitch;
        for (int64_t i = 0; i < rows; ++i)
            for (int64_t s = 0; s < SIDE; ++s)
                for (int64_t j = 0; j < NR; j += LANES<T>)
                    store(to + s * pitch + i * NR + j, load(from + i * ld + (panel + s) * NR + j));
    }
    for (; panel < end; ++panel) pack_panel(b, panel * NR, panels + (panel - first) * pitch);
}

// All panels of B, one after the other: a B that is read many times lies better so, since a panel is then one stream.
template <class T>
static void pack_panels(const RowsOfB<T>& b, T* panels) {
    constexpr int64_t NR = PANEL<T>, ROWS = Tuning::PACK_ROWS;
    parallel((b.rows + ROWS - 1) / ROWS, [&](int64_t i) {
        const int64_t k0 = i * ROWS;
        const RowsOfB<T> part{b.values + k0 * b.ld, b.ld, smaller(ROWS, b.rows - k0), b.columns};
        pack_rows(part, 0, (b.columns + NR - 1) / NR, panels + k0 * NR, b.rows * NR);
    });
}

template <class T>
static int64_t packed_size(int64_t k, int64_t n) {
    return (n + PANEL<T> - 1) / PANEL<T> * k * PANEL<T>;
}

// Memory of a thread for the block of B that it works on; kept from task to task.
struct BlockMemory {
    void* memory = nullptr;
    size_t size = 0;

    void* reserve(size_t bytes) {
        if (bytes > size) {
            std::free(memory);
            size = (bytes + PAGE - 1) / PAGE * PAGE;
            memory = std::aligned_alloc(PAGE, size);
        }
        return memory;
    }
    ~BlockMemory() { std::free(memory); }
};

static BlockMemory& block_memory() {
    static thread_local BlockMemory memory;
    return memory;
}

// -- the macro-kernel -------------------------------------------------------------------------------------------------

// A block of C, which one task computes: the loops from the 4th inwards.
template <class T, class Source>
class MacroKernel {
  public:
    MacroKernel(const Problem<T>& p, const Source& source, const RowTiles& tiles, const Blocks& blocks, int64_t task)
        : p_(p), source_(source), tiles_(tiles), segments_((p.k + SEGMENT - 1) / SEGMENT) {
        const int64_t panels = (p.n + NR - 1) / NR, row = task % blocks.rows, column = task / blocks.rows;
        first_tile_ = tiles.count * row / blocks.rows;
        end_tile_ = tiles.count * (row + 1) / blocks.rows;
        first_panel_ = panels * column / blocks.columns;
        end_panel_ = panels * (column + 1) / blocks.columns;
        row0_ = tiles.start(first_tile_);
        height_ = tiles.start(end_tile_) - row0_;
        column0_ = first_panel_ * NR;
        width_ = smaller(p.n, end_panel_ * NR) - column0_;
        packs_b_ = p.ldb != PACKED && end_tile_ - first_tile_ >= Tuning::TILES_WORTH_PACKING;
        // For few rows B is read where it lies, but for a last panel that is narrower than the micro-kernel and would
        // be read past its end.
        first_packed_ = packs_b_ ? first_panel_ : p.n / NR;
        if (p.ldb != PACKED && first_packed_ < end_panel_)
            block_of_b_ = static_cast<T*>(
                block_memory().reserve(size_t(end_panel_ - first_packed_) * SEGMENT * NR * sizeof(T)));
        // From the second group on, a group is summed beside C and then added to it.
        if (segments_ > GROUP) group_sum_ = static_cast<T*>(std::malloc(size_t(height_ * width_) * sizeof(T)));
    }
    MacroKernel(const MacroKernel&) = delete;
    ~MacroKernel() { std::free(group_sum_); }

    // 4th loop: segments of k. The block of B is packed; it stays in the second-level cache.
    void loop_over_segments() {
        next_tile_ = row_tile(first_tile_, row0_, 0);
        prefetch_.clear();
        for (segment_ = 0; segment_ < segments_; ++segment_) {
            k0_ = segment_ * SEGMENT;
            length_ = int(smaller<int64_t>(SEGMENT, p_.k - k0_));
            last_segment_ = segment_ == segments_ - 1;
            in_group_sum_ = segment_ >= GROUP;
            if (block_of_b_)
                pack_rows(RowsOfB<T>{p_.b + k0_ * p_.ldb, p_.ldb, length_, p_.n}, first_packed_, end_panel_,
                          block_of_b_, SEGMENT * NR);
            loop_over_row_tiles();
            prefetch_.clear();
            if (in_group_sum_ && (last_segment_ || segment_ % GROUP == GROUP - 1)) add_group();
        }
    }

  private:
    using TileA = typename Source::TileA;
    static constexpr int NR = PANEL<T>;

    // 1st loop: tiles of rows. The tile of A is packed, or its addresses computed; it stays in the first-level cache.
    void loop_over_row_tiles() {
        for (int64_t tile = first_tile_; tile < end_tile_; ++tile) {
            const RowTile current = next_tile_;
            if (tile + 1 < end_tile_)
                next_tile_ = row_tile(tile + 1, current.m0 + current.rows, segment_);
            else if (!last_segment_)
                next_tile_ = row_tile(first_tile_, row0_, segment_ + 1);
            const TileA a = source_.tile(current, next_tile_, end_panel_ - first_panel_, buffer_);
            find_rows_of_c(current);
            if (tile + 1 < end_tile_) source_.prefetch(next_tile_, prefetch_);
            loop_over_panels(tile, current.rows, a);
        }
    }

    // 2nd loop: panels of columns. Each micro-kernel prefetches its share of the next segment of B.
    void loop_over_panels(int64_t tile, int mr, TileA a) {
        const auto wide = pick_kernel<T, Tuning::NV, TileA>(mr);
        TileC<T> c{rows_, 0, 0, segment_ % GROUP != 0, nullptr};
        if (last_segment_ && !in_group_sum_ && follows(p_.epilogue)) c.epilogue = &p_.epilogue;
        for (int64_t panel = first_panel_; panel < end_panel_; ++panel) {
            c.column = panel * NR;
            c.columns = int(smaller<int64_t>(NR, p_.n - c.column));
            const PanelB<T> b = panel_of_b(panel);
            if (!last_segment_) prefetch_next_segment(b, tile, panel);
            if (Tuning::NV > 1 && c.columns <= LANES<T>)
                pick_kernel<T, 1, TileA>(mr)(a, b, length_, c, prefetch_);
            else
                wide(a, b, length_, c, prefetch_);
            if constexpr (Source::BY_PIXEL)
                a.advance_prefetch(panel == first_panel_);
            else if (panel == first_panel_)
                prefetch_.clear_rows();
        }
    }

    void find_rows_of_c(const RowTile& tile) {
        if (!in_group_sum_) return source_.rows(tile, rows_);
        for (int i = 0; i < tile.rows; ++i) rows_[i] = group_sum_ + (tile.m0 + i - row0_) * width_ - column0_;
    }

    // A tile that starts at row m0, in a segment.
    RowTile row_tile(int64_t tile, int64_t m0, int64_t segment) const {
        const int64_t k0 = segment * SEGMENT;
        return {m0, int(tiles_.start(tile + 1) - m0), k0, int(smaller<int64_t>(SEGMENT, p_.k - k0))};
    }

    // Packed by the caller, packed here, or where it lies.
    PanelB<T> panel_of_b(int64_t panel) const {
        if (p_.ldb == PACKED) return {p_.b + (panel * p_.k + k0_) * NR, NR};
        if (block_of_b_ && panel >= first_packed_) return {block_of_b_ + (panel - first_packed_) * SEGMENT * NR, NR};
        return {p_.b + k0_ * p_.ldb + panel * NR, p_.ldb};
    }

    void prefetch_next_segment(PanelB<T> b, int64_t tile, int64_t panel) {
        const int64_t part = tile - first_tile_, tiles = end_tile_ - first_tile_, panels = end_panel_ - first_panel_;
        if (p_.ldb == PACKED)  // the panel goes on behind this segment
            prefetch_.set_panel(b.values + SEGMENT * NR, part, tiles);
        else if (Source::BY_PIXEL && packs_b_)
            prefetch_.set_rows_of_b(p_.b + (k0_ + SEGMENT) * p_.ldb + column0_, p_.ldb, width_,
                                    smaller<int64_t>(SEGMENT, p_.k - k0_ - SEGMENT),
                                    part * panels + panel - first_panel_, tiles * panels);
    }

    // C += the group's sum; at the end the epilogue.
    void add_group() const {
        for (int64_t m = 0; m < height_; ++m) {
            T* c;
            source_.rows({row0_ + m, 1, 0, 0}, &c);
            c += column0_;
            const T* sum = group_sum_ + m * width_;
            for (int64_t n = 0; n < width_; ++n) {
                T value = c[n] + sum[n];
                if (last_segment_)
                    value = apply_epilogue(p_.epilogue, EpilogueColumns<T>(p_.epilogue, column0_ + n), value, c + n);
                c[n] = value;
            }
        }
    }

    const Problem<T>& p_;
    const Source& source_;
    const RowTiles& tiles_;
    const int64_t segments_;
    int64_t first_tile_, end_tile_, first_panel_, end_panel_;
    int64_t row0_, height_, column0_, width_;
    bool packs_b_;
    int64_t first_packed_;     // the first panel that is packed here
    T* block_of_b_ = nullptr;  // the panels that are
    T* group_sum_ = nullptr;
    // The segment and the tile that are computed.
    int64_t segment_, k0_;
    int length_;
    bool last_segment_, in_group_sum_;
    RowTile next_tile_;
    T* rows_[Tuning::MR];
    typename Source::Buffer buffer_;
    Prefetch prefetch_;
};

// C = A B and its epilogue. `Source` says where A comes from and C goes:
//     BY_PIXEL                                          whether A is read where its pixels lie, and k is long
//     TileA                                             PackedTile, PixelTile or WindowTile
//     Buffer                                            what a task keeps for it
//     TileA tile(RowTile, next, uses, Buffer&) const    A of one tile in one segment, which `uses` micro-kernels read
//     void prefetch(RowTile, Prefetch&) const           what such a tile will read, where that can be told
//     void rows(RowTile, T**) const                     the addresses of its rows of C
template <class T, class Source>
static void gemm(const Problem<T>& p, const Source& source) {
    if (p.m <= 0 || p.n <= 0) return;
    if (p.k <= 0) {
        for (int64_t m = 0; m < p.m; ++m) {
            T* row;
            source.rows({m, 1, 0, 0}, &row);
            for (int64_t n = 0; n < p.n; ++n)
                row[n] = apply_epilogue(p.epilogue, EpilogueColumns<T>(p.epilogue, n), T(0), row + n);
        }
        return;
    }
    const int64_t panels = (p.n + PANEL<T> - 1) / PANEL<T>;
    const RowTiles tiles(p.m, p.period);
    const Blocks blocks = Source::BY_PIXEL ? blocks_of_few_reads(tiles.count, panels, p.m, p.n)
                                           : blocks_of_cache_size<T>(tiles.count, panels);
    // 5th and 3rd loop
    parallel(blocks.rows * blocks.columns,
             [&](int64_t task) { MacroKernel<T, Source>(p, source, tiles, blocks, task).loop_over_segments(); });
}

}  // namespace LUCID_ISA
}  // namespace lucid
