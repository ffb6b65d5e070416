"""Random numbers from a counter (``ARITHMETIC.md``, section 11): the same numbers on every backend and machine.

A generator is three numbers: a seed, a stream, and the block that comes next. The functions of this module use one
global generator, which starts from seed 0, so that a program is repeatable unless it asks not to be.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from operator import index
from typing import Any, TypeAlias

import numpy as np

from lucid.backends import Backend, backend_for
from lucid.backends.shapes import NO_RANDOM
from lucid.core.device import check_device, refuse_where
from lucid.core.dtypes import as_dtype, float32, float64, get_default_dtype, int64
from lucid.core.grad_mode import recording
from lucid.core.tensor import Tensor, as_tensor, wrap

__all__ = [
    "Generator",
    "bernoulli",
    "default_generator",
    "get_state",
    "manual_seed",
    "normal",
    "permutation",
    "rand",
    "randint",
    "randn",
    "randperm",
    "seed",
    "set_state",
    "uniform",
]

Size: TypeAlias = "int | Sequence[int]"
_WORDS_IN_BLOCK = 4
_WORD = 1 << 32
_WHOLE = (1 << 64) - 1


class Generator:
    """A stream of random numbers.

    Args:
        seed: 0 to 2^64 - 1; other integers are taken modulo 2^64.
        stream: which of the seed's independent streams, 0 to 2^64 - 1.
        block: which block of four words comes next.

    Raises:
        TypeError: a seed that is no integer.

    Source: Salmon et al., Parallel random numbers: as easy as 1, 2, 3, SC 2011 (Philox4x32-10).

    Example:
        >>> import lucid
        >>> a, b = lucid.random.Generator(7), lucid.random.Generator(7)
        >>> bool((a.normal(0.0, 1.0, 3) == b.normal(0.0, 1.0, 3)).all())
        True
    """

    def __init__(self, seed: int = 0, stream: int = 0, block: int = 0) -> None:
        self._lock = threading.Lock()
        self.set_state((seed, stream, block))

    def get_state(self) -> tuple[int, int, int]:
        """``(seed, stream, block)``: all there is to know about what comes next."""
        return self._seed, self._stream, self._block

    def set_state(self, state: tuple[int, int, int]) -> None:
        """Go on from a state that ``get_state`` returned."""
        seed, stream, block = state
        seed, stream, block = index(seed) & _WHOLE, index(stream) & _WHOLE, index(block) & _WHOLE
        with self._lock:
            self._seed, self._stream, self._block = seed, stream, block

    def manual_seed(self, seed: int) -> Generator:
        """Start again from ``seed``, at stream 0 and block 0; returns the generator."""
        self.set_state((seed, 0, 0))
        return self

    def _take(self, words: int) -> tuple[int, int, int]:
        """Reserve whole blocks for ``words`` words; returns seed, stream and the first block."""
        if recording.shapes_alone:
            raise RuntimeError(NO_RANDOM)
        with self._lock:
            block = self._block
            self._block = (block + -(-words // _WORDS_IN_BLOCK)) % (1 << 64)
            return self._seed, self._stream, block

    def uniform(
        self, low: float = 0.0, high: float = 1.0, size: Size = (), dtype: Any = None, device: str | None = None
    ) -> Tensor:
        """Numbers spread evenly between ``low`` and ``high``: ``low + (high - low) * u``, rounded once.

        ``u`` takes one word a number for float32, two for float64, and is never 0 or 1.

        Example:
            >>> import lucid
            >>> x = lucid.random.Generator(1).uniform(-1.0, 1.0, (2, 3))
            >>> x.shape, bool((x.abs() <= 1).all())
            ((2, 3), True)
        """
        be, where, shape, kind = _arguments(size, dtype, device)
        count = math.prod(shape)
        start = self._take(count * (1 if kind == float32 else 2))
        return wrap(be.uniform(*start, count, float(low), float(high), kind).reshape(shape), where)

    def normal(
        self, mean: float = 0.0, std: float = 1.0, size: Size = (), dtype: Any = None, device: str | None = None
    ) -> Tensor:
        """Numbers from the normal distribution: ``mean + std * z``, rounded once; ``z`` inverts the distribution at
        ``u``.

        Raises:
            ValueError: a negative ``std``.

        Source: Wichura, Algorithm AS 241, Applied Statistics 37, 1988.

        Example:
            >>> import lucid
            >>> lucid.random.Generator(1).normal(0.0, 1.0, (2, 3), dtype=lucid.float64).dtype
            dtype('float64')
        """
        if std < 0:
            raise ValueError(f"std: got {std}; may be 0 or more")
        be, where, shape, kind = _arguments(size, dtype, device)
        count = math.prod(shape)
        start = self._take(count * (1 if kind == float32 else 2))
        return wrap(be.normal(*start, count, float(mean), float(std), kind).reshape(shape), where)

    def randint(self, low: int, high: int | None = None, size: Size = (), device: str | None = None) -> Tensor:
        """Integers (int64) from ``low`` (0 if only one is given) to ``high - 1``.

        Each takes two words ``r0``, ``r1`` and is ``low + floor((r0 * 2^32 + r1) * (high - low) / 2^64)``, exactly.

        Raises:
            ValueError: ``high`` is not above ``low``, or the range holds more than 2^32 integers.

        Example:
            >>> import lucid
            >>> x = lucid.random.Generator(1).randint(3, 6, size=100)
            >>> sorted(set(x.tolist()))
            [3, 4, 5]
        """
        low, high = (0, low) if high is None else (low, high)
        span = high - low
        if not 0 < span <= _WORD:
            raise ValueError(f"high: got {high} with low {low}; must lie 1 to 2^32 above it")
        be, where, shape, _ = _arguments(size, None, device)
        first, second = self._pairs(be, math.prod(shape))
        span = be.xp.uint64(span)
        carried = first * span + ((second * span) >> be.xp.uint64(32))
        return wrap(((carried >> be.xp.uint64(32)).astype(int64) + low).reshape(shape), where)

    def bernoulli(
        self, probs: Any = 0.5, size: Size | None = None, dtype: Any = None, device: str | None = None
    ) -> Tensor:
        """1 with probability ``probs``, else 0.

        Each takes one word ``r`` and is 1 where ``(r + 0.5) * 2^-32 < probs``, compared in float64.

        Args:
            probs: a number, or a tensor whose shape broadcasts to ``size``.
            size: the result's shape; None is that of ``probs``.
            dtype: the default dtype if None.
            device: where the result lies.

        Raises:
            ValueError: a probability outside 0 to 1; a shape that does not broadcast.

        Example:
            >>> import lucid
            >>> lucid.random.Generator(1).bernoulli(1.0, 3)
            tensor([1., 1., 1.])
        """
        where = check_device(device)
        be = backend_for(where)
        if isinstance(probs, int | float):
            if not 0 <= probs <= 1:
                raise ValueError(f"probs: got {probs}; may be 0 to 1")
            p = be.number(probs, float64)
        else:
            p = as_tensor(probs, dtype=float64, device=where)._array
            refuse_where(be, ~((p >= 0) & (p <= 1)).reshape(-1), p.reshape(-1), _no_probability)
        shape = tuple(p.shape) if size is None else _shape(size)
        count = math.prod(shape)
        words = be.philox(*self._take(count), count)
        chosen = (words.astype(float64) + 0.5) * 2.0**-32 < be.xp.broadcast_to(p, shape).reshape(-1)
        return wrap(chosen.astype(as_dtype(dtype or get_default_dtype())).reshape(shape), where)

    def permutation(self, n: int, device: str | None = None) -> Tensor:
        """The integers 0 to ``n - 1`` (int64) in random order.

        Each takes two words as a key ``r0 * 2^32 + r1``; they are sorted by their keys, equal keys by the integer.

        Raises:
            ValueError: a negative ``n``.

        Example:
            >>> import lucid
            >>> sorted(lucid.random.Generator(1).permutation(4).tolist())
            [0, 1, 2, 3]
        """
        if n < 0:
            raise ValueError(f"n: got {n}; may be 0 or more")
        where = check_device(device)
        be = backend_for(where)
        first, second = self._pairs(be, n)
        keys = (first << be.xp.uint64(32)) | second
        return wrap(be.xp.argsort(keys, kind="stable").astype(int64), where)

    def _pairs(self, be: Backend, count: int) -> tuple[Any, Any]:
        """Two words, as uint64, for each of ``count`` values."""
        words = be.philox(*self._take(2 * count), 2 * count).astype("uint64")
        return words[0::2], words[1::2]


def _shape(size: Size) -> tuple[int, ...]:
    shape = tuple(map(index, size)) if isinstance(size, Sequence) else (index(size),)
    if min(shape, default=0) < 0:
        raise ValueError(f"size: got {size}; lengths may be 0 or more")
    return shape


def _no_probability(place: int, value: float) -> Exception:
    return ValueError(f"probs: got {value} at position {place}; may be 0 to 1")


def _arguments(size: Size, dtype: Any, device: str | None) -> tuple[Backend, str, tuple[int, ...], np.dtype[Any]]:
    kind = as_dtype(dtype or get_default_dtype())
    if kind not in (float32, float64):
        raise TypeError(f"dtype: got {kind}; may be float32 or float64")
    where = check_device(device)
    return backend_for(where), where, _shape(size), kind


default_generator = Generator()


def seed(seed: int) -> Generator:
    """Start the global generator again from ``seed``; returns it.

    Example:
        >>> import lucid
        >>> _ = lucid.random.seed(3)
        >>> a = lucid.random.rand(2)
        >>> _ = lucid.random.seed(3)
        >>> bool((a == lucid.random.rand(2)).all())
        True
    """
    return default_generator.manual_seed(seed)


manual_seed = seed


def get_state() -> tuple[int, int, int]:
    """The global generator's ``(seed, stream, block)``.

    Example:
        >>> import lucid
        >>> _ = lucid.random.seed(3)
        >>> lucid.random.get_state()
        (3, 0, 0)
    """
    return default_generator.get_state()


def set_state(state: tuple[int, int, int]) -> None:
    """Let the global generator go on from a state that ``get_state`` returned."""
    default_generator.set_state(state)


def _finish(out: Tensor, requires_grad: bool, keep_grad: bool) -> Tensor:
    if requires_grad:
        out.requires_grad = True
    if keep_grad:
        out.keep_grad = True
    return out


def _given(shape: tuple[Any, ...]) -> Any:
    return shape[0] if len(shape) == 1 else shape


def rand(
    *shape: Any, requires_grad: bool = False, keep_grad: bool = False, dtype: Any = None, device: str | None = None
) -> Tensor:
    """Numbers spread evenly between 0 and 1, from the global generator. The shape is given as numbers or as one tuple.

    Example:
        >>> import lucid
        >>> lucid.random.rand(2, 3).shape
        (2, 3)
    """
    return _finish(default_generator.uniform(0.0, 1.0, _given(shape), dtype, device), requires_grad, keep_grad)


def randn(
    *shape: Any, requires_grad: bool = False, keep_grad: bool = False, dtype: Any = None, device: str | None = None
) -> Tensor:
    """Numbers from the standard normal distribution, from the global generator. The shape as in ``rand``.

    Example:
        >>> import lucid
        >>> lucid.random.randn(2, 3).shape
        (2, 3)
    """
    return _finish(default_generator.normal(0.0, 1.0, _given(shape), dtype, device), requires_grad, keep_grad)


def uniform(
    low: float = 0.0,
    high: float = 1.0,
    size: Size = (),
    requires_grad: bool = False,
    keep_grad: bool = False,
    dtype: Any = None,
    device: str | None = None,
) -> Tensor:
    """``Generator.uniform`` of the global generator.

    Example:
        >>> import lucid
        >>> lucid.random.uniform(-1, 1, (2, 3)).shape
        (2, 3)
    """
    return _finish(default_generator.uniform(low, high, size, dtype, device), requires_grad, keep_grad)


def normal(
    mean: float = 0.0,
    std: float = 1.0,
    size: Size = (),
    requires_grad: bool = False,
    keep_grad: bool = False,
    dtype: Any = None,
    device: str | None = None,
) -> Tensor:
    """``Generator.normal`` of the global generator.

    Example:
        >>> import lucid
        >>> lucid.random.normal(0.0, 0.01, 4).shape
        (4,)
    """
    return _finish(default_generator.normal(mean, std, size, dtype, device), requires_grad, keep_grad)


def randint(low: int, high: int | None = None, size: Size = (), device: str | None = None) -> Tensor:
    """``Generator.randint`` of the global generator.

    Example:
        >>> import lucid
        >>> lucid.random.randint(10, size=(2, 3)).dtype
        dtype('int64')
    """
    return default_generator.randint(low, high, size, device)


def bernoulli(probs: Any = 0.5, size: Size | None = None, dtype: Any = None, device: str | None = None) -> Tensor:
    """``Generator.bernoulli`` of the global generator.

    Example:
        >>> import lucid
        >>> lucid.random.bernoulli(lucid.tensor([0.0, 1.0]))
        tensor([0., 1.])
    """
    return default_generator.bernoulli(probs, size, dtype, device)


def permutation(n: int, device: str | None = None) -> Tensor:
    """``Generator.permutation`` of the global generator.

    Example:
        >>> import lucid
        >>> lucid.random.permutation(5).shape
        (5,)
    """
    return default_generator.permutation(n, device)


randperm = permutation
