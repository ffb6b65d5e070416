"""The operations of traced graphs: what each computes, in PyTorch's primitive operations.

A traced operation has the name that lucid's graphs give it. Of it nothing else is declared than how it errs: it
*moves* data, or it is *composed* of the primitive operations that its function calls, each of which rounds as
`oracle.budget.parts` says. So a function here is written out: what a runtime may compute in steps is computed in those
steps, the gradient follows, and no bound is derived by hand. One that lucid composes itself and that this table does
not have (``layer_norm``, ``group_norm``) is the operations of its body.

Attributes of a node: ``operands``, one for each operand in lucid's order: ``("input", place)``, ``("parameter",
role)``, ``("constant", array)``, ``("made", node)`` of integers, or ``("none", None)``; ``shape``, of what it makes;
lucid's own attributes under ``call``; and ``body``, the nodes of which it consists, whose operands are ``("outer",
place)`` or ``("inner", name)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from oracle.graph.graph import Node, Shape
from oracle.operations.operation import COMPOSED, MOVES, Operation

Function = Callable[..., Any]


def _operands(node: Node, sources: Mapping[str, Any]) -> list[Any]:
    """The tensors that an operation takes, in lucid's order; None for one that is not there."""
    import torch

    found: list[Any] = []
    for where, which in node.attributes["operands"]:
        if where == "constant":
            array = which.astype(np.float64) if which.dtype.kind == "f" else which
            found.append(torch.from_numpy(np.array(array)))
        elif where == "made":
            found.append(_run(which, _operands(which, sources)))
        else:
            found.append(None if where == "none" else sources[where][which])
    return found


def _compute(node: Node, inputs: Sequence[Any], parameters: Mapping[str, Any], setting: Any) -> Any:
    return _run(node, _operands(node, {"input": inputs, "parameter": parameters}))


def _run(node: Node, operands: Sequence[Any]) -> Any:
    """What a traced operation makes of its operands, by its function or by those of its body."""
    function = FUNCTIONS.get(node.op)
    if function is not None:
        return function(*operands, **node.attributes["call"])
    made: dict[str, Any] = {}
    for step in node.attributes["body"]:
        made[step.name] = _run(step, _operands(step, {"outer": operands, "inner": made}))
    return made[node.attributes["body"][-1].name]


def is_traced(node: Node) -> bool:
    """Whether an operation is one of this table."""
    return "operands" in node.attributes


def _describe(node: Node, inputs: Sequence[Shape], parameters: Mapping[str, Shape]) -> str:
    call = ", ".join(f"{name}={value}" for name, value in node.attributes["call"].items())
    return f"{node.op}({call})"


# -- what moves data ---------------------------------------------------------------------------------------------------


def _pad(x: Any, widths: Sequence[tuple[int, int]], value: float = 0.0) -> Any:
    from torch.nn.functional import pad

    return pad(x, [side for pair in reversed(widths) for side in pair], value=value)


def _index(index: Any) -> Any:
    import torch

    if isinstance(index, tuple):
        return tuple(_index(part) for part in index)
    return torch.from_numpy(np.array(index)) if isinstance(index, np.ndarray) else index


def _getitem(x: Any, index: Any) -> Any:
    for axis, part in enumerate(index if isinstance(index, tuple) else ()):
        if isinstance(part, slice) and part.step is not None and part.step < 0:  # which PyTorch has not
            places = _index(np.arange(x.shape[axis])[part].copy())
            return _getitem(x.index_select(axis, places), (*index[:axis], slice(None), *index[axis + 1 :]))
    return x[_index(index)]


_MOVING: dict[str, Function] = {
    "reshape": lambda x, shape: x.reshape(shape),
    "transpose": lambda x, axes: x.permute(axes),
    "broadcast_to": lambda x, shape: x.expand(shape),
    "getitem": _getitem,
    "pad": _pad,
    "identity": lambda x: x,
    "module_hook": lambda x: x,
    "cast": lambda x, dtype: x.long() if np.dtype(dtype).kind in "iu" else x.double(),
    "index_select": lambda x, index, axis: _taken(x, index, axis),
    "gather": lambda x, index, axis: _taken(x, index, axis),
    **{
        name: (lambda a, b, name=name: getattr(a, name)(b))
        for name in ("greater", "less", "greater_equal", "less_equal", "not_equal")
    },
    "equal": lambda a, b: a == b,
    "concatenate": lambda *parts, axis: _joined(parts, axis),
    "diagonal": lambda x, offset, axis1, axis2: x.diagonal(offset, axis1, axis2),
    "embedding": lambda index, weight, padding_idx: _rows(index, weight, padding_idx),
    "neg": lambda x: -x,
    "abs": lambda x: x.abs(),
    "where": lambda condition, a, b: _where(condition, a, b),
    "maximum": lambda a, b: _extremum(a, b, True),
    "minimum": lambda a, b: _extremum(a, b, False),
    "clip": lambda x, min_value, max_value: x.clamp(min_value, max_value),
}


