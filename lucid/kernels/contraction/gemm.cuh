// Contractions (ARITHMETIC.md, sections 2 and 3) on a GPU: one kernel for the convolution, its two gradients and the
// matrix product.
//
// C[m, n] is a sum over k of A[m, k] * B[k, n]. A block owns a tile of C and a chunk of k, which is a number of
// segments; a thread owns TM by TN elements of the tile, and holds two sums of each in registers: the run's and the
// segment's.
//
//     for each BK of k:               the next BK are loaded from device memory to registers meanwhile
//         for each k of them:         fma into the run's sums, while the next k's factors come from shared memory;
//                                     before the last, the next BK are stored to its other half, and a barrier
//         at the end of a run:        segment += run
//         at the end of a segment:    group += segment, in device memory (it stays in the cache)
//
// Where all of k is one chunk, the group's sum is the result, and the last segment's end applies the epilogue. Else
// each group of segments has its slots: one for its first chunk, which adds up as above, and one for each segment of
// its other chunks; `combine_chunks` adds the slots in the law's order. So a long contraction gets as many blocks as
// the GPU has room for, and no sum depends on how many that are.
#pragma once

#include "../cuda/device.cuh"
#include "tuning.cuh"

namespace lucid {
namespace {

// What is contracted. lucid/backends/_cuda_contraction.py fills it in, field by field. Images have three sides; what
// ends in _d is read by kernels of three-sided windows alone (DEEP), so that two sides cost nothing for it.
struct Contraction {
    int64_t m, n, k, batch;
    int64_t chunk, chunks, slots;            // segments in a chunk, chunks, slots a batch
    int64_t a_step, b_step, y_step;          // from one batch (or group of channels) to the next
    // Rows of A are places (row_d, row_h, row_w) of an image, k is (tap_d, tap_h, tap_w, channel); or, where k is the
    // place, columns are taps.
    int64_t rows_d, rows_h, rows_w;
    int64_t stride_d, stride_h, stride_w;             // a place meets the image at place * stride + start ..
    int64_t start_d, start_h, start_w;
    int64_t step_d, step_h, step_w;                   // .. + tap * step
    int64_t image_d, image_h, image_w, image_pitch;   // of the image: its sides, values from pixel to pixel
    int64_t taps_d, taps_h, taps_w, channels;         // channels: in k
    int64_t a_pitch, a_tap_d;                         // of a matrix A: from row to row; of images: from tap_d to tap_d
    int64_t b_pitch, b_start;                         // of B: from row to row; where it starts,
    int64_t b_tap_d, b_tap_h, b_tap_w;                // and what a tap adds
    // Row m of C lies at m * y_pitch, or, `scattered`, at pixel (first_d + row_d * skip_d, ..).
    int64_t y_pitch, scattered, out_d, out_h, out_w, first_d, first_h, first_w, skip_d, skip_h, skip_w;
};

// What follows the sum, element by element; what is null is left out. `n` indexes all but the residual.
struct Epilogue {
    const T *bias, *mean, *scale, *shift, *residual;
    bool relu;

    // `count` values from n on, which lie at `at`; all L of them, and in whole packs, where PACKS.
    template <int L, bool PACKS>
    DEVICE void apply(T* value, int count, int64_t n, int64_t at) const {
        Values<L, PACKS> x, y, z;
        if (bias) {
            x.read(bias + n, count);
#pragma unroll
            for (int l = 0; l < L; ++l) value[l] = value[l] + x.v[l];
        }
        if (scale) {
            x.read(mean + n, count);
            y.read(scale + n, count);
            z.read(shift + n, count);
#pragma unroll
            for (int l = 0; l < L; ++l) value[l] = fma(value[l] - x.v[l], y.v[l], z.v[l]);
        }
        if (residual) {
            x.read(residual + at, count);
#pragma unroll
            for (int l = 0; l < L; ++l) value[l] = value[l] + x.v[l];
        }
        if (relu)
#pragma unroll
            for (int l = 0; l < L; ++l) value[l] = value[l] <= T(0) ? T(0) : value[l];
    }

