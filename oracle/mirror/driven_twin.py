"""The PyTorch twin driven from outside: the sides that its ReLUs take and the winners of its max pooling are
given, and each operation's result may be disturbed as another implementation's rounding would disturb it.

A network is smooth but for those decisions. With them fixed, a disturbance of the size of a rounding error moves every
tensor in proportion to itself; and the truth at *another* set of decisions is again a truth (`oracle.budget`).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from oracle.case import Case
from oracle.mirror.torch_twin import PreActBottleneck, Residual, layers, make_twin
from oracle.trace import Recorder

# A rounding error is uniform in half a unit in the last place; relative to a result whose leading digits follow
# Benford's law its root mean square is u * sqrt(1/3 * integral of 1 / (m^3 ln 2) over 1..2) = 0.425 u.
ROUNDING = math.sqrt(1 / 3 * (1 - 1 / 4) / (2 * math.log(2)))


@dataclass(frozen=True)
class Roundoff:
    """Where a precision rounds, as unit roundoffs.

    Args:
        stored: of every tensor that is written.
        factors: of the factors of a contraction, where the hardware shortens them.
        sums: of the partial sums of a contraction or reduction.
        weights: of the parameters, where they are not float32.
        quantum: the spacing of the smallest numbers; 0 where no tensor comes near them.
    """

    stored: float
    factors: float
    sums: float
    weights: float
    quantum: float = 0.0

    def times(self, factor: float) -> Roundoff:
        """All of them larger."""
        return Roundoff(*(factor * getattr(self, each.name) for each in fields(self)))


ROUNDOFF = {
    "float32": Roundoff(2.0**-24, 0.0, 2.0**-24, 0.0),
    "tf32": Roundoff(2.0**-24, 2.0**-11, 2.0**-24, 0.0),
    "bfloat16": Roundoff(2.0**-8, 0.0, 2.0**-24, 2.0**-8),
    "float16": Roundoff(2.0**-11, 0.0, 2.0**-24, 2.0**-11, 2.0**-24),
}


class Disturbance:
    """Random errors of the size that a precision's roundings have.

    In the order that loses most, one after the other, a sum of ``K`` terms passes ``K`` partial sums, each of which is
    rounded. On their way to the total ``T`` they wander as a random walk that is tied at both ends: their squares add
    up to ``K Q / 6 + K T^2 / 3``, ``Q`` being the sum of the terms' squares. So large results have large errors. ``Q``
    is taken as the channel's average. Errors of a convolution and of storing are independent from element to element;
    those of a statistic are shared by its channel, and so are those of positions that compute the same.
    """

    def __init__(self, roundoff: Roundoff, generator: np.random.Generator) -> None:
        self.roundoff = roundoff
        self._generator = generator
        # What is kept beside the run draws for itself: it moves no other tensor's budget.
        self._aside = np.random.Generator(np.random.SFC64(copy.deepcopy(generator).integers(2**63)))

    def kept(self, y: Tensor) -> Tensor:
        """A statistic as it is kept: the two products and their sum, rounded."""
        unit = 2 * ROUNDING * self.roundoff.stored
        return y * (1 + torch.from_numpy(self._aside.standard_normal(y.shape)).to(y.dtype) * unit)

    def values(self, shape: tuple[int, ...]) -> Tensor:
        """Standard normal numbers, float32."""
        return torch.from_numpy(self._generator.standard_normal(math.prod(shape), np.float32)).reshape(shape)

    def shared(self, count: int, size: Tensor) -> Tensor:
        """One error a channel."""
        return torch.from_numpy(self._generator.standard_normal(count)).to(size.dtype) * size

    def store(self, y: Tensor, terms: float = 0.0, squares: Tensor | float = 0.0) -> Tensor:
        """``y`` as it is written, after a sum of ``terms`` terms whose squares sum to ``squares`` in each channel."""
        if y.numel() == 0:
            return y
        sums, stored = self._square(self.roundoff.sums), self._square(self.roundoff.stored)
        with torch.no_grad():
            least = torch.as_tensor(sums * terms / 6 * squares + self.roundoff.quantum**2 / 12, dtype=y.dtype)
            size = y.detach().square().mul_(stored + sums * terms / 3).add_(_wide(least, y)).sqrt_()
            error = size.mul_(self._drawn(y.detach()))
        return y + error

    def _drawn(self, y: Tensor) -> Tensor:
        """Errors of size 1, shared by the positions of a channel as far as those do the same arithmetic.

        Where all positions of an image hold the same numbers, they round alike; and a sum over them does not average
        the error away. The share of their common mean in their mean square is taken as the correlation of their errors.
        """
        drawn = self.values(tuple(y.shape))
        if y.ndim < 4 or y.shape[2] * y.shape[3] == 1:
            return drawn
        squares = torch.linalg.vector_norm(y, dim=(2, 3)).square() / (y.shape[2] * y.shape[3])
        alike = (y.mean((2, 3)).square() / squares.clamp(min=torch.finfo(y.dtype).tiny)).clamp(0, 1)
        common = torch.sqrt(alike) * self.values(tuple(alike.shape))
        return drawn.mul_(torch.sqrt(1 - alike)[:, :, None, None]).add_(common[:, :, None, None])

    @staticmethod
    def _square(unit: float) -> float:
        return (ROUNDING * unit) ** 2

    def shorten(self, x: Tensor) -> Tensor:
        """A factor of a contraction, as hardware that shortens factors takes it."""
        return self.relative(x, self.roundoff.factors)

    def relative(self, x: Tensor, unit: float) -> Tensor:
        """``x`` with each element rounded by ``unit``."""
        return x if unit == 0.0 else x * (1 + self.values(tuple(x.shape)) * (unit * ROUNDING))

    def chain(self, terms: float, squares: Tensor, total: Tensor | float) -> Tensor:
        """The variance of a sum of so many terms, from the sum of their squares and the square of the sum."""
        return self._square(self.roundoff.sums) * terms * (squares / 6 + total / 3)


def _mean_square(y: Tensor) -> Tensor:
    """By channel (axis 1)."""
    parts = y.reshape(y.shape[0], y.shape[1], -1)
    norms: Tensor = torch.linalg.vector_norm(parts, dim=(0, 2)).square() / max(1, y.numel() // y.shape[1])
    return norms


def _wide(channel: Tensor, like: Tensor) -> Tensor:
    return channel.reshape(1, -1, *[1] * (like.ndim - 2)) if channel.ndim == 1 and like.ndim >= 2 else channel


class _Convolution(torch.autograd.Function):
    """A convolution (or, with 1x1 images, a linear layer) whose output and gradients are disturbed."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, layer: nn.Conv2d, disturb: Disturbance) -> Tensor:
        x, weight = disturb.shorten(x), disturb.shorten(weight)
        ctx.save_for_backward(x, weight)
        ctx.layer, ctx.disturb = layer, disturb
        y = nn.functional.conv2d(x, weight, None, layer.stride, layer.padding, layer.dilation, layer.groups)
        mean = _mean_square(x).reshape(layer.groups, -1)
        taps = weight.square().sum((2, 3)).reshape(layer.groups, -1, weight.shape[1])
        squares = torch.einsum("goi,gi->go", taps, mean).reshape(-1)
        return disturb.store(y, math.prod(weight.shape[1:]), squares)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (x, weight), layer, disturb = ctx.saved_tensors, ctx.layer, ctx.disturb
        dy = disturb.shorten(gradients[0].contiguous())
        dx, dw, _ = torch.ops.aten.convolution_backward(
            dy, x, weight, None, layer.stride, layer.padding, layer.dilation, False, [0, 0], layer.groups,
            [ctx.needs_input_grad[0], True, False],
        )  # fmt: skip
        mean = _mean_square(dy)
        if dx is not None:
            taps = weight.square().sum((2, 3)).reshape(layer.groups, -1, weight.shape[1])
            skipped = math.prod(layer.stride)  # of the taps, a stride leaves one in so many for each pixel
            squares = torch.einsum("goi,go->gi", taps, mean.reshape(layer.groups, -1)).reshape(-1) / skipped
            terms = weight.shape[0] // layer.groups * math.prod(weight.shape[2:]) / skipped
            dx = disturb.store(dx, terms, squares)
        terms = dy.numel() // dy.shape[1]
        products = mean.reshape(layer.groups, -1, 1) * _mean_square(x).reshape(layer.groups, 1, -1)
        squares = (terms * products).reshape(1, -1, *[1] * (dw.ndim - 2))
        flat = dw.reshape(1, -1, *dw.shape[2:])
        return dx, disturb.store(flat, terms, squares).reshape(dw.shape), None, None


