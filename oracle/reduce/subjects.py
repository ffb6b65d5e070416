"""Who runs a sub-graph: ONNX Runtime, a changed ONNX file in it, or a function of somebody's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from oracle.errors import UsageError, foreign
from oracle.imports import import_module, member
from oracle.reduce.cutting import Array, Arrays, Cuts
from oracle.subjects import find_subject
from oracle.subjects.onnx_runtime import OnnxRuntimeSubject

_RUNTIMES = ("onnxruntime", "onnx", "ort")


class Runtime:
    """ONNX Runtime with the options of the subject ``onnxruntime``.

    Attributes:
        label, precision: the subject's.
        observed: the tensors at which a model may be cut; None for all.
    """

    def __init__(self, subject: OnnxRuntimeSubject) -> None:
        self.subject = subject
        self.label, self.precision = subject.label, subject.precision
        self.observed: frozenset[str] | None = None

    def __call__(self, model: onnx.ModelProto, inputs: Arrays) -> dict[str, Array]:
        """The outputs by name."""
        taken = self.part(model)
        session = self.subject.load(taken.SerializeToString())
        names = [value.name for value in session.get_outputs()]
        needed = {value.name for value in session.get_inputs()}
        feeds = {name: array for name, array in inputs.items() if name in needed}
        return dict(zip(names, session.run(names, feeds), strict=True))

    def part(self, model: onnx.ModelProto) -> onnx.ModelProto:
        """What is run instead of a sub-graph of the model."""
        return model


class Changed(Runtime):
    """A file that a toolchain made of the model: of it the part between the same tensors is run.

    A tensor is the same if it has the name. Where a node of the same operator makes it, but takes another number of
    operands, such as a convolution into which the normalisation behind it was folded, it is not.
    """

    def __init__(self, subject: OnnxRuntimeSubject, model: onnx.ModelProto, changed: onnx.ModelProto) -> None:
        super().__init__(subject)
        self._cuts, whole = Cuts(changed), Cuts(model)
        if self._cuts.inputs != whole.inputs or self._cuts.outputs != whole.outputs:
            raise UsageError(
                f"subject: {self.label} takes {', '.join(self._cuts.inputs)} and makes {', '.join(self._cuts.outputs)};"
                f" the model {', '.join(whole.inputs)} and {', '.join(whole.outputs)}"
            )
        self.observed = frozenset(name for name in whole.tensors() if self._is_same(name, whole))

    def _is_same(self, name: str, whole: Cuts) -> bool:
        if name not in self._cuts.made:
            return False
        ours, theirs = whole.node(whole.made[name]), self._cuts.node(self._cuts.made[name])
        return ours.op_type != theirs.op_type or len(ours.input) == len(theirs.input)

    def part(self, model: onnx.ModelProto) -> onnx.ModelProto:
        """That of the changed file.

        Raises:
            UsageError: it needs another tensor.
        """
        named = {value.name: value for value in model.graph.input}
        constants = {each.name: each for each in model.graph.initializer if each.name in self._cuts.made}
        outputs = [value.name for value in model.graph.output]
        given, places = self._cuts.between({*named, *constants}, outputs)
        if not set(given) <= {*named, *constants}:
            raise UsageError(f"subject: {self.label} needs other tensors there")
        part = self._cuts.part(places, outputs)
        part.graph.input.extend(named[name] for name in given if name in named)
        part.graph.initializer.extend(constants[name] for name in given if name in constants)
        return part


@dataclass(frozen=True)
class Function:
    """A function of a model and arrays by name, by ``MODULE:FUNCTION`` or ``PATH.py:FUNCTION``."""

    label: str
    function: Callable[[onnx.ModelProto, Arrays], Any]
    precision: str = "float32"
    observed: None = None

    def __call__(self, model: onnx.ModelProto, inputs: Arrays) -> Any:
        """The outputs."""
        return self.function(model, inputs)

    def part(self, model: onnx.ModelProto) -> onnx.ModelProto:
        """The sub-graph itself."""
        return model


def find_runner(text: str, model: onnx.ModelProto) -> Runtime | Function:
    """Who ``text`` names: ``onnxruntime`` with its options, or a function.

    Raises:
        UsageError: there is none such, or it runs no sub-graphs.
    """
    name, _, rest = text.partition(":")
    if name not in _RUNTIMES:
        with foreign(f"subject: {text} cannot be imported"):
            where, _, called = text.rpartition(":")
            found = member(import_module(where), called) if where else None
        if not callable(found):
            raise UsageError(
                f"subject: got {text!r}; may be onnxruntime with its options, or a function as MODULE:FUNCTION"
            )
        return Function(text, found)
    options = rest.split(":") if rest else []
    if "gradients" in options:
        raise UsageError("subject: onnxruntime: gradients are of a train step; a model is reduced as inference runs it")
    subject = find_subject(text)
    if not isinstance(subject, OnnxRuntimeSubject):
        raise UsageError(f"subject: {text} runs no sub-graphs")
    if subject.file is None:
        return Runtime(subject)
    return Changed(subject, model, _read(subject.file))


def _read(path: Path) -> onnx.ModelProto:
    with foreign(f"subject: {path} cannot be read"):
        return onnx.load(path)
