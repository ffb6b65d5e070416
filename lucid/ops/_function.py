"""What a differentiable operation is, and how one is run.

An operation is one small class, its forward beside its backward, written once against a backend's kernels: no operation
knows a device. Its instance is made for one call and becomes the node of the graph if a gradient may be asked for.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, ClassVar, Protocol

import numpy as np

from lucid.backends import Backend, backend_for
from lucid.core.grad_mode import recording
from lucid.core.node import GradNode, creation
from lucid.core.tensor import BORROWED, VERSION, Tensor, as_tensor, check_devices, wrap

__all__ = ["Composition", "Function", "Tracer", "apply", "compose", "set_tracer"]

EVERY_INPUT = range(1 << 30)
_FLOAT16 = 23  # NumPy's type number; float32 and float64 and all integers are below
_FLOAT32 = 11  # likewise; all integers are below


class Tracer(Protocol):
    """What may watch a model run: every operation, and every module as it is entered and left; it lends the backend,
    and the arrays that the backend gets."""

    def backend(self, device: str) -> Backend: ...

    def arrays(self, arrays: list[Any]) -> list[Any]: ...

    def record(self, function: Function, inputs: tuple[Tensor | None, ...], output: Tensor) -> None: ...

    def compose(self, whole: Composition, inputs: tuple[Tensor | None, ...], run: Callable[[], Tensor]) -> Tensor: ...

    def update(self, tensor: Tensor, result: Tensor) -> bool: ...

    def enter(self, module: Any) -> None: ...

    def exit(self, module: Any, output: Any) -> None: ...


_tracer: Tracer | None = None


def set_tracer(tracer: Tracer | None) -> Tracer | None:
    """Let ``tracer`` watch from now on (``None``: nobody); returns the one before."""
    global _tracer
    before, _tracer = _tracer, tracer
    return before


def tracing() -> bool:
    """Whether a tracer watches that wants to see of what an operation is composed: one with ``wholes`` does not."""
    return _tracer is not None and not getattr(_tracer, "wholes", False)


def traced_update(tensor: Tensor, result: Tensor) -> bool:
    """Tell the tracer that ``tensor`` is ``result`` from now on; False where nobody traces, so that values are to be
    written."""
    return _tracer is not None and _tracer.update(tensor, result)


class Function(GradNode):
    """One call of one operation.

    A subclass has ``forward(be, *arrays) -> array`` and ``backward(be, dy) -> tuple`` with one array or None for each
    input. ``forward`` leaves in ``self.saved`` what ``backward`` needs; it may look at ``self.needs``, which says for
    each input whether its gradient is wanted, or is None when no gradient can be asked for. Where ``accumulates`` is
    set, ``backward`` takes a third argument: what has arrived at the first input from elsewhere, or None. It returns
    the sum.

    Saving is guarding: whatever arrays an instance holds after ``forward``, in ``saved`` or in another attribute, are
    looked through when the call is recorded. One that shares memory with an input or with the result is copied or
    watched (``_Guard``), so an operation has nothing to declare, and cannot forget to.
    """

    name: ClassVar[str]
    """The operation's name in graphs."""
    params: ClassVar[tuple[str, ...]] = ()
    """The attributes that, with the inputs, determine the result."""
    differentiable: ClassVar[bool] = True
    any_dtype: ClassVar[bool] = False
    """Whether it only moves or converts data, so that inputs need not be of one dtype that lucid computes with."""
    floats: ClassVar[bool] = False
    """Whether it computes with floats alone."""
    any_dtype_inputs: ClassVar[tuple[int, ...]] = ()
    """The inputs that need not have the dtype of the others: a condition, classes."""
    view: ClassVar[bool] = False
    """Whether the result may share memory with the first input."""

    forward: Callable[..., Any]
    backward: Callable[..., Any]

    needs: tuple[bool, ...] | None = None
    saved: tuple[Any, ...] | None = None
    edges: tuple[GradNode | None, ...] | None = None
    versions: list[tuple[list[Any], int]] | None = None

    def attrs(self) -> dict[str, Any]:
        """The attributes named in ``params``, for the tracer."""
        return {name: getattr(self, name) for name in self.params}

    def run_backward(self, be: Backend, dy: Any, accumulate_into: Any) -> tuple[Any, ...]:
        """``backward``, after checking that what was saved is still there and unchanged."""
        if self.edges is None:
            raise RuntimeError(
                f"backward reached {self.name} a second time, but its saved values were released by the first pass; "
                "pass retain_graph=True to the first backward to go through the graph again"
            )
        if self.versions is not None:
            for cell, version in self.versions:
                if cell[0] != version:
                    raise RuntimeError(
                        f"a tensor that the backward pass of {self.name} needs was changed in place after it was used"
                    )
        return self.backward(be, dy, accumulate_into) if self.accumulates else self.backward(be, dy)

    def release(self) -> None:
        """Drop what was saved and the links to earlier nodes; the node cannot run backward again."""
        self.saved = self.edges = self.versions = None