def _rows(index: Any, weight: Any, padding_idx: int | None) -> Any:
    from torch.nn.functional import embedding

    return embedding(index.long(), weight, padding_idx)


def _joined(parts: Sequence[Any], axis: int) -> Any:
    import torch

    return torch.cat(list(parts), axis)


def _taken(x: Any, index: Any, axis: int) -> Any:
    """Slices by an index of one axis, elements by another."""
    index = index.long()
    places = index + (index < 0) * x.shape[axis]
    return x.index_select(axis, places) if places.ndim == 1 else x.gather(axis, places)


def _where(condition: Any, a: Any, b: Any) -> Any:
    import torch

    return torch.where(condition.bool(), a, b)


def _extremum(a: Any, b: Any, largest: bool) -> Any:
    import torch

    return torch.maximum(a, b) if largest else torch.minimum(a, b)


# -- what computes, element by element ---------------------------------------------------------------------------------


def _gelu(x: Any, approximate: str) -> Any:
    if approximate == "tanh":
        return 0.5 * x * (1 + (math.sqrt(2 / math.pi) * (x + 0.044715 * (x * x * x))).tanh())
    return 0.5 * x * (1 + (x / math.sqrt(2)).erf())


def _softplus(x: Any) -> Any:
    return x.clamp(min=0) + (-x.abs()).exp().log1p()


def _sigmoid(x: Any) -> Any:
    return x.sigmoid()


_SELU, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772

_ELEMENTWISE: dict[str, Function] = {
    "relu": lambda x: x.clamp(min=0),
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "square": lambda x: x * x,
    "cube": lambda x: x * x * x,
    "reciprocal": lambda x: 1 / x,
    "sqrt": lambda x: x.sqrt(),
    "power": lambda x, exponent: x**exponent,
    "power_of": lambda a, b: a**b,
    "exp": lambda x: x.exp(),
    "exp2": lambda x: x.exp2(),
    "expm1": lambda x: x.expm1(),
    "log": lambda x: x.log(),
    "log2": lambda x: x.log2(),
    "log1p": lambda x: x.log1p(),
    "sin": lambda x: x.sin(),
    "cos": lambda x: x.cos(),
    "tan": lambda x: x.tan(),
    "arcsin": lambda x: x.asin(),
    "arccos": lambda x: x.acos(),
    "arctan": lambda x: x.atan(),
    "sinh": lambda x: x.sinh(),
    "cosh": lambda x: x.cosh(),
    "tanh": lambda x: x.tanh(),
    "erf": lambda x: x.erf(),
    "sigmoid": _sigmoid,
    "gelu": _gelu,
    "silu": lambda x: x * _sigmoid(x),
    "mish": lambda x: x * _softplus(x).tanh(),
    "softplus": _softplus,
    "log_sigmoid": lambda x: -_softplus(-x),
    "elu": lambda x, alpha: _where(x > 0, x, alpha * x.clamp(max=0).expm1()),
    "selu": lambda x: _SELU * _where(x > 0, x, _SELU_ALPHA * x.clamp(max=0).expm1()),
    "leaky_relu": lambda x, negative_slope: _where(x > 0, x, negative_slope * x),
    "relu6": lambda x: x.clamp(0, 6),
    "hard_sigmoid": lambda x: (x / 6 + 0.5).clamp(0, 1),
    "hard_swish": lambda x: x * (x / 6 + 0.5).clamp(0, 1),
}


# -- what sums ---------------------------------------------------------------------------------------------------------


def _axes(x: Any, axis: Any) -> Any:
    return tuple(range(x.ndim)) if axis is None else axis


def _sum(x: Any, axis: Any, keepdims: bool) -> Any:
    return x.sum(_axes(x, axis), keepdim=keepdims)


def _mean(x: Any, axis: Any, keepdims: bool) -> Any:
    total = _sum(x, axis, keepdims)
    return total / (x.numel() / max(1, total.numel()))


def _log_softmax(x: Any, axis: int) -> Any:
    centred = x - x.detach().amax(axis, keepdim=True)
    return centred - centred.exp().sum(axis, keepdim=True).log()


