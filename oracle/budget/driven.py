"""A graph run in PyTorch, driven from outside: what its operations decide is given, each result may be disturbed as
another implementation's rounding would disturb it, and values that a subject handed over may take the place of those
that are computed.

A network is smooth but for its decisions. With them fixed, a disturbance of the size of a rounding error moves every
tensor in proportion to itself; and the truth at *another* set of decisions is again a truth (`oracle.budget.free`).
"""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from oracle.budget.parts import DisturbedParts
from oracle.case.case import Case
from oracle.graph.graph import INPUT, Graph, Node
from oracle.operations import is_loss, operation_of
from oracle.operations.contraction import has_tiles
from oracle.operations.traced import is_traced
from oracle.precision.algorithms import (
    of_pieces,
    tap_squares,
    winograd_input_gradient,
    winograd_output,
    winograd_weight_gradient,
)
from oracle.precision.profile import Profile, profile_of
from oracle.precision.rounding import Rounding, alike
from oracle.trace import Key, Recorder

Variances = Callable[[np.ndarray, np.ndarray, int, int, float, int], tuple[np.ndarray, np.ndarray]]

# No tensor of a network comes near numbers as small as this.
NEVER_REACHED = 2.0**-100

# A rounding error is uniform in half a unit in the last place; relative to a result whose leading digits follow
# Benford's law its root mean square is u * sqrt(1/3 * integral of 1 / (m^3 ln 2) over 1..2) = 0.425 u.
ROUNDING = math.sqrt(1 / 3 * (1 - 1 / 4) / (2 * math.log(2)))


@dataclass(frozen=True)
class Roundoff:
    """Where a precision rounds, as unit roundoffs, and the choices of its profile.

    Args:
        stored: of every tensor that is written.
        factors: of the factors of a contraction, where the hardware shortens them.
        sums: of the partial sums of a contraction or reduction.
        weights: of the parameters, where they are not float32.
        quantum: the spacing of the smallest numbers; 0 where no tensor comes near them.
        between: of partial sums of a gradient's pieces, where those are kept in the storage type.
        truncated: whether factors are cut off instead of rounded.
        one_pass: whether a batch's variance is the mean of the squares less the square of the mean.
        winograd: side of the tiles of Winograd's algorithm, or 0.
    """

    stored: float
    factors: float
    sums: float
    weights: float
    quantum: float = 0.0
    between: float = 0.0
    truncated: bool = False
    one_pass: bool = False
    winograd: int = 0

    def times(self, factor: float) -> Roundoff:
        """All of them larger."""
        units = ("stored", "factors", "sums", "weights", "quantum", "between")
        return replace(self, **{name: factor * getattr(self, name) for name in units})

    @property
    def rounding(self) -> Rounding:
        """The same as the local view has it, for what both views compute alike."""
        return Rounding(self.stored, self.sums, self.factors, self.quantum / 2, self.between)