    template <int L, bool PACKS>
    struct Values {
        alignas(16) T v[L];

        DEVICE void read(const T* from, int count) {
            if (PACKS) {
                *reinterpret_cast<Pack*>(v) = *reinterpret_cast<const Pack*>(from);
                return;
            }
#pragma unroll
            for (int l = 0; l < L; ++l) v[l] = l < count ? from[l] : T(0);
        }
    };
};

template <bool DEEP>
DEVICE int64_t row_offset(const Contraction& c, int64_t m) {
    if (!c.scattered) return m * c.y_pitch;
    const int line = int(m) / int(c.rows_w), w = int(m) % int(c.rows_w);  // m is below 2^31
    const int plane = line / int(c.rows_h), h = line % int(c.rows_h);
    int64_t image = plane;
    if (DEEP) image = plane / int(c.rows_d) * c.out_d + c.first_d + plane % int(c.rows_d) * c.skip_d;
    return ((image * c.out_h + c.first_h + h * c.skip_h) * c.out_w + c.first_w + w * c.skip_w) * c.y_pitch;
}

// -- tiles ------------------------------------------------------------------------------------------------------------

template <TileName NAME>
struct Tile : TileOf<T, NAME> {
    using Shape = TileOf<T, NAME>;
    static constexpr int ACROSS = Shape::BN / Shape::TN, THREADS = Shape::BM / Shape::TM * ACROSS;
};

// -- operands: how a thread loads its share of a tile of A or B -------------------------------------------------------
// A loader holds what does not change from tile to tile. `load` reads the next BK of k into registers, +0 for what is
// outside; `store` puts them into shared memory, k by k.

template <int BX, int THREADS, int V>
struct Share {
    static constexpr int COUNT = BX * BK / (THREADS * V), PITCH = BX + Pack::LANES;
    alignas(16) T value[COUNT][V];
};

template <int V>
DEVICE void read_values(T* to, const T* from) {
    if (V == 1)
        to[0] = from[0];
    else
        *reinterpret_cast<Pack*>(to) = *reinterpret_cast<const Pack*>(from);
}

template <int V>
DEVICE void no_values(T* to) {
#pragma unroll
    for (int j = 0; j < V; ++j) to[j] = T(0);
}

// An operand in which neighbours in k are neighbours in memory: rows of an image (IMAGE) or of a matrix.
template <bool IMAGE, bool DEEP, int BX, int THREADS, int V>
struct AlongK {
    using Values = Share<BX, THREADS, V>;
    static constexpr int ROW_THREADS = BK / V, ROW_STEP = THREADS / ROW_THREADS;
    static_assert(THREADS % ROW_THREADS == 0 && Values::COUNT * ROW_STEP == BX, "every thread has as many");

    const T* next[Values::COUNT];              // what the next load reads of each row
    int h0[Values::COUNT], w0[Values::COUNT];  // where the row lies in the image; far outside if there is no such row
    int d0[DEEP ? Values::COUNT : 1];
    unsigned inside;                           // a bit for each row that this tap meets
    int channel, tap_d, tap_h, tap_w;
    int taps_d, taps_h, taps_w, channels, step_d, step_h, step_w, depth, height, width;
    int64_t tap_pitch_d, tap_pitch_h, tap_pitch_w;
    int k_lane, x_lane, place;  // the last: in the tile in shared memory

    DEVICE void start(int k0) {
        k_lane = int(threadIdx.x) % ROW_THREADS;
        x_lane = int(threadIdx.x) / ROW_THREADS;
        place = k_lane * V * Values::PITCH + x_lane;
        const int k = k0 + k_lane * V;
        channel = k % larger(channels, 1);
        const int tap = k / larger(channels, 1);
        tap_w = tap % larger(taps_w, 1);
        tap_h = tap / larger(taps_w, 1);
        if (DEEP) {
            tap_d = tap_h / larger(taps_h, 1);
            tap_h = tap_h % larger(taps_h, 1);
        }
    }

    // Whether there are no more taps.
    DEVICE bool ended() const { return DEEP ? tap_d >= taps_d : tap_h >= taps_h; }

