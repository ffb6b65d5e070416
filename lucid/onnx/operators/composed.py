"""Operations for which ONNX has no operator, as several: losses of elements, divisions with rest, angles, running
products, and normalisation by the statistics of a batch."""

from __future__ import annotations

import math
from typing import Any

from onnx import TensorProto

from lucid.graph import Node
from lucid.kernels.pool import taps
from lucid.onnx._builder import Builder, exports


class Steps:
    """Emits steps on the way, numbered; numbers are constants of the operation's dtype."""

    def __init__(self, b: Builder, node: Node) -> None:
        self.b = b
        self.node = node
        self.count = 0

    def __call__(self, op: str, *operands: Any, last: bool = False, **attrs: Any) -> str:
        self.count += 1
        inputs = [self.number(each) if isinstance(each, int | float) else each for each in operands]
        return self.b.emit(op, self.node, inputs, "" if last else f"{op.lower()}_{self.count}", **attrs)

    def number(self, value: float) -> str:
        self.count += 1
        return self.b.constant(self.node, f"number_{self.count}", value, self.b.dtype(self.node.output))


@exports("huber")
def _huber(b: Builder, node: Node) -> None:
    step, (x, target) = Steps(b, node), node.inputs
    size = step("Abs", step("Sub", x, target))
    near = step("Min", size, node.attrs["delta"])
    step("Mul", near, step("Sub", size, step("Mul", near, 0.5)), last=True)


@exports("binary_cross_entropy")
def _cross(b: Builder, node: Node) -> None:
    step, (p, target) = Steps(b, node), node.inputs
    yes = step("Mul", target, step("Max", step("Log", p), -100.0))
    other = step("Max", step("Log", step("Sub", 1.0, p)), -100.0)
    step("Neg", step("Add", yes, step("Mul", step("Sub", 1.0, target), other)), last=True)


@exports("binary_cross_entropy_with_logits")
def _logit_cross(b: Builder, node: Node) -> None:
    step, (x, target) = Steps(b, node), node.inputs
    linear = step("Sub", step("Max", x, 0.0), step("Mul", x, target))
    step("Add", linear, step("Softplus", step("Neg", step("Abs", x))), last=True)


@exports("clip_between")
def _clip_between(b: Builder, node: Node) -> None:
    x, low, high = node.inputs
    if low is not None:
        x = b.emit("Max", node, [x, low], "above" if high is not None else "")
    if high is not None:
        b.emit("Min", node, [x, high])


def _rest(step: Steps, a: str | None, divisor: str | None) -> str:
    """The remainder with the sign of the divisor; ONNX's of floats has that of the dividend."""
    rest = step("Mod", a, divisor, fmod=1)
    apart = step("Not", step("Equal", rest, 0.0))
    signs = step("Xor", step("Less", rest, 0.0), step("Less", divisor, 0.0))
    return step("Where", step("And", apart, signs), step("Add", rest, divisor), rest)


@exports("remainder")
def _remainder(b: Builder, node: Node) -> None:
    a, divisor = node.inputs
    if b.dtype(a).kind == "f":
        b.emit("Identity", node, [_rest(Steps(b, node), a, divisor)])
    else:
        b.emit("Mod", node, [a, divisor])


@exports("floor_divide")
def _floor_divide(b: Builder, node: Node) -> None:
    """What is left without the rest, divided: by 0 the quotient itself."""
    step, (a, divisor) = Steps(b, node), node.inputs
    if b.dtype(a).kind != "f":
        step("Div", step("Sub", a, step("Mod", a, divisor)), divisor, last=True)
        return
    whole = step("Round", step("Div", step("Sub", a, _rest(step, a, divisor)), divisor))
    step("Where", step("Equal", divisor, 0.0), step("Div", a, divisor), whole, last=True)


