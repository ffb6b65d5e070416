"""Two-dimensional convolution (``ARITHMETIC.md``, section 3)."""

from __future__ import annotations

from typing import Any

from lucid.backends import Backend
from lucid.core.tensor import Tensor
from lucid.ops._function import Function, apply
from lucid.ops._window import Pair, PairLike, cached, output_size, per_side, require_image
from lucid.ops.shape import pad

__all__ = ["conv2d"]


class Conv2d(Function):
    name = "conv2d"
    params = ("stride", "padding", "dilation", "groups")
    accumulates = floats = True

    def __init__(self, stride: Pair, padding: Pair, dilation: Pair, groups: int) -> None:
        self.stride = stride
        self.padding = padding
        self.dilation = dilation
        self.groups = groups

    def forward(self, be: Backend, x: Any, weight: Any, bias: Any) -> Any:
        self.save(x, weight)
        return be.conv2d(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)

    def save(self, x: Any, weight: Any) -> None:
        """Keep each array for the other's gradient."""
        needs = self.needs
        if needs is not None:
            self.saved = (x if needs[1] else None, weight if needs[0] else None, x.shape, weight.shape)

    def backward(self, be: Backend, dy: Any, accumulate_into: Any) -> tuple[Any, ...]:
        x, weight, x_shape, weight_shape = self.saved  # type: ignore[misc]
        needs_x, needs_weight, needs_bias = self.needs[:3]  # type: ignore[index]
        geometry = self.stride, self.padding, self.dilation, self.groups
        dx = None
        if needs_x:
            dx = (
                be.conv2d_input_grad(dy, weight, x_shape, *geometry)
                if accumulate_into is None
                else be.conv2d_input_grad_onto(accumulate_into, dy, weight, geometry)
            )
        return (
            dx,
            be.conv2d_weight_grad(dy, x, weight_shape, *geometry) if needs_weight else None,
            be.reduce("sum", dy, (0, *range(2, dy.ndim)), False) if needs_bias else None,
        )


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: PairLike = 1,
    padding: PairLike | str = 0,
    dilation: PairLike = 1,
    groups: int = 1,
) -> Tensor:
    """Two-dimensional convolution (without flipping the kernel):

    ``y[n, o, i, j] = b[o] + sum over (kh, kw, c) of x[n, c, i*stride - padding + kh*dilation, ...] * w[o, c, kh, kw]``.

    Args:
        input: images ``(N, C, H, W)``.
        weight: ``(O, C/groups, KH, KW)``.
        bias: ``(O,)``, or None.
        stride: a number or a pair (vertical, horizontal), at least 1.
        padding: zeros around the image: a number or a pair, at least 0; or ``"valid"`` (none), or ``"same"`` (as many
            as keep the size, with stride 1; an odd one goes behind).
        dilation: the distance between taps: a number or a pair, at least 1.
        groups: into how many groups channels are divided; output channels of a group see its input channels alone.

    Returns:
        ``(N, O, OH, OW)`` with ``OH = floor((H + 2 padding - dilation (KH - 1) - 1) / stride) + 1``.

    Raises:
        ValueError: another rank or channel count, groups that do not divide, a kernel larger than the padded input.
        TypeError: two float dtypes.

    Source: ONNX operator Conv.

    Example:
        >>> import lucid
        >>> y = lucid.nn.functional.conv2d(lucid.ones(1, 1, 3, 3), lucid.ones(1, 1, 2, 2))
        >>> y.tolist()
        [[[[4.0, 4.0], [4.0, 4.0]]]]
    """
    input, geometry = resolve_geometry(input, weight, bias, stride, padding, dilation, groups)
    return apply(Conv2d(*geometry), input, weight, bias)


def resolve_geometry(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: PairLike,
    padding: PairLike | str,
    dilation: PairLike,
    groups: int,
) -> tuple[Tensor, tuple[Pair, Pair, Pair, int]]:
    """The input, widened where a named padding is uneven, and stride, padding, dilation and groups, checked."""
    if isinstance(padding, str):
        input, padding = _named_padding(
            input, weight, padding, per_side("stride", stride, 1), per_side("dilation", dilation, 1)
        )
    shapes = input._array.shape, weight._array.shape, None if bias is None else bias._array.shape
    return input, cached(_geometry, *shapes, stride, padding, dilation, groups)


def _geometry(
    x: tuple[int, ...],
    w: tuple[int, ...],
    bias: tuple[int, ...] | None,
    stride: PairLike,
    padding: PairLike,
    dilation: PairLike,
    groups: int,
) -> tuple[Pair, Pair, Pair, int]:
    """Stride, padding and dilation as pairs, and groups, after checking all of them and the shapes."""
    pairs = per_side("stride", stride, 1), per_side("padding", padding, 0), per_side("dilation", dilation, 1)
    if len(w) != 4 or 0 in w:
        raise ValueError(f"conv2d: weight has shape {w}; must be (O, C/groups, KH, KW) without empty axes")
    require_image("conv2d", x)
    if groups < 1 or w[0] % groups or x[1] % groups:
        raise ValueError(f"groups: got {groups}; must divide the {x[1]} input channels and the {w[0]} output channels")
    if x[1] != w[1] * groups:
        raise ValueError(
            f"conv2d: input of shape {x} has {x[1]} channels; the weight {w} with groups={groups} takes {w[1] * groups}"
        )
    if bias is not None and bias != w[:1]:
        raise ValueError(f"conv2d: bias has shape {bias}; must be {w[:1]}")
    output_size("conv2d", x, w[2:], *pairs)
    return (*pairs, groups)


def _named_padding(input: Tensor, weight: Tensor, padding: str, stride: Pair, dilation: Pair) -> tuple[Tensor, Pair]:
    """The input, widened where the two sides differ, and the padding that remains for both sides."""
    if padding == "valid":
        return input, (0, 0)
    if padding != "same":
        raise ValueError(f"padding: got {padding!r}; may be 'same', 'valid', a number or a pair")
    if max(stride) > 1:
        raise ValueError(f"padding: 'same' needs stride 1, got {stride}")
    total = [step * (kernel - 1) for step, kernel in zip(dilation, weight.shape[2:], strict=True)]
    if any(n % 2 for n in total):
        require_image("conv2d", input.shape)
        input = pad(input, ((0, 0), (0, 0), *[(0, n % 2) for n in total]))
    return input, per_side("padding", [n // 2 for n in total], 0)
