// F(name, whether it computes in float64 whatever the dtype) for the functions of one value and of two; F(name,
// arguments) for the rules of updates. Printed from functions.py and rules.py by printer.py: change those.
#pragma once

#define LUCID_UNARY(F) \
    F(neg, false) \
    F(abs, false) \
    F(sign, false) \
    F(sqrt, false) \
    F(square, false) \
    F(cube, false) \
    F(round, true) \
    F(floor, true) \
    F(ceil, true) \
    F(trunc, true) \
    F(reciprocal, false) \
    F(relu, false) \
    F(exp, true) \
    F(log, true) \
    F(sigmoid, true) \
    F(gelu, true) \
    F(gelu_tanh, true) \
    F(expm1, true) \
    F(exp2, true) \
    F(log2, true) \
    F(log1p, true) \
    F(sinh, true) \
    F(cosh, true) \
    F(tanh, true) \
    F(sin, true) \
    F(cos, true) \
    F(tan, true) \
    F(arcsin, true) \
    F(arccos, true) \
    F(arctan, true) \
    F(erf, true) \
    F(silu, true) \
    F(relu6, false) \
    F(selu, true) \
    F(hard_sigmoid, true) \
    F(hard_swish, true) \
    F(softplus, true) \
    F(log_sigmoid, true) \
    F(mish, true)

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
    F(erf_grad, true) \
    F(silu_grad, true) \
    F(arctan2, true) \
    F(power, true) \
    F(leaky_relu, false) \
    F(leaky_relu_slope, false) \
    F(elu, true) \
    F(elu_slope, true) \
    F(relu6_grad, false) \
    F(selu_grad, true) \
    F(hard_sigmoid_grad, false) \
    F(hard_swish_grad, true) \
    F(softplus_grad, true) \
    F(log_sigmoid_grad, true) \
    F(mish_grad, true) \
    F(cross, true) \
    F(cross_slope, true) \
    F(logit_cross, true) \
    F(logit_cross_slope, true)

#define LUCID_RULES(F) \
    F(adam, (p, g, m0, m1, m2, n0, n1, n2, n3, n4, n5, n6, n7, n8, n9)) \
    F(adamax, (p, g, m0, m1, n0, n1, n2, n3, n4, n5)) \
    F(nadam, (p, g, m0, m1, n0, n1, n2, n3, n4, n5, n6, n7, n8, n9)) \
    F(radam, (p, g, m0, m1, n0, n1, n2, n3, n4, n5, n6, n7, n8)) \
    F(adagrad, (p, g, m0, n0, n1, n2, n3)) \
    F(adadelta, (p, g, m0, m1, n0, n1, n2, n3, n4, n5)) \
    F(rmsprop, (p, g, m0, m1, m2, n0, n1, n2, n3, n4, n5, n6, n7)) \
    F(rprop, (p, g, m0, m1, n0, n1, n2, n3, n4)) \
    F(asgd, (p, g, m0, n0, n1, n2, n3, n4, n5))
