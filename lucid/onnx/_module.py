"""An ONNX model as a module: it runs the model's nodes in their order by lucid's operations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from lucid.core.device import names_device
from lucid.core.dtypes import as_dtype
from lucid.core.grad_mode import no_grad
from lucid.core.tensor import Tensor
from lucid.nn import Module
from lucid.nn._dry_run import concretely
from lucid.onnx._importer import IMPORTS, Call, Importer, Value
from lucid.onnx._types import BFLOAT16, HALF, TEXT, as_array, as_value, has_tensors, rounded

__all__ = ["OnnxModule"]


class Operator(Module):
    """One node: a module of its own, so that hooks, tracers and errors name it by the value that it makes."""

    def __init__(self, call: Call) -> None:
        super().__init__()
        self.call = call
        self.output_names = call.outputs if len(call.outputs) > 1 else None
        self._declared = call.dtypes, call.results
        self._floats: np.dtype[Any] | None = None

    @property
    def importer(self) -> Importer:
        """How it is computed."""
        return IMPORTS[self.call.domain, self.call.operator]

    def compute_in(self, dtype: np.dtype[Any]) -> None:
        """See ``OnnxModule.to``."""
        self._floats = dtype
        self.call.dtypes, self.call.results = (
            tuple(in_precision(each, dtype) for each in dtypes) for dtypes in self._declared
        )

    def forward(self, *operands: Value) -> Value:
        """The node's result; a tuple where it declares several outputs.

        Raises:
            ValueError: the operator does not take such operands; it names the node.
        """
        try:
            return self._finish(self._computed(operands))
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            node = f"{self.call.operator} {self.call.name!r}: "
            if type(error) is ValueError and str(error).startswith(node):
                raise
            raise ValueError(f"{node}{error}") from error

    def _computed(self, operands: Sequence[Value]) -> Value:
        call, importer = self.call, self.importer
        device = next((o.device for o in operands if isinstance(o, Tensor)), None)
        call.training = self.training
        known = device is None and all(importer.on_host(i) or _is_host(o) for i, o in enumerate(operands))
        graphs = importer.raw and any(map(callable, call.attributes.values()))  # they may take what is around them
        if known and not importer.random and not graphs:
            return self._on_host(operands)
        call.device = device or "cpu"
        given = [self._operand(i, operand) for i, operand in enumerate(operands)]
        return importer.function(call, *given)

    def _operand(self, position: int, operand: Value) -> Value:
        if self.importer.on_host(position):
            return as_array(operand, self.call.dtypes[position]) if isinstance(operand, Tensor) else operand
        if not isinstance(operand, np.ndarray) or self.importer.raw:
            return operand
        if position in self.importer.known:
            return operand.astype(in_precision(operand.dtype, self._floats), copy=False)
        if not has_tensors(operand.dtype):
            raise self.call.refuse(
                f"operand {position} is of type {_name(operand.dtype)}, which lucid's tensors do not have"
            )
        value = as_value(operand, self.call.device)
        wanted = in_precision(value.dtype, self._floats)
        return value if wanted == value.dtype else value.astype(wanted)

    def _on_host(self, operands: Sequence[Value]) -> Value:
        """The results as arrays, computed of arrays; with values, also while a model is traced."""
        self.call.device = "cpu"
        codes = None
        if self.importer.moves:
            strange = {i: o for i, o in enumerate(operands) if isinstance(o, np.ndarray) and not has_tensors(o.dtype)}
            if strange:
                codes = _Codes(list(strange.values()))
                coded = dict(zip(strange, codes.arrays, strict=True))
                operands = [coded.get(i, operand) for i, operand in enumerate(operands)]
        with concretely(), no_grad():
            results = self.importer.function(self.call, *(self._operand(i, o) for i, o in enumerate(operands)))
            if self.importer.host is None:
                return results
            if isinstance(results, tuple):
                return tuple(_to_host(each, codes) for each in results)
            return _to_host(results, codes)

    def _finish(self, results: Value) -> Value:
        declared = self.call.results
        if not isinstance(results, tuple):
            return self._typed(results, declared[0])
        made = tuple(self._typed(value, dtype) for value, dtype in zip(results, declared, strict=False))
        return made if len(declared) > 1 else made[0]

    def _typed(self, value: Value, dtype: np.dtype[Any] | None) -> Value:
        """``value`` in the type that the model declares."""
        if dtype is None or value is None:
            return value
        if isinstance(value, list):
            return [self._typed(each, dtype) for each in value]
        if isinstance(value, np.ndarray):
            return value if value.dtype == dtype or dtype == TEXT else value.astype(dtype)
        if dtype in HALF:
            return value if self.importer.moves else rounded(value, dtype)
        return value if value.dtype == dtype or not has_tensors(dtype) else value.astype(dtype)

    def extra_repr(self) -> str:
        """The operator, and the values that it takes."""
        return f"{self.call.operator}({', '.join(self.call.inputs)})"


def _is_host(value: Value) -> bool:
    return not isinstance(value, Tensor) and (not isinstance(value, list) or all(map(_is_host, value)))


def _to_host(value: Value, codes: _Codes | None) -> Value:
    if isinstance(value, list):
        return [_to_host(each, codes) for each in value]
    if not isinstance(value, Tensor):
        return value
    return as_array(value) if codes is None else codes.decoded(as_array(value))


class _Codes:
    """Arrays of a type that lucid has no tensors of, as integers that can be moved; 0 stands for what is empty."""

    def __init__(self, arrays: Sequence[np.ndarray[Any, Any]]) -> None:
        self._dtype = arrays[0].dtype
        if self._dtype == TEXT:
            self._words, places = np.unique(
                np.concatenate([[""], *(array.ravel() for array in arrays)]).astype(object), return_inverse=True
            )
            ends = np.add.accumulate([1, *(array.size for array in arrays)])
            parts = np.split(places.astype(np.int64), ends[:-1])[1:]
            self.arrays = [part.reshape(array.shape) for part, array in zip(parts, arrays, strict=True)]
        else:
            code = np.dtype(f"u{self._dtype.itemsize}")
            self.arrays = [np.ascontiguousarray(array).view(code).reshape(array.shape) for array in arrays]

    def decoded(self, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return self._words[array] if self._dtype == TEXT else np.ascontiguousarray(array).view(self._dtype)


def in_precision(declared: Any, floats: np.dtype[Any] | None) -> Any:
    """What a declared type is where floats are computed in ``floats``; None leaves it."""
    if declared is None or floats is None or (floats != np.float64 and declared != np.float64):
        return declared
    return floats if declared in HALF or declared in (np.float32, np.float64) else declared


def _name(dtype: np.dtype[Any]) -> str:
    return "string" if dtype == TEXT else str(dtype)


@dataclass(slots=True, eq=False)
class Step:
    """A node in its graph: the operator, the values that it takes and makes, and those that nobody needs after it."""

    operator: Operator
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    last: tuple[str, ...] = ()
    bodies: dict[str, Body] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Body:
    """A graph: the model's own, or one that is an attribute of a node.

    Attributes:
        inputs, outputs: names of values.
        steps: in the order of execution.
        constants: arrays by name.
        states: for names of parameters and buffers, the name by which the module has them.
        captured: names of values of the graphs around it.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    steps: list[Step] = field(default_factory=list)
    constants: dict[str, Value] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    captured: tuple[str, ...] = ()

    def run(self, module: Module, given: Mapping[str, Value], around: Mapping[str, Value]) -> list[Value]:
        """The outputs, from values for the inputs and the values of the graph around."""
        values: dict[str, Value] = {name: around[name] for name in self.captured}
        values.update(self.constants)
        fields = module.__dict__
        for name, state in self.states.items():
            values[name] = fields[state]
        values.update(given)
        for step in self.steps:
            operands = [values[name] if name else None for name in step.inputs]
            made = self._lent(step, module, values, operands) if step.bodies else step.operator(*operands)
            if len(step.outputs) == 1:
                values[step.outputs[0]] = made
            else:
                results = made if isinstance(made, tuple) else (made,)
                values.update((name, each) for name, each in zip(step.outputs, results, strict=False) if name)
            for name in step.last:
                del values[name]
        return [values[name] for name in self.outputs]

    @staticmethod
    def _lent(step: Step, module: Module, values: Mapping[str, Value], operands: Sequence[Value]) -> Value:
        """What a step with graphs makes: while it runs they are functions of values, which see what is around them."""

        def function(body: Body) -> Any:
            around = {name: values[name] for name in body.captured}
            return lambda *given: body.run(module, dict(zip(body.inputs, given, strict=False)), around)

        attributes = step.operator.call.attributes
        attributes.update((name, function(body)) for name, body in step.bodies.items())
        try:
            return step.operator(*operands)
        finally:  # they hold the run's values
            for name in step.bodies:
                del attributes[name]


