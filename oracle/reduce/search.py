"""The search for the smallest sub-graph of an ONNX model that still disagrees with the truth.

First the end: of the parts of the model that begin with its inputs, the shortest that disagrees is found by bisection.
Then, in turn, the latest beginning, fed the truth's values, with which the end still disagrees, and the earliest end of
that; then nodes are taken away one by one, and at last all but one example of a batch. The subject is asked for the
outputs of a sub-graph alone, so that it fuses within as it does in the whole model. Every sub-graph on the way
disagrees, so that whatever is found does, too.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx

from oracle.errors import UsageError, foreign
from oracle.judge.words import describe_difference
from oracle.precision.difference import Budget
from oracle.precision.profile import Profile
from oracle.reduce.bounds import Expected, Verdict, expected_of, judge
from oracle.reduce.cutting import Array, Arrays, Cuts

Run = Callable[[onnx.ModelProto, Arrays], Any]
Progress = Callable[[str], None]
MOST_SINGLE = 24  # nodes are taken away one by one of sub-graphs of so many


@dataclass(frozen=True)
class Reduction:
    """What `reduce_model` found.

    Args:
        model: the sub-graph; the whole model where nothing disagrees.
        inputs: by name, what it is fed.
        expected: by output, what it should make, and the budget of each element.
        made: by output, what the subject made.
        verdicts: by output.
        nodes: the nodes of the sub-graph in words, such as ``"Conv 'conv1'"``, in the order of execution.
        before: how many nodes the whole model has.
        tried: how many sub-graphs the subject ran.
    """

    model: onnx.ModelProto = field(repr=False)
    inputs: dict[str, Array] = field(repr=False)
    expected: Expected = field(repr=False)
    made: dict[str, Array] = field(repr=False)
    verdicts: dict[str, Verdict]
    nodes: tuple[str, ...]
    before: int
    tried: int

    @property
    def agrees(self) -> bool:
        """Whether nothing disagrees."""
        return all(verdict.agrees for verdict in self.verdicts.values())

    @property
    def judged(self) -> bool:
        """Whether any output's budget is small enough for agreement to mean something."""
        return any(verdict.judged for verdict in self.verdicts.values())

    @property
    def wrong(self) -> str:
        """The output that uses most of its budget."""
        return max(self.verdicts, key=lambda name: self.verdicts[name].used)

    def kind(self) -> str:
        """What kind of difference it is, in words."""
        name = self.wrong
        exact, budget = self.expected.exact[name], self.expected.budget[name]
        scale = float(np.sqrt(np.mean(np.square(exact)))) if exact.size else 0.0
        largest = float(budget.max(initial=0.0)) / scale if scale > 0 else math.inf
        rms = float(np.sqrt(np.mean(np.square(budget)))) / scale if scale > 0 else math.inf
        with np.errstate(all="ignore"):
            return describe_difference(np.asarray(self.made[name], np.float64), exact, Budget(rms, largest))

    def sentence(self) -> str:
        """It in one sentence."""
        if self.agrees and not self.judged:
            return "nothing could be judged: the budgets are as large as the outputs"
        if self.agrees:
            most = max((verdict.used for verdict in self.verdicts.values()), default=0.0)
            return f"nothing disagrees: the outputs use {most:.2f} of their budgets ({self.before} nodes)"
        verdict = self.verdicts[self.wrong]
        used = (
            "is no number, or of another shape," if math.isinf(verdict.used) else f"is {verdict.used:.3g} budgets off"
        )
        where = f" at {list(verdict.place)}" if verdict.place else ""
        return (
            f"{len(self.nodes)} of {self.before} nodes disagree: {', '.join(self.nodes)}; "
            f"{self.wrong!r} {used}{where}: {self.kind()}"
        )


