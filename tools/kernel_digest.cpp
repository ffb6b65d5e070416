// Runs every kernel of one instruction set on seeded shapes and values and prints a digest a family, without Python: the way to
// compare processors that cannot run each other's extension module. tools/verify_aarch64.sh uses it.
//
//     kernel_digest [ISA]      the instruction set; by default the best one
#include <cmath>
#include <cstdio>
#include <cstring>
#include <vector>

#include "../lucid/kernels/kernels.h"
#include "../lucid/kernels/threads.h"

using namespace lucid;

namespace {

struct Random {  // Numerical Recipes' 64-bit LCG; the high bits are used
    uint64_t state;
    uint64_t next() { return (state = state * 6364136223846793005ull + 1442695040888963407ull) >> 33; }
    int64_t range(int64_t low, int64_t high) { return low + int64_t(next() % uint64_t(high - low + 1)); }
    // About normal, with some zeros, subnormals and large values.
    double value() {
        const uint64_t kind = next() % 64;
        if (kind == 0) return 0.0;
        if (kind == 1) return 1e-40;
        if (kind == 2) return -3e30;
        double sum = -6.0;
        for (int i = 0; i < 12; ++i) sum += double(next()) / 2147483648.0;
        return sum;
    }
};

struct Digest {  // FNV-1a, every NaN alike
    uint64_t hash = 14695981039346656037ull;
    template <class T>
    void add(const std::vector<T>& values) {
        for (T v : values) {
            if (v != v) v = T(NAN);
            unsigned char bytes[sizeof(T)];
            std::memcpy(bytes, &v, sizeof(T));
            if (v != v) std::memset(bytes, 255, sizeof(T));
            for (unsigned char b : bytes) hash = (hash ^ b) * 1099511628211ull;
        }
    }
};

template <class T>
std::vector<T> values(Random& random, int64_t n) {
    std::vector<T> v(static_cast<size_t>(n));
    for (T& x : v) x = T(random.value());
    return v;
}

template <class T>
std::vector<T> zeros(int64_t n) {
    return std::vector<T>(static_cast<size_t>(n));
}

Conv random_conv(Random& random) {
    for (;;) {
        Conv s{};
        s.groups = random.range(1, 3);
        s.n = random.range(1, 2);
        s.c = s.groups * random.range(1, 40);
        s.o = s.groups * random.range(1, 70);
        s.d = random.range(1, 3);
        s.h = random.range(1, 12);
        s.w = random.range(1, 12);
        s.kd = random.range(1, 2);
        s.kh = random.range(1, 3);
        s.kw = random.range(1, 3);
        s.stride_d = random.range(1, 2);
        s.stride_h = random.range(1, 2);
        s.stride_w = random.range(1, 2);
        s.pad_d = random.range(0, 1);
        s.pad_h = random.range(0, 2);
        s.pad_w = random.range(0, 2);
        s.dilation_d = random.range(1, 2);
        s.dilation_h = random.range(1, 2);
        s.dilation_w = random.range(1, 2);
        const int64_t depth = s.d + 2 * s.pad_d - s.dilation_d * (s.kd - 1) - 1;
        const int64_t height = s.h + 2 * s.pad_h - s.dilation_h * (s.kh - 1) - 1;
        const int64_t width = s.w + 2 * s.pad_w - s.dilation_w * (s.kw - 1) - 1;
        if (depth < 0 || height < 0 || width < 0) continue;
        s.od = depth / s.stride_d + 1;
        s.oh = height / s.stride_h + 1;
        s.ow = width / s.stride_w + 1;
        return s;
    }
}

template <class T>
void convolutions(const Kernels<T>& k, Digest& digest) {
    Random random{1};
    for (int i = 0; i < 60; ++i) {
        const Conv s = random_conv(random);
        const int64_t nx = s.n * s.d * s.h * s.w * s.c, ny = s.n * s.od * s.oh * s.ow * s.o;
        const int64_t nw = s.kd * s.kh * s.kw * (s.c / s.groups) * s.o;
        const auto x = values<T>(random, nx), w = values<T>(random, nw), dy = values<T>(random, ny);
        const auto bias = values<T>(random, s.o), residual = values<T>(random, ny);
        auto y = zeros<T>(ny), dx = zeros<T>(nx), dw = zeros<T>(nw);
        Epilogue<T> e;
        if (i % 2) {
            e.bias = bias.data();
            e.residual = residual.data();
            e.relu = true;
        }
        k.conv(s, x.data(), w.data(), false, e, y.data());
        auto panels = zeros<T>(k.packed_weight_size(s, w.data())), again = zeros<T>(ny);
        k.pack_weight(s, w.data(), panels.data());
        k.conv(s, x.data(), panels.data(), true, e, again.data());
        digest.add(again);
        k.conv_input_grad(s, dy.data(), w.data(), i % 2 ? x.data() : nullptr, dx.data());
        k.conv_weight_grad(s, dy.data(), x.data(), dw.data());
        digest.add(y);
        digest.add(dx);
        digest.add(dw);
    }
}

template <class T>
void products(const Kernels<T>& k, Digest& digest) {
    Random random{2};
    for (int64_t depth : {1, 31, 32, 33, 255, 256, 257, 1000, 8193, 16400}) {
        const int64_t m = random.range(1, 20), n = random.range(1, 70);
        const auto a = values<T>(random, m * depth), b = values<T>(random, depth * n);
        auto y = zeros<T>(m * n);
        k.matmul(1, m, n, depth, a.data(), 0, b.data(), 0, {}, y.data());
        digest.add(y);
    }
}

template <class T>
void normalisations(const Kernels<T>& k, Digest& digest) {
    Random random{3};
    for (int i = 0; i < 30; ++i) {
        const int64_t rows = random.range(2, 1000), c = random.range(1, 70);
        const auto x = values<T>(random, rows * c), dy = values<T>(random, rows * c);
        const auto gamma = values<T>(random, c), beta = values<T>(random, c);
        auto mean = zeros<double>(c), var = zeros<double>(c);
        auto y = zeros<T>(rows * c), dx = zeros<T>(rows * c), dgamma = zeros<T>(c), dbeta = zeros<T>(c);
        k.batch_norm_stats(rows, c, x.data(), mean.data(), var.data());
        const bool relu = i % 3 != 0, joins = i % 4 > 1;
        auto masked = zeros<T>(rows * c);
        k.batch_norm_apply(rows, c, x.data(), gamma.data(), beta.data(), mean.data(), var.data(), 1e-5,
                           joins ? dy.data() : nullptr, relu, y.data());
        k.batch_norm_grad(rows, c, dy.data(), x.data(), relu ? y.data() : nullptr, gamma.data(), mean.data(), var.data(),
                          1e-5, i % 2, i % 3 ? x.data() : nullptr, dx.data(), joins ? masked.data() : nullptr, dgamma.data(), dbeta.data());
        digest.add(masked);
        digest.add(mean);
        digest.add(var);
        digest.add(y);
        digest.add(dx);
        digest.add(dgamma);
        digest.add(dbeta);
    }
}

template <class T>
void pools(const Kernels<T>& k, Digest& digest) {
    Random random{4};
    for (int i = 0; i < 40; ++i) {
        const bool adaptive = i % 3 == 2;
        Pool s{};
        s.n = random.range(1, 2);
        s.c = random.range(1, 70);
        s.d = random.range(1, 4);
        s.h = random.range(3, 20);
        s.w = random.range(3, 20);
        s.kd = random.range(1, 2);
        s.kh = random.range(1, 3);
        s.kw = random.range(1, 3);
        s.stride_d = s.stride_h = s.stride_w = random.range(1, 2);
        s.pad_d = s.kd / 2;
        s.pad_h = s.kh / 2;
        s.pad_w = s.kw / 2;
        s.dilation_d = s.dilation_h = s.dilation_w = 1;
        s.count_include_pad = i % 2;
        s.adaptive = adaptive;
        s.od = adaptive ? random.range(1, 3) : (s.d + 2 * s.pad_d - s.kd) / s.stride_d + 1;
        s.oh = adaptive ? random.range(1, 7) : (s.h + 2 * s.pad_h - s.kh) / s.stride_h + 1;
        s.ow = adaptive ? random.range(1, 7) : (s.w + 2 * s.pad_w - s.kw) / s.stride_w + 1;
        const int64_t nx = s.n * s.d * s.h * s.w * s.c, ny = s.n * s.od * s.oh * s.ow * s.c;
        const auto x = values<T>(random, nx), dy = values<T>(random, ny);
        auto y = zeros<T>(ny), dx = zeros<T>(nx);
        k.avg_pool(s, x.data(), y.data());
        k.avg_pool_grad(s, dy.data(), dx.data());
        digest.add(y);
        digest.add(dx);
        if (adaptive) continue;
        auto index = zeros<int32_t>(ny);
        k.max_pool(s, x.data(), y.data(), index.data());
        k.max_pool_grad(s, dy.data(), index.data(), dx.data());
        digest.add(y);
        digest.add(index);
        digest.add(dx);
    }
}

template <class T>
void pointwise(const Kernels<T>& k, Digest& digest) {
    Random random{5};
    const int64_t n = 5000;
    const auto a = values<T>(random, n), b = values<T>(random, n);
    auto y = zeros<T>(n);
#define DIGEST(name, wide)                      \
    k.unary(Unary::name, n, a.data(), y.data()); \
    digest.add(y);
    LUCID_UNARY(DIGEST)
#undef DIGEST
#define DIGEST(name, wide)                                 \
    k.binary(Binary::name, n, a.data(), b.data(), y.data()); \
    digest.add(y);
    LUCID_BINARY(DIGEST)
#undef DIGEST
    for (double exponent : {3.0, -2.0, 0.5, 1.7}) {
        k.power(n, a.data(), exponent, y.data());
        digest.add(y);
    }
    auto reduced = zeros<T>(50);
    for (int op = 0; op <= int(Reduce::min); ++op) {
        k.reduce(Reduce(op), 1, 100, 50, a.data(), reduced.data());
        digest.add(reduced);
        k.reduce(Reduce(op), 1, n, 1, a.data(), reduced.data());
        digest.add(reduced);
    }
    k.log_softmax(5, 1000, a.data(), y.data());
    digest.add(y);
    k.log_softmax_grad(5, 1000, b.data(), a.data(), y.data());
    digest.add(y);
    auto param = a, velocity = b;
    k.sgd({0.1, 0.9, 0.1, 1e-4, true, false, false}, n, param.data(), a.data(), velocity.data());
    digest.add(param);
    digest.add(velocity);
    k.uniform(7, 1, 3, n, -1.0, 2.0, y.data());
    digest.add(y);
    k.normal(7, 1, 3, n, 0.5, 2.0, y.data());
    digest.add(y);
}

template <class T>
void run(const Kernels<T>& k, const char* dtype) {
    const struct {
        const char* name;
        void (*family)(const Kernels<T>&, Digest&);
    } families[] = {{"convolutions", convolutions<T>},
                    {"products", products<T>},
                    {"normalisations", normalisations<T>},
                    {"pools", pools<T>},
                    {"pointwise", pointwise<T>}};
    for (const auto& f : families) {
        Digest digest;
        f.family(k, digest);
        std::printf("%-16s %-8s %016llx\n", f.name, dtype, static_cast<unsigned long long>(digest.hash));
    }
}

}  // namespace

int main(int argc, char** argv) {
    const Isa* const* isas = supported_isas();
    const Isa* isa = isas[0];
    if (argc > 1) {
        isa = nullptr;
        for (auto p = isas; *p; ++p)
            if (std::strcmp((*p)->name, argv[1]) == 0) isa = *p;
        if (!isa) {
            std::fprintf(stderr, "kernel_digest: this processor has no instruction set %s\n", argv[1]);
            return 2;
        }
    }
    std::fprintf(stderr, "%s\n", isa->name);
    run(isa->f32, "float32");
    run(isa->f64, "float64");
}
