"""A device without the device: arrays in main memory that behave as a GPU's, and a backend of them for ``"gpu"``.

``StrictArray`` is no NumPy array and refuses to become one: given to NumPy, or met by a NumPy array, it raises
TypeError, as CuPy's arrays do. Every reading of a value (which on a GPU waits for all that was asked of it), and every
copy to the "device", is counted. So what runs on it touches arrays through ``backend.xp`` and the kernels alone, and
the count says where it would wait. Its array library takes float32 subnormals for zero, as CuPy's kernels do, wherever
it computes, compares or converts, and loses the sign of a zero without axes on the way to the "device", as CuPy does:
what needs those bits has to ask the backend. The kernels underneath are those of the fastest backend here (``strict``),
or CUDA's, emulated (``strict_cuda``), so the bits are the law's.
"""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np

from lucid.backends import BACKENDS, Known, get_backend
from lucid.backends._cuda_run import EmulatedExecutor, Launch
from lucid.backends.base import Backend
from lucid.backends.cuda import CudaBackend
from lucid.kernels.declare import kernels

_OPERATORS = (
    "add radd sub rsub mul rmul truediv rtruediv floordiv rfloordiv mod pow rpow and or xor rand ror lshift rshift "
    "eq ne lt le gt ge neg abs invert iadd isub imul itruediv iand ior"
)
_METHODS = "transpose swapaxes copy ravel squeeze take view diagonal"
_QUANTITIES = "sum max min mean any all argmax argmin"
_FUNCTIONS = (
    "empty zeros ones empty_like zeros_like ones_like broadcast_to where concatenate stack take expand_dims moveaxis "
    "ascontiguousarray may_share_memory isnan isfinite all any arange argsort eye nonzero "
    "searchsorted take_along_axis tril triu"
)
_COMPUTING = (
    "full full_like sign add subtract multiply negative absolute square maximum minimum argmax argmin equal not_equal "
    "less less_equal greater greater_equal logical_and logical_or logical_xor logical_not floor fmod copysign isinf "
    "floor_divide remainder power matmul bitwise_and bitwise_or bitwise_xor bitwise_not left_shift right_shift"
)
_NAMES = "bool_ int8 int16 int32 int64 uint8 uint32 uint64 float16 float32 float64 newaxis inf nan"


@dataclass
class Traffic:
    """What went between program and device: the places in the program, as text."""

    waits: list[str] = field(default_factory=list)
    uploads: list[str] = field(default_factory=list)


_watching: list[Traffic] = []


@contextlib.contextmanager
def traffic() -> Iterator[Traffic]:
    """Counts what happens inside."""
    seen = Traffic()
    _watching.append(seen)
    try:
        yield seen
    finally:
        _watching.remove(seen)


def _note(kind: str) -> None:
    for seen in _watching:
        getattr(seen, kind).append("".join(traceback.format_stack(limit=8)[:-2]))


def _in(value: Any) -> Any:
    """The NumPy arrays inside an argument; NumPy arrays themselves are refused."""
    if isinstance(value, StrictArray):
        return value._array
    if isinstance(value, np.ndarray):
        raise TypeError("strict: got a NumPy array; must be an array of the device")
    if isinstance(value, list | tuple):
        return _like(value, map(_in, value))
    return value


def _like(value: list[Any] | tuple[Any, ...], parts: Iterable[Any]) -> Any:
    """A list or tuple of the same type; a named one takes its parts one by one."""
    return value._make(parts) if hasattr(value, "_make") else type(value)(parts)