    // From the start of a row to the first load.
    DEVICE int64_t start_offset() const {
        return (DEEP ? tap_d * tap_pitch_d : 0) + tap_h * tap_pitch_h + tap_w * tap_pitch_w + channel;
    }

    // What is the same for all channels of a tap.
    DEVICE void meet_tap() {
        inside = 0;
        if (ended()) return;
#pragma unroll
        for (int i = 0; i < Values::COUNT; ++i) {
            bool met = IMAGE ? unsigned(h0[i] + tap_h * step_h) < unsigned(height) &&
                                   unsigned(w0[i] + tap_w * step_w) < unsigned(width)
                             : h0[i] == 0;
            if (IMAGE && DEEP) met = met && unsigned(d0[i] + tap_d * step_d) < unsigned(depth);
            inside |= unsigned(met) << i;
        }
    }

    // A of a convolution or of its input gradient.
    DEVICE void start_image(const Contraction& c, const T* a, int64_t x0, int k0) {
        taps_h = int(c.taps_h);
        taps_w = int(c.taps_w);
        channels = int(c.channels);
        step_h = int(c.step_h);
        step_w = int(c.step_w);
        height = int(c.image_h);
        width = int(c.image_w);
        tap_pitch_h = c.step_h * c.image_w * c.image_pitch;
        tap_pitch_w = c.step_w * c.image_pitch;
        if (DEEP) {
            taps_d = int(c.taps_d);
            step_d = int(c.step_d);
            depth = int(c.image_d);
            tap_pitch_d = c.a_tap_d;
        }
        start(k0);
#pragma unroll
        for (int i = 0; i < Values::COUNT; ++i) {
            const unsigned x = unsigned(x0) + x_lane + i * ROW_STEP;  // m is below 2^31: dividing 64 bits takes long
            const unsigned line = x / unsigned(c.rows_w), plane = line / unsigned(c.rows_h);
            h0[i] = x < unsigned(c.m) ? int(line % unsigned(c.rows_h) * c.stride_h + c.start_h) : -(1 << 30);
            w0[i] = int(x % unsigned(c.rows_w) * c.stride_w + c.start_w);
            int64_t image = plane;
            if (DEEP) {
                d0[i] = int(plane % unsigned(c.rows_d) * c.stride_d + c.start_d);
                image = plane / unsigned(c.rows_d) * c.image_d + d0[i];
            }
            next[i] = a + ((image * c.image_h + h0[i]) * c.image_w + w0[i]) * c.image_pitch + start_offset();
        }
        meet_tap();
    }

    // A matrix of `rows` rows.
    DEVICE void start_matrix(const T* from, int64_t rows, int64_t pitch, int64_t x0, int k0) {
        start(k0);
#pragma unroll
        for (int i = 0; i < Values::COUNT; ++i) {
            const int64_t x = x0 + x_lane + i * ROW_STEP;
            h0[i] = x < rows ? 0 : -1;
            next[i] = from + x * pitch + start_offset();
        }
        meet_tap();
    }

    DEVICE void load(Values& values) {
#pragma unroll
        for (int i = 0; i < Values::COUNT; ++i) {
            if (inside >> i & 1)
                read_values<V>(values.value[i], next[i]);
            else
                no_values<V>(values.value[i]);
            next[i] += BK;
        }
        channel += BK;
        if (channel < channels || ended()) return;
        int64_t way = 0;  // from the end of one tap's channels to the start of the next's
        for (; channel >= channels && !ended(); channel -= channels) {
            way += tap_pitch_w - channels;
            if (++tap_w == taps_w) {
                tap_w = 0;
                ++tap_h;
                way += tap_pitch_h - taps_w * tap_pitch_w;
                if (DEEP && tap_h == taps_h) {
                    tap_h = 0;
                    ++tap_d;
                    way += tap_pitch_d - taps_h * tap_pitch_h;
                }
            }
        }
#pragma unroll
        for (int i = 0; i < Values::COUNT; ++i) next[i] += way;
        meet_tap();
    }

