"""What a fault is: a name, where it can strike, and what it does to one layer.

A fault is written once, in NumPy, as an `Injection`: functions of what the layer takes, makes and hands back. Whoever
injects it (`oracle.faults.inject`) puts these functions around one module of a PyTorch twin or of a lucid model, so a
fault needs no version for either.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar

import numpy as np

from lucid.backends import backend_for
from oracle.case.case import Case
from oracle.errors import UsageError
from oracle.graph.graph import Node
from oracle.operations.contraction import conv_geometry

Array = np.ndarray[Any, Any]
Category = Literal["kernel", "normalisation", "gradient", "data", "precision"]
Pass = Literal["forward", "backward", "statistics"]
Engine = Literal["torch", "lucid"]
_T = TypeVar("_T")


class Draw:
    """One random number, from the raw words of NumPy's Philox, which NumPy promises to keep.

    It is the same each time that it is asked: a fault does the same in every run of its subject, whole or layer by
    layer.

    Example:
        >>> drawn = Draw(0, "a tile")
        >>> drawn.integer(10) == drawn.integer(10) == Draw(0, "a tile").integer(10)
        True
    """

    def __init__(self, seed: int, name: str) -> None:
        key = hashlib.sha256(f"{seed}/{name}".encode()).digest()[:16]
        self._word = int(np.random.Philox(key=int.from_bytes(key, "little")).random_raw())

    def integer(self, below: int) -> int:
        """One of 0 to ``below - 1``."""
        return self._word % below

    def pick(self, choices: Sequence[_T]) -> _T:
        """One of ``choices``."""
        return choices[self.integer(len(choices))]


@dataclass
class Context:
    """One call of the layer: what is known of it by the time that a function of an `Injection` is asked.

    Args:
        x: the first input as the layer takes it.
        y: the output that the healthy layer made.
        dy: the gradient of the output as the layer takes it.
        dx: the gradient of the input that the healthy layer made.
    """

    x: Array = field(default_factory=lambda: np.empty(0))
    y: Array = field(default_factory=lambda: np.empty(0))
    dy: Array = field(default_factory=lambda: np.empty(0))
    dx: Array = field(default_factory=lambda: np.empty(0))


Alter = Callable[[Context], Array]


@dataclass(frozen=True)
class Injection:
    """What is wrong at one layer. Each function returns what takes the place of the healthy tensor.

    Args:
        input: of ``x``, before the layer takes it (its gradient is handed on as it is).
        output: of ``y``.
        output_gradient: of ``dy``, before the layer takes it.
        input_gradient: of ``dx``.
        parameter_gradients: by the parameter's own name, of its gradient.
        parameters: by the parameter's or statistic's own name, of its value.
        attributes: of the module, by name.
        training: whether the module normalises by the batch, if that is what is wrong.
        statistics: what the running statistics are after the layer ran, by their own names.
        join: of an operation with code of its own (PyTorch alone): how its inputs become the output.
    """

    input: Alter | None = None
    output: Alter | None = None
    output_gradient: Alter | None = None
    input_gradient: Alter | None = None
    parameter_gradients: Mapping[str, Callable[[Array, Context], Array]] = field(default_factory=dict)
    parameters: Mapping[str, Callable[[Array], Array]] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    training: bool | None = None
    statistics: Callable[[Context], Mapping[str, Array]] | None = None
    join: Callable[[Any, Any], Any] | None = None


@dataclass(frozen=True)
class Site:
    """Where a fault strikes: one layer of one case, and the random choices that it may make there."""

    layer: Node
    case: Case
    draw: Draw

    def parameter(self, name: str) -> Array:
        """A parameter or statistic of the layer."""
        return self.case.state[self.layer.parameters.get(name) or self.layer.statistics[name]]

    def ended(self, total: Any) -> Any:
        """A sum as the healthy operation ends it."""
        return total.relu() if self.layer.attributes["relu"] else total

    def wrong_conv(self, c: Context, x: Array, weight: Array | None = None, **geometry: Any) -> Array:
        """The output where the layer convolves these operands instead, or with this geometry.

        Where that changes nothing (a channel that is zero anyway) the healthy output stays as it is, to the bit: this
        convolution rounds in another order than the subject's, which is no fault.
        """
        wrong, right = self.conv(x, weight, **geometry), self.conv(c.x)
        return np.where(wrong == right, c.y, wrong) if wrong.shape == c.y.shape else wrong

    def conv(self, x: Array, weight: Array | None = None, **geometry: Any) -> Array:
        """The layer's convolution in float32, with other operands or another geometry."""
        weight = self.parameter("weight") if weight is None else weight
        usual = dict(zip(("stride", "padding", "dilation", "groups"), conv_geometry(self.layer), strict=True))
        made = backend_for("cpu").conv2d(x.astype(np.float32), weight, None, *(usual | geometry).values())
        return np.ascontiguousarray(made)