def roundoff_of(precision: str | Profile) -> Roundoff:
    """Where a profile rounds in a whole run.

    Example:
        >>> roundoff_of("tf32") == Roundoff(2.0**-24, 2.0**-11, 2.0**-24, 0.0)
        True
        >>> roundoff_of("float16").quantum == 2.0**-24
        True
    """
    profile = profile_of(precision)
    of = profile.format
    return Roundoff(
        of.stored,
        of.factors,
        of.sums,
        of.weights,
        2 * of.least if of.least > NEVER_REACHED else 0.0,
        of.stored if profile.sums_in_storage else 0.0,
        profile.truncated,
        profile.one_pass_variance,
        profile.winograd,
    )


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

    def store(self, y: Tensor, terms: float = 0.0, squares: Tensor | float = 0.0, more: Tensor | float = 0.0) -> Tensor:
        """``y`` as it is written, after a sum of ``terms`` terms whose squares sum to ``squares`` in each channel;
        ``more`` is a variance that is there besides."""
        if y.numel() == 0:
            return y
        sums, stored = self._square(self.roundoff.sums), self._square(self.roundoff.stored)
        with torch.no_grad():
            least = torch.as_tensor(sums * terms / 6 * squares + self.roundoff.quantum**2 / 12, dtype=y.dtype)
            size = y.detach().square().mul_(stored + sums * terms / 3).add_(_wide(least, y)).add_(more).sqrt_()
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
        """A factor of a contraction, as hardware that shortens factors takes it.

        Cut off, it loses between 0 and ``2 u`` of the power of two below it, in every run alike in the mean.
        """
        if not self.roundoff.truncated:
            return self.relative(x, self.roundoff.factors)
        _, exponent = torch.frexp(x)
        lost = torch.from_numpy(self._generator.random(x.numel(), np.float32)).reshape(x.shape)
        return x - torch.sign(x) * torch.ldexp(self.roundoff.factors * lost, exponent)

    def relative(self, x: Tensor, unit: float) -> Tensor:
        """``x`` with each element rounded by ``unit``."""
        return x if unit == 0.0 else x * (1 + self.values(tuple(x.shape)) * (unit * ROUNDING))

    def variance(self, variance: Tensor, mean: Tensor, relative: Tensor, off: Tensor) -> Tensor:
        """A batch's variance, from the relative error of a sum of squares and the error of the mean.

        In one pass it is the mean of the squares less the square of the mean as it was found: the error is relative to
        the squares, and the mean's enters twice. A runtime does not let it become negative; a quarter is left here.
        """
        if not self.roundoff.one_pass:
            return variance * (1 + relative)
        found = variance + (variance + mean.square()) * relative - 2 * mean * off
        return torch.maximum(found, variance / 4)

    def repeated(self, x: Tensor) -> Tensor:
        """The relative variance of a sum of squared deviations in which the zeros that a ReLU left are all alike."""
        zeros = (x == 0).sum((0, 2, 3)).clamp(min=1).to(x.dtype).numpy()
        one = np.zeros_like(zeros) if self.roundoff.one_pass else np.ones_like(zeros)  # a square of 0 adds nothing
        return torch.from_numpy(alike(self.roundoff.sums, zeros, one))

    def of_images(self, shares: Sequence[Tensor]) -> Tensor | float:
        """The variance of adding the images' shares of a gradient where they are stored
        (`oracle.precision.algorithms`)."""
        if self.roundoff.between == 0.0 or len(shares) < 2:
            return 0.0
        rounding, parts = self.roundoff.rounding, torch.stack(list(shares)).numpy()
        return torch.as_tensor(of_pieces(parts.sum(0), np.square(parts).sum(0), len(parts), rounding))

    def of_taps(self, dx: Tensor, dy: Tensor, weight: Tensor, node: Node) -> Tensor | float:
        """The same of a convolution's input gradient, whose pieces are what the taps of the kernel contribute."""
        if self.roundoff.between == 0.0 or weight.shape[2] == 1:
            return 0.0
        window, groups = node.window, node.attributes["groups"]
        squares = tap_squares(
            dy.numpy(), weight.detach().numpy(), dx.shape, window.stride[0], window.padding[0], groups
        )
        return torch.as_tensor(of_pieces(dx.numpy(), squares, window.overlap, self.roundoff.rounding))

    def of_tiles(self, node: Node, variances: Variances, a: Tensor, b: Tensor) -> Tensor | float:
        """The variance of a convolution, or of one of its gradients, by Winograd's algorithm."""
        if not self.roundoff.winograd or not has_tiles(node.window):
            return 0.0
        given, padding, groups = (a.detach().numpy(), b.detach().numpy()), node.window.padding[0], _groups(node)
        return torch.as_tensor(sum(variances(*given, padding, self.roundoff.winograd, self.roundoff.sums, groups)))

    def again(self, y: Tensor, roundings: int) -> Tensor | float:
        """The variance of further roundings of a result before it is written."""
        return self._square(self.roundoff.sums) * roundings * y.detach().square() if roundings else 0.0

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


def _groups(node: Node) -> int:
    groups: int = node.attributes.get("groups", 1)
    return groups


def _geometry(node: Node) -> tuple[Any, ...]:
    """Stride, padding and dilation; a linear layer is a convolution of 1x1 images."""
    return node.window.stride, node.window.padding, (1,) * len(node.window.kernel)


_CONVOLVE: dict[int, Callable[..., Tensor]] = {1: torch.conv1d, 2: torch.conv2d, 3: torch.conv3d}


