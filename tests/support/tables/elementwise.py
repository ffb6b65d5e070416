"""Rows of the operations on each element, with and without broadcasting."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import lucid
import lucid.nn.functional as F
from support.operations import Given, Row

UNARY_SHAPES = [(), (1,), (0,), (3, 0, 2), (1, 1), (7,), (5, 3), (4, 1, 5), (2, 3, 5, 7), (1027,)]
PAIRS_OF_SHAPES = [
    ((), ()),
    ((), (3,)),
    ((1,), (0,)),
    ((0, 3), (1, 3)),
    ((1, 1), (1, 1)),
    ((5,), (5,)),
    ((3, 1), (1, 4)),
    ((2, 3, 4), (4,)),
    ((3, 4), (2, 1, 4)),
    ((2, 1, 3, 1), (4, 1, 5)),
    ((2, 3, 5, 7), (2, 3, 5, 7)),
    ((2, 3, 5, 7), (3, 1, 1)),
    ((67,), (1,)),
]
EXPONENTS = (0, 1, 2, 3, -1, -2, 5, 0.5, 1.7, -0.3)

Function = Callable[..., Any]


def shape_name(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def unary(
    name: str,
    ours: Function,
    theirs: Function,
    *,
    kind: Any = "normal",
    operation: Function | None = None,
    **options: Any,
) -> list[Row]:
    """The operation on every shape, and where numbers are zeros, infinities, NaN and subnormal."""
    special = options.pop("special", theirs)
    operation = operation or ours
    rows = [
        Row(f"{name}-{shape_name(shape)}", operation, ours, theirs, (Given(shape, kind),), **options)
        for shape in UNARY_SHAPES
    ]
    given = (Given((9, 23), "special"),)
    return [*rows, Row(f"{name}-special", operation, ours, special, given, **{**options, "smooth": False})]


def binary(name: str, ours: Function, theirs: Function, *, kind: Any = "normal", second: Any = None) -> list[Row]:
    """The operation on every pair of shapes, both ways round, and where numbers are special."""
    rows = []
    for a, b in PAIRS_OF_SHAPES:
        for left, right in dict.fromkeys([(a, b), (b, a)]):
            given = Given(left, kind), Given(right, second or kind)
            rows.append(Row(f"{name}-{shape_name(left)}-{shape_name(right)}", ours, ours, theirs, given, sums=True))
    given = Given((9, 23), "special"), Given((9, 23), "special")
    return [*rows, Row(f"{name}-special", ours, ours, theirs, given, smooth=False)]


def wide(function: Function) -> Function:
    """PyTorch's function in float64, narrowed at the end, where lucid's is better than PyTorch's in float32.

    PyTorch's float32 sigmoid is 0 where the true value is subnormal, and its float32 sums overflow on the way.
    """
    return lambda x, *rest: function(x.double(), *rest).to(x.dtype)


def sign_of_nan_is_nan(x: torch.Tensor) -> torch.Tensor:
    """PyTorch has 0 there, lucid what ONNX and NumPy have."""
    return torch.where(torch.isnan(x), x * 0, torch.sign(x))


def abs_with_slope_of_nan(x: torch.Tensor) -> torch.Tensor:
    """PyTorch's gradient of ``|x|`` at NaN is 0, lucid's NaN, as the slope ``sign(x)`` is."""
    return torch.abs(x) * torch.where(torch.isnan(x), math.nan, 1.0)


def power(exponent: float) -> list[Row]:
    """lucid takes the exponent in float64, PyTorch in the tensor's dtype: so PyTorch computes in float64 here. It has
    IEEE's pow of exponents that are tensors, of a number 0.5 a root (NaN of minus infinity)."""

    def ours(x: lucid.Tensor) -> lucid.Tensor:
        return lucid.power(x, exponent)

    def theirs(x: torch.Tensor) -> torch.Tensor:
        return torch.pow(x.double(), torch.full_like(x, exponent, dtype=torch.float64)).to(x.dtype)

    def special(x: torch.Tensor) -> torch.Tensor:
        """In the dtype, for steps of its gradient may overflow there."""
        return torch.pow(x, torch.full_like(x, exponent)) if float(exponent).is_integer() else theirs(x)

    kind = "normal" if float(exponent).is_integer() and exponent >= 0 else "positive"
    limits = [[0.0, -0.0, math.inf, -math.inf, math.nan, 1.0, -1.0, 0.25, 4.0, -4.0, -3.0]]
    limited = Row(f"power{exponent}-limits", lucid.power, ours, theirs, (Given(fixed=limits),), smooth=False)
    usual = unary(f"power{exponent}", ours, theirs, kind=kind, operation=lucid.power, special=special)
    if exponent == -0.3:  # a step of the gradient overflows
        usual = [row for row in usual if not row.name.endswith("special")]
    return [*usual, limited]