    DEVICE void store(const Values& values, T* shared) const {
#pragma unroll
        for (int i = 0; i < Values::COUNT; ++i)
#pragma unroll
            for (int j = 0; j < V; ++j)
                shared[place + j * Values::PITCH + i * ROW_STEP] = values.value[i][j];
    }
};

// An operand in which neighbours in m or n are neighbours in memory.
template <bool IMAGE, bool DEEP, int BX, int THREADS, int V>
struct AcrossK {
    using Values = Share<BX, THREADS, V>;
    static constexpr int ROW_THREADS = BX / V, K_STEP = THREADS / ROW_THREADS;
    static_assert(THREADS % ROW_THREADS == 0 && Values::COUNT * K_STEP == BK, "every thread has as many");

    const T* from;  // of a matrix: what the next load reads first
    int64_t pitch;
    int k, k_end;  // of the first value of the next load; where there is no column, none is before the end
    int k_lane, x_lane, place;  // the last: in the tile in shared memory
    // IMAGE: k is (image, h, w); a column lies at h * stride_h + h0, w * stride_w + w0 of it. DEEP: (image, d, h, w).
    int d0, h0, w0, stride_d, stride_h, stride_w, depth, height, width, rows_d, rows_h, rows_w;
    int64_t image_values;
    int place_d[DEEP ? Values::COUNT : 1], place_h[Values::COUNT], place_w[Values::COUNT];
    int64_t image[Values::COUNT];

    DEVICE void start(int k0, int end, int64_t x0, int64_t columns) {
        k_lane = int(threadIdx.x) / ROW_THREADS;
        x_lane = int(threadIdx.x) % ROW_THREADS * V;
        place = k_lane * Values::PITCH + x_lane;
        k = k0 + k_lane;
        k_end = x0 + x_lane < columns ? end : 0;
    }

    DEVICE void start_matrix(const T* matrix, int64_t columns, int64_t matrix_pitch, int64_t x0, int k0, int end) {
        start(k0, end, x0, columns);
        pitch = matrix_pitch;
        from = matrix + x0 + x_lane + k * pitch;
    }

    // A of a weight gradient: column m is (tap_h, tap_w, channel).
    DEVICE void start_image(const Contraction& c, const T* a, int64_t x0, int k0, int end) {
        start(k0, end, x0, c.m);
        const unsigned x = unsigned(x0) + x_lane, tap = x / unsigned(c.channels);
        unsigned line = tap / unsigned(c.taps_w);
        if (DEEP) {
            d0 = int(line / unsigned(c.taps_h) * c.step_d + c.start_d);
            line = line % unsigned(c.taps_h);
            stride_d = int(c.stride_d);
            depth = int(c.image_d);
            rows_d = int(c.rows_d);
        }
        h0 = int(line * c.step_h + c.start_h);
        w0 = int(tap % unsigned(c.taps_w) * c.step_w + c.start_w);
        stride_h = int(c.stride_h);
        stride_w = int(c.stride_w);
        height = int(c.image_h);
        width = int(c.image_w);
        rows_h = int(c.rows_h);
        rows_w = int(c.rows_w);
        pitch = c.image_pitch;
        image_values = (DEEP ? c.image_d : 1) * c.image_h * c.image_w * c.image_pitch;
        from = a + x % unsigned(c.channels);
#pragma unroll
        for (int i = 0; i < Values::COUNT; ++i) {
            const int at = k + i * K_STEP;
            place_w[i] = at % rows_w;
            place_h[i] = at / rows_w % rows_h;
            int plane = at / rows_w / rows_h;
            if (DEEP) {
                place_d[i] = plane % rows_d;
                plane = plane / rows_d;
            }
            image[i] = int64_t(plane) * image_values;
        }
    }