class _Convolution(torch.autograd.Function):
    """A convolution (or, with 1x1 images, a linear layer) whose output and gradients are disturbed."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, node: Node, disturb: Disturbance) -> Tensor:
        x, weight = disturb.shorten(x), disturb.shorten(weight)
        ctx.save_for_backward(x, weight)
        ctx.node, ctx.disturb, groups = node, disturb, _groups(node)
        y = _CONVOLVE[x.ndim - 2](x, weight, None, *_geometry(node), groups)
        mean = _mean_square(x).reshape(groups, -1)
        taps = weight.square().sum(tuple(range(2, x.ndim))).reshape(groups, -1, weight.shape[1])
        squares = torch.einsum("goi,gi->go", taps, mean).reshape(-1)
        more = disturb.of_tiles(node, winograd_output, x, weight)
        return disturb.store(y, math.prod(weight.shape[1:]), squares, more)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (x, weight), node, disturb, groups = ctx.saved_tensors, ctx.node, ctx.disturb, _groups(ctx.node)
        dy = disturb.shorten(gradients[0].contiguous())
        dx, dw = _convolution_gradients(dy, x, weight, node, ctx.needs_input_grad[0])
        mean = _mean_square(dy)
        if dx is not None:
            taps = weight.square().sum(tuple(range(2, x.ndim))).reshape(groups, -1, weight.shape[1])
            skipped = math.prod(node.window.stride)  # of the taps, a stride leaves one in so many for each pixel
            squares = torch.einsum("goi,go->gi", taps, mean.reshape(groups, -1)).reshape(-1) / skipped
            terms = weight.shape[0] // groups * math.prod(weight.shape[2:]) / skipped
            more = disturb.of_tiles(node, winograd_input_gradient, dy, weight)
            dx = disturb.store(dx, terms, squares, more + disturb.of_taps(dx, dy, weight, node))
        terms = dy.numel() // dy.shape[1]
        products = mean.reshape(groups, -1, 1) * _mean_square(x).reshape(groups, 1, -1)
        squares = (terms * products).reshape(1, -1, *[1] * (dw.ndim - 2))
        flat = dw.reshape(1, -1, *dw.shape[2:])
        shares = [
            _convolution_gradients(dy[i : i + 1], x[i : i + 1], weight, node, False)[1]
            for i in (range(len(dy)) if disturb.roundoff.between else ())
        ]
        more = disturb.of_images(shares)
        more = more + disturb.of_tiles(node, winograd_weight_gradient, dy, x)
        more = more if isinstance(more, float) else more.reshape(flat.shape)
        return dx, disturb.store(flat, terms, squares, more).reshape(dw.shape), None, None


def _convolution_gradients(dy: Tensor, x: Tensor, weight: Tensor, node: Node, of_input: bool) -> tuple[Any, Any]:
    """The gradient of a convolution's input, where it is asked for, and that of its weight."""
    sides = x.ndim - 2
    dx, dw, _ = torch.ops.aten.convolution_backward(
        dy, x, weight, None, *_geometry(node), False, [0] * sides, _groups(node), [of_input, True, False]
    )
    return dx, dw


class _Normalisation(torch.autograd.Function):
    """Batch normalisation whose statistics, output and gradients are disturbed."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gamma: Tensor, beta: Tensor, norm: _Norm, disturb: Disturbance) -> Tensor:
        count, (mean, variance) = x.numel() // x.shape[1], (norm.mean, norm.variance)
        if norm.training:
            variance, mean = torch.var_mean(x, _but_channels(x), correction=0)
            of_mean = disturb.chain(count, count * variance, (count * mean).square()) / count**2
            of_variance = disturb.chain(count, 0.0 * variance, torch.ones_like(variance)) + disturb.repeated(x)
            off = disturb.shared(len(mean), of_mean.sqrt())
            relative = disturb.shared(len(mean), of_variance.sqrt())
            variance = disturb.variance(variance, mean, relative, off)
            mean = mean + off
            norm.keep(mean, variance * count / max(1, count - 1), disturb)
        rstd = 1 / torch.sqrt(variance + norm.node.attributes["eps"])
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
        sums, more = [], []
        for terms in (dy, product):
            total = terms.sum(_but_channels(terms))
            error = disturb.chain(count, count * _mean_square(terms), total.square())
            sums.append(total + disturb.shared(len(total), error.sqrt()))
            more.append(disturb.of_images(terms.sum(_but_channels(terms)[1:]).unbind()))
        of_dy, of_product = sums
        scale = gamma * rstd
        inner = torch.addcmul(dy - _wide(of_dy / count, dy), normal, _wide(-of_product / count, dy))
        parts = _mean_square(dy) + (of_dy / count).square() + (of_product / count).square()
        dx = disturb.store(inner * _wide(scale, dy), 1.0, 6 * scale.square() * parts)
        rounded = [disturb.store(total, more=of) for total, of in zip((of_product, of_dy), reversed(more), strict=True)]
        return dx, *rounded, None, None


def _but_channels(x: Tensor) -> tuple[int, ...]:
    return (0, *range(2, x.ndim))


@dataclass
class _Norm:
    """A normalisation's statistics as they are kept."""

    node: Node
    mean: Tensor
    variance: Tensor
    training: bool

    def keep(self, mean: Tensor, variance: Tensor, disturb: Disturbance) -> None:
        """Move the running statistics, as PyTorch does; what is written is rounded."""
        with torch.no_grad():
            for kept, now in ((self.mean, mean), (self.variance, variance)):
                kept.copy_(disturb.kept(kept.lerp(now, self.node.attributes["momentum"])))


