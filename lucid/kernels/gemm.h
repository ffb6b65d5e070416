// Contractions (ARITHMETIC.md, sections 2 and 3): one driver for the convolution, its two gradients and the matrix product.
//
// C[m, n] is a sum over k of A[m, k] * B[k, n]. The micro-kernel holds a tile of C in registers through one segment of k,
// vectorised across n. A is copied segment by segment into a small buffer with constant strides (which also makes
// padding, strides and gathers vanish), or, for a weight gradient, read where the pixels lie. B is read in panels as wide
// as the tile. A task owns a block of C:
//
//     for each segment of k:            the block of B is packed; it stays in the second-level cache
//         for each tile of rows:        the tile of A is copied; it stays in the first-level cache
//             for each panel of columns: micro-kernel
//
// While a micro-kernel computes, it asks for what the next ones will read (`Ahead`): in a network every layer meets
// operands that are far from the cache.
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
constexpr int64_t BLOCK_ROW_TILES = 32;

constexpr int ROW_PITCH = SEGMENT + 16;  // of a copied tile of A; not a power of two: rows fall into different cache sets

template <class V, class T>
inline V load_as(const T* p) {
    if constexpr (sizeof(V) == sizeof(T))
        return *p;
    else
        return load(p);
}

// What an epilogue has for the columns from `column` on. `V` is a vector or one value.
template <class V>
struct OfColumns {
    V bias{}, mean{}, scale{}, shift{};

    OfColumns() = default;
    template <class T>
    OfColumns(const Epilogue<T>& e, int64_t column) {
        if (e.bias) bias = load_as<V>(e.bias + column);
        if (!e.scale) return;
        mean = load_as<V>(e.mean + column);
        scale = load_as<V>(e.scale + column);
        shift = load_as<V>(e.shift + column);
    }
};

