"""What computes each ONNX operator: the table that ``lucid.onnx.operators`` fills, and what a function of it is told.

A function marked ``@imports(operator)`` gets a ``Call`` and the operands, and returns a value, or a tuple of them. It
is written with lucid's operations, so that what it computes is differentiable, obeys the law, and runs on every device.

A value is one of these:

- a tensor of lucid. Of half precision (float16 and bfloat16) it has float32, with values that the half type has too:
  operators compute in float32, and every result is rounded once to the type that the model declares;
- an array of NumPy, known while the model is traced: shapes and what is computed of them, constants of integers, and
  types that lucid has no tensors of (strings, float8, 4 bits ..);
- a list of values (a sequence), and None (an operand that is not there, or an empty optional).

Operands named in ``host`` arrive as arrays, those in ``known`` as what they are, the others as tensors. Where all are
arrays, an operator runs at once, on the CPU and behind the tracer's back, and its results are arrays again: so shapes
are computed while a model is traced. An operator that is entered as ``raw`` gets what there is, tensors, arrays or
lists, and returns what it likes: control flow, sequences, and what converts between types.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lucid.core.tensor import Tensor

Value = Any  # Tensor | np.ndarray | list | None

Import = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Importer:
    """How an operator is computed.

    Attributes:
        function: from a ``Call`` and the operands.
        host: positions of operands that it takes as arrays of NumPy; None is all of them, also what comes after.
        known: positions of operands that it takes as tensors or as arrays, as they are: numbers that a constant gives,
            and types that lucid has no tensors of.
        state: positions of operands that are a state and not trained, such as running statistics.
        moves: whether it only moves elements, of whatever type they are, and computes none. Elements of a type that
            lucid has no tensors of arrive as integers that stand for them (0 for what is empty), and so return as a
            tensor; an array that it returns is taken as it is.
        keeps: the position of the operand whose type the first result has, for an operator that onnx does not define.
        random: whether it draws random numbers, which a tracer must see, whatever the operands are.
        raw: whether it takes the operands that are not in ``host`` as they are.
        gradient: whether it has a gradient by any of its operands.
    """

    function: Import
    host: Collection[int] | None = ()
    known: Collection[int] = ()
    state: Collection[int] = ()
    moves: bool = False
    keeps: int | None = None
    random: bool = False
    gradient: bool = True
    raw: bool = False

    def on_host(self, position: int) -> bool:
        """Whether the operand at ``position`` is an array of NumPy."""
        return self.host is None or position in self.host


IMPORTS: dict[tuple[str, str], Importer] = {}
"""By domain ("" is ONNX's own) and operator."""


def imports(
    *operators: str,
    domain: str = "",
    host: Collection[int] | None = (),
    known: Collection[int] = (),
    state: Collection[int] = (),
    moves: bool = False,
    keeps: int | None = None,
    random: bool = False,
    gradient: bool = True,
    raw: bool = False,
) -> Callable[[Import], Import]:
    """Enter the decorated function for these operators; the arguments are an ``Importer``'s."""

    def enter(function: Import) -> Import:
        importer = Importer(function, host, known, state, moves, keeps, random, gradient and host is not None, raw)
        IMPORTS.update({(domain, operator): importer for operator in operators})
        return function

    return enter


def imports_contributed(*operators: str, keeps: int = 0) -> Callable[[Import], Import]:
    """Enter operators of ONNX Runtime's own domain, whose first result has the type of the operand ``keeps``."""
    return imports(*operators, domain="com.microsoft", keeps=keeps)


def imports_alike(operators: Mapping[str, Callable[..., Tensor]], *, gradient: bool = True) -> None:
    """Enter operators that lucid has with the same operands and no attributes, each by lucid's function."""
    for operator, function in operators.items():
        imports(operator, gradient=gradient)(_without_call(function))


def _without_call(function: Callable[..., Tensor]) -> Import:
    def call(_: Call, *operands: Any) -> Tensor:
        return function(*operands)

    return call


@dataclass(slots=True, eq=False)
class Call:
    """A node of the model, as the function that computes it sees it. ``call["axis"]`` is an attribute.

    Attributes:
        operator: its name, such as ``"Conv"``.
        domain: "" for ONNX's own.
        name: of the node, or of its first output where it has none.
        version: the version of the operator's definition that holds for the model (``since_version``).
        attributes: by name, with the definition's defaults; None where there is none. Text is ``str``, a tensor an
            array. A graph is called with values and returns a list of values.
        inputs, outputs: names of values; "" for one that is not there.
        dtypes: of the operands, as the model declares them; None where it is no tensor or not known.
        results: likewise of the outputs.
        training: whether the module is in train mode.
        device: where its tensors lie.
    """

    operator: str
    domain: str
    name: str
    version: int
    attributes: dict[str, Any]
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    dtypes: tuple[np.dtype[Any] | None, ...] = ()
    results: tuple[np.dtype[Any] | None, ...] = ()
    training: bool = False
    device: str = "cpu"

    def __getitem__(self, attribute: str) -> Any:
        return self.attributes.get(attribute)

    def default(self, attribute: str, value: float) -> float:
        """A number; ``value`` where the node has none and no definition says it."""
        given = self[attribute]
        return value if given is None else float(given)

    def refuse(self, why: str) -> ValueError:
        """An error that names the node; to be raised."""
        return ValueError(f"{self.operator} {self.name!r}: {why}")
