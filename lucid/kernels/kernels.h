// What an instruction set offers: one table of kernels a dtype. Arrays are dense; images are channels-last,
// (N, H, W, C), and convolution weights (KH, KW, C / groups, O), so that the vectorised index is always the last.
#pragma once

#include <cstdint>

#include "elementwise/printed_names.h"

namespace lucid {

struct Conv {
    int64_t n, h, w, c;            // input
    int64_t oh, ow, o;             // output
    int64_t kh, kw;                // kernel
    int64_t stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w;
    int64_t groups;
};

struct Pool {
    int64_t n, h, w, c;
    int64_t oh, ow;
    int64_t kh, kw;
    int64_t stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w;
    bool count_include_pad;
    bool adaptive;                 // windows from the ratio of the sizes, the kernel and stride unused
};

struct Sgd {
    double lr, momentum, dampening, weight_decay;
    bool nesterov, maximize, first;
};

#define LUCID_ENUMERATOR(name, wide) name,
enum class Unary { LUCID_UNARY(LUCID_ENUMERATOR) };
enum class Binary { LUCID_BINARY(LUCID_ENUMERATOR) };
#undef LUCID_ENUMERATOR
enum class Reduce { sum, mean, max, min };

// What follows a contraction element by element, fused into it; a null or false part is left out. `column` indexes all but
// the residual, which is laid out as the output.
template <class T>
struct Epilogue {
    const T* bias = nullptr;
    const T *mean = nullptr, *scale = nullptr, *shift = nullptr;  // (value - mean) * scale + shift, section 7
    const T* residual = nullptr;
    const T* output = nullptr;
    bool relu = false;

    bool any() const { return bias || scale || residual || relu; }
};

template <class T>
struct Kernels {
    void (*unary)(Unary op, int64_t n, const T* x, T* y);
    void (*binary)(Binary op, int64_t n, const T* a, const T* b, T* y);
    void (*power)(int64_t n, const T* x, double exponent, T* y);
    // x is (n, rows, columns), y (n, columns, rows)
    void (*swap_axes)(int64_t n, int64_t rows, int64_t columns, const T* x, T* y);
    // x is (outer, terms, inner); y is (outer, inner)
    void (*reduce)(Reduce op, int64_t outer, int64_t terms, int64_t inner, const T* x, T* y);
    // (batch, m, k) by (batch, k, n); a stride of 0 repeats an operand
    void (*matmul)(int64_t batch, int64_t m, int64_t n, int64_t k, const T* a, int64_t a_stride, const T* b,
                   int64_t b_stride, const Epilogue<T>&, T* y);
    // `packed` weights are those that pack_weight made, of packed_weight_size values
    void (*conv)(const Conv&, const T* x, const T* weight, bool packed, const Epilogue<T>&, T* y);
    int64_t (*packed_weight_size)(const Conv&);
    void (*pack_weight)(const Conv&, const T* weight, T* to);
    // dx, plus `there` unless it is null
    void (*conv_input_grad)(const Conv&, const T* dy, const T* weight, const T* there, T* dx);
    void (*conv_weight_grad)(const Conv&, const T* dy, const T* x, T* dweight);
    // x is (rows, channels); mean and var are float64
    void (*batch_norm_stats)(int64_t rows, int64_t channels, const T* x, double* mean, double* var);
    // y = relu(normalised x + residual); without a residual (null) and relu where they are not wanted
    void (*batch_norm_apply)(int64_t rows, int64_t channels, const T* x, const T* gamma, const T* beta,
                             const double* mean, const double* var, double eps, const T* residual, bool relu, T* y);
    // mean, scale and shift of the output, by channel
    void (*batch_norm_coefficients)(int64_t channels, const T* gamma, const T* beta, const double* mean,
                                    const double* var, double eps, T* m, T* k, T* shift);
    // y = (x - mean) * scale + shift by columns, and the rest as above
    void (*normalize)(int64_t rows, int64_t channels, const T* x, const T* mean, const T* scale, const T* shift,
                      const T* residual, bool relu, T* y);
    // behind a relu, y is its result (else null); `arrived` (or null) takes the gradient that came through it; dx has `there`
    // (or null) added
    void (*batch_norm_grad)(int64_t rows, int64_t channels, const T* dy, const T* x, const T* y, const T* gamma,
                            const double* mean, const double* var, double eps, bool training, const T* there, T* dx,
                            T* arrived, T* dgamma, T* dbeta);
    // index may be null; the wide ones are for planes of 2^31 pixels and more
    void (*max_pool)(const Pool&, const T* x, T* y, int32_t* index);
    void (*max_pool_wide)(const Pool&, const T* x, T* y, int64_t* index);
    void (*max_pool_grad)(const Pool&, const T* dy, const int32_t* index, T* dx);
    void (*max_pool_grad_wide)(const Pool&, const T* dy, const int64_t* index, T* dx);
    void (*avg_pool)(const Pool&, const T* x, T* y);
    void (*avg_pool_grad)(const Pool&, const T* dy, T* dx);
    void (*log_softmax)(int64_t rows, int64_t classes, const T* x, T* y);
    void (*log_softmax_grad)(int64_t rows, int64_t classes, const T* dy, const T* y, T* dx);
    // reduction: 0 none, 1 sum, 2 mean; a target equal to `ignore` is left out
    void (*nll_loss)(int64_t rows, int64_t classes, const T* logp, const int64_t* target, const T* weight,
                     int64_t ignore, int reduction, T* loss, double* weight_sum);
    void (*nll_loss_grad)(int64_t rows, int64_t classes, const T* dloss, const int64_t* target, const T* weight,
                          int64_t ignore, int reduction, double weight_sum, T* dlogp);
    void (*sgd)(const Sgd&, int64_t n, T* param, const T* grad, T* velocity);
    void (*index_add)(int64_t n, const int64_t* index, const T* values, T* y);
    void (*uniform)(uint64_t seed, uint64_t stream, uint64_t block, int64_t n, double low, double high, T* y);
    void (*normal)(uint64_t seed, uint64_t stream, uint64_t block, int64_t n, double mean, double std, T* y);
};

struct Isa {
    const char* name;
    Kernels<float> f32;
    Kernels<double> f64;
    void (*fingerprint)(const void* data, int64_t bytes, uint64_t* words);  // eight of them

    template <class T>
    const Kernels<T>& of() const {
        if constexpr (sizeof(T) == 4)
            return f32;
        else
            return f64;
    }
};

void philox_words(uint64_t seed, uint64_t stream, uint64_t block, int64_t words, uint32_t* out);

// The instruction sets of this build that this processor can run, best first; the end is null.
const Isa* const* supported_isas();

}  // namespace lucid
