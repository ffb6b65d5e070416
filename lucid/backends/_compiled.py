"""What backends of compiled kernels share: how arrays are stored, and the launch of a kernel from its declaration.

Images are stored channels-last, ``(N, *sides, C)`` in memory behind arrays of shape ``(N, C, *sides)``, and convolution
weights ``(*kernel, C, O)`` behind ``(O, C, *kernel)``: an argument in that order is used where it lies, any other is
copied into it first. Structures and enumerations cross by the names of their fields and values.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any

import numpy as np

from lucid.backends.base import NOTHING, Array, Epilogue, FusedBackend, Norm, dense_order
from lucid.kernels.declare import IMAGES, WEIGHT, Kernel
from lucid.kernels.optimizer.rules import RULES


def same_layout(a: Array, b: Array) -> bool:
    """Whether elements of one index lie at one offset; the stride of an axis of length one does not matter."""
    if a.strides == b.strides:
        return bool(a.shape == b.shape)
    return a.shape == b.shape and all(
        size == 1 or p == q for size, p, q in zip(a.shape, a.strides, b.strides, strict=True)
    )


def rows_of(images: Array) -> tuple[int, int]:
    """Pixels and channels of a stored image batch."""
    *pixels, c = images.shape
    return prod(pixels), c


def as_images(stored: Array) -> Array:
    """A stored image batch as (N, C, *sides)."""
    return stored.transpose(IMAGES.restored[stored.ndim])


MEMORY = "memory0", "memory1", "memory2"
NUMBERS = tuple([f"n{i}" for i in range(10)])
"""What the kernel of a rule of updates calls the rule's memory and its numbers, in the order of the rule."""