class OnnxModule(Module):
    """A model of ``lucid.onnx.load``: ``module(*inputs)`` gives its output, or a tuple of its outputs.

    Inputs are tensors or arrays, by name or in the model's order, those last that have a value in the file. An output
    is a tensor; text, types that lucid has no tensors of, and sequences are arrays and lists. Float initializers are
    parameters under their own names, running statistics are buffers. Every node is a submodule under the name of the
    value that it makes, so that hooks, traces and messages name it as the file does.

    In train mode BatchNormalization takes the statistics of the batch and keeps running ones, and Dropout drops.

    Attributes:
        input_names, output_names: in the model's order; inputs that have a value of their own come last.
        opset: by domain, the versions of the operators.
    """

    def __init__(
        self,
        body: Body,
        states: Mapping[str, Tensor],
        operators: Mapping[str, Operator],
        dtypes: Mapping[str, np.dtype[Any] | None],
        optional: frozenset[str],
        opset: Mapping[str, int],
    ) -> None:
        super().__init__()
        self._body = body
        self.input_names = tuple(sorted(body.inputs, key=lambda name: name in optional))
        self.output_names = tuple(body.outputs)
        self.opset = dict(opset)
        self._declared = {name: dtypes.get(name) for name in (*body.inputs, *body.outputs)}
        self._floats: np.dtype[Any] | None = None
        self._optional = optional
        for name, tensor in states.items():
            setattr(self, name, tensor)
        for name, operator in operators.items():
            self._enter("_modules", name, None)
            object.__setattr__(self, name, operator)
        self.eval()

    def get_submodule(self, target: str) -> Module:
        """The operator that makes the value ``target``, whose name may have dots."""
        return getattr(self, target) if target in self._modules else super().get_submodule(target)

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """See the class.

        Raises:
            TypeError: an input is missing, unknown or given twice, or its type is not the model's.
        """
        given = self._given(inputs, named)
        results = self._body.run(self, given, {})
        returned = [self._returned(name, value) for name, value in zip(self.output_names, results, strict=True)]
        return returned[0] if len(returned) == 1 else tuple(returned)

    def _given(self, inputs: Sequence[Any], named: Mapping[str, Any]) -> dict[str, Value]:
        if len(inputs) > len(self.input_names):
            raise TypeError(f"inputs: got {len(inputs)}; the model takes {len(self.input_names)}")
        given = dict(zip(self.input_names, inputs, strict=False))
        for name, value in named.items():
            if name not in self.input_names or name in given:
                why = "is given twice" if name in given else f"is none of {', '.join(self.input_names)}"
                raise TypeError(f"inputs: {name!r} {why}")
            given[name] = value
        missing = [name for name in self.input_names if name not in given and name not in self._optional]
        if missing:
            raise TypeError(f"inputs: {', '.join(map(repr, missing))} must be given")
        device = next((p.device for p in self.parameters()), "cpu")
        return {name: self._taken(name, value, device) for name, value in given.items()}

    def _taken(self, name: str, value: Any, device: str) -> Value:
        declared = self.dtype_of(name)
        if value is None or isinstance(value, list | tuple):
            return [self._taken(name, each, device) for each in value] if value is not None else None
        if isinstance(value, Tensor):
            dtype: np.dtype[Any] = value.dtype
        else:
            value = np.asarray(value)
            dtype = value.dtype
            if dtype.kind in "US":
                value, dtype = value.astype(object), TEXT
        if declared is None or dtype == declared:
            if isinstance(value, Tensor):
                return value.astype(np.float32) if dtype == np.float16 else value
            return as_value(value, device) if has_tensors(dtype) else value
        if declared in HALF and dtype == np.float32:
            return rounded(value if isinstance(value, Tensor) else as_value(value, device), declared)
        if dtype == self._declared[name] or (dtype in HALF and declared.kind == "f"):  # the module was converted
            return (value if isinstance(value, Tensor) else as_value(value, device)).astype(declared)
        raise TypeError(f"inputs: {name!r} is of type {_name(dtype)}; the model takes {_name(declared)}")

    def _returned(self, name: str, value: Value) -> Any:
        if isinstance(value, list):
            return [self._returned(name, each) for each in value]
        if isinstance(value, Tensor):
            return value.astype(np.float16) if self.dtype_of(name) == np.float16 else value
        if isinstance(value, np.ndarray) and has_tensors(value.dtype) and value.dtype != BFLOAT16:
            return as_value(value, "cpu") if value.dtype != np.float16 else Tensor(value)
        return value

    def extra_repr(self) -> str:
        """What goes in and out."""
        return f"{', '.join(self.input_names)} -> {', '.join(self.output_names)}"

    def dtype_of(self, name: str) -> np.dtype[Any] | None:
        """The dtype of an input or output; ``object`` for text, None where the model does not say."""
        return in_precision(self._declared[name], self._floats)

    def to(self, *targets: Any) -> Self:
        """As ``Module.to``. Of a float dtype: the whole model computes in it.

        In float64 every float type that the file declares, half precision and what Cast makes included, is float64, so
        that nothing is rounded to less: the truth that other runs are measured by. In float32, what the file declares
        as float64 is float32.
        """
        super().to(*targets)
        for target in targets:
            if not names_device(target):
                self._floats = as_dtype(target)
                for module in self.modules():
                    if isinstance(module, Operator):
                        module.compute_in(self._floats)
        return self
