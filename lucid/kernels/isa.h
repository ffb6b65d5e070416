// Assembles the kernels of one instruction set into its table. Each isa_*.cpp is compiled with its own machine flags and
// includes this file once; nothing here may come from a shared inline function of the standard library, which another
// instruction set's object file could replace.
#pragma once

#include "conv.h"
#include "fingerprint.h"
#include "norm.h"
#include "pointwise.h"
#include "pool.h"
#include "transpose.h"

namespace lucid {
namespace LUCID_ISA {

template <class T>
constexpr Kernels<T> kernels() {
    return {unary<T>,
            binary<T>,
            power<T>,
            swap_axes<T>,
            reduce<T>,
            matmul<T>,
            conv<T>,
            packed_weight_size<T>,
            pack_weight<T>,
            conv_input_grad<T>,
            conv_weight_grad<T>,
            batch_norm_stats<T>,
            batch_norm_apply<T>,
            batch_norm_coefficients<T>,
            normalize<T>,
            batch_norm_grad<T>,
            max_pool<T, int32_t>,
            max_pool<T, int64_t>,
            max_pool_grad<T, int32_t>,
            max_pool_grad<T, int64_t>,
            avg_pool<T>,
            avg_pool_grad<T>,
            log_softmax<T>,
            log_softmax_grad<T>,
            nll_loss<T>,
            nll_loss_grad<T>,
            sgd<T>,
            index_add<T>,
            uniform<T>,
            normal<T>};
}

}  // namespace LUCID_ISA
}  // namespace lucid
