"""Quantisation, ``q = clip(round(x / scale) + zero_point)`` and ``x = (q - zero_point) scale``, and computing with q.

Sums of products of integers are exact. They are computed in float64, whose whole numbers below 2**53 no order of
addition rounds, and are integers of 32 bits afterwards, which wrap around. What a scale is beside is float32, or the
type that the model declares: each factor, each quotient and each product is rounded once, as they are written here;
rounding to an integer takes the nearest, ties to even.

A value that is quantised and dequantised at once has the gradient of ``torch.fake_quantize_per_tensor_affine``: what
arrives goes straight through to where the value was within the range of the integers, and is 0 elsewhere; scale and
zero point have none. Of integers that are dequantised, the scale alone has a gradient.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from lucid import ops
from lucid.backends import Backend
from lucid.core.grad_mode import no_grad, recording
from lucid.core.tensor import Tensor
from lucid.onnx._importer import IMPORTS, Call, Value, imports
from lucid.onnx._types import HALF, as_array, as_value, dtype_of, has_tensors, rounded
from lucid.onnx._windows import window_padding
from lucid.onnx.operators.casting import is_small_integer, small_float
from lucid.ops._function import Function, apply

_MS = "com.microsoft"
_INT32 = np.dtype(np.int32)
_FLOAT = np.dtype(np.float32)


def _tensor(call: Call, value: Value, dtype: Any = None) -> Tensor:
    """A value of any type of numbers as a tensor; of a type that has no tensors, in float32, exactly."""
    if isinstance(value, np.ndarray):
        value = as_value(value if has_tensors(value.dtype) else value.astype(np.float32), call.device)
    return value if dtype is None or value.dtype == dtype else value.astype(dtype)


def _less_zero(call: Call, x: Value, zero: Value, axis: int | None = None) -> Tensor:
    """``x - zero``, integers as float64; ``zero`` may be one number for each place along ``axis``."""
    exact = _tensor(call, x, np.float64)
    return exact if zero is None else exact - _along(_tensor(call, zero, np.float64), exact.ndim, axis)


def _along(value: Tensor, ndim: int, axis: int | None) -> Tensor:
    """One number, or numbers along an axis, to stand beside a tensor of ``ndim`` axes."""
    if value.size == 1:
        return ops.reshape(value, ())
    if value.ndim != 1 or axis is None:
        return value
    return ops.reshape(value, tuple(-1 if i == axis % ndim else 1 for i in range(ndim)))


def _limits(dtype: np.dtype[Any]) -> tuple[int, int]:
    info = ml_dtypes.iinfo(dtype)
    return int(info.min), int(info.max)


def _in_range(call: Call, real: Tensor, zero: Tensor | None, dtype: np.dtype[Any], saturate: bool = True) -> Value:
    """``real``, which was divided by the scale, in a type that ``zero`` has too."""
    if not is_small_integer(dtype) and dtype.kind not in "iu":
        return small_float(as_array(real, np.dtype(np.float32)), dtype, saturate)
    whole = ops.round(real)
    whole = ops.clip(whole if zero is None else whole + zero, *_limits(dtype))
    if has_tensors(dtype):
        return whole.astype(dtype)
    return as_array(whole).astype(np.int8).astype(dtype)


def _requantized(call: Call, total: Tensor, factor: Tensor, zero: Value, default: np.dtype[Any]) -> Value:
    """``total`` times ``factor`` in the type of ``zero``: what an operator on quantised values ends with."""
    dtype = default if zero is None else _dtype(zero)
    shift = None if zero is None or not has_tensors(dtype) else _tensor(call, zero, total.dtype)
    return _in_range(call, total * factor, None if shift is None else _along(shift, total.ndim, -1), dtype)


def _dtype(value: Value) -> np.dtype[Any]:
    return value.dtype


def _factor(call: Call, scale: Value, other: Value, result: Value) -> Tensor:
    """``scale * other / result``, each step rounded to float32."""
    product = _tensor(call, scale, _FLOAT) * _tensor(call, other, _FLOAT)
    return product / _tensor(call, result, _FLOAT)


# -- to and from integers --------------------------------------------------------------------------------------------


def _beside(call: Call, value: Value, shape: tuple[int, ...], dtype: Any = None) -> Tensor:
    """A scale or zero point beside a tensor of ``shape``: one, one for each place along ``axis``, or one for each
    block of ``block_size`` places."""
    made = _tensor(call, value, dtype)
    axis = 1 if call["axis"] is None else call["axis"]
    if made.size == 1 or made.ndim < 2 or not call["block_size"]:
        return _along(made, len(shape), axis)
    axis %= len(shape)
    places = np.arange(shape[axis]) // call["block_size"]
    if made.ndim != len(shape) or made.shape[axis] != -(-shape[axis] // call["block_size"]):
        raise call.refuse(f"its scale has shape {made.shape} for blocks of {call['block_size']} in {shape}")
    return ops.index_select(made, axis, places)


def _quantized_type(call: Call, zero: Value) -> np.dtype[Any]:
    declared = call.results[0] or (None if zero is None else _dtype(zero))
    return declared or (dtype_of(call["output_dtype"]) if call["output_dtype"] else None) or np.dtype(np.uint8)


def _divided(call: Call, x: Value, scale: Value) -> Tensor:
    """``x / scale`` in the precision that is asked for, which is the scale's."""
    wanted = dtype_of(call["precision"]) if call["precision"] else call.dtypes[1]
    x = _tensor(call, x)
    x = x if x.dtype.kind == "f" else x.astype(_FLOAT)
    divided = x / _beside(call, scale, x.shape, x.dtype)
    return rounded(divided, wanted) if wanted is not None and wanted in HALF else divided