// The epilogue of what lies at address `c`: the same roundings that the operations behind the contraction would apply
// one by one, while the value is still in registers.
template <class V, class T>
inline V finish(const Epilogue<T>& e, const OfColumns<V>& of, V value, const T* c) {
    if (e.bias) value = value + of.bias;
    if (e.scale) {
        if constexpr (sizeof(V) == sizeof(T))
            value = fma1(value - of.mean, of.scale, of.shift);
        else
            value = fma(value - of.mean, of.scale, of.shift);
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

// What will be read next, brought near while the micro-kernel computes: in each run of k, RUN / 2 lines of each of two rows
// of A (or lines of pixels, see Pixels) and RUN lines of B. An address that is nobody's is harmless in a prefetch.
constexpr int LINE = 64;

// Where element `i` would lie, also if it is outside the array: for prefetches alone.
template <class T>
inline const void* address(const T* p, int64_t i) {
    return reinterpret_cast<const void*>(reinterpret_cast<uintptr_t>(p) + uintptr_t(i) * sizeof(T));
}

struct Ahead {
    struct Near {
        const char *a[2], *b;
    } run[SEGMENT / RUN];

    void nothing() {
        for (auto& r : run) r = {{nobody(), nobody()}, nobody()};
    }
    // Where row i of the next tile of A starts.
    void row(int64_t i, const void* p) { run[i / 2].a[i % 2] = static_cast<const char*>(p); }
    void no_rows() {
        for (auto& r : run) r.a[0] = r.a[1] = nobody();
    }
    // The panel of the next segment of B, of which one of `parts` micro-kernels brings its part.
    void panel(const void* p, int64_t part, int64_t parts) {
        constexpr int64_t bytes = RUN * LINE, chunks = SEGMENT * int64_t(Tile::NV * VECTOR_BYTES) / bytes;
        const int64_t from = chunks * part / parts, until = chunks * (part + 1) / parts;
        for (int64_t i = 0; i < SEGMENT / RUN; ++i)
            run[i].b = from + i < until ? static_cast<const char*>(p) + (from + i) * bytes : nobody();
    }

    // The same of `width` columns of the next segment's rows, which are not packed yet: whole chunks of them.
    template <class T>
    void rows_of_b(const T* p, int64_t ldb, int64_t width, int64_t rows, int64_t part, int64_t parts) {
        constexpr int64_t chunk = RUN * LINE / int64_t(sizeof(T));
        if (width == ldb) {  // one stream
            width *= rows;
            rows = 1;
        }
        const int64_t in_row = width / chunk, chunks = in_row * rows;
        const int64_t from = chunks * part / parts, until = chunks * (part + 1) / parts;
        int64_t row = from / larger<int64_t>(in_row, 1), at = from - row * in_row;
        for (int64_t i = 0; i < SEGMENT / RUN; ++i) {
            run[i].b = from + i < until ? reinterpret_cast<const char*>(p + row * ldb + at * chunk) : nobody();
            if (++at >= in_row) {
                at = 0;
                ++row;
            }
        }
    }

  private:
    static const char* nobody() {
        alignas(LINE) static const char lines[RUN * LINE] = {};
        return lines;
    }
};

// Where the micro-kernel finds A. Element (i, k) of the tile is `element(column(k), i)`: in a copy of the tile; or, where A is
// an image whose pixels are the contraction's index, in the pixel k; or, where rows are windows that overlap, `pitch` apart.
inline void next_row(const Ahead::Near& next, int64_t line, int u) {
    __builtin_prefetch(next.a[u % 2] + line + u / 2 * LINE, 0, 2);
}

template <class T>
struct Rows {
    const T* at;
    const T* column(int k) const { return at + k; }
    T element(const T* column, int i) const { return column[i * ROW_PITCH]; }
    void near(const Ahead::Near& next, int64_t line, int, int u) const { next_row(next, line, u); }
};
template <class T>
struct Pixels {
    const T* const* at;
    int64_t offset;
    const T* const* next;  // and where the next tile will find it
    int64_t next_offset;
    const T* column(int k) const { return at[k] + offset; }
    T element(const T* column, int i) const { return column[i]; }
    void near(const Ahead::Near&, int64_t, int k, int u) const {
        if (u % 2 == 0) __builtin_prefetch(address(next[k], next_offset), 0, 2);
    }
    // The first micro-kernel of a tile asks for the next one's even pixels, the second for the odd ones.
    void asked(bool first) {
        if (first) {
            ++next;
        } else {
            next = at;
            next_offset = offset;
        }
    }
};
template <class T>
struct Windows {
    const T* const* at;
    int64_t offset, pitch;
    const T* column(int k) const { return at[k] + offset; }
    T element(const T* column, int i) const { return column[i * pitch]; }
    void near(const Ahead::Near& next, int64_t line, int, int u) const { next_row(next, line, u); }
};

// Runs of one tile from k on: sum[i][v] = r, or += r, for each. COUNT terms a run where that is known beforehand, else one
// run of `count`. (A function of its own, so that the compiler has the whole register file for the accumulators.)
template <class T, int MR, int NV, int COUNT, class A>
[[gnu::noinline]] static void run_kernel(const A a, const T* b, int64_t ldb, int k, int count, const Ahead::Near* near,
                                         bool first, Vec<T> (&sum)[MR][NV]) {
    constexpr int UNROLL = COUNT ? 4 : 1;
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
                    a.near(*near, line, k + j + u, u);
                    __builtin_prefetch(near->b + 2 * line + u * LINE, 0, 2);
                }
#pragma GCC unroll 16
                for (int i = 0; i < MR; ++i) {
                    const Vec<T> av = splat(a.element(column, i));
#pragma GCC unroll 4
                    for (int v = 0; v < NV; ++v) acc[i][v] = fma(av, bv[v], acc[i][v]);
                }
                b += ldb;
            }
            line += UNROLL / 2 * LINE;
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
        ++near;
    } while (COUNT && (count -= COUNT) > 0);
}

// rows[i][column ..] = s[i], or += s[i], and then the epilogue.
template <class T, int NV>
[[gnu::noinline]] static void finish_rows(const Vec<T> (*sum)[NV], int count, T* const* rows, int64_t column, bool add,
                                          const Epilogue<T>& epilogue) {
    const Epilogue<T> e = epilogue;  // of our own: no store can change it, so that it stays in registers
    OfColumns<Vec<T>> of[NV];
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) of[v] = {e, column + v * LANES<T>};
    for (int i = 0; i < count; ++i)
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) {
            T* const c = rows[i] + column + v * LANES<T>;
            store(c, finish(e, of[v], add ? load(c) + sum[i][v] : sum[i][v], c));
        }
}