class CompiledBackend(FusedBackend, ABC):
    """See above; a subclass has the memory (``empty``) and runs kernels (``launch``)."""

    @abstractmethod
    def empty(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """A new dense array."""

    @abstractmethod
    def launch(self, kernel: str, y: Array, tasks: str, named: dict[str, Any]) -> None:
        """Run a compiled kernel that makes ``y``; ``tasks`` as in ``Kernel``."""

    @abstractmethod
    def launch_rule(self, rule: str, param: Array, named: dict[str, Any]) -> None:
        """Run the compiled kernel of a rule of updates."""

    @abstractmethod
    def coefficients(self, dtype: Any, norm: Norm) -> Any:
        """Mean, scale and shift of a normalisation by statistics, in the operand's dtype."""

    def after(self, dtype: Any, then: Epilogue = NOTHING) -> dict[str, Any]:
        """An epilogue by the names that kernels have for it, everything as it is stored."""
        norm, residual, relu = then
        mean, scale, shift = (None, None, None) if norm is None else self.coefficients(dtype, norm)
        stored = None if residual is None else self.images(residual)
        return {"mean": mean, "scale": scale, "shift": shift, "residual": stored, "relu": relu}

    def packed(self, named: dict[str, Any]) -> dict[str, Any]:
        """Numbers and structures that are launched many times, as this backend likes them best."""
        return named

    # -- memory order ------------------------------------------------------------------------------------------------

    def dense(self, x: Array | None, dtype: Any = None) -> Array | None:
        """``x``, where there is one, without gaps in row-major order."""
        return None if x is None else self.xp.ascontiguousarray(x, dtype)

    def images(self, x: Array) -> Array:
        """``x`` of shape (N, C, *sides) as a dense (N, *sides, C) array."""
        return self.xp.ascontiguousarray(x.transpose(IMAGES.order[x.ndim]))

    def images_or_none(self, x: Array | None) -> Array | None:
        """``images``, where there is one."""
        return None if x is None else self.images(x)

    def weight(self, weight: Array) -> Array:
        """A convolution's weight as it is stored."""
        return self.dense(weight.transpose(WEIGHT.order[weight.ndim]))

    def new_images(self, shape: tuple[int, ...], dtype: Any) -> tuple[Array, Array]:
        """A new dense (N, *sides, C) array, and the same memory shaped (N, C, *sides)."""
        n, c, *sides = shape
        stored = self.empty((n, *sides, c), dtype)
        return stored, as_images(stored)

    def without_gaps(self, x: Array) -> Array:
        """``x``, which may have its axes in any order in memory."""
        return self.xp.ascontiguousarray(x) if dense_order(x) is None else x

    def like(self, x: Array, y: Array) -> Array:
        """``x`` broadcast to the shape, and copied to the memory order, of ``y`` where it has another."""
        if same_layout(x, y):
            return x
        copy = self.xp.empty_like(y)
        copy[...] = x
        return copy

    # -- reductions --------------------------------------------------------------------------------------------------

    def terms(self, x: Array, axes: tuple[int, ...]) -> tuple[Array, tuple[int, int, int], tuple[int, ...]]:
        """``x`` so that in memory it is (outer, terms, inner), those sizes, and the order of its axes there."""
        order = dense_order(x)
        if order is not None:
            split = order.index(axes[0]) if axes else len(order)
            stored = tuple([x.shape[axis] for axis in order])
        if order is None or order[split : split + len(axes)] != axes:
            kept = tuple([axis for axis in range(x.ndim) if axis not in axes])
            order, split = (*kept, *axes), len(kept)
            x = self.xp.ascontiguousarray(x.transpose(order))
            stored = x.shape
        end = split + len(axes)
        return x, (prod(stored[:split]), prod(stored[split:end]), prod(stored[end:])), order

    def kept(
        self, y: Array, shape: tuple[int, ...], axes: tuple[int, ...], order: tuple[int, ...], keepdims: bool
    ) -> Array:
        """``y``, made of the memory that ``terms`` described, as the result of a reduction of an array of ``shape``."""
        remaining = [axis for axis in order if axis not in axes]
        y = y.reshape([shape[axis] for axis in remaining])
        ascending = sorted(remaining)
        if remaining != ascending:
            y = y.transpose([remaining.index(axis) for axis in ascending])
        return self.xp.expand_dims(y, axes) if keepdims else y

    # -- attention ---------------------------------------------------------------------------------------------------

    def attention_weights(self, scores: Array, mask: Array | None, scale: float, causal: bool) -> Array:
        weights = self.empty(scores.shape, scores.dtype)
        if weights.size:
            *leading, queries, keys = scores.shape
            sizes = {"rows": scores.size // keys, "queries": queries, "keys": keys, "scale": scale, "causal": causal}
            named = sizes | self.masked(mask, tuple(leading), queries, keys)
            self.launch(
                "attention_weights", weights, "rows", named | {"scores": self.dense(scores), "weights": weights}
            )
        return weights

    def masked(self, mask: Array | None, leading: tuple[int, ...], queries: int, keys: int) -> dict[str, Any]:
        """A mask for every batch by the names that kernels have for it."""
        step = 0
        if mask is not None:
            step = keys if mask.ndim > 1 and mask.shape[-2] > 1 else 0
            mask = mask.reshape((1,) * max(0, 2 - mask.ndim) + mask.shape)
            mask = self.xp.broadcast_to(mask, (*mask.shape[:-2], queries if step else 1, keys))
        return {"mask": self.dense(mask), "places": self.places_of(mask, leading), "mask_step": step}

    def places_of(self, x: Array | None, leading: tuple[int, ...]) -> Array:
        """Where the matrix of every batch starts in ``x``, ``(..., M, N)``, of leading axes that broadcast."""
        if x is None:
            return self.xp.zeros(1, np.int64)
        starts = np.arange(prod(x.shape[:-2]), dtype=np.int64).reshape(x.shape[:-2]) * prod(x.shape[-2:])
        return self.xp.asarray(np.ascontiguousarray(np.broadcast_to(starts, leading)).reshape(-1))

    # -- optimiser ---------------------------------------------------------------------------------------------------

    def sgd_step(
        self,
        param: Array,
        grad: Array,
        velocity: Array | None,
        first: bool,
        lr: float,
        momentum: float,
        dampening: float,
        weight_decay: float,
        nesterov: bool,
        maximize: bool,
    ) -> None:
        p = self.without_gaps(param)
        v = None if velocity is None else self.like(velocity, p)
        named = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
            "first": first,
            "n": p.size,
            "param": p,
            "grad": self.like(grad, p),
            "velocity": v,
        }
        self.launch("sgd", p, "elements", named)
        if p is not param:
            param[...] = p
        if velocity is not None and v is not velocity:
            velocity[...] = v

    def update(self, rule: str, param: Array, grad: Array, memory: dict[str, Array], numbers: dict[str, float]) -> None:
        p = self.without_gaps(param)
        stored = {name: self.like(array, p) for name, array in memory.items()}
        named: dict[str, Any] = {"n": p.size, "param": p, "grad": self.like(grad, p)}
        names = RULES[rule]
        named |= dict.fromkeys(MEMORY) | {at: stored.get(name) for at, name in zip(MEMORY, names.memory, strict=False)}
        values = [float(numbers[name]) for name in names.numbers]
        named |= dict.fromkeys(NUMBERS, 0.0) | dict(zip(NUMBERS, values, strict=False))
        if p.size:
            self.launch_rule(rule, p, named)
        for array, kept in ((param, p), *[(memory[name], kept) for name, kept in stored.items()]):
            if kept is not array:
                array[...] = kept


def launched(k: Kernel) -> Callable[..., Any]:
    """The method that launches ``k`` as it is declared, printed as Python: of a small operation it is most of the cost.

        def log_softmax(self, x, axis):
            key = x.dtype, x.shape, axis
            found = known.get(key) or work_out(self, key, (x, axis))
            numbers, y_shape, y_dtype, order, restored = found
            y = self.empty(y_shape, y_dtype)
            named = {**numbers, 'x': self.dense(x if order is None else x.transpose(order)), 'y': y}
            self.launch('log_softmax', y, 'rows', named)
            return y if restored is None else y.transpose(restored)

    What ``sizes`` and ``returns`` say depends on the key alone, and is worked out once.

    Raises:
        TypeError: its declaration does not say how; the backend has to define it.
    """
    if k.sizes is None:
        raise TypeError(f"kernel {k.name!r}: has no sizes; a backend of compiled kernels must define its launch")
    made = [name for name in k.layout if name not in k.parameters]
    key = [_key(k, name) for name in k.parameters if name not in k.numbers]
    key += [f"{name}.dtype" for name in k.parameters if name in k.layout][:1]
    found = [f"{name}_{what}" for name in made for what in ("shape", "dtype")]
    values = {name: _stored(k, name) for name in (*k.parameters, *made) if name in k.layout or name in k.numbers}
    parameters = ", ".join(k.parameters)
    lines = [
        f"def {k.name}(self, {parameters}):",
        f"    key = {', '.join(key)},",
        f"    found = known.get(key) or work_out(self, key, ({parameters},))",
        f"    numbers, {', '.join(found)}, order, restored = found",
        *[f"    {name} = self.empty({name}_shape, {name}_dtype)" for name in made],
        f"    named = {{**numbers, {', '.join([f'{name!r}: {value}' for name, value in values.items()])}}}",
        f"    self.launch({k.launch!r}, {made[0]}, {k.tasks!r}, named)",
        f"    return {', '.join([_restored(k, name) for name in made])}",
    ]
    known: dict[Any, Any] = {}
    scope: dict[str, Any] = {"known": known, "work_out": partial(_work_out, k, known), "int64": np.dtype(np.int64)}
    scope |= {f"{name}_axes": k.layout[name].restored for name in made}
    exec("\n".join(lines), scope)
    method: Callable[..., Any] = scope[k.name]
    method.__doc__ = k.reference.__doc__
    return method


def _key(k: Kernel, name: str) -> str:
    """What a launch depends on of an argument, as an expression."""
    if name in k.optional:
        return f"None if {name} is None else {name}.shape"
    return f"{name}.shape" if name in k.layout else name


def _stored(k: Kernel, name: str) -> str:
    """The expression that brings an argument into its layout; of a result or a number, itself."""
    if name in k.numbers or name not in k.parameters:
        return name
    layout = k.layout[name]
    if layout is IMAGES:
        return f"self.images({name})"
    if layout.axis_last:
        return f"self.dense({name} if order is None else {name}.transpose(order))"
    if layout is WEIGHT:
        return f"self.weight({name})"
    return f"self.dense({name})" if layout.dtype is None else f"self.dense({name}, {layout.dtype.__name__})"


def _restored(k: Kernel, name: str) -> str:
    """The expression for a result in its shape, of the memory where it is stored."""
    layout = k.layout[name]
    if layout.axis_last:
        return f"{name} if restored is None else {name}.transpose(restored)"
    return f"{name}.transpose({name}_axes[{name}.ndim])" if layout.order else name


KNOWN = 1024
"""For how many keys a launch keeps what was worked out."""


def _work_out(k: Kernel, known: dict[Any, Any], backend: CompiledBackend, key: Any, arguments: Any) -> tuple[Any, ...]:
    """What the method above finds in ``known``."""
    assert k.sizes is not None
    found: list[Any] = [backend.packed(k.sizes(*arguments))]
    to_last: tuple[Any, Any] = (None, None)
    for name, (shape, dtype) in k.returns(*arguments).items():
        order = k.layout[name].order.get(len(shape))
        if k.layout[name].axis_last:
            order, _ = to_last = axis_to_last(len(shape), arguments[k.parameters.index("axis")])
        found += [shape if order is None else tuple([shape[i] for i in order]), np.dtype(dtype)]
    if len(known) >= KNOWN:
        known.clear()
    worked_out = (*found, *to_last)
    known[key] = worked_out  # another thread may clear at any moment
    return worked_out


def axis_to_last(ndim: int, axis: int) -> tuple[tuple[int, ...] | None, tuple[int, ...] | None]:
    """The order of axes that puts ``axis`` last, and the way back; None where it is last."""
    axis %= ndim
    if axis == ndim - 1:
        return None, None
    return (*range(axis), *range(axis + 1, ndim), axis), (*range(axis), ndim - 1, *range(axis, ndim - 1))