class _Normalisation(torch.autograd.Function):
    """Batch normalisation whose statistics, output and gradients are disturbed."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, gamma: Tensor, beta: Tensor, layer: nn.BatchNorm2d, disturb: Disturbance
    ) -> Tensor:
        count, (mean, variance) = x.numel() // x.shape[1], (layer.running_mean, layer.running_var)
        assert mean is not None
        assert variance is not None
        if layer.training:
            variance, mean = torch.var_mean(x, (0, 2, 3), correction=0)
            of_mean = disturb.chain(count, count * variance, (count * mean).square()) / count**2
            of_variance = disturb.chain(count, 0.0 * variance, torch.ones_like(variance))
            mean = mean + disturb.shared(len(mean), of_mean.sqrt())
            variance = variance * (1 + disturb.shared(len(mean), of_variance.sqrt()))
            _keep(layer, mean, variance * count / max(1, count - 1), disturb)
        rstd = 1 / torch.sqrt(variance + layer.eps)
        scale = gamma * rstd
        y = torch.addcmul(_wide(beta - mean * scale, x), x, _wide(scale, x))
        ctx.save_for_backward(x, gamma, mean, rstd)
        ctx.disturb = disturb
        parts = scale.square() * (_mean_square(x) + mean.square())
        return disturb.store(y, 1.0, 6 * parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (x, gamma, mean, rstd), disturb, dy = ctx.saved_tensors, ctx.disturb, gradients[0]
        count = dy.numel() // dy.shape[1]
        normal = (x - _wide(mean, x)) * _wide(rstd, x)
        product = dy * normal
        sums = []
        for terms in (dy, product):
            total = terms.sum((0, 2, 3))
            error = disturb.chain(count, count * _mean_square(terms), total.square())
            sums.append(total + disturb.shared(len(total), error.sqrt()))
        of_dy, of_product = sums
        scale = gamma * rstd
        inner = torch.addcmul(dy - _wide(of_dy / count, dy), normal, _wide(-of_product / count, dy))
        parts = _mean_square(dy) + (of_dy / count).square() + (of_product / count).square()
        dx = disturb.store(inner * _wide(scale, dy), 1.0, 6 * scale.square() * parts)
        rounded = [disturb.store(each) for each in (of_product, of_dy)]
        return dx, *rounded, None, None


def _keep(layer: nn.BatchNorm2d, mean: Tensor, variance: Tensor, disturb: Disturbance) -> None:
    """Move the running statistics, as `nn.BatchNorm2d` does; what is written is rounded."""
    assert layer.momentum is not None
    with torch.no_grad():
        for kept, now in ((layer.running_mean, mean), (layer.running_var, variance)):
            assert kept is not None
            kept.copy_(disturb.kept(kept.lerp(now, layer.momentum)))


@dataclass(frozen=True)
class Decisions:
    """Which side each ReLU took and which element each window of the max pooling chose.

    Args:
        passed: by the layer that ends in a ReLU, where its output is above zero.
        winners: of the max pooling, as flat positions in each channel's image.
    """

    passed: Mapping[str, np.ndarray]
    winners: np.ndarray | None


def pooling_winners(image: np.ndarray) -> np.ndarray:
    """The choice of the models' max pooling: the first largest of each 3x3 window (stride 2, padding 1).

    Shapes: ``(N, C, H, W) -> (N, C, OH, OW)``, flat positions in ``H * W``.

    Example:
        >>> pooling_winners(np.zeros((1, 1, 4, 4))).tolist()
        [[[[0, 1], [4, 5]]]]
    """
    _, indices = nn.functional.max_pool2d(torch.from_numpy(image), 3, 2, 1, return_indices=True)
    found: np.ndarray = indices.numpy()
    return found


def rectifiers(model: nn.Module) -> list[str]:
    """The layers whose output a ReLU makes."""
    return [
        name
        for name, module in layers(model)
        if isinstance(module, nn.ReLU) or (isinstance(module, Residual) and not isinstance(module, PreActBottleneck))
    ]


def run_driven(case: Case, recorder: Recorder, decisions: Decisions, disturb: Disturbance | None = None) -> None:
    """Run the twin in float64 at the given decisions, and record every tensor.

    Args:
        case: what to run.
        recorder: takes outputs, the loss and gradients.
        decisions: what the ReLUs and the max pooling decide.
        disturb: errors to put in; none leaves the truth at those decisions.
    """
    model = make_twin(case.architecture, case.state, torch.float64).train(case.mode == "train")
    if disturb is not None:
        _round_weights(model, disturb)
    for name, module in layers(model):
        _drive(name, module, decisions, disturb)
        module.register_forward_hook(lambda _module, _inputs, y, name=name: _watch(recorder, name, y, disturb))
    with torch.set_grad_enabled(case.mode == "train"):
        image = torch.from_numpy(case.input.astype(np.float64))
        logits = model(image if disturb is None else disturb.relative(image, disturb.roundoff.weights))
        if case.mode == "train":
            loss = nn.functional.cross_entropy(logits, torch.from_numpy(case.labels))
            recorder.record("loss", "loss", loss.detach().numpy())
            for name, statistic in model.named_buffers():
                if statistic.is_floating_point():
                    recorder.record("statistic", name, statistic.numpy())
            loss.backward()
            for name, parameter in model.named_parameters():
                if parameter.grad is not None:
                    again = disturb is not None and parameter.ndim == 1
                    gradient = disturb.store(parameter.grad) if again and disturb else parameter.grad
                    recorder.record("parameter_gradient", name, gradient.numpy())


def _round_weights(model: nn.Module, disturb: Disturbance) -> None:
    with torch.no_grad():
        for value in [*model.parameters(), *model.buffers()]:
            if value.is_floating_point():
                value.copy_(disturb.relative(value, disturb.roundoff.weights))


def _watch(recorder: Recorder, name: str, y: Tensor, disturb: Disturbance | None) -> None:
    recorder.record("activation", name, y.detach().numpy())

    def seen(gradient: Tensor) -> Tensor:
        found = gradient if disturb is None else disturb.store(gradient)
        recorder.record("activation_gradient", name, found.numpy())
        return found

    if y.requires_grad:
        y.register_hook(seen)


def _drive(name: str, module: nn.Module, decisions: Decisions, disturb: Disturbance | None) -> None:
    """Replace what a module does by the same at the given decisions, disturbed."""
    replaced: Callable[..., Tensor] | None = None
    if isinstance(module, nn.ReLU):
        passed = torch.from_numpy(decisions.passed[name])
        replaced = lambda x: x * passed  # noqa: E731
    elif isinstance(module, Residual):
        object.__setattr__(module, "join", _joined(name, module, decisions, disturb))
    elif isinstance(module, nn.MaxPool2d):
        assert decisions.winners is not None
        winners = torch.from_numpy(decisions.winners)
        replaced = lambda x: x.flatten(2).gather(2, winners.flatten(2)).reshape(winners.shape)  # noqa: E731
    elif disturb is not None:
        replaced = _disturbed(module, disturb)
    if replaced is not None:
        object.__setattr__(module, "forward", replaced)


def _joined(
    name: str, module: Residual, decisions: Decisions, disturb: Disturbance | None
) -> Callable[[Tensor, Tensor], Tensor]:
    passed = None if isinstance(module, PreActBottleneck) else torch.from_numpy(decisions.passed[name])

    def join(main: Tensor, shortcut: Tensor) -> Tensor:
        total = main + shortcut if disturb is None else disturb.store(main + shortcut)
        return total if passed is None else total * passed

    return join


def _disturbed(module: nn.Module, disturb: Disturbance) -> Callable[..., Tensor] | None:
    if isinstance(module, nn.Conv2d):
        return lambda x: _Convolution.apply(x, module.weight, module, disturb)
    if isinstance(module, nn.BatchNorm2d):
        return lambda x: _Normalisation.apply(x, module.weight, module.bias, module, disturb)
    if isinstance(module, nn.Linear):
        as_convolution = nn.Conv2d(module.in_features, module.out_features, 1, device="meta")
        weight = module.weight

        def linear(x: Tensor) -> Tensor:
            y = _Convolution.apply(x[:, :, None, None], weight[:, :, None, None], as_convolution, disturb)
            return disturb.store(y[:, :, 0, 0] + module.bias)

        return linear
    if isinstance(module, nn.AdaptiveAvgPool2d):

        def average(x: Tensor) -> Tensor:
            y, count = x.mean((2, 3), keepdim=True), x.shape[2] * x.shape[3]
            return disturb.store(y, count)

        return average
    return None