def reduce_model(
    model: onnx.ModelProto | bytes | str | os.PathLike[str],
    run: Run,
    inputs: Arrays,
    *,
    precision: str | Profile = "float32",
    observed: Collection[str] | None = None,
    progress: Progress = lambda message: None,
) -> Reduction:
    """The smallest sub-graph of ``model`` that is found on which ``run`` disagrees with the truth.

    The truth is lucid's float64 run (`lucid.onnx.load`), which PyTorch's of the same operations must confirm.

    Args:
        model: an ONNX model.
        run: the subject: from a model and arrays by name to its outputs, in the model's order or by name.
        inputs: by name, what the model is fed.
        precision: the subject's, as `oracle.precision.profile` has it.
        observed: names of tensors at which the model may be cut; by default all.
        progress: called with a sentence before each step.

    Raises:
        UsageError: the truth cannot be made, or the subject fails on the whole model.

    Example:
        >>> import numpy as np
        >>> import lucid
        >>> from lucid.graph import trace
        >>> from lucid.onnx import load, to_onnx
        >>> layers = lucid.nn.Sequential(lucid.nn.Linear(3, 4), lucid.nn.ReLU(), lucid.nn.Linear(4, 2))
        >>> proto = to_onnx(trace(layers, lucid.ones((1, 3))))
        >>> def without_relu(model, inputs):
        ...     for node in model.graph.node:
        ...         if node.op_type == "Relu":
        ...             node.op_type = "Identity"
        ...     return load(model)(**inputs)
        >>> reduce_model(proto, without_relu, {"input": np.full((1, 3), -1, np.float32)}).nodes
        ("Relu '1'",)
    """
    with foreign("model: it cannot be read"):
        cuts = Cuts(_proto(model))
    return _Search(cuts, run, inputs, precision, observed, progress).reduced()


def _proto(model: Any) -> onnx.ModelProto:
    if isinstance(model, onnx.ModelProto):
        return model
    return onnx.load_from_string(model) if isinstance(model, bytes) else onnx.load(model)


@dataclass(frozen=True)
class _Part:
    """A sub-graph that was run."""

    places: list[int]
    outputs: tuple[str, ...]
    model: onnx.ModelProto
    inputs: dict[str, Array]
    expected: Expected
    made: dict[str, Array]
    verdicts: dict[str, Verdict]

    @property
    def wrong(self) -> list[str]:
        return [name for name, verdict in self.verdicts.items() if not verdict.agrees]