// One segment of one tile: rows[i][column ..] = s, or += s, and then the epilogue if there is one.
template <class T, int MR, int NV, class A>
static void micro_kernel(A a, const T* b, int64_t ldb, int length, T* const* rows, int64_t column, int columns, bool add,
                         const Epilogue<T>* epilogue, const Ahead& ahead) {
    if (add || epilogue)
        for (int i = 0; i < MR; ++i) {
            const T* c = rows[i] + column;
            for (int v = 0; v < NV * VECTOR_BYTES; v += LINE) {
                __builtin_prefetch(reinterpret_cast<const char*>(c) + v, 1, 3);
                if (epilogue && epilogue->residual)
                    __builtin_prefetch(reinterpret_cast<const char*>(epilogue->residual + (c - epilogue->output)) + v, 0, 3);
            }
        }
    Vec<T> sum[MR][NV];
    const int whole = length / RUN * RUN;
    if (whole > 0) run_kernel<T, MR, NV, RUN>(a, b, ldb, 0, whole, ahead.run, true, sum);
    if (whole < length)
        run_kernel<T, MR, NV, 0>(a, b + whole * ldb, ldb, whole, length - whole, ahead.run, whole == 0, sum);

    if (columns == NV * LANES<T>) {
        if (epilogue) return finish_rows<T, NV>(sum, MR, rows, column, add, *epilogue);
#pragma GCC unroll 16
        for (int i = 0; i < MR; ++i)
#pragma GCC unroll 4
            for (int v = 0; v < NV; ++v) {
                T* c = rows[i] + column + v * LANES<T>;
                store(c, add ? load(c) + sum[i][v] : sum[i][v]);
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
            if (epilogue) value = finish(*epilogue, OfColumns<T>(*epilogue, column + n), value, c + n);
            c[n] = value;
        }
    }
}

template <class T, class A>
using MicroKernel = void (*)(A, const T*, int64_t, int, T* const*, int64_t, int, bool, const Epilogue<T>*, const Ahead&);

template <class T, int NV, class A, int MR = Tile::MR>
static MicroKernel<T, A> pick_kernel(int rows) {
    if constexpr (MR == 0)
        return nullptr;
    else if (rows != MR)
        return pick_kernel<T, NV, A, MR - 1>(rows);
    else
        return &micro_kernel<T, MR, NV, A>;
}

// Rows are dealt to tiles as evenly as can be: 49 rows are 13 + 12 + 12 + 12, not 14 + 14 + 14 + 7.
struct RowTiles {
    int64_t period, in_period, count;

