"""The operations as methods and operators of tensors: importing this attaches them to ``lucid.core.tensor.Tensor``.

``Tensor`` declares them, for readers and type checkers. A function that is called alike is the method itself; where a
method is called in another way, a short function here says how.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lucid.core.device import check_device, names_device
from lucid.core.grad_mode import no_grad, recording
from lucid.core.tensor import Tensor
from lucid.ops import (
    arrange,
    comparison,
    contraction,
    elementary,
    elementwise,
    indexing,
    order,
    product,
    reduction,
    shape,
)
from lucid.ops._function import traced_update
from lucid.ops._promotion import _RANK

_Binary = Callable[[Any, Any], Tensor]

# Under the function's own name, called as the function is.
_ALIKE: dict[Any, str] = {
    elementwise: "abs clamp clip exp log masked_fill neg pow power reciprocal relu sigmoid sign sqrt square",
    elementary: (
        "acos arccos arcsin arctan arctan2 asin atan atan2 ceil cos cosh cube erf exp2 expm1 floor log1p log2 round "
        "sin sinh tan tanh trunc"
    ),
    reduction: "argmax argmin cumprod cumsum max mean min sum var",
    comparison: "all any",
    shape: "chunk clone detach expand_dims flatten pad ravel split squeeze swapaxes unsqueeze",
    arrange: "diag diagonal flip repeat_interleave roll trace tril triu unbind",
    order: "argsort histogram sort topk unique",
    indexing: "gather index_add index_select masked_select nonzero scatter scatter_add take",
}
# With ``other`` beside the tensor.
_BINARY: dict[Any, str] = {
    elementwise: "add div maximum minimum mul multiply sub",
    product: "dot matmul",
    contraction: "inner outer",
}
# With a shape or axes that may be given as separate numbers.
_SPREAD: dict[str, Callable[[Any, Any], Tensor]] = {
    "reshape": shape.reshape,
    "view": shape.reshape,
    "broadcast_to": shape.broadcast_to,
    "expand": shape.broadcast_to,
    "permute": shape.transpose,
    "tile": arrange.tile,
    "transpose": lambda self, axes: shape.transpose(self, axes or None),
}
# ``a + b``, ``b`` being anything, ``b + a``, and ``a += b``.
_ARITHMETIC: dict[str, tuple[str, _Binary]] = {
    "add": ("+=", elementwise.add),
    "sub": ("-=", elementwise.sub),
    "mul": ("*=", elementwise.mul),
    "truediv": ("/=", elementwise.div),
    "floordiv": ("//=", elementwise.floor_divide),
    "mod": ("%=", elementwise.remainder),
    "pow": ("**=", elementwise.power),
    "and": ("&=", comparison.bitwise_and),
    "or": ("|=", comparison.bitwise_or),
    "xor": ("^=", comparison.bitwise_xor),
}
_OTHER: dict[str, Callable[..., Any]] = {
    "__matmul__": product.matmul,
    "__rmatmul__": lambda self, other: product.matmul(other, self),
    "__invert__": comparison.bitwise_not,
    "__neg__": elementwise.neg,
    "__abs__": elementwise.abs,
    "__eq__": lambda self, other: comparison.equal(self, other) if _comparable(other) else NotImplemented,
    "__ne__": lambda self, other: comparison.not_equal(self, other) if _comparable(other) else NotImplemented,
    "__lt__": comparison.less,
    "__le__": comparison.less_equal,
    "__gt__": comparison.greater,
    "__ge__": comparison.greater_equal,
    "__getitem__": shape.getitem,
    "astype": shape.cast,
    "tensordot": contraction.tensordot,
}
# Joins the tensor and those that are given.
_JOINING: dict[str, Callable[..., Any]] = {
    "concatenate": shape.concatenate,
    "stack": shape.stack,
    "hstack": arrange.hstack,
    "vstack": arrange.vstack,
    "meshgrid": arrange.meshgrid,
}


def _put(name: str, method: Any, function: Any) -> None:
    """Let ``method``, which calls ``function``, be ``Tensor.name``."""
    method.__name__, method.__doc__ = name, function.__doc__
    method.__qualname__, method.__module__ = f"Tensor.{name}", Tensor.__module__
    setattr(Tensor, name, method)


def _beside(function: _Binary) -> _Binary:
    def method(self: Tensor, other: Any) -> Tensor:
        return function(self, other)

    return method


def _reversed(function: _Binary) -> _Binary:
    def method(self: Tensor, other: Any) -> Tensor:
        return function(other, self)

    return method


def _in_place(sign: str, function: _Binary) -> _Binary:
    def method(self: Tensor, other: Any) -> Tensor:
        return _update(self, sign, function, other)

    return method


def _spread(function: _Binary) -> Callable[..., Tensor]:
    def method(self: Tensor, *numbers: Any) -> Tensor:
        one = len(numbers) == 1 and isinstance(numbers[0], Sequence)
        return function(self, tuple(numbers[0]) if one else numbers)

    return method


def _joining(function: Callable[..., Any]) -> Callable[..., Any]:
    def method(self: Tensor, *others: Any, **options: Any) -> Any:
        if len(others) == 1 and isinstance(others[0], list | tuple):
            others = tuple(others[0])
        return function([self, *others], **options)

    own, *_ = inspect.signature(method).parameters.values()
    others = inspect.Parameter("others", inspect.Parameter.VAR_POSITIONAL)
    _, *options = inspect.signature(function).parameters.values()
    named = [option.replace(kind=inspect.Parameter.KEYWORD_ONLY) for option in options]
    method.__signature__ = inspect.Signature([own, others, *named])  # type: ignore[attr-defined]
    return method


def where(self: Tensor, condition: Any, other: Any) -> Tensor:
    """The tensor where ``condition`` is true, else ``other``: ``lucid.where(condition, self, other)``.

    Example:
        >>> import lucid
        >>> x = lucid.tensor([1.0, -2.0])
        >>> x.where(x > 0, 0)
        tensor([1., 0.])
    """
    return elementwise.where(condition, self, other)


def repeat(self: Tensor, *reps: Any, axis: Any = None) -> Tensor:
    """``tile(self, reps)``, as PyTorch has it. The original's ``repeat``, with an axis, is ``repeat_interleave``.

    Raises:
        TypeError: an axis.

    Example:
        >>> import lucid
        >>> lucid.tensor([1, 2]).repeat(2)
        tensor([1, 2, 1, 2])
    """
    if axis is not None:
        raise TypeError("repeat: got an axis; the method repeats the whole tensor, repeat_interleave along an axis")
    return _spread(arrange.tile)(self, *reps)


def _update(self: Tensor, sign: str, operation: _Binary, other: Any) -> Tensor:
    """What ``x += other`` and its like do: write the result of ``operation`` into the tensor's memory.

    While operations are recorded the tensor becomes the result of the operation, as in PyTorch: its history goes
    on. That is refused where it would lose a gradient: for a leaf, and for a tensor that shares memory with a view.
    """
    recorded = recording.enabled and (self._requires_grad or (isinstance(other, Tensor) and other._requires_grad))
    if recorded:
        _refuse_recorded(self, sign)
    result = operation(self, other)
    if _RANK[result._array.dtype.kind] > _RANK[self._array.dtype.kind]:
        raise TypeError(
            f"{sign}: the result is {result.dtype}, which the {self.dtype} tensor cannot hold; "
            f"write x = x {sign[:-1]} ... for a new tensor"
        )
    if result.shape != self.shape:
        raise ValueError(
            f"{sign}: the result has shape {result.shape}, the tensor {self.shape}; "
            f"write x = x {sign[:-1]} ... for a new tensor"
        )
    if not traced_update(self, result):
        with no_grad():
            self._write(..., result)
    if recorded:
        if self._keep_grad and self._node is not None:
            self._node.holder = None
        self._node, self._requires_grad = result._node, True
        self.keep_grad = self._keep_grad
    return self


def _refuse_recorded(tensor: Tensor, sign: str) -> None:
    instead = f"write x = x {sign[:-1]} ..., or do it under lucid.no_grad()"
    if tensor._requires_grad and tensor._node is None:
        raise RuntimeError(
            f"{sign}: a leaf that requires a gradient cannot be changed in place while operations are recorded; "
            + instead
        )
    tensor._refuse_view(sign, instead)


def _comparable(value: object) -> bool:
    return isinstance(value, Tensor | bool | int | float | np.ndarray | np.generic)


def __contains__(self: Tensor, value: Any) -> bool:  # noqa: N807 (a method of Tensor)
    if not _comparable(value):
        raise TypeError(f"in: got {type(value).__name__}; may be a number, an array or a tensor")
    return bool((self == value).any())


def to(self: Tensor, target: Any) -> Tensor:
    """The tensor on a device, if ``target`` is a device's name, or converted to a dtype.

    Its memory order stays as it is, and its gradient is brought back to this tensor's device.

    Raises:
        ValueError: text that names no device and no dtype.
        RuntimeError: a device that nothing serves here.

    Example:
        >>> import lucid
        >>> lucid.ones(2).to(lucid.float64).dtype
        dtype('float64')
    """
    if names_device(target):
        return self if check_device(target) == self.device else shape.to_device(self, target)
    return shape.cast(self, target)


def _attach() -> None:
    """Give ``Tensor`` its methods."""
    for module, names in _ALIKE.items():
        for name in names.split():
            setattr(Tensor, name, getattr(module, name))
    for module, names in _BINARY.items():
        for name in names.split():
            _put(name, _beside(getattr(module, name)), getattr(module, name))
    for name, function in _SPREAD.items():
        _put(name, _spread(function), getattr(shape, name, shape.transpose))
    for name, function in _JOINING.items():
        _put(name, _joining(function), function)
    for name, (sign, function) in _ARITHMETIC.items():
        setattr(Tensor, f"__{name}__", function)
        _put(f"__r{name}__", _reversed(function), function)
        _put(f"__i{name}__", _in_place(sign, function), function)
    for name, method in (_OTHER | {"__contains__": __contains__, "repeat": repeat, "to": to, "where": where}).items():
        setattr(Tensor, name, method)


_attach()
