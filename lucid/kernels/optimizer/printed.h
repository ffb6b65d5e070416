// The optimisers' rules of the law. Printed from rules.py by elementwise/printer.py: change that.
#pragma once

#include "../elementwise/printed.h"

namespace lucid {
namespace LUCID_ISA {
namespace scalar {

// The gradient of what is minimised, with weight decay.
template <class V>
LUCID_LANES V minimised(V g, V p, double weight_decay, bool maximize) {
    auto d = g;
    if (maximize) {
        d = -g;
    }
    if (weight_decay) {
        d = d + (weight_decay * p);
    }
    return d;
}

template <class V>
LUCID_LANES void adam(V& p, V g, V& exp_avg, V& exp_avg_sq, V& max_exp_avg_sq, double rest1, double beta2, double rest2, double eps, double weight_decay, double shrink, double step_size, double scale, bool amsgrad, bool maximize) {
    g = minimised(g, p, weight_decay, maximize);
    p = p * shrink;
    exp_avg = exp_avg + ((g - exp_avg) * rest1);
    exp_avg_sq = (exp_avg_sq * beta2) + ((g * g) * rest2);
    auto top = exp_avg_sq;
    if (amsgrad) {
        max_exp_avg_sq = maximum(max_exp_avg_sq, exp_avg_sq);
        top = max_exp_avg_sq;
    }
    p = p - (step_size * (exp_avg / ((square_root(top) * scale) + eps)));
}

template <class V>
LUCID_LANES void adamax(V& p, V g, V& exp_avg, V& exp_inf, double rest1, double beta2, double eps, double weight_decay, double step_size, bool maximize) {
    g = minimised(g, p, weight_decay, maximize);
    exp_avg = exp_avg + ((g - exp_avg) * rest1);
    exp_inf = maximum(exp_inf * beta2, magnitude(g) + eps);
    p = p - (step_size * (exp_avg / exp_inf));
}

template <class V>
LUCID_LANES void nadam(V& p, V g, V& exp_avg, V& exp_avg_sq, double rest1, double beta2, double rest2, double eps, double weight_decay, double shrink, double scale, double grad_size, double avg_size, bool maximize) {
    g = minimised(g, p, weight_decay, maximize);
    p = p * shrink;
    exp_avg = exp_avg + ((g - exp_avg) * rest1);
    exp_avg_sq = (exp_avg_sq * beta2) + ((g * g) * rest2);
    p = p - (((grad_size * g) + (avg_size * exp_avg)) / ((square_root(exp_avg_sq) * scale) + eps));
}

template <class V>
LUCID_LANES void radam(V& p, V g, V& exp_avg, V& exp_avg_sq, double rest1, double beta2, double rest2, double eps, double weight_decay, double shrink, double step_size, bool adaptive, bool maximize) {
    g = minimised(g, p, weight_decay, maximize);
    p = p * shrink;
    exp_avg = exp_avg + ((g - exp_avg) * rest1);
    exp_avg_sq = (exp_avg_sq * beta2) + ((g * g) * rest2);
    auto step = exp_avg;
    if (adaptive) {
        step = exp_avg / (square_root(exp_avg_sq) + eps);
    }
    p = p - (step_size * step);
}

template <class V>
LUCID_LANES void adagrad(V& p, V g, V& sum, double eps, double weight_decay, double step_size, bool maximize) {
    g = minimised(g, p, weight_decay, maximize);
    sum = sum + (g * g);
    p = p - (step_size * (g / (square_root(sum) + eps)));
}

template <class V>
LUCID_LANES void adadelta(V& p, V g, V& square_avg, V& acc_delta, double lr, double rho, double rest, double eps, double weight_decay, bool maximize) {
    g = minimised(g, p, weight_decay, maximize);
    square_avg = (square_avg * rho) + ((g * g) * rest);
    const auto delta = (square_root(acc_delta + eps) / square_root(square_avg + eps)) * g;
    acc_delta = (acc_delta * rho) + ((delta * delta) * rest);
    p = p - (lr * delta);
}

template <class V>
LUCID_LANES void rmsprop(V& p, V g, V& square_avg, V& momentum_buffer, V& grad_avg, double lr, double alpha, double rest, double eps, double weight_decay, double momentum, bool centered, bool maximize) {
    g = minimised(g, p, weight_decay, maximize);
    square_avg = (square_avg * alpha) + ((g * g) * rest);
    auto spread = square_avg;
    if (centered) {
        grad_avg = grad_avg + ((g - grad_avg) * rest);
        spread = square_avg - (grad_avg * grad_avg);
    }
    auto step = g / (square_root(spread) + eps);
    if (momentum) {
        momentum_buffer = (momentum_buffer * momentum) + step;
        step = momentum_buffer;
    }
    p = p - (lr * step);
}

template <class V>
LUCID_LANES void rprop(V& p, V g, V& prev, V& step_size, double etaminus, double etaplus, double least, double most, bool maximize) {
    if (maximize) {
        g = -g;
    }
    const auto turn = g * prev;
    step_size = step_size * ((turn > number<V>(0.0)) ? number<V>(etaplus) : ((turn < number<V>(0.0)) ? number<V>(etaminus) : number<V>(1.0)));
    step_size = (turn == turn) ? step_size : turn;
    step_size = (step_size < least) ? number<V>(least) : ((step_size > most) ? number<V>(most) : step_size);
    prev = (turn < number<V>(0.0)) ? number<V>(0.0) : g;
    p = p - (((prev > number<V>(0.0)) ? number<V>(1.0) : ((prev < number<V>(0.0)) ? number<V>(-1.0) : prev)) * step_size);
}

template <class V>
LUCID_LANES void asgd(V& p, V g, V& ax, double weight_decay, double shrink, double eta, double mu, bool averaged, bool maximize) {
    g = minimised(g, p, weight_decay, maximize);
    p = (p * shrink) - (eta * g);
    const auto before = ax;
    ax = p;
    if (averaged) {
        ax = before + ((p - before) * mu);
    }
}

}  // namespace scalar
}  // namespace LUCID_ISA
}  // namespace lucid