class Composition:
    """What a tracer sees of an operation that is composed of others: its name, and the attributes of the call."""

    def __init__(self, name: str, attrs: dict[str, Any]) -> None:
        self.name = name
        self._attrs = attrs

    def attrs(self) -> dict[str, Any]:
        """As a ``Function``'s."""
        return self._attrs


def compose(name: str, body: Callable[..., Tensor], *inputs: Tensor | None, **attrs: Any) -> Tensor:
    """``body(*inputs, **attrs)``, which makes a tensor by other operations, and so has their gradient.

    In a graph it is one operation of that name, which knows of what it consists.
    """
    if _tracer is None:
        return body(*inputs, **attrs)
    return _tracer.compose(Composition(name, attrs), inputs, lambda: body(*inputs, **attrs))


def apply(function: Function, *inputs: Any) -> Tensor:
    """Run ``function`` on tensors (None where an optional input is missing), and record it where a gradient is wanted.

    Raises:
        TypeError: inputs of two float dtypes, or of one that lucid does not compute with.
        RuntimeError: inputs on two devices.
    """
    if len(inputs) == 1 and _tracer is None and isinstance(inputs[0], Tensor):
        tensor = inputs[0]
        array = tensor._array
        if _FLOAT32 <= array.dtype.num < _FLOAT16:  # the usual case, in a few steps
            device: Any = tensor.device
            be = backend_for(device)
            if tensor._requires_grad and recording.enabled and function.differentiable:
                out = _run_recorded(function, be, inputs, [array], device)
            else:
                out = wrap(function.forward(be, array), device)
            if function.view:
                out._share_version(tensor, array, be.xp)
            return out
    arrays: list[Any] = []
    device = dtype = None
    record = False
    for tensor in inputs:
        if tensor is None:
            arrays.append(None)
            continue
        try:
            array = tensor._array
        except AttributeError:
            return apply(function, *_as_tensors(inputs))
        arrays.append(array)
        if array.dtype is not dtype or tensor.device != device:
            if device is not None or not _FLOAT32 <= array.dtype.num < _FLOAT16:
                _check(function, inputs)
            device, dtype = tensor.device, array.dtype
        if tensor._requires_grad:
            record = True
    if _tracer is None:
        be = backend_for(device)
    else:
        be, arrays = _tracer.backend(device), _tracer.arrays(arrays)
        record = record and not recording.shapes_alone
    if record and recording.enabled and function.differentiable:
        out = _run_recorded(function, be, inputs, arrays, device)
    else:
        out = wrap(function.forward(be, *arrays), device)
    if function.view:
        out._share_version(inputs[0], arrays[0], be.xp)
    if _tracer is not None:
        _tracer.record(function, inputs, out)
    return out


def _run_recorded(function: Function, be: Backend, inputs: tuple[Any, ...], arrays: list[Any], device: str) -> Tensor:
    """Run ``function`` and make it the node of its result."""
    if function.__dict__:
        _own_arguments(function, be)
    if len(inputs) == 1:
        source = inputs[0]
        needs: tuple[bool, ...] = (True,)
        edges: tuple[GradNode | None, ...] = (source._node or source._leaf or source._edge(),)
    else:
        needs = tuple([t is not None and t._requires_grad for t in inputs])
        edges = tuple(
            [(t._node or t._leaf or t._edge()) if need else None for t, need in zip(inputs, needs, strict=True)]
        )
    function.needs = needs
    out = wrap(function.forward(be, *arrays), device)
    _guard(function, be.xp, inputs, arrays, out)
    function.edges = edges
    function.seq = next(creation)
    if device != "cpu":
        function.device = device
    out._requires_grad = True
    out._node = function
    return out


# What an attribute may be without holding an array.
_ATOMS = frozenset({type(None), bool, int, float, str, slice, type(...), np.dtype, type(np.dtype(np.float32))})


def _own_arguments(function: Function, be: Backend) -> None:
    """Copy the arrays that an operation was made with (an index): their owner may change them."""
    for name, value in function.__dict__.items():
        kind = type(value)
        if kind in _ATOMS or (kind is tuple and _ATOMS.issuperset(map(type, value))):
            continue
        if kind is tuple or name in function.params or isinstance(value, np.ndarray | be.xp.ndarray):
            function.__dict__[name] = _owned(value, be.xp.ndarray)


def _owned(value: Any, array_type: Any) -> Any:
    if type(value) is tuple:
        return tuple([_owned(part, array_type) for part in value])
    if isinstance(value, list):
        return [_owned(part, array_type) for part in value]
    return value.copy() if isinstance(value, np.ndarray | array_type) else value