@dataclass(frozen=True)
class Fault:
    """One entry of the catalogue.

    Args:
        name: what reports call it.
        category: its kind.
        description: what is wrong, in a sentence.
        ops: the operations that it can strike.
        make: what it does at a site.
        strikes: in which pass its first wrong tensor appears; ``statistics``: those that a batch normalisation keeps.
        where: which layers of these operations it can strike.
        modes: in which runs.
        engines: into whose models it can be put.
        needs: what a case must have for the fault to show; said of a case where it changes nothing.
        no_op: why it changes nothing whatever the case, if that is so: then it is no fault there.
    """

    name: str
    category: Category
    description: str
    ops: tuple[str, ...]
    make: Callable[[Site], Injection]
    strikes: Pass = "forward"
    where: Callable[[Node, Case], bool] = lambda layer, case: True
    modes: tuple[str, ...] = ("eval", "train")
    engines: tuple[Engine, ...] = ("torch", "lucid")
    needs: str = "values that differ where the fault exchanges or changes them"
    no_op: str = ""

    def layers(self, case: Case, layers: Sequence[Node]) -> list[Node]:
        """The layers of ``case`` that it can strike."""
        if case.mode not in self.modes:
            return []
        return [layer for layer in layers if layer.op in self.ops and self.where(layer, case)]

    def hidden_by_the_batch(self, case: Case, layers: Sequence[Node]) -> bool:
        """Whether it can strike no layer of ``case`` for its batch of one image alone."""
        return case.batch == 1 and not self.layers(case, layers) and bool(self.layers(replace(case, batch=2), layers))


CATALOGUE: dict[str, Fault] = {}


def fault(
    name: str, category: Category, description: str, *ops: str, **options: Any
) -> Callable[[Callable[[Site], Injection]], Callable[[Site], Injection]]:
    """Enter a function of a `Site` into the catalogue.

    Raises:
        ValueError: there is a fault of that name.
    """

    def enter(make: Callable[[Site], Injection]) -> Callable[[Site], Injection]:
        if name in CATALOGUE:
            raise ValueError(f"name: there is a fault {name!r} already")
        if options.get("strikes", "forward") != "forward":
            options.setdefault("modes", ("train",))
        CATALOGUE[name] = Fault(name, category, description, ops, make, **options)
        return make

    return enter


def find_fault(name: str) -> Fault:
    """The fault called ``name``.

    Raises:
        UsageError: there is none; the sentence suggests the nearest.
    """
    if name in CATALOGUE:
        return CATALOGUE[name]
    near = difflib.get_close_matches(name, CATALOGUE, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise UsageError(f"fault: got {name!r}; {hint}`lucid-oracle faults --list` shows all {len(CATALOGUE)}")


def masked(values: Array, decided: Array) -> Array:
    """``values`` where a ReLU of ``decided`` passes."""
    return np.where(decided > 0, values, 0).astype(values.dtype)


def changed(array: Array, **_: Any) -> Array:
    """A copy to write to."""
    return np.array(array, order="C")