@imports("QuantizeLinear", raw=True, state=(1, 2))
@imports("QuantizeLinear", domain=_MS, raw=True, state=(1, 2))
def _import_quantize(call: Call, x: Value, scale: Value, zero: Value = None) -> Value:
    divided, dtype = _divided(call, x, scale), _quantized_type(call, zero)
    shift = None if zero is None else _beside(call, zero, divided.shape, divided.dtype)
    return _in_range(call, divided, shift, dtype, call["saturate"] != 0)


@imports("DequantizeLinear", raw=True, state=(1, 2))
@imports("DequantizeLinear", domain=_MS, raw=True, state=(1, 2))
def _import_dequantize(call: Call, x: Value, scale: Value, zero: Value = None, source: Value = None) -> Value:
    """``source`` is what ``x`` was quantised from by the same scale, where the reader saw that: its gradient's way."""
    floats = _FLOAT if not isinstance(scale, Tensor) else scale.dtype
    codes = _tensor(call, x, floats)
    if zero is not None:
        codes = codes - _beside(call, zero, codes.shape, floats)
    y = codes * _beside(call, scale, codes.shape, floats)
    asked = isinstance(source, Tensor) and source.requires_grad and recording.enabled
    if not asked and not (isinstance(source, Tensor) and recording.differentiated):
        return y
    dtype = _dtype(x)
    with no_grad():
        whole = ops.round(_divided(call, source, scale))
        whole = whole if zero is None else whole + _beside(call, zero, whole.shape, whole.dtype)
        low, high = _limits(dtype) if is_small_integer(dtype) or dtype.kind in "iu" else (-np.inf, np.inf)
        inside = ops.logical_and(whole >= low, whole <= high)
    return apply(_StraightThrough(), source, y if y.dtype == source.dtype else y.astype(source.dtype), inside)


class _StraightThrough(Function):
    """``y``, with the gradient of ``x`` where ``inside`` is true."""

    name = "straight_through"
    any_dtype_inputs = (2,)

    def forward(self, be: Backend, x: Any, y: Any, inside: Any) -> Any:
        self.inside = inside
        return y.copy()

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        return be.xp.where(self.inside, dy, be.number(0.0, dy.dtype)), None, None