# -- the operations with their errors ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Setting:
    """What a run is besides its graph: whether it normalises by the batch, and the labels of the loss."""

    training: bool
    labels: np.ndarray


Parameters = Mapping[str, Tensor]


def _disturbed_conv(node: Node, x: Tensor, of: Parameters, setting: Setting, disturb: Disturbance) -> Tensor:
    y: Tensor = _Convolution.apply(x, of["weight"], node, disturb)
    return y


def _disturbed_linear(node: Node, x: Tensor, of: Parameters, setting: Setting, disturb: Disturbance) -> Tensor:
    y = _Convolution.apply(x[:, :, None, None], of["weight"][:, :, None, None], node, disturb)
    return disturb.store(y[:, :, 0, 0] + of["bias"])


def _disturbed_norm(node: Node, x: Tensor, of: Parameters, setting: Setting, disturb: Disturbance) -> Tensor:
    norm = _Norm(node, of["running_mean"], of["running_var"], setting.training)
    y: Tensor = _Normalisation.apply(x, of["weight"], of["bias"], norm, disturb)
    return y


# Those whose errors are not those of their results alone.
DISTURBED: dict[str, Callable[[Node, Tensor, Parameters, Setting, Disturbance], Tensor]] = {
    "conv": _disturbed_conv,
    "linear": _disturbed_linear,
    "norm": _disturbed_norm,
}


def _made(
    node: Node, inputs: Sequence[Tensor], of: Parameters, setting: Setting, disturb: Disturbance | None
) -> Tensor:
    """What an operation makes before it decides, with the errors that it declares."""
    if disturb is not None and node.op in DISTURBED and not is_traced(node):
        return DISTURBED[node.op](node, inputs[0], of, setting, disturb)
    operation = operation_of(node)
    with _parts(node, disturb):
        y: Tensor = operation.compute(node, inputs, of, setting)
    if disturb is not None and is_traced(node) and operation.errs.way == "composed":
        return disturb.store(y)
    if disturb is None or operation.errs.way in ("moves", "composed"):
        return y
    if operation.errs.way == "sums":
        return disturb.store(y, operation.errs.terms(node, tuple(inputs[0].shape)))
    return disturb.store(y, more=disturb.again(y, operation.errs.roundings - 1))


def _parts(node: Node, disturb: Disturbance | None) -> contextlib.AbstractContextManager[Any]:
    """While what a traced operation is composed of runs, its parts are disturbed."""
    return DisturbedParts(disturb) if disturb is not None and is_traced(node) else contextlib.nullcontext()


# -- runs --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Decisions:
    """What the operations of a graph decide.

    Args:
        passed: by operation that decides by the sign, where its output is above zero.
        winners: by operation that takes the largest, their flat positions in each channel's image.
        masks: by operation that decides by the sign, where its gradient passes, if that is known to be elsewhere.
    """

    passed: Mapping[str, np.ndarray] = field(default_factory=dict)
    winners: Mapping[str, np.ndarray] = field(default_factory=dict)
    masks: Mapping[str, np.ndarray] = field(default_factory=dict)