def _out(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return StrictArray(np.asarray(value))
    return tuple(_out(part) for part in value) if isinstance(value, tuple) else value


def _flushed(value: Any) -> Any:
    """A float32 array with zeros for its subnormals: what a kernel sees that was compiled with ``-ftz=true``."""
    if isinstance(value, np.ndarray | np.generic) and value.dtype == np.float32:
        small = (value != 0) & (np.abs(value) < np.finfo(np.float32).tiny)
        if small.any():
            value = np.asarray(value).copy("K")
            value[small] *= np.float32(0)
    elif isinstance(value, list | tuple):
        value = _like(value, map(_flushed, value))
    return value


def _operator(name: str, computes: bool = True) -> Any:
    def method(self: StrictArray, *others: Any) -> Any:
        if any(isinstance(other, np.ndarray) for other in others):
            raise TypeError(f"strict: {name} of a device's array and a NumPy array")
        in_place = name.startswith("__i") and name != "__invert__"
        with np.errstate(all="ignore"):
            if computes and not in_place:
                return _out(_flushed(getattr(_flushed(self._array), name)(*(_flushed(_in(other)) for other in others))))
            result = getattr(self._array, name)(*map(_in, others))
        return self if in_place else _out(result)

    return method


class StrictArray:
    """See above."""

    __hash__ = None  # type: ignore[assignment]
    __array_ufunc__ = None

    def __init__(self, array: np.ndarray) -> None:
        self._array = array

    # -- what needs no value -----------------------------------------------------------------------------------------

    shape = property(lambda self: self._array.shape)
    ndim = property(lambda self: self._array.ndim)
    size = property(lambda self: self._array.size)
    dtype = property(lambda self: self._array.dtype)
    strides = property(lambda self: self._array.strides)
    nbytes = property(lambda self: self._array.nbytes)
    itemsize = property(lambda self: self._array.itemsize)
    flags = property(lambda self: self._array.flags)
    base = property(lambda self: _out(self._array.base))
    T = property(lambda self: _out(self._array.T))

    def __len__(self) -> int:
        return len(self._array)

    def reshape(self, *shape: Any, **options: Any) -> Any:
        return _out(self._array.reshape(*shape, **options))

    def astype(self, dtype: Any, copy: bool = True) -> Any:
        with np.errstate(all="ignore"):
            if self.dtype == dtype:
                return _out(self._array.astype(dtype, copy=copy))
            return _out(_flushed(_flushed(self._array).astype(dtype)))

    def diagonal(self, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
        return _out(self._array.diagonal(offset, axis1, axis2))

    def cumsum(self, axis: int) -> Any:
        return _out(self._array.cumsum(axis=axis))

    def cumprod(self, axis: int) -> Any:
        return _out(self._array.cumprod(axis=axis))

    def __getitem__(self, index: Any) -> Any:
        self._check_index(index)
        return _out(self._array[_in(index)])

    def __setitem__(self, index: Any, value: Any) -> None:
        self._check_index(index, written=True)
        if isinstance(value, list | tuple):
            raise TypeError("strict: a list written into a device's array")
        with np.errstate(all="ignore"):
            if getattr(value, "dtype", None) != self.dtype:  # the kernel that writes converts
                value = _flushed(np.asarray(_flushed(_in(value))).astype(self.dtype))
            self._array[_in(index)] = _in(value) if isinstance(value, StrictArray) else value

    @staticmethod
    def _check_index(index: Any, written: bool = False) -> None:
        for part in index if isinstance(index, tuple) else (index,):
            if isinstance(part, np.ndarray | list):
                raise TypeError("strict: a device's array indexed by host data")
            if isinstance(part, StrictArray) and part.dtype == bool and not written:
                _note("waits")  # the length of the result is a value

    # -- what reads values -------------------------------------------------------------------------------------------

    def item(self) -> Any:
        _note("waits")
        return self._array.item()

    def tolist(self) -> Any:
        _note("waits")
        return self._array.tolist()

    def __bool__(self) -> bool:
        _note("waits")
        return bool(self._array)

    def __int__(self) -> int:
        _note("waits")
        return int(self._array)

    def __float__(self) -> float:
        _note("waits")
        return float(self._array)

    def __index__(self) -> int:
        _note("waits")
        return self._array.__index__()

    def __repr__(self) -> str:
        return f"StrictArray({self.dtype}, {self.shape})"

    # -- what is refused ---------------------------------------------------------------------------------------------

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("strict: implicit conversion to a NumPy array is not allowed")

    def __array_function__(self, function: Any, *_: Any) -> Any:
        raise TypeError(f"strict: numpy.{function.__name__} of a device's array")

    def __dlpack__(self, **_: Any) -> Any:
        raise BufferError("strict: no DLPack")

    def __dlpack_device__(self) -> tuple[int, int]:
        return (2, 0)

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))


for _name in _OPERATORS.split():
    setattr(StrictArray, f"__{_name}__", _operator(f"__{_name}__"))
