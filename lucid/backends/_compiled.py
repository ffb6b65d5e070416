"""What backends of compiled kernels share: how arrays are stored, and the launch of a kernel from its declaration.

Images are stored channels-last, ``(N, H, W, C)`` in memory behind arrays of shape ``(N, C, H, W)``, and convolution
weights ``(KH, KW, C, O)`` behind ``(O, C, KH, KW)``: an argument in that order is used where it lies, any other is
copied into it first. Structures and enumerations cross by the names of their fields and values.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from math import prod
from typing import Any

from lucid.backends.base import NOTHING, Array, Epilogue, FusedBackend, Norm, dense_order
from lucid.kernels.declare import IMAGES, WEIGHT, Kernel, Layout
from lucid.kernels.optimizer.reference import sgd_sizes


def same_layout(a: Array, b: Array) -> bool:
    """Whether elements of one index lie at one offset; the stride of an axis of length one does not matter."""
    if a.strides == b.strides:
        return bool(a.shape == b.shape)
    return a.shape == b.shape and all(
        size == 1 or p == q for size, p, q in zip(a.shape, a.strides, b.strides, strict=True)
    )


def rows_of(images: Array) -> tuple[int, int]:
    """Pixels and channels of a stored image batch."""
    n, h, w, c = images.shape
    return n * h * w, c


class CompiledBackend(FusedBackend, ABC):
    """See above; a subclass has the memory (``empty``) and runs kernels (``launch``)."""

    @abstractmethod
    def empty(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """A new dense array."""

    @abstractmethod
    def launch(self, kernel: str, y: Array, tasks: str, named: dict[str, Any]) -> None:
        """Run a compiled kernel that makes ``y``; ``tasks`` as in ``Kernel``."""

    @abstractmethod
    def coefficients(self, dtype: Any, norm: Norm) -> Any:
        """Mean, scale and shift of a normalisation by statistics, in the operand's dtype."""

    def after(self, dtype: Any, then: Epilogue = NOTHING) -> dict[str, Any]:
        """An epilogue by the names that kernels have for it, everything as it is stored."""
        mean, scale, shift = (None, None, None) if then.norm is None else self.coefficients(dtype, then.norm)
        residual = self.images_or_none(then.residual)
        return {"mean": mean, "scale": scale, "shift": shift, "residual": residual, "relu": then.relu}

    # -- memory order ------------------------------------------------------------------------------------------------

    def dense(self, x: Array | None, dtype: Any = None) -> Array | None:
        """``x``, where there is one, without gaps in row-major order."""
        return None if x is None else self.xp.ascontiguousarray(x, dtype)

    def images(self, x: Array) -> Array:
        """``x`` of shape (N, C, H, W) as a dense (N, H, W, C) array."""
        return self.xp.ascontiguousarray(x.transpose(IMAGES.order))

    def images_or_none(self, x: Array | None) -> Array | None:
        """``images``, where there is one."""
        return None if x is None else self.images(x)

    def weight(self, weight: Array) -> Array:
        """A convolution's weight as it is stored."""
        return self.dense(weight.transpose(WEIGHT.order))

    def new_images(self, shape: tuple[int, ...], dtype: Any) -> tuple[Array, Array]:
        """A new dense (N, H, W, C) array, and the same memory shaped (N, C, H, W)."""
        n, c, h, w = shape
        stored = self.empty((n, h, w, c), dtype)
        return stored, stored.transpose(IMAGES.restored)

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

    # -- optimiser ---------------------------------------------------------------------------------------------------

    def sgd_step(self, param: Array, grad: Array, velocity: Array | None, *step: Any, **more: Any) -> None:
        p = self.without_gaps(param)
        v = velocity if velocity is None else self.like(velocity, p)
        named = {**sgd_sizes(*step, **more), "n": p.size, "param": p, "grad": self.like(grad, p), "velocity": v}
        self.launch("sgd", p, "elements", named)
        if p is not param:
            param[...] = p
        if velocity is not None and v is not velocity:
            velocity[...] = v


def _stored(layout: Layout) -> Callable[[Any, Array, int], Array | None]:
    """How an argument is brought into ``layout``; the last argument is the kernel's of the name ``axis``."""
    if layout is IMAGES:
        return lambda backend, x, _: backend.images(x)
    if layout.axis_last:
        return lambda backend, x, axis: backend.dense(backend.xp.moveaxis(x, axis, -1))
    if layout.order is None:
        return lambda backend, x, _: backend.dense(x, layout.dtype)
    return lambda backend, x, _: backend.dense(x.transpose(layout.order))


def _made(layout: Layout) -> Callable[[Any, tuple[int, ...], Any, int], tuple[Array, Array]]:
    """How memory for a result is made: as it is stored, and the same as its shape says."""

    def dense(backend: CompiledBackend, shape: tuple[int, ...], dtype: Any, axis: int) -> tuple[Array, Array]:
        y = backend.empty(shape, dtype)
        return y, y

    def axis_last(backend: CompiledBackend, shape: tuple[int, ...], dtype: Any, axis: int) -> tuple[Array, Array]:
        axis %= len(shape)
        stored = backend.empty((*shape[:axis], *shape[axis + 1 :], shape[axis]), dtype)
        return stored, backend.xp.moveaxis(stored, -1, axis)

    def in_order(backend: CompiledBackend, shape: tuple[int, ...], dtype: Any, axis: int) -> tuple[Array, Array]:
        assert layout.order is not None
        stored = backend.empty(tuple([shape[i] for i in layout.order]), dtype)
        return stored, stored.transpose(layout.restored)

    return axis_last if layout.axis_last else dense if layout.order is None else in_order


def launched(k: Kernel) -> Callable[..., Any]:
    """The method that launches ``k`` as it is declared.

    Raises:
        TypeError: its declaration does not say how; the backend has to define it.
    """
    if k.sizes is None:
        raise TypeError(f"kernel {k.name!r}: has no sizes; a backend of compiled kernels must define its launch")
    sizes_of, returns, parameters = k.sizes, k.returns, k.parameters
    given = [(place, name, _stored(k.layout[name])) for place, name in enumerate(parameters) if name in k.layout]
    made = {name: _made(layout) for name, layout in k.layout.items()}
    axis_at = parameters.index("axis") if "axis" in parameters else None

    def method(self: CompiledBackend, *arguments: Any, **more: Any) -> Any:
        if more:
            arguments = *arguments, *[more[name] for name in parameters[len(arguments) :]]
        named, axis, results = sizes_of(*arguments), 0 if axis_at is None else arguments[axis_at], []
        for place, name, stored in given:
            named[name] = stored(self, arguments[place], axis)
        for name, (shape, dtype) in returns(*arguments).items():
            named[name], result = made[name](self, shape, dtype, axis)
            results.append(result)
        self.launch(k.launch, results[0], k.tasks, named)
        return results[0] if len(results) == 1 else tuple(results)

    method.__name__, method.__doc__ = k.name, k.reference.__doc__
    return method