    DEVICE void load(Values& values) {
#pragma unroll
        for (int i = 0; i < Values::COUNT; ++i) {
            const int at = k + i * K_STEP;
            bool here = at < k_end;
            const T* source;
            if (IMAGE) {
                const int h = place_h[i] * stride_h + h0, w = place_w[i] * stride_w + w0;
                here = here && unsigned(h) < unsigned(height) && unsigned(w) < unsigned(width);
                int line = h;
                if (DEEP) {
                    const int d = place_d[i] * stride_d + d0;
                    here = here && unsigned(d) < unsigned(depth);
                    line = d * height + h;
                }
                source = from + image[i] + int64_t(line * width + w) * pitch;
                advance(i);
            } else {
                source = from + i * K_STEP * pitch;
            }
            if (here)
                read_values<V>(values.value[i], source);
            else
                no_values<V>(values.value[i]);
        }
        k += BK;
        if (!IMAGE) from += BK * pitch;
    }

    // Place i, BK places on, without a division.
    DEVICE void advance(int i) {
        place_w[i] += BK % rows_w;
        place_h[i] += BK / rows_w % rows_h;
        const int planes = BK / rows_w / rows_h;
        image[i] += int64_t(DEEP ? planes / rows_d : planes) * image_values;
        if (place_w[i] >= rows_w) {
            place_w[i] -= rows_w;
            ++place_h[i];
        }
        if (DEEP) place_d[i] += planes % rows_d;
        if (place_h[i] >= rows_h) {
            place_h[i] -= rows_h;
            if (DEEP)
                ++place_d[i];
            else
                image[i] += image_values;
        }
        if (DEEP && place_d[i] >= rows_d) {
            place_d[i] -= rows_d;
            image[i] += image_values;
        }
    }

    DEVICE void store(const Values& values, T* shared) const {
#pragma unroll
        for (int i = 0; i < Values::COUNT; ++i) {
            T* to = shared + place + i * K_STEP * Values::PITCH;
            if (V == 1)
                to[0] = values.value[i][0];
            else
                *reinterpret_cast<Pack*>(to) = *reinterpret_cast<const Pack*>(values.value[i]);
        }
    }
};

// What is contracted with what: the loaders of A and B, and how they start. DEEP: with windows of three sides.
enum SourceName {
    FORWARD,
    INPUT_GRAD,
    WEIGHT_GRAD,
    FORWARD_DEEP,
    INPUT_GRAD_DEEP,
    WEIGHT_GRAD_DEEP,
    MATMUL_NN,
    MATMUL_NT,
    MATMUL_TN,
    MATMUL_TT
};

template <SourceName SOURCE>
struct Operands {
    static constexpr bool DEEP = SOURCE == FORWARD_DEEP || SOURCE == INPUT_GRAD_DEEP || SOURCE == WEIGHT_GRAD_DEEP;
    static constexpr bool INPUT = SOURCE == INPUT_GRAD || SOURCE == INPUT_GRAD_DEEP;
    static constexpr bool WEIGHT = SOURCE == WEIGHT_GRAD || SOURCE == WEIGHT_GRAD_DEEP;
    static constexpr bool IMAGE = SOURCE == FORWARD || INPUT || WEIGHT || DEEP;
    static constexpr bool A_ALONG = (IMAGE && !WEIGHT) || SOURCE == MATMUL_NN || SOURCE == MATMUL_NT;
    static constexpr bool B_ALONG = INPUT || SOURCE == MATMUL_NT || SOURCE == MATMUL_TT;
};

template <bool ALONG, bool IMAGE, bool DEEP, int BX, int THREADS, int V>
struct Loader;

template <bool IMAGE, bool DEEP, int BX, int THREADS, int V>
struct Loader<true, IMAGE, DEEP, BX, THREADS, V> : AlongK<IMAGE, DEEP, BX, THREADS, V> {
    DEVICE void start_a(const Contraction& c, const T* a, int64_t x0, int k0, int) {
        if (IMAGE) return this->start_image(c, a, x0, k0);
        this->taps_h = this->taps_w = 1;
        this->channels = int(c.k);
        this->tap_pitch_h = this->tap_pitch_w = 0;
        this->start_matrix(a, c.m, c.a_pitch, x0, k0);
    }

