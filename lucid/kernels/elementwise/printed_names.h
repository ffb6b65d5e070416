// F(name, whether it computes in float64 whatever the dtype) for the functions of one value and of two. Printed from
// functions.py by printer.py: change that.
#pragma once

#define LUCID_UNARY(F) \
    F(neg, false) \
    F(abs, false) \
    F(sign, false) \
    F(sqrt, false) \
    F(square, false) \
    F(reciprocal, false) \
    F(relu, false) \
    F(exp, true) \
    F(log, true) \
    F(sigmoid, true) \
    F(gelu, true) \
    F(gelu_tanh, true)

#define LUCID_BINARY(F) \
    F(add, false) \
    F(sub, false) \
    F(mul, false) \
    F(div, false) \
    F(maximum, false) \
    F(minimum, false) \
    F(relu_grad, false) \
    F(gelu_grad, true) \
    F(gelu_tanh_grad, true) \
    F(cross, true) \
    F(cross_slope, true) \
    F(logit_cross, true) \
    F(logit_cross_slope, true)