    RowTiles(int64_t m, int64_t period_)
        : period(period_), in_period((period_ + Tile::MR - 1) / Tile::MR), count(m / period_ * in_period) {}

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

// Many rows: a block of B, and what is summed of C, stay in the second-level cache while the rows of a block pass by. Among
// the cuts that fit there and keep all threads busy, the one whose longest thread is done first, by the cycles of one
// micro-kernel, of copying a tile of A and of fetching a panel of B (measured roughly, with vectors of 64 bytes).
template <class T>
static Blocks blocks_of_cache_size(int64_t tiles, int64_t panels) {
    constexpr int64_t COMPUTE = 3600, COPY = 900, FETCH = 1000;
    const auto count = [](int64_t n, int64_t size) { return (n + size - 1) / size; };
    const int64_t threads = num_threads(), wanted = threads == 1 ? 1 : 4 * threads;
    const int64_t rows = count(tiles, BLOCK_ROW_TILES);
    const int64_t columns = count(panels, BLOCK_COLUMNS_BYTES / int64_t(PANEL<T> * sizeof(T)));
    Blocks best{tiles, panels};
    int64_t least = INT64_MAX;
    for (int64_t r = rows; r <= smaller(tiles, rows + wanted); ++r)
        for (int64_t c = columns; c <= smaller(panels, columns + wanted); ++c) {
            if (r * c < smaller(wanted, tiles * panels) && (r < smaller(tiles, rows + wanted) || c < smaller(panels, columns + wanted)))
                continue;
            const int64_t t = count(tiles, r), p = count(panels, c);
            const int64_t cycles = count(r * c, threads) * (t * p * COMPUTE + t * COPY + p * FETCH);
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

// The same of panels `first` .. `end` - 1, `pitch` values from one to the next. Some go side by side, so that more of a row
// of B is read at a time.
template <class T>
static void pack_rows(int64_t k, int64_t n, const T* b, int64_t ldb, int64_t first, int64_t end, T* panels, int64_t pitch) {
    constexpr int64_t NR = PANEL<T>, SIDE = 4;
    int64_t panel = first;
    for (; panel + SIDE <= end && (panel + SIDE) * NR <= n; panel += SIDE) {
        T* to = panels + (panel - first) * pitch;
        for (int64_t i = 0; i < k; ++i)
            for (int64_t s = 0; s < SIDE; ++s)
                for (int64_t j = 0; j < NR; j += LANES<T>)
                    store(to + s * pitch + i * NR + j, load(b + i * ldb + (panel + s) * NR + j));
    }
    for (; panel < end; ++panel) pack_panel(k, n, b, ldb, panel * NR, panels + (panel - first) * pitch);
}

// All panels of B, one after the other: a B that is read many times lies better so, since a panel is then one stream.
template <class T>
static void pack_panels(int64_t k, int64_t n, const T* b, int64_t ldb, T* panels) {
    constexpr int64_t NR = PANEL<T>, ROWS = 64;
    parallel((k + ROWS - 1) / ROWS, [&](int64_t i) {
        const int64_t k0 = i * ROWS;
        pack_rows(smaller(ROWS, k - k0), n, b + k0 * ldb, ldb, 0, (n + NR - 1) / NR, panels + k0 * NR, k * NR);
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

// One tile of A in one segment.
struct Piece {
    int64_t m0;
    int rows;
    int64_t k0;
    int length;
};

// `Source` says where A comes from and C goes:
//     Kind                                                  Rows, Pixels or Windows: how the micro-kernel finds A
//     Buffer                                                what a task keeps for it
//     Kind tile(Piece, next, uses, Buffer&) const           A of one tile in one segment, which so many micro-kernels read
//     void ahead(Piece, Ahead&) const                       the chunks that such a tile will read, where that can be told
//     void rows(Piece, T**) const                           the addresses of its rows of C
template <class T, class Source>
static void contract(const Operand<T>& p, const Source& source) {
    constexpr int NR = PANEL<T>;
    constexpr bool BY_PIXEL = Source::BY_PIXEL;
    if (p.m <= 0 || p.n <= 0) return;
    const auto row_of = [&](int64_t m) {
        T* row;
        source.rows({m, 1, 0, 0}, &row);
        return row;
    };
    if (p.k <= 0) {
        for (int64_t m = 0; m < p.m; ++m) {
            T* const row = row_of(m);
            for (int64_t n = 0; n < p.n; ++n) row[n] = finish(p.epilogue, OfColumns<T>(p.epilogue, n), T(0), row + n);
        }
        return;
    }
    const int64_t panels = (p.n + NR - 1) / NR;
    const RowTiles tiles(p.m, p.period);
    const Blocks blocks =
        BY_PIXEL ? blocks_of_few_reads(tiles.count, panels, p.m, p.n) : blocks_of_cache_size<T>(tiles.count, panels);
    const int64_t segments = (p.k + SEGMENT - 1) / SEGMENT;

    parallel(blocks.rows * blocks.columns, [&](int64_t task) {
        const int64_t r = task % blocks.rows, c = task / blocks.rows;
        const int64_t first_tile = tiles.count * r / blocks.rows, end_tile = tiles.count * (r + 1) / blocks.rows;
        const int64_t first_panel = panels * c / blocks.columns, end_panel = panels * (c + 1) / blocks.columns;
        const int64_t column0 = first_panel * NR, width = smaller(p.n, end_panel * NR) - column0;
        const int64_t row0 = tiles.start(first_tile), height = tiles.start(end_tile) - row0;

        typename Source::Buffer buffer;
        T* rows[Tile::MR];
        // B of this task: packed by the caller, packed here, or, for few rows, read where it lies but for a last panel that
        // is narrower than the micro-kernel and would be read past its end.
        static thread_local Scratch scratch;
        const bool by_caller = p.ldb == PACKED;
        const bool here = !by_caller && end_tile - first_tile >= TILES_WORTH_PACKING;
        const int64_t packed_from = here ? first_panel : p.n / NR;  // the first panel that is packed here
        T* block = nullptr;
        if (!by_caller && packed_from < end_panel)
            block = static_cast<T*>(scratch.of(size_t(end_panel - packed_from) * SEGMENT * NR * sizeof(T)));
        // From the second group on, a group is summed beside C and then added to it.
        T* group_sum = nullptr;
        if (segments > GROUP) group_sum = static_cast<T*>(std::malloc(size_t(height * width) * sizeof(T)));

        // A tile that starts at row m0, in a segment.
        const auto piece_of = [&](int64_t tile, int64_t m0, int64_t segment) -> Piece {
            const int64_t k0 = segment * SEGMENT;
            return {m0, int(tiles.start(tile + 1) - m0), k0, int(smaller<int64_t>(SEGMENT, p.k - k0))};
        };
        Piece next = piece_of(first_tile, row0, 0);
        Ahead ahead;
        ahead.nothing();
        for (int64_t segment = 0; segment < segments; ++segment) {
            const int64_t k0 = segment * SEGMENT;
            const int length = int(smaller<int64_t>(SEGMENT, p.k - k0));
            const bool add = segment % GROUP != 0, beside = segment >= GROUP;
            const bool end_of_sum = segment == segments - 1;
            if (block)
                pack_rows(length, p.n, p.b + k0 * p.ldb, p.ldb, packed_from, end_panel, block, SEGMENT * NR);
            const Epilogue<T>* epilogue = end_of_sum && !beside && follows(p.epilogue) ? &p.epilogue : nullptr;
            for (int64_t tile = first_tile; tile < end_tile; ++tile) {
                const Piece piece = next;
                if (tile + 1 < end_tile)
                    next = piece_of(tile + 1, piece.m0 + piece.rows, segment);
                else if (!end_of_sum)
                    next = piece_of(first_tile, row0, segment + 1);
                const int64_t m0 = piece.m0;
                const int mr = piece.rows;
                typename Source::Kind a = source.tile(piece, next, end_panel - first_panel, buffer);
                if (beside)
                    for (int i = 0; i < mr; ++i) rows[i] = group_sum + (m0 + i - row0) * width - column0;
                else
                    source.rows(piece, rows);
                const auto wide = pick_kernel<T, Tile::NV, typename Source::Kind>(mr);
                if (tile + 1 < end_tile) source.ahead(next, ahead);
                for (int64_t panel = first_panel; panel < end_panel; ++panel) {
                    const int64_t n0 = panel * NR;
                    const int columns = int(smaller<int64_t>(NR, p.n - n0));
                    const bool in_block = block && panel >= packed_from;
                    const T* b = by_caller  ? p.b + (panel * p.k + k0) * NR
                                 : in_block ? block + (panel - packed_from) * SEGMENT * NR
                                            : p.b + k0 * p.ldb + n0;
                    const int64_t ldb = by_caller || in_block ? NR : p.ldb;
                    // Each micro-kernel brings its share of the next segment of B near: a caller's panel goes on behind this one.
                    if (by_caller && !end_of_sum)
                        ahead.panel(b + SEGMENT * NR, tile - first_tile, end_tile - first_tile);
                    else if (BY_PIXEL && here && !end_of_sum)
                        ahead.rows_of_b(p.b + (k0 + SEGMENT) * p.ldb + column0, p.ldb, width,
                                        smaller<int64_t>(SEGMENT, p.k - k0 - SEGMENT),
                                        (tile - first_tile) * (end_panel - first_panel) + panel - first_panel,
                                        (end_tile - first_tile) * (end_panel - first_panel));
                    if (Tile::NV > 1 && columns <= LANES<T>)
                        pick_kernel<T, 1, typename Source::Kind>(mr)(a, b, ldb, length, rows, n0, columns, add, epilogue, ahead);
                    else
                        wide(a, b, ldb, length, rows, n0, columns, add, epilogue, ahead);
                    if constexpr (BY_PIXEL)
                        a.asked(panel == first_panel);
                    else if (panel == first_panel)
                        ahead.no_rows();
                }
            }
            ahead.nothing();
            if (beside && (end_of_sum || segment % GROUP == GROUP - 1)) {
                for (int64_t m = 0; m < height; ++m) {
                    T* c = row_of(row0 + m) + column0;
                    const T* g = group_sum + m * width;
                    for (int64_t n = 0; n < width; ++n) {
                        const T value = c[n] + g[n];
                        c[n] = end_of_sum ? finish(p.epilogue, OfColumns<T>(p.epilogue, column0 + n), value, c + n) : value;
                    }
                }
            }
        }
        std::free(group_sum);
    });
}

}  // namespace LUCID_ISA
}  // namespace lucid