def winners_of(node: Node, image: np.ndarray) -> np.ndarray:
    """Which element each window of a max pooling takes: the first largest.

    Shapes: ``(N, C, H, W) -> (N, C, OH, OW)``, flat positions in ``H * W``.

    Example:
        >>> from oracle.graph.graph import Window
        >>> pool = Node("pool", "max pool", ("input",), {"window": Window((3, 3), (2, 2), (1, 1))})
        >>> winners_of(pool, np.zeros((1, 1, 4, 4))).tolist()
        [[[[0, 1], [4, 5]]]]
    """
    window = node.window
    pool = (functional.max_pool1d, functional.max_pool2d, functional.max_pool3d)[len(window.kernel) - 1]
    given = torch.from_numpy(np.asarray(image, np.float64, order="C"))
    found: np.ndarray = pool(given, window.kernel, window.stride, window.padding, return_indices=True)[1].numpy()
    return found


@dataclass(frozen=True)
class Subgraph:
    """A part of a graph, and what a subject handed over.

    Args:
        nodes: the operations to run.
        given: values and their gradients that take the place of those that are computed, for whoever takes them; what
            is recorded is what was computed. Each is rounded once more where there are errors.
        state: the parameters and statistics, as they are stored.
        keep: the names of values to return.
    """

    nodes: Sequence[Node]
    given: Mapping[Key, np.ndarray]
    state: Mapping[str, np.ndarray]
    keep: Collection[str] = ()


def run_driven(
    case: Case,
    recorder: Recorder,
    decisions: Decisions,
    disturb: Disturbance | None = None,
    piece: Subgraph | None = None,
) -> dict[str, np.ndarray]:
    """Run a case's graph in float64 at the given decisions, and record every tensor.

    Args:
        case: what to run.
        recorder: takes outputs, the loss and gradients.
        decisions: what the operations decide.
        disturb: errors to put in; none leaves the truth at those decisions.
        piece: the part to run; all of it by default.

    Returns:
        The values that the piece keeps, as whoever takes them took them.
    """
    run = _Run(case, recorder, decisions, disturb, piece or Subgraph(case.graph.nodes, {}, case.state))
    run.run()
    return run.kept


def _wide_tensor(array: np.ndarray) -> Tensor:
    """A tensor in float64; tokens as they are."""
    return torch.from_numpy(array.astype(np.float64) if array.dtype.kind == "f" else np.array(array))


@dataclass
class _Call:
    """One operation that ran: what it took, as the leaves of a graph of its own, and what it made."""

    node: Node
    inputs: list[Tensor]
    output: Tensor