@exports("arctan2")
def _arctan2(b: Builder, node: Node) -> None:
    """The angle of the quotient, turned by half where ``x`` is negative; 0 of two zeros."""
    step, (y, x) = Steps(b, node), node.inputs
    half = step("Where", step("Less", y, 0.0), -math.pi, math.pi)
    turned = step("Where", step("Less", x, 0.0), half, 0.0)
    zeros = step("And", step("Equal", x, 0.0), step("Equal", y, 0.0))
    step("Where", zeros, 0.0, step("Add", step("Atan", step("Div", y, x)), turned), last=True)


@exports("cumprod")
def _cumprod(b: Builder, node: Node) -> None:
    """By doubling: products of 2, 4, 8 and more neighbours."""
    step, axis, shape = Steps(b, node), node.attrs["axis"], b.shape(node.output)
    size, x = shape[axis], str(node.inputs[0])
    if not isinstance(size, int):
        raise ValueError(f"{node.name!r}: a running product along an axis of open size has no counterpart in ONNX")
    along, done = b.constant(node, "axis", [axis]), 1
    while done < size:
        before = step(
            "Slice", x, b.constant(node, f"start_{done}", [0]), b.constant(node, f"end_{done}", [-done]), along
        )
        widths = [done if i == axis else 0 for i in range(len(shape))] + [0] * len(shape)
        x = step("Mul", x, step("Pad", before, b.constant(node, f"pads_{done}", widths), 1.0))
        done *= 2
    b.emit("Identity", node, [x])


def by_batch(b: Builder, node: Node) -> None:
    """Batch normalisation by the batch's own mean and variance."""
    step, (x, gamma, beta, *_) = Steps(b, node), node.inputs
    axes = [0, *range(2, len(b.shape(x)))]
    channels = [b.shape(x)[1], *[1] * (len(axes) - 1)]
    shape = b.constant(node, "channels", channels)

    def mean(value: str | None) -> str:
        if b.opset < 18:
            return step("ReduceMean", value, axes=axes)
        return step("ReduceMean", value, b.constant(node, f"axes_{step.count}", axes))

    centred = step("Sub", x, mean(x))
    root = step("Sqrt", step("Add", mean(step("Mul", centred, centred)), node.attrs["eps"]))
    y = step("Div", centred, root)
    y = y if gamma is None else step("Mul", y, step("Reshape", gamma, shape))
    y = y if beta is None else step("Add", y, step("Reshape", beta, shape))
    b.emit("Identity", node, [y])


@exports("rounded")
def _rounded(b: Builder, node: Node) -> None:
    """To half precision and back."""
    half = TensorProto.FLOAT16 if node.attrs["dtype"] == "float16" else TensorProto.BFLOAT16
    b.emit("Cast", node, [b.emit("Cast", node, node.inputs, "half", to=half)], to=TensorProto.FLOAT)


@exports("straight_through")
def _straight_through(b: Builder, node: Node) -> None:
    b.emit("Identity", node, [node.inputs[1]])


@exports("resampled")
def _resampled(b: Builder, node: Node) -> None:
    """Each side by a matrix of weights, turned last."""
    x, dtype = str(node.inputs[0]), b.dtype(node.output)
    axes = len(b.shape(x))
    for i, (rule, side) in enumerate(zip(node.attrs["rules"], b.shape(x)[2:], strict=True)):
        if not isinstance(side, int):
            raise ValueError(f"{node.name!r}: a resizing of images of open size has no counterpart in the ONNX export")
        order = [axis for axis in range(axes) if axis != i + 2] + [i + 2]
        turned = b.emit("Transpose", node, [x], f"turned_{i}", perm=order)
        matrix = b.constant(node, f"weights_{i}", taps.dense(rule.table(side), side).T, dtype)
        made = b.emit("MatMul", node, [turned, matrix], f"made_{i}")
        x = b.emit("Transpose", node, [made], f"back_{i}", perm=sorted(range(axes), key=order.__getitem__))
    b.emit("Identity", node, [x])