def _weights(scores: Any, mask: Any, scale: float, causal: bool) -> Any:
    """The softmax of scaled and masked scores ``(..., L, S)``."""
    import torch

    scores = scores * scale
    length, width = scores.shape[-2:]
    if causal:
        later = torch.ones(length, width, dtype=torch.bool).triu(1)
        scores = scores.masked_fill(later, -math.inf)
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
    powers = (scores - scores.detach().amax(-1, keepdim=True)).exp()
    return powers / powers.sum(-1, keepdim=True)


def _attention(q: Any, k: Any, v: Any, mask: Any, scale: float, causal: bool) -> Any:
    return _weights(q @ k.transpose(-1, -2), mask, scale, causal) @ v


def _product(x: Any, weight: Any, bias: Any) -> Any:
    y = x @ weight.transpose(-1, -2)
    return y if bias is None else y + bias


def _convolved(sides: int) -> Function:
    def convolve(x: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> Any:
        import torch

        y = (torch.conv1d, torch.conv2d, torch.conv3d)[sides - 1](x, weight, None, stride, padding, dilation, groups)
        return y if bias is None else y + bias.reshape(-1, *[1] * sides)

    return convolve


def _transposed(sides: int) -> Function:
    def convolve(x: Any, weight: Any, bias: Any, **of: Any) -> Any:
        import torch

        convolutions = (torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d)
        y = convolutions[sides - 1](x, weight, None, **of)
        return y if bias is None else y + bias.reshape(-1, *[1] * sides)

    return convolve


def _averaged(sides: int) -> Function:
    def average(x: Any, kernel_size: Any, stride: Any, padding: Any, ceil_mode: bool, count_include_pad: bool) -> Any:
        from torch.nn import functional

        pool: Any = (functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d)[sides - 1]
        return pool(x, kernel_size, stride, padding, ceil_mode, count_include_pad)

    return average


def _adaptive(sides: int) -> Function:
    def average(x: Any, output_size: Any) -> Any:
        from torch.nn import functional

        pools: Any = functional.adaptive_avg_pool1d, functional.adaptive_avg_pool2d, functional.adaptive_avg_pool3d
        return pools[sides - 1](x, output_size)

    return average


_MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}


def _interpolate(x: Any, size: Any, mode: str, align_corners: bool, scale_factor: Any, antialias: bool) -> Any:
    from torch.nn.functional import interpolate

    linear = mode in ("linear", "bilinear", "trilinear")
    corners = align_corners if linear or mode == "bicubic" else None
    asked: dict[str, Any] = {"size": size} if scale_factor is None else {"scale_factor": scale_factor}
    named = _MODES[x.ndim - 2] if linear else mode
    return interpolate(x, mode=named, align_corners=corners, antialias=antialias, **asked)


def _batch_norm(x: Any, weight: Any, bias: Any, mean: Any, variance: Any, eps: float, **_: Any) -> Any:
    """With stored statistics."""
    weight, bias, mean, variance = (each.reshape(-1, *[1] * (x.ndim - 2)) for each in (weight, bias, mean, variance))
    return (x - mean) / (variance + eps).sqrt() * weight + bias


_SUMMING: dict[str, Function] = {
    "batch_norm": _batch_norm,
    "sum": _sum,
    "mean": _mean,
    "max": lambda x, axis, keepdims: x.amax(_axes(x, axis), keepdim=keepdims),
    "min": lambda x, axis, keepdims: x.amin(_axes(x, axis), keepdim=keepdims),
    "cumsum": lambda x, axis: x.cumsum(axis),
    "matmul": lambda a, b: a @ b,
    "linear": _product,
    "log_softmax": _log_softmax,
    "attention": _attention,
    "attention_weights": _weights,
    "interpolate": _interpolate,
    **{f"conv{sides}d": _convolved(sides) for sides in (1, 2, 3)},
    **{f"conv_transpose{sides}d": _transposed(sides) for sides in (1, 2, 3)},
    **{f"avg_pool{sides}d": _averaged(sides) for sides in (1, 2, 3)},
    **{f"adaptive_avg_pool{sides}d": _adaptive(sides) for sides in (1, 2, 3)},
}


# By operation, its function: of its operands, and of lucid's attributes by name.
FUNCTIONS: Mapping[str, Function] = {**_MOVING, **_ELEMENTWISE, **_SUMMING}


def traced_operation(node: Node) -> Operation:
    """What a traced operation declares."""
    return MOVED if node.op in _MOVING else COMPOSITION


def _shape(node: Node, inputs: Sequence[Shape], parameters: Mapping[str, Shape]) -> tuple[Shape, ...]:
    return (node.attributes["shape"],)


MOVED = Operation("moved", MOVES, _shape, _compute, _describe)
COMPOSITION = Operation("composition", COMPOSED, _shape, _compute, _describe)