for _name in _METHODS.split():
    setattr(StrictArray, _name, _operator(_name, computes=False))


def _quantity(name: str) -> Any:
    def method(self: StrictArray, axis: Any = None, keepdims: bool = False) -> Any:
        with np.errstate(all="ignore"):
            return _out(_flushed(getattr(_flushed(self._array), name)(axis=axis, keepdims=keepdims)))

    return method


for _name in _QUANTITIES.split():
    setattr(StrictArray, _name, _quantity(_name))


# -- the array library -----------------------------------------------------------------------------------------------


def _function(name: str, computes: bool = False) -> Any:
    seen = _flushed if computes else lambda value: value

    def function(*arguments: Any, **options: Any) -> Any:
        given, named = (
            [seen(_in(argument)) for argument in arguments],
            {key: seen(_in(o)) for key, o in options.items()},
        )
        with np.errstate(all="ignore"):
            return _out(seen(getattr(np, name)(*given, **named)))

    return function


def _asarray(value: Any, dtype: Any = None) -> StrictArray:
    if isinstance(value, StrictArray):
        return value if dtype is None or value.dtype == dtype else value.astype(dtype)
    _note("uploads")
    array = np.array(value, dtype, order="C")  # a NumPy array's memory order is lost on the way
    if array.ndim == 0 and array.dtype.kind == "f":
        array += 0.0  # and so is the sign of a zero without axes: CuPy knows scalars by their value
    return StrictArray(array)


def _array(value: Any, dtype: Any = None, order: Any = "K") -> StrictArray:
    """In memory of its own."""
    own = _asarray(value, dtype)
    return StrictArray(np.array(own._array, order=order)) if isinstance(value, StrictArray) else own


def _asnumpy(value: StrictArray) -> np.ndarray:
    _note("waits")
    return value._array.copy()


strict = ModuleType("strict")
for _name in _FUNCTIONS.split():
    setattr(strict, _name, _function(_name))
for _name in _COMPUTING.split():
    setattr(strict, _name, _function(_name, computes=True))
for _name in _NAMES.split():
    setattr(strict, _name, getattr(np, _name))
strict.add.at = lambda y, places, values: np.add.at(_in(y), _in(places), _in(values))  # of integers
strict.__dict__.update(ndarray=StrictArray, asarray=_asarray, array=_array, asnumpy=_asnumpy)


# -- the backend -----------------------------------------------------------------------------------------------------


def _kernel(name: str) -> Any:
    def kernel(self: Any, *arguments: Any, **options: Any) -> Any:
        inner = getattr(self.inner, name)
        return _out(inner(*map(_in, arguments), **{key: _in(value) for key, value in options.items()}))

    return kernel


class _Strict(Backend):
    name = "strict"
    xp = strict
    asynchronous = True

    def __init__(self) -> None:
        try:
            self.inner = get_backend("native")
        except RuntimeError:
            self.inner = get_backend("reference")


_OTHERS = [name for name in vars(Backend) if name[0] != "_" and callable(getattr(Backend, name)) and name != "plan"]
_KERNELS = [*_OTHERS, *(k.name for k in kernels())]
StrictBackend = type("StrictBackend", (_Strict,), {name: _kernel(name) for name in _KERNELS})


class StrictExecutor(EmulatedExecutor):
    """The emulator of the CUDA kernels on arrays that are no NumPy arrays, as CuPy's are not."""

    xp = strict

    def run(self, launch: Launch) -> None:
        super().run(launch._replace(arguments=tuple(self._inside(argument) for argument in launch.arguments)))

    def address(self, x: Any) -> int:
        return super().address(self._inside(x))

    @staticmethod
    def _inside(x: Any) -> Any:
        assert not isinstance(x, np.ndarray) or x.dtype.kind == "V", "a host's array given to a kernel"
        return x._array if isinstance(x, StrictArray) else x


class StrictCudaBackend(CudaBackend):
    name = "strict_cuda"

    def _make_executor(self) -> StrictExecutor:
        return StrictExecutor()


BACKENDS.setdefault("strict", Known("support.strict", "StrictBackend", ("gpu",), unasked=False))
BACKENDS.setdefault("strict_cuda", Known("support.strict", "StrictCudaBackend", ("gpu",), unasked=False))
