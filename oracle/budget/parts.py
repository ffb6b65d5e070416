"""An operation that is composed of others, disturbed in each of its parts.

What a composed operation computes is written in PyTorch's primitive operations (`oracle.operations.traced`), and its
gradient is PyTorch's, of the same kind. While it runs, forward or backward, every primitive's result is disturbed as
another implementation's rounding would disturb it. Nothing is derived for the whole: its parts round, and what comes of
that is what a healthy implementation may be off by.

- What *moves* data is exact.
- What is *linear in each* of its operands is a sum of products. Called once more with ones it counts their terms, and
  with squares it sums their squares; `Disturbance.chain` says what follows. A sum is rounded as it is stored, too, and
  so are the factors of a product: in 16 bits matrix units take nothing else, and runtimes store statistics.
- A *function* costs `FUNCTION_ROUNDINGS`, everything else on elements one rounding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from oracle.precision.rounding import FUNCTION_ROUNDINGS

MOVING = frozenset((
    "view", "_unsafe_view", "_reshape_alias", "reshape", "permute", "transpose", "t", "expand", "slice", "select",
    "squeeze", "unsqueeze", "clone", "detach", "alias", "cat", "stack", "split", "split_with_sizes", "chunk",
    "unbind", "copy_", "slice_backward", "select_backward", "index", "gather", "embedding", "neg", "abs", "where",
    "masked_fill", "maximum", "minimum", "amax", "amin", "sgn", "sign", "zeros", "zeros_like", "ones", "ones_like",
    "full", "full_like", "new_zeros", "new_empty", "new_ones", "new_full", "empty", "empty_like", "empty_strided",
    "scalar_tensor", "fill_", "zero_", "_to_copy", "lift_fresh", "constant_pad_nd", "repeat", "flip", "roll",
    "diagonal", "diagonal_backward", "as_strided", "clamp", "clamp_min", "clamp_max", "relu", "triu", "tril",
    "arange", "eq", "ne", "lt", "le", "gt", "ge", "bitwise_not", "logical_not", "logical_and", "repeat_interleave",
    "upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "masked_fill_", "index_select",
))  # fmt: skip
PRODUCTS = frozenset(["mm", "bmm", "addmm", "baddbmm", "mv", "dot", "convolution", "convolution_backward"])
SUMS = PRODUCTS | frozenset((
    "sum", "cumsum", "embedding_dense_backward", "index_put", "index_put_", "_index_put_impl_", "index_add",
    "scatter_add",
))  # fmt: skip
# Averages, whose weights sum to one: of at most so many terms where their number does not follow from the shapes.
AVERAGED = 32.0
AVERAGES = ("mean", "avg_pool", "_adaptive_avg_pool", "upsample_")
FUNCTIONS = frozenset((
    "exp", "exp2", "expm1", "log", "log2", "log1p", "tanh", "sigmoid", "erf", "sin", "cos", "tan", "asin", "acos",
    "atan", "sinh", "cosh", "rsqrt", "pow", "tanh_backward", "sigmoid_backward",
))  # fmt: skip


class Errors(Protocol):
    """What is asked of an `oracle.budget.driven.Disturbance`."""

    roundoff: Any

    def values(self, shape: tuple[int, ...]) -> Tensor: ...

    def shorten(self, x: Tensor) -> Tensor: ...

    def relative(self, x: Tensor, unit: float) -> Tensor: ...

    def chain(self, terms: float, squares: Tensor, total: Tensor | float) -> Tensor: ...


class DisturbedParts(TorchDispatchMode):
    """Inside, every primitive operation of PyTorch on floats rounds as a healthy implementation may.

    Args:
        disturb: where the errors come from.
    """

    def __init__(self, disturb: Errors) -> None:
        super().__init__()
        self._disturb = disturb

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run one primitive operation."""
        name, given = func.overloadpacket.__name__, dict(kwargs or {})
        if name in PRODUCTS:
            args = tree_map(self._shortened, tuple(args))
        in_place = name.endswith("_") and not name.endswith("__")
        others = self._others(name, func, args, given) if name in SUMS else {}
        made = func(*args, **given)
        if name in MOVING:
            return made
        single = isinstance(made, Tensor)
        written = [
            each if not _is_float(each) else self._written(name, each, _first(args), others.get(place))
            for place, each in enumerate([made] if single else made)
        ]
        if in_place:
            return made.copy_(written[0])
        return written[0] if single else tuple(written)

    def _shortened(self, value: Any) -> Any:
        """A factor, as the hardware takes it."""
        if not _is_float(value):
            return value
        disturb = self._disturb
        return disturb.shorten(disturb.relative(value, disturb.roundoff.stored))

    @staticmethod
    def _others(
        name: str, func: Any, args: Sequence[Any], given: Mapping[str, Any]
    ) -> dict[int, tuple[Tensor, Tensor]]:
        """By result, how many terms each element sums, and the sum of their squares."""
        found = []
        for of in (torch.ones_like, torch.square):
            made = func(*tree_map(lambda x, of=of: of(x) if _is_float(x) else x, tuple(args)), **given)
            found.append([made] if isinstance(made, Tensor) else made)
        return {place: pair for place, pair in enumerate(zip(*found, strict=True)) if pair[0] is not None}

    def _written(self, name: str, y: Tensor, first: Tensor | None, of_sum: tuple[Tensor, Tensor] | None) -> Tensor:
        disturb = self._disturb
        if of_sum is not None:
            variance = disturb.chain(1.0, of_sum[0] * of_sum[1], of_sum[0] * y.square())
            if name not in PRODUCTS:  # those of gradients may be kept as they are stored
                variance = (
                    variance * (max(disturb.roundoff.between, disturb.roundoff.sums) / disturb.roundoff.sums) ** 2
                )
            variance = torch.where(of_sum[0] > 1.5, variance, torch.zeros_like(variance))  # nothing is added
            y = y + variance.sqrt() * disturb.values(tuple(y.shape))
            return disturb.relative(y, disturb.roundoff.stored)
        sums = disturb.roundoff.sums
        if name.startswith(AVERAGES):
            terms = max(AVERAGED, 1.0 if first is None else first.numel() / max(1, y.numel()))
            largest = y.square() if first is None else torch.maximum(y.square(), first.square().mean())
            return y + disturb.chain(1.0, largest, terms * y.square()).sqrt() * disturb.values(tuple(y.shape))
        return disturb.relative(y, sums * FUNCTION_ROUNDINGS if name in FUNCTIONS else sums)


def _is_float(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _first(args: Sequence[Any]) -> Tensor | None:
    return next((each for each in args if _is_float(each)), None)