def _guard(function: Function, xp: Any, inputs: tuple[Any, ...], arrays: list[Any], out: Tensor) -> None:
    """Copy or watch every array that ``function`` holds and that somebody else can change."""
    versions = []
    owners: set[int] | None = None
    needs = function.needs
    held = [value for value in function.__dict__.values() if type(value) not in _ATOMS]
    for value in held:  # the usual case, in a few steps: operands that are watched, and arrays of its own
        if type(value) is tuple:
            if value is not needs:
                for part in value:
                    if type(part) not in _ATOMS:
                        held.append(part)
            continue
        if value is out._array:
            tensor = out
        elif value is arrays[0]:
            tensor = inputs[0]
        else:
            tensor = None
            for array, operand in zip(arrays, inputs, strict=True):
                if array is value:
                    tensor = operand
        if tensor is not None:
            cell = tensor._version or tensor._version_cell()
            if cell[BORROWED] or value.dtype.kind != "f":
                break
            versions.append((cell, cell[VERSION]))
            continue
        if not isinstance(value, xp.ndarray):
            break
        if owners is None:
            owners = {id(_owner(array, xp.ndarray)) for array in (*arrays, out._array) if array is not None}
        if id(_owner(value, xp.ndarray)) in owners:
            break
    else:
        if versions:
            function.versions = versions
        return
    guard = _Guard(xp, inputs, arrays, out)
    for name, value in function.__dict__.items():
        if type(value) not in _ATOMS:
            function.__dict__[name] = guard.look(value)  # a name that is there already: the walk goes on
    if guard.versions:
        function.versions = guard.versions


def _owner(array: Any, array_type: Any) -> Any:
    """Whose memory ``array`` lies in: the array, or the object from outside, that views of it lead back to."""
    base = array.base
    while base is not None:
        if not isinstance(base, array_type):
            return base
        array, base = base, base.base
    return array


class _Guard:
    """Looks through what an operation saved.

    An array whose memory has another owner than every operand's is the operation's own. Of the others, integers and
    booleans (indices, classes, masks: small beside the floats) and arrays whose memory came from outside lucid are
    copied, so the gradient is right whatever becomes of them; the rest are watched by their version, and a change in
    place is an error.
    """

    __slots__ = ("array_type", "operands", "versions", "xp")

    def __init__(self, xp: Any, inputs: Any, arrays: list[Any], out: Tensor) -> None:
        self.xp = xp
        self.array_type = xp.ndarray
        self.operands = [
            (array, _owner(array, xp.ndarray), tensor)
            for array, tensor in [(out._array, out), *zip(arrays, inputs, strict=True)]
            if array is not None
        ]
        self.versions: list[tuple[list[Any], int]] = []

    def look(self, value: Any) -> Any:
        """``value``, or what to keep instead of it."""
        if isinstance(value, tuple | list):
            parts = [part if type(part) in _ATOMS else self.look(part) for part in value]
            same = all(map(operator.is_, parts, value))
            return value if same else tuple(parts) if isinstance(value, tuple) else parts
        if isinstance(value, dict):
            return {key: self.look(part) for key, part in value.items()}
        if isinstance(value, self.array_type):
            return self.kept(value)
        if isinstance(value, Tensor):
            return wrap(self.kept(value._array), value.device)
        return value

    def kept(self, array: Any) -> Any:
        owner = _owner(array, self.array_type)
        for other, other_owner, tensor in self.operands:
            # Looking where both begin and end is slow, on a GPU above all: only those of one owner are compared.
            if other is array or (other_owner is owner and self.xp.may_share_memory(other, array)):
                cell = tensor._version_cell()
                if array.dtype.kind != "f" or cell[BORROWED]:
                    return array.copy("K")
                self.versions.append((cell, cell[0]))
        return array


def _as_tensors(inputs: tuple[Any, ...]) -> tuple[Tensor | None, ...]:
    device = next((t.device for t in inputs if isinstance(t, Tensor)), "cpu")
    return tuple(t if t is None or isinstance(t, Tensor) else as_tensor(t, device=device) for t in inputs)


def mixed_floats(name: str, first: np.dtype[Any], second: np.dtype[Any]) -> TypeError:
    """The error for operands of two float dtypes."""
    return TypeError(
        f"{name}: got tensors of dtype {first} and {second}; "
        "convert one with .astype, float dtypes are not mixed silently"
    )


def _check(function: Function, inputs: tuple[Any, ...]) -> None:
    """Raise unless all inputs are on one device and of one dtype that the function computes with."""
    tensors = [t for t in inputs if t is not None]
    check_devices(function.name, *tensors)
    if function.any_dtype:
        return
    dtypes = [t._array.dtype for i, t in enumerate(inputs) if t is not None and i not in function.any_dtype_inputs]
    for dtype in dtypes:
        if dtype.num >= _FLOAT16 or (function.floats and dtype.kind != "f"):
            raise TypeError(f"{function.name}: got a {dtype} tensor; may be float32 or float64 (convert with .astype)")
        if dtype != dtypes[0]:
            raise mixed_floats(function.name, dtypes[0], dtype)
