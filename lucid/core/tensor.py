"""The tensor: a backend's array, and where it came from.

A tensor adds to an array what differentiation needs: the node that made it, and its gradient. The operations are its
methods and operators, and stand above it: ``lucid.ops.methods`` attaches them. Reshaping, transposing and basic
indexing may return a tensor that shares memory with its source, as in NumPy; changing one in place then changes the
other, and a backward pass that needs the old values says so.

``x += y`` and its like change a tensor in place, also through a view. While operations are recorded, the tensor takes
the history of the result, as in PyTorch; a leaf, or a tensor that shares memory with a view, is refused then. Where a
backward pass needs integers, booleans, or memory that came from outside lucid, it has a copy of them. Floats that lucid
made are watched, and what is written into them through ``.data`` or ``.numpy()`` alone is not noticed.
"""

from __future__ import annotations

import builtins
import functools
import itertools
import operator
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from lucid.backends import backend_for
from lucid.core.device import check_device, move, to_numpy
from lucid.core.dtypes import as_dtype, float64, get_default_dtype
from lucid.core.grad_mode import recording
from lucid.core.node import GradNode, HookHandle, Leaf
from lucid.core.walk import backward

__all__ = ["Operand", "Tensor", "from_dlpack", "tensor", "to_tensor"]

VERSION, SEEN, BORROWED, SHARED = range(4)  # what a version cell holds, see Tensor._version_cell

Axes: TypeAlias = "int | Sequence[int] | None"
Operand: TypeAlias = "Tensor | np.ndarray[Any, Any] | float"


