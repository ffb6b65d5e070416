"""Somebody's kernel: in which framework it takes its inputs, what of them it takes, and how its results are read."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import lucid
from oracle.errors import UsageError
from oracle.kernel.operation import Argument, KernelOperation
from oracle.trace import NotNumbersError, to_numbers

Array = np.ndarray[Any, Any]

# Other names of attributes, and of inputs, by which kernels take them.
_OTHER = {
    "axis": ("axis", "dim", "axes"),
    "keepdims": ("keepdims", "keepdim"),
    "training": ("training", "train"),
    "weight": ("weight", "w", "gamma", "scale", "W"),
    "bias": ("bias", "b", "beta", "shift"),
    "running_mean": ("running_mean", "mean", "rm", "mu"),
    "running_var": ("running_var", "var", "rv", "variance"),
    "target": ("target", "targets", "labels", "label"),
    "min_value": ("min_value", "min", "lo", "low"),
    "max_value": ("max_value", "max", "hi", "high"),
    "input_size": ("input_size", "input_shape"),
    "weight_size": ("weight_size", "weight_shape"),
}
_GRADIENTS = ("dy", "gradient", "grad", "grad_output", "grad_out", "dout", "g", "upstream")
_RESULTS = ("y", "output", "result")
FRAMEWORKS = ("numpy", "torch", "cupy", "lucid")


@dataclass
class Framework:
    """Arrays of one framework.

    Args:
        name: ``numpy``, ``torch``, ``cupy`` or ``lucid``.
        device: where tensors are put, of those that have devices.
    """

    name: str
    device: str | None = None

    def make(self, values: Array, precision: str, strided: bool = False) -> Any:
        """An array of the precision's dtype; ``strided``: a view of every other column of a larger one."""
        if strided and values.ndim and values.dtype.kind == "f":
            wide = np.full((*values.shape[:-1], 2 * values.shape[-1] + 1), np.nan)
            wide[..., 1::2] = values
            return self.make(wide, precision)[..., 1::2]
        if self.name == "torch":
            return self._torch(values, precision)
        if self.name == "cupy":
            import cupy

            return cupy.asarray(_numpy(values, precision))
        if self.name == "lucid":
            return lucid.tensor(_numpy(values, precision))
        return _numpy(values, precision)

    def _torch(self, values: Array, precision: str) -> Any:
        import torch

        kinds = {
            "float64": torch.float64,
            "float32": torch.float32,
            "tf32": torch.float32,
            "bfloat16": torch.bfloat16,
            "float16": torch.float16,
            "int8": torch.int8,
        }
        kind = torch.int64 if values.dtype.kind == "i" else kinds[precision]
        tensor = torch.from_numpy(np.array(values))
        if self.device is not None:
            tensor = tensor.to(self.device)
        return tensor.to(kind)


def _numpy(values: Array, precision: str) -> Array:
    if values.dtype.kind == "i":
        return np.array(values)
    if precision == "bfloat16":
        try:
            from ml_dtypes import bfloat16
        except ImportError:  # float32 that holds bfloat16's numbers
            return np.array(values, np.float32)
        return np.array(values, np.float32).astype(bfloat16)
    kinds = {"float64": np.float64, "float16": np.float16, "int8": np.int8}
    with np.errstate(over="ignore"):
        return np.array(values).astype(kinds.get(precision, np.float32))


def to_array(result: Any) -> tuple[Array, str]:
    """What a kernel returned in float64, and the name of its dtype.

    Raises:
        UsageError: it is no array.
    """
    if isinstance(result, tuple | list) and result and not np.isscalar(result[0]):
        result = result[0]
    package = type(result).__module__.split(".")[0]
    if package == "lucid":
        result = result.numpy()
    elif package == "cupy":
        result = result.get()
    elif not isinstance(result, np.ndarray | np.generic) and package != "torch" and hasattr(result, "__dlpack__"):
        result = np.from_dlpack(result)
    try:
        array = to_numbers(result)
    except NotNumbersError as error:
        raise UsageError(f"kernel: it returned {error}; may be an array of numbers") from None
    kind = str(getattr(result, "dtype", array.dtype)).removeprefix("torch.")
    return array.astype(np.float64), kind