    // B of an input gradient has the taps of A.
    DEVICE void start_b(const Contraction& c, const T* b, int64_t x0, int k0, int) {
        this->taps_h = int(c.taps_h);
        this->taps_w = int(c.taps_w);
        this->channels = int(c.channels);
        this->tap_pitch_h = c.b_tap_h;
        this->tap_pitch_w = c.b_tap_w;
        if (DEEP) {
            this->taps_d = int(c.taps_d);
            this->tap_pitch_d = c.b_tap_d;
        }
        this->start_matrix(b + c.b_start, c.n, c.b_pitch, x0, k0);
    }
};

template <bool IMAGE, bool DEEP, int BX, int THREADS, int V>
struct Loader<false, IMAGE, DEEP, BX, THREADS, V> : AcrossK<IMAGE, DEEP, BX, THREADS, V> {
    DEVICE void start_a(const Contraction& c, const T* a, int64_t x0, int k0, int end) {
        if (IMAGE) return this->start_image(c, a, x0, k0, end);
        this->start_matrix(a, c.m, c.a_pitch, x0, k0, end);
    }

    DEVICE void start_b(const Contraction& c, const T* b, int64_t x0, int k0, int end) {
        this->start_matrix(b, c.n, c.b_pitch, x0, k0, end);
    }
};

// -- the kernel -------------------------------------------------------------------------------------------------------

// Slots of a group that is cut in chunks of `chunk` segments: the first chunk has one, every other segment has its own.
DEVICE int64_t group_slots(int64_t chunk) { return 1 + GROUP - chunk; }

DEVICE int64_t first_slot(int64_t segment, int64_t chunk) {
    const int64_t group = segment / GROUP, inside = segment % GROUP;
    return group * group_slots(chunk) + (inside == 0 ? 0 : 1 + inside - chunk);
}

// What a block computes: a tile of C over a chunk of k. Each thread has its own copy, of which all is inlined, so that
// it stays in registers. (What is indexed in loops are variables of `compute`: the compiler would keep all members in
// memory until it has unrolled the loops.)
template <SourceName SOURCE, TileName TILE, bool PACK_A, bool PACK_BC>
struct MacroKernel {
    using Shape = Tile<TILE>;
    using Kind = Operands<SOURCE>;
    static constexpr int L = Pack::LANES, THREADS = Shape::THREADS;
    static constexpr int BM = Shape::BM, BN = Shape::BN, TM = Shape::TM, TN = Shape::TN;
    using LoaderA = Loader<Kind::A_ALONG, Kind::IMAGE, Kind::DEEP, BM, THREADS, PACK_A ? L : 1>;
    using LoaderB = Loader<Kind::B_ALONG, false, Kind::DEEP, BN, THREADS, PACK_BC ? L : 1>;
    static constexpr int PITCH_A = LoaderA::Values::PITCH, PITCH_B = LoaderB::Values::PITCH;

    // BK values of k of A and B, twice: one half is read while the other is written.
    struct Shared {
        Pack a[2][BK * PITCH_A / L], b[2][BK * PITCH_B / L];
    };

    // An operand on its way from device memory to shared memory.
    template <class Loader>
    struct Stage {
        Loader loader;
        typename Loader::Values values;

        DEVICE void load() { loader.load(values); }
        DEVICE void store(Pack* shared) const { loader.store(values, shared[0].v); }
    };

    // The factors of one k.
    struct Factors {
        Pack a[TM / L], b[TN / L];
    };

    // A sum of each of the thread's elements of C.
    struct Sums {
        T value[TM][TN];

        DEVICE void fill(T start) {
#pragma unroll
            for (int i = 0; i < TM; ++i)
#pragma unroll
                for (int j = 0; j < TN; ++j) value[i][j] = start;
        }

        DEVICE void add(const Sums& terms) {
#pragma unroll
            for (int i = 0; i < TM; ++i)
#pragma unroll
                for (int j = 0; j < TN; ++j) value[i][j] = value[i][j] + terms.value[i][j];
        }

        // To and fro, so that each fma shares a factor with the one before: registers are read in two banks, and of
        // three operands that do not come from the fma before, two are in one bank.
        DEVICE void multiply(const Factors& factors) {
#pragma unroll
            for (int i = 0; i < TM; ++i)
#pragma unroll
                for (int step = 0; step < TN; ++step) {
                    const int j = i % 2 ? TN - 1 - step : step;
                    value[i][j] = fma(factors.a[i / L].v[i % L], factors.b[j / L].v[j % L], value[i][j]);
                }
        }
    };