def divided(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """``a / b`` with the gradients that lucid documents, ``q = dy / b`` and ``-(q * y)``.

    PyTorch has ``-dy * (y / b)``. The two differ where a step on one of the ways is beyond the largest number.
    """
    return _Divided.apply(a, b)


class _Divided(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        y = a / b
        ctx.save_for_backward(b, y)
        return y

    @staticmethod
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        b, y = ctx.saved_tensors
        q = dy / b
        return q, -(q * y)


def clip(low: float | None, high: float | None) -> list[Row]:
    def ours(x: lucid.Tensor) -> lucid.Tensor:
        return lucid.clip(x, low, high)

    def theirs(x: torch.Tensor) -> torch.Tensor:
        return torch.clamp(x, low, high)

    ties = Row(f"clip{low},{high}-ties", lucid.clip, ours, theirs, (Given((4, 9), "ties"),), smooth=False)
    return [*unary(f"clip{low},{high}", ours, theirs, kind="apart", operation=lucid.clip), ties]


def clip_between() -> list[Row]:
    """Bounds that are tensors: of every shape, one of them open, crossed, and equal to the operand."""
    rows = []
    for x, low, high in [
        ((4, 9), (4, 9), (4, 9)),
        ((4, 9), (9,), ()),
        ((3, 1), (1, 4), (3, 4)),
        ((), (), ()),
        ((0,), (1,), ()),
    ]:
        given = Given(x), Given(low), Given(high)
        name = f"clip-{shape_name(x)}-between-{shape_name(low)}-{shape_name(high)}"
        rows.append(Row(name, lucid.clip, lucid.clip, torch.clamp, given, sums=True))
    two = Given((4, 9), "apart"), Given((9,))
    rows += [
        Row(
            "clip-above", lucid.clip, lambda x, b: lucid.clip(x, b), lambda x, b: torch.clamp(x, min=b), two, sums=True
        ),
        Row(
            "clip-below",
            lucid.clip,
            lambda x, b: lucid.clip(x, None, b),
            lambda x, b: torch.clamp(x, max=b),
            two,
            sums=True,
        ),
        Row(
            "clip-mixed",
            lucid.clip,
            lambda x, b: lucid.clip(x, -1, b),
            lambda x, b: x.clamp(torch.full_like(b, -1), b),
            two,
            sums=True,
        ),
        Row("clip-between-ties", lucid.clip, lucid.clip, torch.clamp, (Given((9, 9), "ties"),) * 3, smooth=False),
    ]
    return rows


def power_of() -> list[Row]:
    """Exponents that are tensors; PyTorch in float64, narrowed at the end."""

    def theirs(x: torch.Tensor, n: torch.Tensor) -> torch.Tensor:
        return torch.pow(x.double(), n.double()).to(x.dtype)

    rows = [
        Row(
            f"power_of-{shape_name(a)}-{shape_name(b)}",
            lucid.power,
            lucid.power,
            theirs,
            (Given(a, "positive"), Given(b)),
            sums=True,
        )
        for a, b in PAIRS_OF_SHAPES
    ]
    edges = np.array([0.0, -0.0, math.inf, -math.inf, math.nan, 1.0, -1.0, 0.5, -3.0, 2.0, -2.5])
    corners = Given(fixed=edges[:, None]), Given(fixed=edges)
    rows.append(Row("power_of-corners", lucid.power, lucid.power, theirs, corners, smooth=False, sums=True))
    whole = Given(fixed=np.array([-3.0, -1.0, 0.0, 1.0, 2.0, 5.0]))
    rows.append(
        Row(
            "power-whole",
            lucid.power,
            lucid.power,
            theirs,
            (Given((4, 6), "apart"), Given(fixed=whole.fixed, grad=False)),
            smooth=False,
        )
    )
    rows.append(
        Row(
            "power-of-number",
            lucid.power,
            lambda n: 2.5**n,
            lambda n: 2.5 ** n.double() if n.dtype == torch.float64 else (2.5 ** n.double()).float(),
            (Given((4, 6)),),
        )
    )
    return rows


def divided_whole() -> list[Row]:
    """``//`` and ``%`` as Python has them. PyTorch has no gradient of ``//``: it is 0."""

    def floor(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.floor_divide(a.detach(), b.detach()) + 0 * (a.detach() * 0 + b.detach() * 0)

    rows = []
    for a, b in PAIRS_OF_SHAPES:
        given = Given(a, "apart"), Given(b, "positive")
        name = f"{shape_name(a)}-{shape_name(b)}"
        rows.append(
            Row(f"remainder-{name}", lucid.remainder, lucid.remainder, torch.remainder, given, smooth=False, sums=True)
        )
        rows.append(
            Row(f"floor_divide-{name}", lucid.floor_divide, lucid.floor_divide, floor, given, smooth=False, sums=True)
        )
    return rows


def masks() -> list[Row]:
    """``where`` and ``masked_fill``, whose condition is an input without gradient."""
    even = [[True, False, True, True], [False, False, True, False], [True, True, False, True]]
    rows = []
    for c, a, b in [
        (even, (3, 4), (3, 4)),
        (even, (), (4,)),
        (even[0], (3, 1), (2, 1, 4)),
        (True, (2, 3), (3,)),
        ([], (1, 1), (3, 1)),
    ]:
        given = Given(fixed=np.array(c, bool), grad=False), Given(a), Given(b)
        name = f"where-{shape_name(a)}-{shape_name(b)}"
        rows.append(Row(name, lucid.where, lucid.where, torch.where, given, sums=True))
    special = Given(fixed=even, grad=False), Given((3, 4), "special"), Given((3, 4), "special")
    rows.append(Row("where-special", lucid.where, lucid.where, torch.where, special, smooth=False))
    for mask, shape in [(even, (3, 4)), (even[0], (2, 3, 4)), (True, (2,)), (False, ()), ([True, False], (0, 2))]:
        masked = Given(shape), Given(fixed=mask, grad=False)
        rows.append(
            Row(
                f"masked_fill-{shape_name(shape)}",
                lucid.masked_fill,
                lambda x, m: lucid.masked_fill(x, m, -1.5),
                lambda x, m: x.masked_fill(m, -1.5),
                masked,
            )
        )
    return rows


def gelu(approximate: str) -> list[Row]:
    """PyTorch in float64, from functions that keep their digits where the result is small: its own lose them there."""

    def ours(x: lucid.Tensor) -> lucid.Tensor:
        return F.gelu(x, approximate)

    def exact(x: torch.Tensor) -> torch.Tensor:
        return x * 0.5 * torch.erfc(-x * math.sqrt(0.5))

    def tanh(x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))

    function = {"none": exact, "tanh": tanh}[approximate]
    rows = unary(f"gelu-{approximate}", ours, wide(function), operation=F.gelu, sums=True)
    own = torch.nn.functional.gelu
    usual = Row(f"gelu-{approximate}-own", F.gelu, ours, lambda x: own(x, approximate=approximate), (Given((4, 9)),))
    far = Given(fixed=[-math.inf, -1e30, -65.0, -30.0, -9.0, -0.0, 0.0, 9.0, 1e30, math.inf, math.nan], grad=False)
    limited = lambda x: torch.where(x < -64, -0.0, wide(function)(x))  # noqa: E731
    limits = Row(f"gelu-{approximate}-limits", F.gelu, ours, limited, (far,), smooth=False, dtypes=(np.float32,))
    return [*[row for row in rows if not row.name.endswith("special")], dataclasses.replace(usual, sums=True), limits]


def numbers() -> list[Row]:
    """A Python number beside a tensor takes the tensor's dtype: 0.1 is narrowed before the operation."""
    cases: dict[str, tuple[Function, Function]] = {
        "add-number": (lucid.add, lambda x: x + 0.1),
        "sub-number": (lucid.sub, lambda x: x - 0.1),
        "sub-from-number": (lucid.sub, lambda x: 0.1 - x),
        "mul-number": (lucid.mul, lambda x: x * 0.1),
        "div-by-number": (lucid.div, lambda x: x / 0.1),
        "div-number": (lucid.div, lambda x: 0.1 / x),
    }
    return [Row(name, op, f, f, (Given((4, 5), "apart"),)) for name, (op, f) in cases.items()]


def same_operand() -> list[Row]:
    """One tensor in both places: its two gradients meet."""
    functions: list[tuple[Function, Function]] = [
        (lucid.add, torch.add),
        (lucid.sub, torch.sub),
        (lucid.mul, torch.mul),
        (lucid.div, divided),
        (lucid.maximum, torch.maximum),
    ]
    return [
        Row(
            f"{ours.__name__}-with-itself",
            ours,
            lambda x, f=ours: f(x, x),
            lambda x, f=theirs: f(x, x),
            (Given((5, 3), "apart"),),
            sums=True,
        )
        for ours, theirs in functions
    ]


def near(
    name: str,
    ours: Function,
    theirs: Function,
    kind: Any = "normal",
    *,
    operation: Function | None = None,
    special: Any = True,
    fixed: Any = None,
) -> list[Row]:
    """An elementary function, of which PyTorch's in float64 is the truth, and its gradient a few roundings away.

    ``fixed`` are two numbers between which the arguments lie; ``special`` may be PyTorch's function of special numbers.
    """
    operation, theirs = operation or ours, wide(theirs)
    rows = []
    for shape in ((0,), (4, 1, 5), (2, 3, 5, 7)):
        size = math.prod(shape)
        numbers = None if fixed is None else np.linspace(*fixed, size).reshape(shape)
        given = Given(shape, kind, fixed=numbers)
        rows.append(Row(f"{name}-{shape_name(shape)}", operation, ours, theirs, (given,), sums=True))
    if special:
        function = theirs if special is True else wide(special)
        rows.append(Row(f"{name}-special", operation, ours, function, (Given((9, 23), "special"),), smooth=False))
    return rows


def far(name: str, ours: Function, theirs: Function, operation: Function | None = None) -> Row:
    """Values alone, where a gradient of PyTorch's would be NaN."""
    numbers = [-1e30, -700.0, -100.0, -30.0, -0.0, 0.0, 30.0, 100.0, 700.0, 1e30, math.inf, math.nan]
    return Row(f"{name}-far", operation or ours, ours, wide(theirs), (Given(fixed=numbers, grad=False),), smooth=False)


def activations() -> list[Row]:
    theirs: Any = torch.nn.functional
    leaky = lambda x: F.leaky_relu(x, 0.2)  # noqa: E731
    elu = lambda x: F.elu(x, 1.3)  # noqa: E731
    return [
        *near("relu6", F.relu6, theirs.relu6, "apart", special=False),  # of NaN its gradient depends on the vector
        *near("leaky_relu", leaky, lambda x: theirs.leaky_relu(x, 0.2), "apart", operation=F.leaky_relu),
        *near("elu", elu, lambda x: theirs.elu(x, 1.3), "apart", operation=F.elu, special=False),
        *near("selu", F.selu, theirs.selu, "apart", special=False),
        # PyTorch's own hardsigmoid takes 1/6 in float32.
        *near("hard_sigmoid", F.hard_sigmoid, lambda x: theirs.relu6(x + 3) / 6, "apart", special=False),
        *near("hard_swish", F.hard_swish, theirs.hardswish, "apart", special=False),
        *near("silu", F.silu, theirs.silu, special=False),
        *near("mish", F.mish, theirs.mish, special=False),
        *near("softplus", F.softplus, lambda x: torch.logaddexp(x, torch.zeros_like(x))),
        *near("log_sigmoid", F.log_sigmoid, theirs.logsigmoid),
        far("hard_swish", F.hard_swish, theirs.hardswish),
        far("hard_sigmoid", F.hard_sigmoid, lambda x: theirs.relu6(x + 3) / 6),
        far("relu6", F.relu6, theirs.relu6),
        far("elu", elu, lambda x: theirs.elu(x, 1.3), F.elu),
        far("selu", F.selu, theirs.selu),
        far("silu", F.silu, theirs.silu),
        far("mish", F.mish, theirs.mish),
    ]


def losses() -> list[Row]:
    """Losses of each element; PyTorch's in float64, as lucid's are near 0 where PyTorch's in float32 are 0."""
    rows = []
    chances = np.array([[0.25, 0.5, 1e-7, 0.999], [0.0, 1.0, 0.0, 1.0], [0.75, 1e-9, 0.9, 0.1]])
    logits = np.array([[0.5, -20.0, 20.0, -0.0], [-1.0, 3.0, 90.0, -90.0], [1e-4, -7.0, 2.0, 800.0]])
    targets = np.array([[1.0, 0.0, 0.0, 1.0], [0.0, 1.0, 0.0, 1.0], [0.3, 0.7, 0.5, 1.0]])
    for reduction in ("none", "mean", "sum"):
        for name, x, theirs in (
            ("binary_cross_entropy", chances, torch.nn.functional.binary_cross_entropy),
            ("binary_cross_entropy_with_logits", logits, without_cancellation),
        ):
            ours, given = getattr(F, name), (Given(fixed=x), Given(fixed=targets, grad=False))
            rows += loss(f"{name}-{reduction}", ours, theirs, given, reduction)
        pair = Given((4, 5)), Given((4, 5))
        rows += loss(f"huber-{reduction}", F.huber_loss, torch.nn.functional.huber_loss, pair, reduction, delta=0.7)
        for beta in (0.0, 0.7):
            ours, theirs = F.smooth_l1_loss, torch.nn.functional.smooth_l1_loss
            rows += loss(f"smooth_l1-{beta}-{reduction}", ours, theirs, pair, reduction, beta=beta)
    certain = Given(fixed=[0.0, 1.0, 0.0, 1.0], grad=False), Given(fixed=[1.0, 0.0, 0.5, 0.5], grad=False)
    ours, theirs = F.binary_cross_entropy, torch.nn.functional.binary_cross_entropy
    rows += loss("binary_cross_entropy-certain", ours, theirs, certain, "none")
    far = Given((6, 4), "infinite"), Given((6, 4))
    rows += loss("huber-special", F.huber_loss, torch.nn.functional.huber_loss, far, "none", smooth=False)
    inside, both = Given(fixed=chances.clip(0.1, 0.9)), Given(fixed=targets)
    ours, theirs = F.binary_cross_entropy, torch.nn.functional.binary_cross_entropy
    rows += loss("binary_cross_entropy-target", ours, theirs, (inside, both), "sum")
    weights = Given((3, 4), "positive", grad=False), Given((4,), "positive", grad=False)
    ours, theirs = F.binary_cross_entropy_with_logits, torch.nn.functional.binary_cross_entropy_with_logits
    near = Given((3, 4)), Given(fixed=targets)

    def weighted(function: Function) -> Function:
        return lambda x, t, w, p: function(x, t, w, pos_weight=p)

    name = "binary_cross_entropy_with_logits-weighted"
    rows.append(Row(name, ours, weighted(ours), wide_all(weighted(theirs)), (*near, *weights), sums=True))
    return rows


def without_cancellation(x: torch.Tensor, t: torch.Tensor, reduction: str) -> torch.Tensor:
    """``binary_cross_entropy_with_logits``; PyTorch's own subtracts large numbers where the result is small."""
    log_sigmoid = torch.nn.functional.logsigmoid
    each = -(t * log_sigmoid(x) + (1 - t) * log_sigmoid(-x))
    return each if reduction == "none" else each.sum() if reduction == "sum" else each.mean()


def wide_all(function: Function) -> Function:
    """PyTorch's function with all operands in float64, narrowed at the end."""
    return lambda x, *rest: function(x.double(), *[y.double() for y in rest]).to(x.dtype)


def loss(name: str, ours: Function, theirs: Function, given: Any, reduction: str, **options: Any) -> list[Row]:
    smooth = options.pop("smooth", "special" not in name and not ("binary" in name and "target" not in name))

    def call(function: Function) -> Function:
        return lambda x, t: function(x, t, reduction=reduction, **options)

    return [Row(name, ours, call(ours), wide_all(call(theirs)), given, smooth=smooth, sums=reduction != "none")]


ROWS = [
    *losses(),
    *binary("add", lucid.add, torch.add),
    *binary("sub", lucid.sub, torch.sub),
    *binary("mul", lucid.mul, torch.mul),
    *binary("div", lucid.div, divided, second="positive"),
    *binary("maximum", lucid.maximum, torch.maximum, kind="apart", second="normal"),
    *binary("minimum", lucid.minimum, torch.minimum, kind="apart", second="normal"),
    Row("div-torch", lucid.div, lucid.div, torch.div, (Given((6, 7)), Given((6, 7), "positive"))),
    Row("maximum-ties", lucid.maximum, lucid.maximum, torch.maximum, (Given((9, 9), "ties"),) * 2, smooth=False),
    Row("minimum-ties", lucid.minimum, lucid.minimum, torch.minimum, (Given((9, 9), "ties"),) * 2, smooth=False),
    *numbers(),
    *same_operand(),
    *unary("neg", lucid.neg, torch.neg),
    *unary("abs", lucid.abs, torch.abs, kind="apart", special=abs_with_slope_of_nan),
    *unary("sign", lucid.sign, torch.sign, kind="apart", special=sign_of_nan_is_nan),
    *unary("sqrt", lucid.sqrt, torch.sqrt, kind="positive"),
    *unary("square", lucid.square, torch.square),
    *unary("reciprocal", lucid.reciprocal, torch.reciprocal, kind="positive"),
    *unary("exp", lucid.exp, torch.exp),
    *unary("log", lucid.log, torch.log, kind="positive"),
    *unary("sigmoid", lucid.sigmoid, torch.sigmoid, sums=True),  # where y is nearly 1, 1 - y knows few digits
    *unary("relu", F.relu, torch.relu, kind="apart"),
    *gelu("none"),
    *gelu("tanh"),
    *near("exp2", lucid.exp2, torch.exp2),
    *near("expm1", lucid.expm1, torch.expm1),
    *near("log2", lucid.log2, torch.log2, "positive"),
    *near("log1p", lucid.log1p, torch.log1p, "positive"),
    *near("sin", lucid.sin, torch.sin),
    *near("cos", lucid.cos, torch.cos),
    *near("tan", lucid.tan, torch.tan, fixed=(-1.4, 1.45)),
    # Near 1 PyTorch's gradient takes the difference of 1 and a rounded square, in float64 too.
    *near("arcsin", lucid.arcsin, torch.arcsin, fixed=(-0.95, 0.96), special=False),
    *near("arccos", lucid.arccos, torch.arccos, fixed=(-0.95, 0.96), special=False),
    far("arcsin", lucid.arcsin, torch.arcsin),
    far("arccos", lucid.arccos, torch.arccos),
    *near("arctan", lucid.arctan, torch.arctan),
    *near("sinh", lucid.sinh, torch.sinh),
    *near("cosh", lucid.cosh, torch.cosh),
    *near("tanh", lucid.tanh, torch.tanh, special=False),
    far("tanh", lucid.tanh, torch.tanh),
    *near("erf", lucid.erf, torch.erf),
    *near("cube", lucid.cube, lambda x: x * x * x),
    *near("round", lucid.round, torch.round, "apart"),
    *near("floor", lucid.floor, torch.floor, "apart"),
    *near("ceil", lucid.ceil, torch.ceil, "apart"),
    *near("trunc", lucid.trunc, torch.trunc, "apart"),
    Row(
        "round-ties",
        lucid.round,
        lambda x: lucid.round(x / 2),
        lambda x: torch.round(x / 2),
        (Given((9, 9), "ties"),),
        smooth=False,
    ),
    Row(
        "round-decimals",
        lucid.round,
        lambda x: lucid.round(x, 1),
        lambda x: torch.round(x, decimals=1),
        (Given((5, 7)),),
        smooth=False,
    ),
    Row(
        "round-tens",
        lucid.round,
        lambda x: lucid.round(x * 100, -1),
        lambda x: torch.round(x * 100, decimals=-1),
        (Given((5, 7)),),
        smooth=False,
    ),
    *[
        Row(
            f"arctan2-{shape_name(a)}-{shape_name(b)}",
            lucid.arctan2,
            lucid.arctan2,
            torch.arctan2,
            (Given(a), Given(b)),
            sums=True,
        )
        for a, b in [((3,), ()), ((0, 3), (1, 3)), ((3, 4), (2, 1, 4)), ((67,), (67,))]
    ],
    Row(
        "arctan2-special",
        lucid.arctan2,
        lucid.arctan2,
        torch.arctan2,
        (Given((9, 23), "special", grad=False), Given((9, 23), "special", grad=False)),
        smooth=False,
    ),
    *activations(),
    Row("relu-ties", F.relu, F.relu, torch.relu, (Given((9, 9), "ties"),), smooth=False),
    Row("abs-ties", lucid.abs, lucid.abs, torch.abs, (Given((9, 9), "ties"),), smooth=False),
    Row(
        "sigmoid-far",
        lucid.sigmoid,
        lucid.sigmoid,
        wide(torch.sigmoid),
        (Given(fixed=[-1000.0, -745.0, -103.0, -95.0, -88.5, -20.0, 0.0, 20.0, 88.5, 95.0, 1000.0]),),
        smooth=False,
        sums=True,
    ),
    Row(
        "exp-far",
        lucid.exp,
        lucid.exp,
        torch.exp,
        (Given(fixed=[-1000.0, -746.0, -104.0, -95.0, -88.5, -20.0, 20.0, 88.7, 88.8, 709.7, 709.8]),),
        smooth=False,
    ),
    *[row for exponent in EXPONENTS for row in power(exponent)],
    *clip(-1.0, 1.0),
    *clip_between(),
    *power_of(),
    *divided_whole(),
    *clip(None, 1.0),
    *clip(-1.0, None),
    *masks(),
]