class _Search:
    """One reduction: what was found so far is handed from step to step as a `_Part` that disagrees."""

    def __init__(
        self,
        cuts: Cuts,
        run: Run,
        inputs: Arrays,
        precision: str | Profile,
        observed: Collection[str] | None,
        progress: Progress,
    ) -> None:
        self._cuts, self._run, self._precision, self._progress = cuts, run, precision, progress
        self._tried: dict[Any, _Part | None] = {}
        missing = [name for name in cuts.inputs if name not in inputs]
        if missing:
            raise UsageError(f"inputs: {', '.join(map(repr, missing))} must be given")
        self._given = {name: np.asarray(inputs[name]) for name in cuts.inputs}
        allowed = cuts.tensors() if observed is None else [name for name in cuts.tensors() if name in observed]
        progress("the truth of the whole model")
        self._truth = self._whole_truth([*dict.fromkeys((*allowed, *cuts.outputs))])
        self._observed = {name for name in allowed if name in self._truth.exact}
        self._numbers = {name for name in (*self._observed, *cuts.outputs) if name in self._truth.budget}

    def _whole_truth(self, names: Sequence[str]) -> Expected:
        """Of every tensor at which the model may be cut."""
        numbers = [name for name in names if _is_number(self._cuts.dtype_of(name))]
        _, places = self._cuts.between((), numbers)
        with foreign("model: its truth cannot be made"):
            model, _ = self._cuts.cut(self._given, places, numbers)
            return expected_of(model, self._given, self._precision)

    # -- a step --------------------------------------------------------------------------------------------------------

    def _part(self, cut: Collection[str], outputs: Sequence[str]) -> _Part | None:
        """The sub-graph from tensors that are given to some that are asked for; None where it cannot be run."""
        given, places = self._cuts.between(cut, outputs)
        key = (tuple(given), tuple(places), tuple(outputs))
        if key not in self._tried:
            self._tried[key] = self._ran(given, places, tuple(outputs)) if places else None
        return self._tried[key]

    def _ran(self, given: Sequence[str], places: list[int], outputs: tuple[str, ...]) -> _Part | None:
        whole = all(name in self._given for name in given)
        arrays = {name: self._given[name] if name in self._given else self._rounded(name) for name in given}
        try:
            model, names = self._cuts.cut(arrays, places, outputs)
            inputs = {name: arrays[name] for name in names}
            expected = (
                Expected(*({name: of[name] for name in outputs} for of in (self._truth.exact, self._truth.budget)))
                if whole
                else expected_of(model, inputs, self._precision)
            )
            return self._judged(places, outputs, model, inputs, expected)
        except MemoryError:
            raise
        except Exception as error:  # lucid's, onnx's, or the subject's: there is another sub-graph
            if whole and set(outputs) >= set(self._wanted()):
                raise UsageError(f"subject: it fails on the whole model: {type(error).__name__}: {error}") from error
            return None

    def _judged(
        self,
        places: list[int],
        outputs: tuple[str, ...],
        model: onnx.ModelProto,
        inputs: dict[str, Array],
        expected: Expected,
    ) -> _Part:
        copy = onnx.ModelProto()
        copy.CopyFrom(model)  # a subject may change it
        made = self._run(copy, dict(inputs))
        if not isinstance(made, Mapping):
            made = dict(zip(outputs, made if isinstance(made, list | tuple) else (made,), strict=True))
        arrays = {name: _array(made[name]) for name in outputs}
        verdicts = {name: judge(arrays[name], expected.exact[name], expected.budget[name]) for name in outputs}
        return _Part(places, outputs, model, inputs, expected, arrays, verdicts)

    def _rounded(self, name: str) -> Array:
        """The truth's value in the type that the model has there."""
        array = self._truth.exact[name]
        dtype = self._cuts.dtype_of(name) or (np.dtype(np.float32) if array.dtype.kind == "f" else array.dtype)
        return array.astype(dtype)

    def _wanted(self) -> list[str]:
        """The model's outputs that are numbers."""
        return [name for name in self._cuts.outputs if name in self._numbers]

    # -- the search ----------------------------------------------------------------------------------------------------

    def reduced(self) -> Reduction:
        """The reduction."""
        outputs = self._wanted()
        if not outputs:
            raise UsageError("model: none of its outputs is of numbers that follow from its inputs")
        self._progress("the subject on the whole model")
        part = self._part((), outputs)
        if part is None:
            raise UsageError("model: none of its nodes follows from its inputs")
        if part.wrong:
            part = self._one_output(self._prefix(part))
            part = self._from_both_ends(part)
            part = self._one_example(self._one_by_one(part))
        words = tuple(self._words(place) for place in part.places if self._cuts.count([place]))
        before = self._cuts.count(self._cuts.nodes)
        ran = sum(each is not None for each in self._tried.values())
        return Reduction(part.model, part.inputs, part.expected, part.made, part.verdicts, words, before, ran)

    def _words(self, place: int) -> str:
        node = self._cuts.node(place)
        return f"{node.op_type} {node.name or node.output[0]!r}"

    def _prefix(self, part: _Part) -> _Part:
        """The shortest part from the model's inputs that disagrees, by bisection."""
        nodes = part.places
        low, high, best = -1, len(nodes) - 1, part
        while high - low > 1:
            middle = (low + high) // 2
            self._progress(f"the first {middle + 1} of {len(nodes)} nodes")
            found = self._part((), self._frontier(nodes, middle))
            if found is not None and found.wrong:
                high, best = middle, found
            else:
                low = middle
        return best

    def _frontier(self, nodes: Sequence[int], last: int) -> list[str]:
        """The tensors made up to a node that later ones take, or the caller."""
        made = [name for place in nodes[: last + 1] for name in self._cuts.node(place).output if name in self._numbers]
        later = {name for place in nodes[last + 1 :] for name in self._cuts.taken(place)} | set(self._cuts.outputs)
        return [name for name in made if name in later]

    def _one_output(self, part: _Part) -> _Part:
        """With one of the outputs that are wrong, the latest that suffices."""
        if len(part.outputs) == 1:
            return part
        for name in reversed(part.wrong):
            found = self._part((), [name])
            if found is not None and found.wrong:
                return found
        return part

    def _from_both_ends(self, part: _Part) -> _Part:
        while True:
            shorter = self._earliest_end(self._latest_start(part))
            if len(shorter.places) >= len(part.places):
                return shorter
            part = shorter

    def _latest_start(self, part: _Part) -> _Part:
        nodes = part.places
        low, high, best = 0, len(nodes), part
        while high - low > 1:
            middle = (low + high) // 2
            self._progress(f"the last {len(nodes) - middle} of {len(nodes)} nodes")
            cut = {name for name in self._observed if self._cuts.made[name] < nodes[middle]}
            found = self._part((cut | set(part.inputs)) - set(part.outputs), part.outputs)
            if found is not None and found.wrong:
                low, best = middle, found
            else:
                high = middle
        return best

    def _earliest_end(self, part: _Part) -> _Part:
        if len(part.outputs) > 1:
            return part
        inner = [name for place in part.places for name in self._cuts.node(place).output if name in self._numbers]
        inner = inner[: inner.index(part.outputs[0]) + 1] if part.outputs[0] in inner else inner
        low, high, best = -1, len(inner) - 1, part
        while high - low > 1:
            middle = (low + high) // 2
            found = self._part(self._start_of(part), [inner[middle]])
            if found is not None and found.wrong:
                high, best = middle, found
            else:
                low = middle
        return best

    def _start_of(self, part: _Part) -> set[str]:
        """The tensors that are given to a part, constants among them."""
        made = {name for place in part.places for name in self._cuts.node(place).output}
        taken = {name for place in part.places for name in self._cuts.taken(place)}
        return taken - made

    def _one_by_one(self, part: _Part) -> _Part:
        """Without every node that is not needed, whether it stands first or last."""
        while len(part.places) <= MOST_SINGLE:
            shorter = next((found for found in self._shorter(part) if found is not None and found.wrong), None)
            if shorter is None:
                break
            part = shorter
        return part

    def _shorter(self, part: _Part) -> Iterable[_Part | None]:
        """Parts of fewer nodes, those that are much shorter first."""
        start = self._start_of(part)
        inner = [name for place in part.places for name in self._cuts.node(place).output if name in self._observed]
        inner = [name for name in inner if name not in part.outputs]
        for name in reversed(inner):
            if len(self._cuts.between(start | {name}, part.outputs)[1]) < len(part.places):
                yield self._part(start | {name}, part.outputs)
        for name in inner:
            if name in self._numbers:
                yield self._part(start, [name])

    def _one_example(self, part: _Part) -> _Part:
        """With the one example of a batch that is off most, where that disagrees by itself."""
        place = max(part.verdicts.values(), key=lambda verdict: verdict.used).place
        counts = {array.shape[0] if array.ndim else 0 for array in part.inputs.values()}
        if len(counts) != 1 or not place or place[0] >= max(counts) or max(counts) < 2:
            return part
        inputs = {name: np.ascontiguousarray(array[place[0] : place[0] + 1]) for name, array in part.inputs.items()}
        try:
            model = self._cuts.resized(part.model, inputs)
            expected = expected_of(model, inputs, self._precision)
            if any(each.shape[:1] != (1,) for each in expected.exact.values()):
                return part
            found = self._judged(part.places, part.outputs, model, inputs, expected)
        except MemoryError:
            raise
        except Exception:  # a shape within belongs to the whole batch
            return part
        return found if found.wrong else part


def _is_number(dtype: Any) -> bool:
    return dtype is None or np.dtype(dtype).kind in "fiub"


def _array(value: Any) -> Array:
    return np.asarray(value.numpy() if hasattr(value, "numpy") else value)