    const Contraction& c;
    const Epilogue& epilogue;
    Shared& shared;
    T *const y, *const slots;
    int64_t z, m0, n0;
    int thread_m, thread_n;
    int segments, s0, k_begin, k_end;
    bool one_chunk, accumulates;  // all of k is one chunk; segments are added up where the chunk's first one lies
    int half;                     // of shared memory: which is read

    DEVICE MacroKernel(const Contraction& contraction, T* y_, T* slots_, const Epilogue& e, Shared& memory)
        : c(contraction), epilogue(e), shared(memory), y(y_), slots(slots_) {
        const unsigned tiles_n = unsigned(c.n + BN - 1) / BN, tiles_m = unsigned(c.m + BM - 1) / BM;
        const unsigned tile = blockIdx.x % (tiles_n * tiles_m), chunk = blockIdx.x / (tiles_n * tiles_m);
        m0 = int64_t(tile / tiles_n) * BM;
        n0 = int64_t(tile % tiles_n) * BN;
        // A warp has 4 by 8 threads; a thread has rows and columns in packs. Neighbouring threads share a row or a
        // column, in this arrangement, so that half a warp's packs are read from shared memory at once.
        const int lane = int(threadIdx.x) % 32, warp = int(threadIdx.x) / 32;
        thread_n = warp % (Shape::ACROSS / 8) * 8 + lane / 2 % 8;
        thread_m = warp / (Shape::ACROSS / 8) * 4 + lane / 16 * 2 + lane % 2;
        segments = int((c.k + SEGMENT - 1) / SEGMENT);
        s0 = int(chunk * c.chunk);
        const int s1 = smaller(segments, int(s0 + c.chunk));
        k_begin = s0 * SEGMENT;
        k_end = int(smaller<int64_t>(c.k, int64_t(s1) * SEGMENT));
        one_chunk = slots == nullptr;
        accumulates = one_chunk || s0 % GROUP == 0;
    }

    DEVICE void load_factors(Factors& to, int kk) const {
        const Pack* from_a = shared.a[half] + thread_m + kk * (PITCH_A / L);
        const Pack* from_b = shared.b[half] + thread_n + kk * (PITCH_B / L);
#pragma unroll
        for (int i = 0; i < TM / L; ++i) to.a[i] = from_a[i * (BM / TM)];
#pragma unroll
        for (int j = 0; j < TN / L; ++j) to.b[j] = from_b[j * (BN / TN)];
    }

    // The sums of segment s go to where the group adds up, or to their own slot.
    DEVICE void end_segment(int s, const Sums& sum) const {
        const bool last = one_chunk && s >= segments - 1;
        const bool first = s == s0 || !accumulates;
        int64_t m_here = m0 + thread_m * L, n_here = n0 + thread_n * L;
        MADE_HERE(m_here);
        MADE_HERE(n_here);
        T* to = one_chunk ? y + z * c.y_step
                          : slots + (z * c.slots + first_slot(s0, c.chunk) + (accumulates ? 0 : s - s0)) * c.m * c.n;
#pragma unroll
        for (int i = 0; i < TM; ++i) {
            const int64_t m = m_here + (i / L * (BM * L / TM) + i % L);
            if (m >= c.m) continue;
            const int64_t row = !one_chunk ? m * c.n : Kind::INPUT ? row_offset<Kind::DEEP>(c, m) : m * c.y_pitch;
#pragma unroll
            for (int j = 0; j < TN; j += L) {
                const int64_t n = n_here + j / L * (BN * L / TN);
                if (n < c.n) store_sums(&sum.value[i][j], to, row + n, n, first, last);
            }
        }
    }