class _Run:
    """One run of a graph, an operation at a time: forward in order, backward from the last to the first."""

    def __init__(
        self,
        case: Case,
        recorder: Recorder,
        decided: Decisions,
        disturb: Disturbance | None,
        piece: Subgraph,
    ) -> None:
        graph: Graph = case.graph
        self._piece, self._given, self._differentiable = piece, piece.given, graph.differentiable
        self.kept: dict[str, np.ndarray] = {}
        self._recorder, self._decided, self._disturb = recorder, decided, disturb
        self._setting = Setting(case.mode == "train", case.labels if case.mode == "train" else np.zeros(0, np.int64))
        self._parameters = list(dict.fromkeys(name for node in graph.nodes for name in node.parameters.values()))
        statistics = [name for node in graph.nodes for name in node.statistics.values()]
        self._state = {
            name: torch.from_numpy(piece.state[name].astype(np.float64)) for name in (*self._parameters, *statistics)
        }
        if disturb is not None:
            for name in (*self._parameters, *statistics):
                self._state[name] = disturb.relative(self._state[name], disturb.roundoff.weights)
        for name in self._parameters:
            self._state[name].requires_grad_(self._setting.training)
        image = _wide_tensor(case.input)
        exact = disturb is None or not image.is_floating_point()
        self._values = {INPUT: image if disturb is None or exact else disturb.relative(image, disturb.roundoff.weights)}
        self._values |= {name: self._taken((kind, name)) for kind, name in piece.given if kind == "activation"}
        self._gradients: dict[str, Tensor] = {}

    def run(self) -> None:
        """Run the piece, forward and, in a train step, backward."""
        train, nodes = self._setting.training, self._piece.nodes
        with torch.set_grad_enabled(train):
            calls = self._all_forward([node for node in nodes if train or not is_loss(node)])
        if not train:
            return
        for name in (name for node in nodes for name in node.statistics.values()):
            self._recorder.record("statistic", name, self._state[name].numpy())
        while calls:
            self._backward(calls.pop())
        for name in [name for name in self._gradients if name not in self._state]:  # of what the piece begins with
            self._record_gradient(name, self._gradients[name])
        for name in self._parameters:
            gradient = self._gradients.pop(name, None)
            if gradient is not None:
                again = self._disturb is not None and gradient.ndim == 1
                gradient = self._disturb.store(gradient) if again and self._disturb else gradient
                self._recorder.record("parameter_gradient", name, gradient.numpy())

    def _all_forward(self, nodes: Sequence[Node]) -> list[_Call]:
        """Run operations in order; what nobody takes any more is let go."""
        last = {name: place for place, node in enumerate(nodes) for name in node.inputs}
        calls: list[_Call] = []
        for place, node in enumerate(nodes):
            call = self._forward(node)
            if self._setting.training:
                calls.append(call)
            for name in (*node.inputs, *node.outputs):
                if name in self._piece.keep and name not in self.kept:
                    self.kept[name] = self._values[name].numpy()
                if last.get(name, -1) <= place:
                    self._values.pop(name, None)
        return calls

    def _forward(self, node: Node) -> _Call:
        inputs = [self._values[name].detach().requires_grad_(self._wants_gradient(name)) for name in node.inputs]
        roles = (*node.parameters.items(), *node.statistics.items())
        of = {role: self._state[name] for role, name in roles}
        y = self._make(node, inputs, of)
        kind = "loss" if is_loss(node) else "activation"
        self._recorder.record(kind, node.name, y.detach().numpy())  # type: ignore[arg-type]
        self._values.setdefault(node.name, y.detach())  # what was given stays
        return _Call(node, inputs, y)

    def _wants_gradient(self, name: str) -> bool:
        return self._setting.training and name in self._differentiable

    def _taken(self, key: Key) -> Tensor:
        """What is given, as whoever takes it takes it."""
        given = _wide_tensor(self._given[key])
        exact = self._disturb is None or not given.is_floating_point()
        return given if self._disturb is None or exact else self._disturb.store(given)

    def _make(self, node: Node, inputs: Sequence[Tensor], of: Parameters) -> Tensor:
        """What an operation makes at the decision that is given; at its own where none is."""
        how = operation_of(node).decides(node)
        if how == "winner" and node.name in self._decided.winners:
            winners = torch.from_numpy(self._decided.winners[node.name])
            return inputs[0].flatten(2).gather(2, winners.flatten(2)).reshape(winners.shape)
        y = _made(node, inputs, of, self._setting, self._disturb)
        if how != "side":
            return y
        passed, mask = self._decided.passed.get(node.name), self._decided.masks.get(node.name)
        decided = y.relu() if passed is None else y * torch.from_numpy(passed)
        if mask is None:
            return decided
        masked = y * torch.from_numpy(mask)
        return masked + (decided - masked).detach()

    def _record_gradient(self, name: str, gradient: Tensor) -> Tensor:
        """The gradient of a value, complete, as it is written."""
        written = gradient if self._disturb is None else self._disturb.store(gradient)
        self._recorder.record("activation_gradient", name, written.numpy())
        return written

    def _backward(self, call: _Call) -> None:
        node, name = call.node, call.node.name
        gradient = self._gradients.pop(name, None)
        if is_loss(node):
            gradient = torch.ones_like(call.output)
        else:
            gradient = None if gradient is None else self._record_gradient(name, gradient)
            key: Key = ("activation_gradient", name)
            gradient = self._taken(key) if key in self._given else gradient
        if gradient is None:
            return  # nobody who ran takes it
        wanted = [each for each in call.inputs if each.requires_grad]
        parameters = [(found, self._state[found]) for found in node.parameters.values()]
        if not wanted and not parameters:
            return
        with _parts(node, self._disturb):
            found = torch.autograd.grad(
                call.output, [*wanted, *(value for _, value in parameters)], gradient, allow_unused=True
            )
        names = [each for each, leaf in zip(node.inputs, call.inputs, strict=True) if leaf.requires_grad]
        for owner, part in zip([*names, *(each for each, _ in parameters)], found, strict=True):
            if part is not None:
                before = self._gradients.get(owner)
                self._gradients[owner] = part if before is None else before + part