class Tensor:
    """A multi-dimensional array that can be differentiated.

    ``Tensor(data)`` copies ``data`` and, without a ``dtype``, converts it to the default dtype (float32), as
    ``torch.Tensor`` does; ``lucid.tensor(data)`` keeps the dtype of an array.

    Args:
        data: a number, nested lists of numbers, an array, or a tensor.
        requires_grad: whether gradients are wanted for it. Only float tensors may.
        keep_grad: whether ``grad`` is kept although the tensor is not a leaf.
        dtype: the element type; the default dtype if None.
        device: ``"cpu"``, or ``"gpu"`` where a backend serves it; the default device if None.

    Raises:
        TypeError: ``data`` cannot be such an array.
        ValueError: nested lists of different lengths; an unknown device.
        RuntimeError: ``requires_grad`` for integers; a device that nothing serves here.

    Example:
        >>> import lucid
        >>> x = lucid.Tensor([[1, 2], [3, 4]], requires_grad=True)
        >>> (x * x).sum().backward()
        >>> x.grad
        tensor([[2., 4.],
                [6., 8.]])
    """

    _array: Any
    device: str = "cpu"
    _grad: Tensor | None = None
    _requires_grad: bool = False
    _keep_grad: bool = False
    _node: GradNode | None = None
    _leaf: Leaf | None = None
    _version: list[Any] | None = None

    __array_priority__ = 1000  # ndarray + Tensor is the tensor's operation
    __hash__ = object.__hash__

    def __init__(
        self,
        data: Any,
        requires_grad: bool = False,
        keep_grad: bool = False,
        dtype: Any = None,
        device: str | None = None,
    ) -> None:
        device = check_device(device)
        self._array = _array(data, dtype or get_default_dtype(), device, copy=True)
        if device != "cpu":
            self.device = device
        if requires_grad:
            self.requires_grad = True
        if keep_grad:
            self.keep_grad = True

    # -- what it is --------------------------------------------------------------------------------------------------

    @property
    def data(self) -> Any:
        """The backend's array. Assigning to it, or writing into it, is not tracked by differentiation."""
        self._hand_out()
        return self._array

    @data.setter
    def data(self, array: Any) -> None:
        given = isinstance(array, Tensor) or (hasattr(array, "dtype") and hasattr(array, "shape"))
        if not given:
            raise TypeError(f"data: got {type(array).__name__}; may be a tensor or an array")
        source = as_tensor(array, device=None if isinstance(array, Tensor) else self.device)
        if self._requires_grad and source.dtype.kind != "f":
            raise TypeError(f"data: got {source.dtype} for a tensor that requires a gradient; may be a float dtype")
        self._put(source._array, source.device)
        self._version = source._version_cell()
        self._version[SHARED] = True

    def _put(self, array: Any, device: str) -> None:
        """Stand for another array from now on."""
        self._array, self._version = array, None
        if self.device != device:
            self.device = device
            if self._leaf is not None:
                self._leaf.device = device

    @property
    def grad(self) -> Tensor | None:
        """The gradient that backward passes have added up, or None. May be set to a tensor like this one."""
        return self._grad

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if value is not None:
            if not isinstance(value, Tensor):
                raise TypeError(f"grad: got {type(value).__name__}; may be a Tensor or None")
            problem = misfit_of_grad(self, value)
            if problem:
                raise ValueError(problem)
        self._grad = value

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of each axis."""
        return self._array.shape

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self._array.ndim

    @property
    def size(self) -> int:
        """The number of elements."""
        return self._array.size

    def numel(self) -> int:
        """The number of elements."""
        return self._array.size

    @property
    def dtype(self) -> np.dtype[Any]:
        """The element type."""
        return self._array.dtype

    @property
    def is_leaf(self) -> bool:
        """Whether no recorded operation made it."""
        return self._node is None

    @property
    def requires_grad(self) -> bool:
        """Whether a backward pass reaches it. May be set on leaves."""
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if value and self._array.dtype.kind != "f":
            raise RuntimeError(f"requires_grad: only float tensors have gradients, this one is {self._array.dtype}")
        if self._node is not None and not value:
            raise RuntimeError(
                "requires_grad: may be changed on leaves only; use .detach() for a tensor without history"
            )
        self._requires_grad = bool(value)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Set ``requires_grad``; returns the tensor."""
        self.requires_grad = requires_grad
        return self

    @property
    def keep_grad(self) -> bool:
        """Whether ``grad`` is kept although the tensor is not a leaf. May be set before the backward pass."""
        return self._keep_grad

    @keep_grad.setter
    def keep_grad(self, value: bool) -> None:
        self._keep_grad = bool(value)
        if self._node is not None:
            self._node.holder = weakref.ref(self) if value else None

    def retain_grad(self) -> None:
        """Keep ``grad`` although the tensor is not a leaf (PyTorch's name for ``keep_grad = True``)."""
        if not self._requires_grad:
            raise RuntimeError("retain_grad: the tensor does not require a gradient")
        self.keep_grad = True

    def is_cpu(self) -> bool:
        """Whether it lies in main memory."""
        return self.device == "cpu"

    def is_gpu(self) -> bool:
        """Whether it lies on a GPU."""
        return self.device == "gpu"

    def is_contiguous(self) -> bool:
        """Whether its memory is in row-major order without gaps."""
        return self._array.flags.c_contiguous

    # -- differentiation ---------------------------------------------------------------------------------------------

    def backward(self, gradient: Any = None, retain_graph: bool = False) -> None:
        """Add to ``grad`` of every leaf that this tensor depends on the gradient of ``sum(gradient * self)``.

        Args:
            gradient: a tensor or array of this tensor's shape and dtype, or None (1) for a tensor of one element.
            retain_graph: whether the graph may be walked again; without it, saved values are released on the way.

        Raises:
            RuntimeError: the tensor does not require a gradient; ``gradient`` is missing, or of another shape, dtype or
                device; the graph was walked before, or a tensor that it needs was changed in place.

        Example:
            >>> import lucid
            >>> x = lucid.tensor([1.0, 2.0], requires_grad=True)
            >>> (3 * x).backward(lucid.tensor([1.0, 10.0]))
            >>> x.grad
            tensor([ 3., 30.])
        """
        if not self._requires_grad:
            raise RuntimeError(
                "backward: this tensor does not require a gradient, and no tensor that it was computed from does"
            )
        xp = backend_for(self.device).xp
        if gradient is None:
            if self._array.size != 1:
                raise RuntimeError(
                    f"backward: a tensor of shape {self.shape} needs a gradient of that shape; "
                    "only a single element needs none"
                )
            array = xp.ones_like(self._array)
        else:
            if isinstance(gradient, Tensor):
                check_devices("backward", self, gradient)
            array = _array(gradient, getattr(gradient, "dtype", self._array.dtype), self.device, copy=False)
            if array.shape != self._array.shape or array.dtype != self._array.dtype:
                raise RuntimeError(
                    f"gradient: got {array.dtype} of shape {array.shape}; must be {self.dtype} of shape {self.shape}"
                )
        backward(self._edge(), array, retain_graph)

    def _edge(self) -> GradNode:
        """The node to which the gradient of this tensor goes."""
        node = self._node or self._leaf
        if node is None:
            node = self._leaf = Leaf(weakref.ref(self), self.device)
        return node

    def _grad_with(self, array: Any, owned: bool) -> Tensor:
        """What ``grad`` is to be after ``array`` has arrived; ``owned`` says whether nothing else holds the array."""
        if self._grad is None:
            return wrap(array if owned else array.copy("K"), self.device)
        check_devices("backward, adding to grad", self, self._grad)
        problem = misfit_of_grad(self, self._grad)
        if problem:
            raise ValueError(f"backward, adding to {problem}")
        return wrap(backend_for(self.device).binary("add", self._grad._array, array), self.device)

    def zero_grad(self) -> None:
        """Forget ``grad``."""
        self.grad = None

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> HookHandle:
        """Call ``hook(gradient)`` with this tensor's complete gradient in every backward pass.

        What it returns, unless None, replaces the gradient. It must not change the gradient in place. Returns a
        handle whose ``remove()`` takes the hook out.

        Raises:
            RuntimeError: the tensor does not require a gradient.

        Example:
            >>> import lucid
            >>> x = lucid.tensor(1.0, requires_grad=True)
            >>> handle = x.register_hook(lambda gradient: gradient * 10)
            >>> (x * 2).backward()
            >>> x.grad.item()
            20.0
        """
        if not self._requires_grad:
            raise RuntimeError("register_hook: the tensor does not require a gradient")
        node = self._edge()
        if node.hooks is None:
            node.hooks = {}
        return HookHandle(node.hooks, functools.partial(_show, hook))

    # -- leaving lucid -----------------------------------------------------------------------------------------------

    def numpy(self) -> np.ndarray[Any, Any]:
        """The values as a NumPy array, which shares memory with a tensor on the CPU; from a GPU they are copied.

        Its history is not tracked. Reading values, here as in ``item``, ``tolist``, ``bool`` and ``print``, is what
        waits for a GPU; nothing else does.
        """
        self._hand_out()
        return to_numpy(self._array)

    def item(self) -> Any:
        """The only element as a Python number.

        Raises:
            ValueError: there are several, or none.
        """
        if self._array.size != 1:
            raise ValueError(f"item: a tensor of shape {self.shape} has {self.size} elements; must have one")
        return to_numpy(self._array).item()

    def tolist(self) -> Any:
        """The values as nested lists of Python numbers, or a number if there are no axes."""
        return to_numpy(self._array).tolist()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        self._hand_out()
        array = to_numpy(self._array)
        if dtype is not None and array.dtype != dtype:
            if copy is False:
                raise ValueError(f"a {array.dtype} tensor is no {dtype} array without a copy")
            return array.astype(dtype)
        return array.copy() if copy else array

    def __dlpack__(
        self,
        *,
        stream: Any = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        """The array for another library, as the array API has it. Memory is shared unless ``copy`` is true.

        What other libraries cannot take (memory that runs backwards, elements that share memory, an array that must not
        be written to) is copied.

        Raises:
            BufferError: ``copy`` is False, and a copy would be needed; ``dl_device`` is neither this tensor's device
                nor the CPU.
        """
        array, where = self._array, tuple(self.__dlpack_device__())
        if dl_device is not None and tuple(dl_device) != where:
            if tuple(dl_device) != (1, 0):
                raise BufferError(f"dl_device: got {tuple(dl_device)}; may be {where}, where the tensor is, or (1, 0)")
            if copy is False:
                raise BufferError("copy: got False, but the tensor has to be copied to the CPU")
            array = to_numpy(array)
        backwards = any(step < 0 or (step == 0 and n > 1) for step, n in zip(array.strides, array.shape, strict=True))
        frozen = not getattr(array.flags, "writeable", True)
        if copy is False and (backwards or frozen):
            reason = "its memory runs backwards or is shared by elements" if backwards else "it is read-only"
            raise BufferError(f"copy: got False, but the tensor has to be copied: {reason}")
        if copy or backwards or frozen:
            array = array.copy()
        elif array is self._array:
            self._hand_out()
        given = {"stream": stream, "max_version": max_version}
        if int(np.__version__.split(".")[0]) < 2:
            given.pop("max_version")
        return array.__dlpack__(**{name: value for name, value in given.items() if value is not None})

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._array.__dlpack_device__()

    def __float__(self) -> builtins.float:
        return builtins.float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __bool__(self) -> bool:
        if self._array.size != 1:
            raise ValueError(f"the truth of a tensor of shape {self.shape} is ambiguous; use .any() or .all()")
        return bool(to_numpy(self._array).item())

    def __index__(self) -> int:
        if self._array.dtype.kind not in "iub" or self._array.size != 1:
            raise TypeError(
                f"only an integer tensor of one element is an index; got {self.dtype} of shape {self.shape}"
            )
        return int(to_numpy(self._array).item())

    def __len__(self) -> int:
        if self._array.ndim == 0:
            raise TypeError("a tensor without axes has no length")
        return self._array.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def __pos__(self) -> Tensor:
        return self

    def __repr__(self) -> str:
        text = np.array2string(to_numpy(self._array), separator=", ", prefix="tensor(", threshold=1000)
        if self._array.size == 0:
            text = f"[], shape={self.shape}"
        parts = [text]
        if self._array.dtype not in (get_default_dtype(), np.dtype(np.int64), np.dtype(np.bool_)):
            parts.append(f"dtype={self._array.dtype}")
        if self.device != "cpu":
            parts.append(f"device={self.device!r}")
        if self._node is not None:
            parts.append(f"made_by={self._node.name}")
        elif self._requires_grad:
            parts.append("requires_grad=True")
        return f"{self._repr_name}({', '.join(parts)})"

    _repr_name = "tensor"

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if self._array.ndim == 0 else format(str(self), spec)

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if self._node is not None:
            raise RuntimeError("deepcopy: only leaves can be copied with their state; use .detach() or .clone()")
        copy = type(self).__new__(type(self))
        memo[id(self)] = copy
        copy.__dict__.update(self.__dict__)
        copy._array = self._array.copy()
        copy._grad = None if self._grad is None else self._grad.__deepcopy__(memo)
        copy._leaf = copy._version = None
        return copy

    def __getstate__(self) -> dict[str, Any]:
        self._version_cell()  # so that copies that share memory share it
        state = dict(self.__dict__)
        leaf = state.pop("_leaf", None)
        if leaf is not None and leaf.hooks:
            state["_hooks"] = {number: shown.args[0] for number, shown in leaf.hooks.items()}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if "grad" in self.__dict__:  # of an older pickle
            self._grad = self.__dict__.pop("grad")
        for hook in (self.__dict__.pop("_hooks", None) or {}).values():
            self.register_hook(hook)
        if not isinstance(self._version, _Version):  # of an older pickle, whose numbers counted in another process
            self._version = None
        array = self._array
        if isinstance(array, np.ndarray) and not array.flags.owndata:  # its memory may be somebody else's, too
            self._hand_out()

    # -- changing type, device, values -------------------------------------------------------------------------------

    def float(self) -> Tensor:
        """The values as float32."""
        return self.astype(np.float32)

    def double(self) -> Tensor:
        """The values as float64."""
        return self.astype(np.float64)

    def long(self) -> Tensor:
        """The values as int64."""
        return self.astype(np.int64)

    def cpu(self) -> Tensor:
        """The tensor in main memory."""
        return self.to("cpu")

    def gpu(self) -> Tensor:
        """The tensor on the GPU."""
        return self.to("gpu")

    def contiguous(self) -> Tensor:
        """The tensor with its memory in row-major order: itself, or a differentiable copy."""
        return self if self.is_contiguous() else self.clone()

    def copy_(self, source: Any) -> Tensor:
        """Write ``source``, broadcast and converted, from whatever device, into this tensor; returns it.

        Raises:
            RuntimeError: the tensor requires a gradient and operations are being recorded.
            ValueError: ``source`` does not broadcast to this tensor's shape.
        """
        if isinstance(source, Tensor) and source.device != self.device:
            source = source.to(self.device)
        return self._write(..., source)

    def fill_(self, value: Any) -> Tensor:
        """Write one number into every element; returns the tensor. Raises as ``copy_`` does."""
        return self._write(..., value)

    def zero_(self) -> Tensor:
        """Write zeros; returns the tensor. Raises as ``copy_`` does."""
        return self._write(..., 0)

    def __setitem__(self, index: Any, value: Any) -> None:
        self._write(_plain_index("setitem", self, index), value)

    def _refuse_view(self, sign: str = "in place", instead: str = "compute a new tensor") -> None:
        if self._version_cell()[SHARED]:
            raise RuntimeError(
                f"{sign}: a tensor that shares memory with a view cannot be changed in place while operations are "
                f"recorded or traced, because the other would not follow; {instead}"
            )

    def _write(self, index: Any, value: Any) -> Tensor:
        if self._requires_grad and recording.enabled:
            raise RuntimeError(
                "a tensor that requires a gradient cannot be changed in place while operations are recorded; "
                "do it under lucid.no_grad(), or compute a new tensor"
            )
        if value is None:
            raise TypeError(f"setitem: got None for elements of a {self.dtype} tensor; may be numbers or a tensor")
        if isinstance(value, Tensor):
            if value._requires_grad and recording.enabled:
                raise RuntimeError(
                    "a tensor that requires a gradient cannot be written into another while operations are recorded, "
                    "because the gradient would be lost; use lucid.where or lucid.concatenate, or detach it"
                )
            check_devices("setitem", self, value)
            value = value._array
        elif self.device != "cpu" and not isinstance(value, bool | int | float | np.generic):
            value = move(np.asarray(value), self.device)
        if self._array.dtype.kind == "f":
            be = backend_for(self.device)
            if isinstance(value, bool | int | float | np.generic):
                value = be.number(value, self._array.dtype)  # type: ignore[arg-type]
            elif getattr(value, "dtype", self._array.dtype) != self._array.dtype:
                value = be.convert(value, self._array.dtype)
        if not getattr(self._array.flags, "writeable", True):
            raise RuntimeError(
                "a tensor whose elements share memory (broadcast_to) or whose array is read-only cannot be changed in "
                "place; .clone() makes one that can"
            )
        self._array[index] = value
        self._changed()
        return self

    def _changed(self) -> None:
        """Note that the values were changed in place."""
        self._version_cell()[VERSION] = next(_versions)

    def _version_cell(self) -> list[Any]:
        """What the tensor shares with its views.

        VERSION: a number that no other state of any tensor has, new after each change in place. SEEN: whether somebody
        outside lucid has seen the array, and may change it without telling. BORROWED: whether its memory came from
        outside, where its owner may use it again. SHARED: whether there has been a view.
        """
        cell = self._version
        if cell is None:
            cell = self._version = _Version((next(_versions), False, False, False))
        return cell

    def _hand_out(self) -> None:
        """Note that the array is seen outside lucid."""
        self._version_cell()[SEEN] = True

    def _borrow(self) -> None:
        """Note that the array's memory came from outside lucid."""
        cell = self._version_cell()
        cell[SEEN] = cell[BORROWED] = True

    def _stamp(self) -> int | None:
        """A number that stands for the values as they are; None where only looking at them tells."""
        cell = self._version_cell()
        return None if cell[SEEN] else cell[VERSION]

    def _share_version(self, source: Tensor, array: Any, xp: Any) -> None:
        """Become a view of ``source`` where memory is shared with its array: a change of one then changes the other."""
        if self._array is array or (self._array.base is not None and xp.may_share_memory(self._array, array)):
            self._version = source._version_cell()
            self._version[SHARED] = True

    @property
    def T(self) -> Tensor:  # noqa: N802
        """The tensor with its axes reversed."""
        return self.transpose()

    @property
    def mT(self) -> Tensor:  # noqa: N802
        """The tensor with its last two axes swapped: each matrix transposed."""
        return self.swapaxes(-2, -1)

    # -- the operations, which lucid.ops.methods attaches with the docstrings of the functions ------------------------

    if TYPE_CHECKING:

        def __add__(self, other: Any) -> Tensor: ...
        def __radd__(self, other: Any) -> Tensor: ...
        def __iadd__(self, other: Any) -> Tensor: ...
        def __sub__(self, other: Any) -> Tensor: ...
        def __rsub__(self, other: Any) -> Tensor: ...
        def __isub__(self, other: Any) -> Tensor: ...
        def __mul__(self, other: Any) -> Tensor: ...
        def __rmul__(self, other: Any) -> Tensor: ...
        def __imul__(self, other: Any) -> Tensor: ...
        def __truediv__(self, other: Any) -> Tensor: ...
        def __rtruediv__(self, other: Any) -> Tensor: ...
        def __itruediv__(self, other: Any) -> Tensor: ...
        def __floordiv__(self, other: Any) -> Tensor: ...
        def __rfloordiv__(self, other: Any) -> Tensor: ...
        def __ifloordiv__(self, other: Any) -> Tensor: ...
        def __mod__(self, other: Any) -> Tensor: ...
        def __rmod__(self, other: Any) -> Tensor: ...
        def __imod__(self, other: Any) -> Tensor: ...
        def __pow__(self, other: Any) -> Tensor: ...
        def __rpow__(self, other: Any) -> Tensor: ...
        def __ipow__(self, other: Any) -> Tensor: ...
        def __and__(self, other: Any) -> Tensor: ...
        def __rand__(self, other: Any) -> Tensor: ...
        def __iand__(self, other: Any) -> Tensor: ...
        def __or__(self, other: Any) -> Tensor: ...
        def __ror__(self, other: Any) -> Tensor: ...
        def __ior__(self, other: Any) -> Tensor: ...
        def __xor__(self, other: Any) -> Tensor: ...
        def __rxor__(self, other: Any) -> Tensor: ...
        def __ixor__(self, other: Any) -> Tensor: ...
        def __matmul__(self, other: Any) -> Tensor: ...
        def __rmatmul__(self, other: Any) -> Tensor: ...
        def __invert__(self) -> Tensor: ...
        def __neg__(self) -> Tensor: ...
        def __abs__(self) -> Tensor: ...
        def __eq__(self, other: object) -> Any: ...
        def __ne__(self, other: object) -> Any: ...
        def __lt__(self, other: Any) -> Tensor: ...
        def __le__(self, other: Any) -> Tensor: ...
        def __gt__(self, other: Any) -> Tensor: ...
        def __ge__(self, other: Any) -> Tensor: ...
        def __contains__(self, value: Any) -> bool: ...
        def __getitem__(self, index: Any) -> Tensor: ...
        def add(self, other: Any) -> Tensor: ...
        def sub(self, other: Any) -> Tensor: ...
        def mul(self, other: Any) -> Tensor: ...
        def multiply(self, other: Any) -> Tensor: ...
        def div(self, other: Any) -> Tensor: ...
        def minimum(self, other: Any) -> Tensor: ...
        def maximum(self, other: Any) -> Tensor: ...
        def matmul(self, other: Any) -> Tensor: ...
        def dot(self, other: Any) -> Tensor: ...
        def power(self, exponent: Any) -> Tensor: ...
        def pow(self, exponent: Any) -> Tensor: ...
        def exp(self) -> Tensor: ...
        def log(self) -> Tensor: ...
        def sqrt(self) -> Tensor: ...
        def square(self) -> Tensor: ...
        def abs(self) -> Tensor: ...
        def sign(self) -> Tensor: ...
        def neg(self) -> Tensor: ...
        def reciprocal(self) -> Tensor: ...
        def sigmoid(self) -> Tensor: ...
        def relu(self) -> Tensor: ...
        def ravel(self) -> Tensor: ...
        def clone(self) -> Tensor: ...
        def detach(self) -> Tensor: ...
        def clip(self, min_value: Any = None, max_value: Any = None) -> Tensor: ...
        def clamp(self, min_value: Any = None, max_value: Any = None) -> Tensor: ...
        def masked_fill(self, mask: Any, value: builtins.float) -> Tensor: ...
        def sum(self, axis: Axes = None, keepdims: bool = False) -> Tensor: ...
        def mean(self, axis: Axes = None, keepdims: bool = False) -> Tensor: ...
        def cumsum(self, axis: int) -> Tensor: ...
        def max(self, axis: Axes = None, keepdims: bool = False) -> Tensor: ...
        def min(self, axis: Axes = None, keepdims: bool = False) -> Tensor: ...
        def all(self, axis: Axes = None, keepdims: bool = False) -> Tensor: ...
        def any(self, axis: Axes = None, keepdims: bool = False) -> Tensor: ...
        def var(self, axis: Axes = None, keepdims: bool = False, correction: int = 1) -> Tensor: ...
        def argmax(self, axis: int | None = None, keepdims: bool = False) -> Tensor: ...
        def argmin(self, axis: int | None = None, keepdims: bool = False) -> Tensor: ...
        def reshape(self, *shape: Any) -> Tensor: ...
        def view(self, *shape: Any) -> Tensor: ...
        def broadcast_to(self, *shape: Any) -> Tensor: ...
        def expand(self, *shape: Any) -> Tensor: ...
        def transpose(self, *axes: Any) -> Tensor: ...
        def permute(self, *axes: Any) -> Tensor: ...
        def flatten(self, start_axis: int = 0, end_axis: int = -1) -> Tensor: ...
        def squeeze(self, axis: Axes = None) -> Tensor: ...
        def unsqueeze(self, axis: int) -> Tensor: ...
        def expand_dims(self, axis: int) -> Tensor: ...
        def swapaxes(self, axis1: int, axis2: int) -> Tensor: ...
        def argsort(self, axis: int = -1, descending: bool = False, stable: bool = True) -> Tensor: ...
        def chunk(self, chunks: int, axis: int = 0) -> tuple[Tensor, ...]: ...
        def concatenate(self, *others: Any, axis: int = 0) -> Tensor: ...
        def cumprod(self, axis: int) -> Tensor: ...
        def diag(self, k: int = 0) -> Tensor: ...
        def diagonal(self, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor: ...
        def flip(self, axis: Axes) -> Tensor: ...
        def gather(self, axis: int, index: Any) -> Tensor: ...
        def histogram(self, bins: Any = 10, *, range: Any = None, density: bool = False) -> tuple[Tensor, Tensor]: ...
        def hstack(self, *others: Any) -> Tensor: ...
        def index_add(self, axis: int, index: Any, source: Any, *, alpha: builtins.float = 1) -> Tensor: ...
        def index_select(self, axis: int, index: Any) -> Tensor: ...
        def inner(self, other: Any) -> Tensor: ...
        def masked_select(self, mask: Any) -> Tensor: ...
        def meshgrid(self, *others: Any, indexing: str = "ij") -> tuple[Tensor, ...]: ...
        def nonzero(self, *, as_tuple: bool = False) -> Any: ...
        def outer(self, other: Any) -> Tensor: ...
        def pad(self, widths: Any, value: builtins.float = 0.0) -> Tensor: ...
        def repeat(self, *reps: Any, axis: Any = None) -> Tensor: ...
        def repeat_interleave(self, repeats: int | Sequence[int], axis: int | None = None) -> Tensor: ...
        def roll(self, shifts: int | Sequence[int], axis: Axes = None) -> Tensor: ...
        def scatter(self, axis: int, index: Any, src: Any) -> Tensor: ...
        def scatter_add(self, axis: int, index: Any, src: Any) -> Tensor: ...
        def sort(self, axis: int = -1, descending: bool = False, stable: bool = True) -> tuple[Tensor, Tensor]: ...
        def split(self, size: int | Sequence[int], axis: int = 0) -> tuple[Tensor, ...]: ...
        def stack(self, *others: Any, axis: int = 0) -> Tensor: ...
        def take(self, index: Any) -> Tensor: ...
        def tensordot(self, b: Any, axes: Any = 2) -> Tensor: ...
        def tile(self, *reps: Any) -> Tensor: ...
        def topk(self, k: int, axis: int = -1, largest: bool = True, sorted: bool = True) -> tuple[Tensor, Tensor]: ...
        def trace(self, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor: ...
        def tril(self, k: int = 0) -> Tensor: ...
        def triu(self, k: int = 0) -> Tensor: ...
        def unbind(self, axis: int = 0) -> tuple[Tensor, ...]: ...
        def unique(
            self, sorted: bool = True, *, return_inverse: bool = False, return_counts: bool = False, axis: Any = None
        ) -> Any: ...
        def vstack(self, *others: Any) -> Tensor: ...
        def where(self, condition: Any, other: Any) -> Tensor: ...
        def astype(self, dtype: Any) -> Tensor: ...
        def to(self, target: Any) -> Tensor: ...


def misfit_of_grad(tensor: Tensor, grad: Tensor) -> str:
    """Why ``grad`` cannot be the gradient of ``tensor``, or nothing."""
    mine, other = tensor._array, grad._array
    if other.shape == mine.shape and other.dtype == mine.dtype and grad.device == tensor.device:
        return ""
    return (
        f"grad: got {grad.dtype} of shape {grad.shape} on {grad.device!r} for a {type(tensor).__name__.lower()} "
        f"{tensor.dtype} of shape {tensor.shape} on {tensor.device!r}"
    )


def _show(hook: Callable[[Tensor], Tensor | None], array: Any, device: str) -> Any:
    """The array that ``hook`` wants instead of a gradient, or None."""
    replaced = hook(wrap(array, device))
    if replaced is None:
        return None
    fits = isinstance(replaced, Tensor) and replaced.device == device
    if not fits or replaced.shape != array.shape or replaced.dtype != array.dtype:
        raise RuntimeError(
            f"a gradient hook returned {_describe(replaced)}; may return None or a {array.dtype} Tensor of shape "
            f"{array.shape} on {device!r}"
        )
    return replaced._array


def _describe(value: Any) -> str:
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        where = f" on {value.device!r}" if hasattr(value, "device") else ""
        return f"a {value.dtype} {type(value).__name__} of shape {tuple(value.shape)}{where}"
    return repr(value)


def wrap(array: Any, device: str = "cpu") -> Tensor:
    """A tensor around a backend's array, without copying or checking."""
    out = _new(Tensor)
    out._array = array
    if device != "cpu":
        out.device = device
    return out


_new = Tensor.__new__
_versions = itertools.count()  # of tensors' states


class _Version(list[Any]):
    """See ``Tensor._version_cell``. Its number means nothing in another process, nor to another array: what is pickled
    or copied deeply is given a new one, and tensors that shared one share that."""

    def __reduce__(self) -> Any:
        return _fresh, (self[1:],)

    def __deepcopy__(self, memo: dict[int, Any]) -> _Version:
        return _fresh(self[1:])


def _fresh(rest: list[Any]) -> _Version:
    return _Version((next(_versions), *rest))


def tensor(
    data: Any, requires_grad: bool = False, keep_grad: bool = False, dtype: Any = None, device: str | None = None
) -> Tensor:
    """A new tensor with a copy of ``data``; an array keeps its dtype, Python floats take the default one.

    Args:
        data: a number, nested lists of numbers, an array, or a tensor.
        requires_grad: whether gradients are wanted for it.
        keep_grad: whether ``grad`` is kept although the tensor is not a leaf.
        dtype: the element type; None keeps that of an array.
        device: where it lies; the default device if None.

    Raises: as ``Tensor``.

    Example:
        >>> import lucid, numpy
        >>> lucid.tensor(numpy.zeros(2)).dtype, lucid.tensor([1, 2]).dtype, lucid.tensor(0.5).dtype
        (dtype('float64'), dtype('int64'), dtype('float32'))
    """
    device = check_device(device)
    out = wrap(_array(data, dtype, device, copy=True), device)
    if requires_grad:
        out.requires_grad = True
    if keep_grad:
        out.keep_grad = True
    return out


def as_tensor(data: Any, dtype: Any = None, device: str | None = None) -> Tensor:
    """``data`` as a tensor as ``tensor`` makes it, but without copying where memory can be shared.

    A tensor is returned as it is, unless another dtype or device is asked for: then its values are converted, without
    history. Without a device, a tensor stays where it is, and other data comes to the default device.

    Example:
        >>> import lucid
        >>> x = lucid.ones(2)
        >>> lucid.to_tensor(x) is x
        True
    """
    device = data.device if device is None and isinstance(data, Tensor) else check_device(device)
    if isinstance(data, Tensor) and data.device == device and (dtype is None or data.dtype == as_dtype(dtype)):
        return data
    out = wrap(_array(data, dtype, device, copy=False), device)
    if hasattr(data, "dtype") or hasattr(data, "__array__"):
        out._borrow()  # the array's owner may write into it
    return out


to_tensor = as_tensor


def from_dlpack(source: Any) -> Tensor:
    """A tensor that shares memory with ``source``, an array of any library with the DLPack protocol.

    It lies where the source lies: on the CPU, or on the GPU.

    Raises:
        TypeError: the source does not speak the protocol, or its elements are of no dtype of lucid.
        RuntimeError: it lies on a GPU, and no backend serves one here.
        ValueError: it lies on another kind of device.

    Example:
        >>> import lucid, numpy
        >>> a = numpy.zeros(2)
        >>> x = lucid.from_dlpack(a)
        >>> a[0] = 1.0
        >>> x
        tensor([1., 0.], dtype=float64)
    """
    if not hasattr(source, "__dlpack_device__"):
        raise TypeError(
            f"source: got {type(source).__name__}; may be an array with the methods __dlpack__, __dlpack_device__"
        )
    kind = int(source.__dlpack_device__()[0])
    if kind not in _DLPACK_DEVICES:
        raise ValueError(f"source: lies on a device of DLPack's kind {kind}; may lie on the CPU (1) or a CUDA GPU (2)")
    device = _DLPACK_DEVICES[kind]
    array = backend_for(device).xp.from_dlpack(source)
    as_dtype(array.dtype)
    out = wrap(array, device)
    out._borrow()
    return out


_DLPACK_DEVICES = {1: "cpu", 2: "gpu", 3: "cpu", 13: "gpu"}  # memory of the host and the device, pinned, and managed


def _array(data: Any, dtype: Any, device: str, copy: bool) -> Any:
    """``data`` as an array of ``device`` in a dtype of lucid."""
    if isinstance(data, Tensor):
        data = data._array
    typed = hasattr(data, "dtype")  # an array, of whatever library, has a dtype to keep
    on_gpu = typed and device != "cpu" and isinstance(data, backend_for(device).xp.ndarray)
    array = data if on_gpu else _numpy(to_numpy(data) if typed else data)
    if array.dtype.kind not in "fiub":
        what = f"an array of {array.dtype}" if typed else f"{data!r:.60}, which makes {array.dtype}"
        raise TypeError(
            f"data: got {what}; may be numbers of at most 64 bits, nested lists of them, an array or a tensor"
        )
    chosen = as_dtype(array.dtype if dtype is None else dtype)
    if dtype is None and not typed and chosen == float64:
        chosen = get_default_dtype()
    if on_gpu and array.dtype != chosen:
        return backend_for(device).convert(array, chosen)
    if on_gpu or device == "cpu":
        return array.astype(chosen, copy=copy)
    return move(array.astype(chosen, copy=False), device)


def _numpy(data: Any) -> np.ndarray[Any, Any]:
    try:
        return np.asarray(data)
    except ValueError as error:
        raise ValueError(f"data: got nested sequences of different lengths; must form a box ({error})") from None


def check_devices(name: str, *tensors: Tensor) -> None:
    """Raise RuntimeError, naming the operation, unless all tensors lie on one device."""
    for tensor in tensors:
        if tensor.device != tensors[0].device:
            raise RuntimeError(
                f"{name}: got tensors on {tensors[0].device!r} and {tensor.device!r}; all must be on one device "
                "(.to moves a tensor or a module)"
            )


def _plain_index(name: str, x: Tensor, index: Any) -> Any:
    """``index`` of ``x`` with tensors, arrays and lists replaced by arrays of the tensor's device."""
    if isinstance(index, tuple):
        return tuple([_plain_part(name, x, part) for part in index])
    return _plain_part(name, x, index)


def _plain_part(name: str, x: Tensor, part: Any) -> Any:
    if part is None or part is Ellipsis or type(part) is int:
        return part
    if isinstance(part, Tensor):
        check_devices(name, x, part)
        return part._array
    if type(part) is slice:
        if _PLAIN_ENDS.issuperset((type(part.start), type(part.stop), type(part.step))):
            return part
        ends = part.start, part.stop, part.step  # perhaps tensors, which may change
        return slice(*[None if end is None else operator.index(end) for end in ends])
    if isinstance(part, list) or (hasattr(part, "__array__") and not isinstance(part, np.generic)):
        array: Any = part if hasattr(part, "dtype") and x.device != "cpu" else np.asarray(part)
        if isinstance(part, list) and not array.size:
            array = array.astype(np.int64)  # as NumPy takes an empty list
        return move(array, x.device) if x.device != "cpu" else array
    return part


_PLAIN_ENDS = frozenset({type(None), int})