    // A pack of sums, to place `at` of `to`: added unless it is the first, with the epilogue if it is the last.
    DEVICE void store_sums(const T* sums, T* to, int64_t at, int64_t n, bool first, bool last) const {
        const int count = PACK_BC ? L : int(smaller<int64_t>(L, c.n - n));
        Pack p;
#pragma unroll
        for (int l = 0; l < L; ++l) p.v[l] = sums[l];
        if (!first) {
            Pack before;
            if (PACK_BC) before = *reinterpret_cast<const Pack*>(to + at);
#pragma unroll
            for (int l = 0; l < L; ++l)
                if (l < count) p.v[l] = (PACK_BC ? before.v[l] : to[at + l]) + p.v[l];
        }
        if (last) epilogue.apply<L, PACK_BC>(p.v, count, z * c.n + n, z * c.y_step + at);
        if (PACK_BC) {
            *reinterpret_cast<Pack*>(to + at) = p;
        } else {
#pragma unroll
            for (int l = 0; l < L; ++l)
                if (l < count) to[at + l] = p.v[l];
        }
    }

    // BK terms; meanwhile the factors of the next k come from shared memory. Before the last, the next BK, if there are
    // `more`, go to its other half.
    DEVICE void multiply_all(bool more, const Stage<LoaderA>& a, const Stage<LoaderB>& b, Factors (&factors)[2],
                             Sums& run) {
#pragma unroll 1
        for (int kk = 0; kk < BK; kk += UNROLL)
#pragma unroll
            for (int u = 0; u < UNROLL; ++u) {
                Factors& next = factors[(u + 1) % 2];
                if (u + 1 < UNROLL || kk + UNROLL < BK) {
                    load_factors(next, kk + u + 1);
                } else if (more) {
                    half ^= 1;
                    a.store(shared.a[half]);
                    b.store(shared.b[half]);
                    __syncthreads();
                    load_factors(next, 0);
                }
                run.multiply(factors[u % 2]);
            }
    }

    // The last terms of a chunk, fewer than BK.
    DEVICE void multiply_some(int terms, Factors& factors, Sums& run) const {
#pragma unroll 1
        for (int kk = 0; kk < terms; ++kk) {
            load_factors(factors, kk);
            run.multiply(factors);
        }
    }

    // One batch.
    DEVICE void compute(const T* from_a, const T* from_b, int64_t batch) {
        Stage<LoaderA> a;
        Stage<LoaderB> b;
        Factors factors[2];  // of one k and of the next
        Sums run, sum;
        z = batch;
        a.loader.start_a(c, from_a + z * c.a_step, m0, k_begin, k_end);
        b.loader.start_b(c, from_b + z * c.b_step, n0, k_begin, k_end);
        half = 0;
        sum.fill(T(-0.0));  // -0 + r is r, so that the first run needs no case of its own
        run.fill(T(0));
        __syncthreads();  // of the batch before, all have read what is now overwritten
        if (k_begin < k_end) {
            a.load();
            b.load();
            a.store(shared.a[0]);
            b.store(shared.b[0]);
        }
        __syncthreads();
        load_factors(factors[0], 0);
        int k = k_begin;
        do {  // once even for a sum of no terms
            const bool more = k + BK < k_end;
            if (more) {
                a.load();
                b.load();
            }
            if (k + BK <= k_end)
                multiply_all(more, a, b, factors, run);
            else
                multiply_some(k_end - k, factors[0], run);
            k += BK;
            if (k % RUN == 0 || !more) {
                sum.add(run);
                run.fill(T(0));
                if (k % SEGMENT == 0 || !more) {
                    end_segment((k - BK) / SEGMENT, sum);
                    sum.fill(T(-0.0));
                }
            }
        } while (k < k_end);
    }
};

template <SourceName SOURCE, TileName TILE, bool PACK_A, bool PACK_BC>
DEVICE void contract(const Contraction& c, const T* a, const T* b, T* y, T* slots, const Epilogue& epilogue) {
    using Kernel = MacroKernel<SOURCE, TILE, PACK_A, PACK_BC>;
    __shared__ typename Kernel::Shared shared;
    Kernel kernel(c, y, slots, epilogue, shared);
    for (int64_t z = blockIdx.z; z < c.batch; z += gridDim.z) kernel.compute(a, b, z);
}

}  // namespace
}  // namespace lucid