@dataclass
class Kernel:
    """A function, and how it is called.

    Args:
        function: somebody's.
        operation: what it should compute.
        attributes: those that were given; they are handed on where the function takes them by name.
        device: where tensors are put.
        framework: found by the first call, where it is not known.
    """

    function: Callable[..., Any]
    operation: KernelOperation
    attributes: dict[str, Any]
    device: str | None = None
    gradient: bool = False
    framework: Framework | None = None

    def __post_init__(self) -> None:
        called = self.function
        if hasattr(called, "forward") and hasattr(called, "parameters"):  # a module of PyTorch or lucid
            called = called.forward
        try:
            found = inspect.signature(called)
            self._parameters: list[inspect.Parameter] | None = list(found.parameters.values())
        except (TypeError, ValueError):
            self._parameters = None
        if self.framework is None:
            self.framework = self._declared()

    def _declared(self) -> Framework | None:
        module = str(getattr(self.function, "__module__", "") or "").split(".")[0]
        kind = type(self.function).__module__.split(".")[0]
        if self.device is not None:
            return Framework("cupy") if self.device == "cupy" else Framework("torch", self.device)
        for name in FRAMEWORKS:
            if name in (module, kind):
                return Framework(name)
        return None

    def arguments(self) -> list[Argument | None]:
        """For each of the operation's inputs, itself or ``None`` where the function does not take it."""
        known = list(self.operation.arguments)
        if self._parameters is None or any(p.kind is p.VAR_POSITIONAL for p in self._parameters):
            return [each if each.optional != "rare" else None for each in known]
        bound = self._bound()
        return [each if each.name in bound or not each.optional else None for each in known]

    def _bound(self) -> dict[str, inspect.Parameter]:
        """By input, the parameter that it goes to: of its name, or the next that no name says anything of.

        Where there are as many parameters as inputs that are never left out, they are these, in order.
        """
        known, empty = self.operation.arguments, inspect.Parameter.empty
        left = self._positional()
        needed = [each for each in known if not each.optional]
        if len([each for each in left if each.default is empty]) <= len(needed) == len(left):
            return dict(zip([each.name for each in needed], left, strict=True))
        found = {known[0].name: left.pop(0)} if left else {}
        for each in known[1:]:
            match = next((p for p in left if p.name == self._named(each.name)), None)
            if match is not None:
                found[each.name] = match
                left.remove(match)
        left = [each for each in left if each.default in (empty, None)]  # a tile's size is no input
        for each in known[1:]:
            if each.name not in found and each.optional != "rare" and left:
                found[each.name] = left.pop(0)
        return found

    def _positional(self) -> list[inspect.Parameter]:
        """The parameters that inputs go to: not those that are named like an attribute, or a gradient."""
        assert self._parameters is not None
        attributes = {other for name in self.operation.attributes for other in _OTHER.get(name, (name,))}
        inputs = {other for each in self.operation.arguments for other in _OTHER.get(each.name, (each.name,))}
        kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        found = [
            each
            for each in self._parameters
            if each.kind in kinds and (each.name in inputs or each.name not in attributes) and each.name != "out"
        ]
        if not self.gradient:
            return found
        ahead = [each for each in found if each.name in _GRADIENTS][:1] or found[:1]
        return [each for each in found if each not in ahead and each.name not in _RESULTS]

    def _named(self, name: str) -> str:
        """The parameter by which the function takes an input or attribute; "" where there is none."""
        if self._parameters is None:
            return ""
        kinds = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        names = {each.name for each in self._parameters if each.kind in kinds}
        return next((each for each in _OTHER.get(name, (name,)) if each in names), "")

    def candidates(self) -> list[str]:
        """The frameworks that it may be written for, the likeliest first: by the modules that its code names."""
        seen = modules_of(self.function)
        order = ["torch", "numpy"]  # what names neither runs on both, and PyTorch sums low precision in float32
        if "numpy" in seen:
            order = ["numpy", "torch"]
        if "cupy" in seen:
            order.append("cupy")
        if "lucid" in seen and "torch" not in seen:
            order.insert(0, "lucid")
        return [name for name in order if name != "torch" or importlib.util.find_spec("torch")]

    def takes_result(self) -> bool:
        """Whether a backward function wants the forward one's result."""
        return any(each.name in _RESULTS for each in self._parameters or ())

    def call(
        self, values: Sequence[Any], attributes: dict[str, Any], ahead: Sequence[Any] = (), y: Any = None, **named: Any
    ) -> Any:
        """Call it with arrays of its framework, those that are ``None`` left out."""
        if y is not None:
            named |= {each.name: y for each in self._parameters or () if each.name in _RESULTS}
        plain = self._parameters is None or any(each.kind is each.VAR_POSITIONAL for each in self._parameters)
        bound = {} if plain else self._bound()
        positional = []
        for argument, value in zip(self.operation.arguments, values, strict=True):
            to = bound.get(argument.name)
            if value is None:
                continue
            if to is None or to.kind is to.POSITIONAL_ONLY or (argument is self.operation.arguments[0] and not ahead):
                positional.append(value)
            else:
                named[to.name] = value
        named |= self._handed_on(attributes)
        if self._gradient_last():
            return self.function(*positional, **named, **{self._gradient_name(): ahead[0]})
        return self.function(*ahead, *positional, **named)

    def _gradient_name(self) -> str:
        return next(each.name for each in self._parameters or () if each.name in _GRADIENTS)

    def _gradient_last(self) -> bool:
        names = [each.name for each in self._parameters or ()]
        return self.gradient and bool(names) and names[0] not in _GRADIENTS and bool(set(names) & set(_GRADIENTS))

    def _handed_on(self, attributes: dict[str, Any]) -> dict[str, Any]:
        """The attributes that it takes by name."""
        if self._parameters is None:  # a built-in function: what was given, under PyTorch's names
            torch = self.framework is not None and self.framework.name == "torch"
            return {
                _OTHER.get(k, (k, k))[1] if torch and k in ("axis", "keepdims") else k: v
                for k, v in self.attributes.items()
            }
        every = any(each.kind is each.VAR_KEYWORD for each in self._parameters)
        found = {}
        for name, value in attributes.items():
            taken = self._named(name)
            if taken:
                found[taken] = value
            elif every and name in self.attributes:
                found[name] = value
        return found


def out_parameter(kernel: Kernel) -> bool:
    """Whether the function writes into a buffer that it is handed."""
    return any(each.name == "out" for each in kernel._parameters or ())


def modules_of(function: Any) -> set[str]:
    """The packages that a function's code names."""
    while hasattr(function, "func"):  # functools.partial
        function = function.func
    function = inspect.unwrap(function)
    if not hasattr(function, "__code__"):  # an object that is called
        function = getattr(type(function), "__call__")  # noqa: B004, B009
    code, space = getattr(function, "__code__", None), getattr(function, "__globals__", {})
    found: set[str] = set()
    pending = [code] if code is not None else []
    while pending:
        each = pending.pop()
        names = [space.get(name) for name in each.co_names if name in space]
        cells = getattr(function, "__closure__", None) or ()
        names += [cell.cell_contents for cell in cells if _filled(cell)]
        for value in names:
            module = value.__name__ if inspect.ismodule(value) else getattr(value, "__module__", "")
            found.add(str(module).split(".")[0])
        pending += [inner for inner in each.co_consts if inspect.iscode(inner)]
    return found


def _filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False