@imports("DynamicQuantizeLinear", gradient=False)
def _import_dynamic_quantize(call: Call, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """To 0 .. 255, which are to reach from the least to the largest element, and to have 0."""
    least = ops.clip(ops.amin(x), None, 0.0)
    reach = ops.clip(ops.amax(x), 0.0, None) - least
    scale = ops.where(reach == 0, ops.ones_like(reach), reach) / 255.0
    zero = ops.round(ops.clip((0.0 - least) / scale, 0.0, 255.0))
    y = ops.clip(ops.round(x / scale) + zero, 0.0, 255.0)
    return y.astype(np.uint8), scale, zero.astype(np.uint8)


# -- products --------------------------------------------------------------------------------------------------------


def _as_int32(total: Tensor) -> Tensor:
    return total.astype(np.int64).astype(_INT32)


@imports("MatMulInteger", raw=True, gradient=False)
def _import_matmul_integer(call: Call, a: Value, b: Value, zero_a: Value = None, zero_b: Value = None) -> Tensor:
    """Zero points may be one for each row of ``a`` and each column of ``b``."""
    return _as_int32(ops.matmul(_less_zero(call, a, zero_a, -2), _less_zero(call, b, zero_b, -1)))


@imports("QLinearMatMul", raw=True, gradient=False)
def _import_qlinear_matmul(
    call: Call, a: Value, sa: Value, za: Value, b: Value, sb: Value, zb: Value, sy: Value, zy: Value
) -> Value:
    total = ops.matmul(_less_zero(call, a, za, -2), _less_zero(call, b, zb, -1))
    rows = _along(_tensor(call, sa, _FLOAT), max(2, total.ndim), -2)
    factor = _factor(call, rows, _along(_tensor(call, sb, _FLOAT), total.ndim, -1), sy)
    return _requantized(call, _whole(call, total, a), factor, zy, _dtype(a))


def _whole(call: Call, total: Tensor, like: Value) -> Tensor:
    """A sum of products as it is beside scales; of integers it has passed through 32 bits."""
    return (_as_int32(total) if has_tensors(_dtype(like)) else total).astype(_FLOAT)


_CONV: Any = {1: ops.conv1d, 2: ops.conv2d, 3: ops.conv3d}


def _convolved(call: Call, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A convolution in float64; what lies around the images is their zero point."""
    sides = x.ndim - 2
    if not 1 <= sides <= 3:
        raise call.refuse(f"its images have {sides} sides; they may have one to three")
    stride, dilation = call["strides"] or [1] * sides, call["dilations"] or [1] * sides
    x, padding = window_padding(call, x, weight.shape[2:], stride, dilation)
    return _CONV[sides](x, weight, bias, tuple(stride), padding, tuple(dilation), call["group"] or 1)


@imports("ConvInteger", raw=True, gradient=False)
def _import_conv_integer(call: Call, x: Value, w: Value, zero_x: Value = None, zero_w: Value = None) -> Tensor:
    return _as_int32(_convolved(call, _less_zero(call, x, zero_x), _less_zero(call, w, zero_w, 0)))


@imports("QLinearConv", raw=True, gradient=False)
@imports("QLinearConv", domain=_MS, raw=True, gradient=False)
def _import_qlinear_conv(
    call: Call,
    x: Value,
    sx: Value,
    zx: Value,
    w: Value,
    sw: Value,
    zw: Value,
    sy: Value,
    zy: Value,
    bias: Value = None,
) -> Value:
    """The bias is an integer of the products' scale."""
    images = _less_zero(call, x, zx)
    images = _channels(call, images, 1)
    shift = None if bias is None else _tensor(call, bias, np.float64)
    total = _convolved(call, images, _less_zero(call, w, zw, 0), shift)
    factor = _factor(call, sx, _along(_tensor(call, sw, _FLOAT), images.ndim, 1), sy)
    y = _requantized(call, _whole(call, total, x), factor, zy, _dtype(x))
    return _channels(call, y, -1)


def _channels(call: Call, x: Tensor, place: int) -> Tensor:
    """Images whose channels come last, with channels first (``place`` 1), or back."""
    if not call["channels_last"]:
        return x
    rest = range(1, x.ndim - 1) if place == 1 else range(2, x.ndim)
    return ops.transpose(x, (0, x.ndim - 1, *rest) if place == 1 else (0, *rest, 1))


@imports("QGemm", domain=_MS, raw=True, gradient=False)
def _import_qgemm(
    call: Call,
    a: Value,
    sa: Value,
    za: Value,
    b: Value,
    sb: Value,
    zb: Value,
    c: Value = None,
    sy: Value = None,
    zy: Value = None,
) -> Value:
    """``alpha a b + c``; ``c`` is an integer of the product's scale. Without a scale for the result it is floats."""
    b, columns = (_tensor(call, b), -1 if not call["transB"] else 0)
    left, right = _less_zero(call, a, za), _less_zero(call, b, zb, columns)
    total = ops.matmul(left.T if call["transA"] else left, right.T if call["transB"] else right)
    total = total if c is None else total + _tensor(call, c, np.float64)
    scale = _along(_tensor(call, sb, _FLOAT), 2, -1) * (1.0 if call["alpha"] is None else call["alpha"])
    factor = _tensor(call, sa, _FLOAT) * scale
    if sy is None:
        return _whole(call, total, a) * factor
    return _requantized(call, _whole(call, total, a), factor / _tensor(call, sy, _FLOAT), zy, _dtype(a))


@imports("MatMulIntegerToFloat", domain=_MS, raw=True, gradient=False)
def _import_matmul_to_float(
    call: Call, a: Value, b: Value, sa: Value, sb: Value, za: Value = None, zb: Value = None, bias: Value = None
) -> Tensor:
    total = _as_int32(ops.matmul(_less_zero(call, a, za, -2), _less_zero(call, b, zb, -1))).astype(_FLOAT)
    scale = _along(_tensor(call, sa, _FLOAT), total.ndim, -2) * _along(_tensor(call, sb, _FLOAT), total.ndim, -1)
    y = total * scale
    return y if bias is None else y + _tensor(call, bias, _FLOAT)


@imports("DynamicQuantizeMatMul", domain=_MS, raw=True, gradient=False)
def _import_dynamic_matmul(call: Call, a: Value, b: Value, sb: Value, zb: Value = None, bias: Value = None) -> Tensor:
    codes, scale, zero = _import_dynamic_quantize(call, _tensor(call, a, _FLOAT))
    return _import_matmul_to_float(call, codes, b, scale, sb, zero, zb, bias)


# -- what ONNX Runtime's quantiser makes of other operators ----------------------------------------------------------


def _dequantized(call: Call, x: Value, scale: Value, zero: Value) -> Tensor:
    return _less_zero(call, x, zero).astype(_FLOAT) * _tensor(call, scale, _FLOAT)


def _quantized(call: Call, real: Tensor, scale: Value, zero: Value, default: np.dtype[Any]) -> Value:
    dtype = default if zero is None else _dtype(zero)
    shift = None if zero is None else _tensor(call, zero, _FLOAT)
    return _in_range(call, real / _tensor(call, scale, _FLOAT), shift, dtype)


@imports("QLinearAdd", domain=_MS, raw=True, gradient=False)
def _import_qlinear_add(
    call: Call, a: Value, sa: Value, za: Value, b: Value, sb: Value, zb: Value, sy: Value, zy: Value = None
) -> Value:
    total = _dequantized(call, a, sa, za) + _dequantized(call, b, sb, zb)
    return _quantized(call, total, sy, zy, _dtype(a))


@imports("QLinearMul", domain=_MS, raw=True, gradient=False)
def _import_qlinear_mul(
    call: Call, a: Value, sa: Value, za: Value, b: Value, sb: Value, zb: Value, sy: Value, zy: Value = None
) -> Value:
    total = _less_zero(call, a, za) * _less_zero(call, b, zb)
    return _requantized(call, total.astype(_FLOAT), _factor(call, sa, sb, sy), zy, _dtype(a))


@imports("QLinearLeakyRelu", domain=_MS, raw=True, gradient=False)
def _import_qlinear_leaky_relu(call: Call, x: Value, sx: Value, zx: Value, sy: Value, zy: Value = None) -> Value:
    alpha = 0.01 if call["alpha"] is None else call["alpha"]
    return _quantized(call, ops.leaky_relu(_dequantized(call, x, sx, zx), alpha), sy, zy, _dtype(x))


@imports("QLinearSigmoid", domain=_MS, raw=True, gradient=False)
def _import_qlinear_sigmoid(call: Call, x: Value, sx: Value, zx: Value, sy: Value, zy: Value = None) -> Value:
    return _quantized(call, ops.sigmoid(_dequantized(call, x, sx, zx)), sy, zy, _dtype(x))


@imports("QLinearSoftmax", domain=_MS, raw=True, gradient=False)
def _import_qlinear_softmax(call: Call, x: Value, sx: Value, zx: Value, sy: Value, zy: Value = None) -> Value:
    """Before opset 13 over all axes from ``axis`` on together."""
    real = _dequantized(call, x, sx, zx)
    axis = -1 if call["axis"] is None else call["axis"]
    if (call["opset"] or 13) >= 13:
        made = ops.softmax(real, axis)
    else:
        rows = int(np.prod(real.shape[: axis % real.ndim]))
        made = ops.reshape(ops.softmax(ops.reshape(real, (rows, -1)), 1), real.shape)
    return _quantized(call, made, sy, zy, _dtype(x))


@imports("QLinearGlobalAveragePool", "QLinearAveragePool", domain=_MS, raw=True, gradient=False)
def _import_qlinear_average(call: Call, x: Value, sx: Value, zx: Value, sy: Value, zy: Value = None) -> Value:
    """The average of ``x - zero_point`` in float64, rounded to float32, by the quotient of the scales."""
    images = _channels(call, _less_zero(call, x, zx), 1)
    average = IMPORTS["", call.operator.removeprefix("QLinear")].function(call, images).astype(_FLOAT)
    factor = _tensor(call, sx, _FLOAT) / _tensor(call, sy, _FLOAT)
    return _channels(call, _requantized(call, average, factor, zy, _dtype(x)), -1)


@imports("QLinearConcat", domain=_MS, raw=True, gradient=False)
def _import_qlinear_concat(call: Call, sy: Value, zy: Value, *parts: Value) -> Value:
    """Each part comes with its scale and its zero point."""
    reals = [_dequantized(call, *parts[i : i + 3]) for i in range(0, len(parts), 3)]
    return _quantized(call, ops.concatenate(reals, call["axis"]), sy, zy, _dtype(parts[0]))
