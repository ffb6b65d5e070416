"""The own view: every tensor of a trace judged from its nearest ancestors in that trace, with the trace's own values.

For each operation whose inputs a subject handed over, what that one operation makes of those very numbers is computed
in float64 (`oracle.judge.exact`) and the subject's output is judged as in the local view. Backward likewise: the
gradient of an output is the sum over the operations that take it, each fed the subject's own activations and the
subject's own gradient of its output; gradients of parameters come from the operation's own input and output gradient.
Which elements a ReLU lets pass and which win in a max pooling is what the subject's own values say. So nothing
accumulates and nothing has to be fed: a file is enough, and in low precision, where the budget of a whole run exceeds
the signal, every tensor is still judged. The image, the labels and the weights are the case's.

A trace may hold less than the runtime had: a fused kernel keeps float32 between two operations, and what is dumped was
rounded once more. So the budget grants one rounding of each input in the storage type of the declared precision, on
its way through the operation (`oracle.judge.exact.granted`): of activations and gradients element by element, of
weights, of which a channel's elements share the error, once a channel.

In low precision an error of one sign hides below one rounding of an element: the whole tensor leans
(`oracle.judge.lean`).

Where what a tensor is made from is not all in the trace, it is judged from the nearest ancestors that are, over a piece
of the graph of whatever length (`oracle.judge.pieces`).
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from oracle.case.case import Case
from oracle.graph.graph import INPUT, Node
from oracle.judge.exact import expected, granted, role_of
from oracle.judge.lean import NOTE, lean, of_factors, of_fan, repeats
from oracle.judge.local import FORWARD, HINTS, everywhere, feed_state, judge_local, judge_ties, may_be_meant
from oracle.judge.verdicts import LayerVerdict, SubjectVerdict
from oracle.operations import is_loss, operation_of
from oracle.operations.operation import Expected, Feed, both, channel_axis
from oracle.precision.difference import count_not_finite
from oracle.precision.profile import hint, profile_of
from oracle.precision.rounding import Deviation, Rounding, plain_chain, round_to, rounding_of
from oracle.trace import Key, Kind, Trace

Array = np.ndarray[Any, Any]
Shapes = Callable[[Key], tuple[int, ...]]

NOTHING_TO_JUDGE_FROM = "what it is made from is not in the trace"


def own_check(trace: Trace, case: Case, precision: str, keys: list[Key], shape: Shapes, label: str) -> SubjectVerdict:
    """Judge every tensor of a trace by those that it is made from.

    Args:
        trace: the subject's.
        case: what was run.
        precision: what it was computed and stored in.
        keys: the tensors of the case, in the order of execution.
        shape: the shape of each.
        label: what reports call the subject.
    """
    start = time.perf_counter()
    own = _Own(trace, case, precision, shape)
    found = own.judge() | own.judge_pieces(keys)
    layers = []
    for key in keys:
        if key in found:
            layers.append(found[key])
        elif key not in trace:
            layers.append(LayerVerdict(*key, "own", "not observed", note="the subject left no such tensor"))
        else:
            layers.append(_alone(key, trace[key], shape(key)))
    return SubjectVerdict(label, "own", precision, layers, "", time.perf_counter() - start)


def _alone(key: Key, array: Array, shape: tuple[int, ...]) -> LayerVerdict:
    """A tensor without ancestors: all that can be said is that it has a shape and is finite."""
    if array.shape != shape:
        return LayerVerdict(*key, "own", "shape", note=f"shape {array.shape} where the truth has {shape}")
    if not np.isfinite(array).all():
        return LayerVerdict(*key, "own", "not finite", note=count_not_finite(array))
    return LayerVerdict(*key, "own", "not judged", note=NOTHING_TO_JUDGE_FROM)


@dataclass
class _Part:
    """What one consumer adds to the gradient of an output."""

    exact: Array
    deviation: Deviation
    consumer: str
    gradient: Array | None  # of its output; the loss has none
    pooled: tuple[Node, Array, Array] | None = None  # with its input and output's gradient, where one takes the largest


@dataclass(frozen=True)
class _Suspect:
    """A tensor that is over, and what made it, kept until other profiles are tried."""

    node: Node
    feed: Feed
    role: str
    key: Key = ("activation", "")


class _Own:
    """One trace on its way through the layers."""

    def __init__(self, trace: Trace, case: Case, precision: str, shape: Shapes) -> None:
        self._trace, self._case, self._shape = trace, case, shape
        profile = self._profile = profile_of(precision)
        self._rounding: Rounding = rounding_of(profile)
        self._image = round_to(case.input, profile)
        self._state = {name: round_to(value, profile) for name, value in case.state.items() if value.dtype.kind == "f"}
        self._training = case.mode == "train"
        self._nodes = [node for node in case.graph.nodes if not is_loss(node) or self._training]
        self._takers = {
            name: sum(self._training or not is_loss(taker) for taker in takers)
            for name, takers in case.graph.consumers.items()
        }
        self._parts: dict[str, list[_Part]] = {}
        self._found: dict[Key, LayerVerdict] = {}
        self._lean: dict[Key, tuple[float, float]] = {}
        # What the first tensors that are over came from, forward the first ones and backward the last ones.
        self._suspects: list[_Suspect] = []
        self._late_suspects: deque[_Suspect] = deque(maxlen=HINTS)

    def judge(self) -> dict[Key, LayerVerdict]:
        """The verdicts on everything that has its ancestors."""
        for node in self._nodes:
            inputs = [self._image if name == INPUT else self._known("activation", name) for name in node.inputs]
            if all(each is not None for each in inputs):
                gradient = self._known("activation_gradient", node.name) if self._training else None
                self._operation(node, tuple(each for each in inputs if each is not None), gradient)
        self._hint()
        return self._found

    def judge_pieces(self, keys: Sequence[Key]) -> dict[Key, LayerVerdict]:
        """The verdicts on the others, each over the piece of the graph since its nearest observed ancestors."""
        wanted = [key for key in keys if key not in self._found and self._known(*key) is not None]
        if not wanted:
            return {}
        try:
            from oracle.judge.pieces import judge_pieces
        except ImportError:  # without PyTorch they are not judged
            return {}
        kinds: tuple[Kind, ...] = ("activation", "activation_gradient") if self._training else ("activation",)
        values: list[Key] = [(kind, name) for kind in kinds for name in self._case.graph.maker]
        known = {key: array for key in values if (array := self._known(*key)) is not None}
        return judge_pieces(self._case, self._profile, known, wanted, self._trace)

    def _known(self, kind: Any, name: str) -> Array | None:
        """A tensor of the trace that can be an input: of the right shape, and finite."""
        key: Key = (kind, name)
        if key not in self._trace:
            return None
        array = self._trace[key]
        array = array if array.dtype.kind == "f" else array.astype(np.float64)
        return array if array.shape == self._shape(key) and np.isfinite(array).all() else None

    def _judge(self, wanted: Expected, known: Mapping[str, Array], suspect: _Suspect | None = None) -> None:
        key: Key = (wanted.kind, wanted.name)
        if key in self._trace:
            found = replace(judge_local(wanted, self._trace[key], known), view="own")
            self._found[key] = self._leaning(found)
            self._suspected(wanted, suspect)

    def _operation(self, node: Node, inputs: tuple[Array, ...], gradient: Array | None) -> None:
        passed = self._passed(node, inputs)
        feed = Feed(inputs, gradient, feed_state(node, self._state), self._case.labels, self._training, passed)
        taken, declared = dict(zip(node.inputs, inputs, strict=True)), operation_of(node)
        for each in self._makes(node, feed, self._rounding):
            # An option of a profile changes what is summed, not what is rounded once.
            suspect = None if declared.errs.way == "rounds" else _Suspect(node, feed, role_of(node, each))
            if each.kind == "activation_gradient":
                takes = declared.decides(node) == "winner" and gradient is not None
                pooled = (node, inputs[0], gradient) if takes and gradient is not None else None
                part = _Part(each.exact, each.deviation, node.name, gradient, pooled)
                self._add(node.inputs[each.place], part, suspect)
                continue
            self._judge(replace(each, note=""), taken if each.kind == "activation" else {}, suspect)

    def _makes(self, node: Node, feed: Feed, rounding: Rounding) -> list[Expected]:
        """What an operation should make of its feed, one rounding of what it takes granted; nothing where no bounds
        were derived by hand (`oracle.judge.pieces` judges that)."""
        if operation_of(node).makes is None:
            return []
        made = expected(node, feed, rounding)
        allowed = granted(node, feed, made, rounding)
        found = []
        for each in made:
            deviation = both(each.deviation, allowed.get(role_of(node, each), Deviation(0.0)))
            found.append(replace(each, deviation=deviation))
            if rounding is self._rounding and self._leans(node, each):
                self._judge_lean(node, feed, each, allowed)
        return found

    def _leans(self, node: Node, each: Expected) -> bool:
        """Whether a tensor is judged by how it leans: where storing is coarser than summing, and what one operation
        does to one input makes it."""
        if self._rounding.store <= self._rounding.sums or len(node.inputs) > 1 or each.exact.ndim < 2 or is_loss(node):
            return False
        if each.kind != "activation_gradient":
            return True
        # Which of equal elements a max pooling takes is the subject's choice, and not one of sign.
        return operation_of(node).decides(node) != "winner" and self._takers.get(node.inputs[0]) == 1

    def _judge_lean(self, node: Node, feed: Feed, each: Expected, allowed: Mapping[str, Deviation]) -> None:
        role = role_of(node, each)
        key: Key = (each.kind, node.inputs[0] if role == "input" else each.name)
        array = self._known(*key) if key in self._trace else None
        if array is None or array.shape != each.exact.shape:
            return
        if node.op == "conv":
            added = of_factors(node, feed, role, each.exact, self._rounding)
        else:
            uses = operation_of(node).fan(node, role, feed.parameters)
            uses *= max(repeats(taken) for taken in (*feed.inputs, feed.gradient) if taken is not None)
            added = of_fan(each.exact, each.channel, allowed.get(role, Deviation(0.0)), uses)
        self._lean[key] = lean(array, each.exact, each.channel, each.deviation, added, self._rounding)

    def _leaning(self, found: LayerVerdict) -> LayerVerdict:
        """The verdict, with the tensor's lean where that is over."""
        measured, allowed = self._lean.pop((found.kind, found.name), (0.0, math.inf))
        if found.status != "within" or abs(measured) <= allowed:
            return found
        return replace(
            found,
            status="over",
            channel=None,
            channel_share=abs(measured) / allowed,
            note=NOTE.format(measured, allowed),
        )

    def _suspected(self, wanted: Expected, suspect: _Suspect | None) -> None:
        key: Key = (wanted.kind, wanted.name)
        if suspect is None or not may_be_meant(self._found[key]) or not everywhere(wanted, self._trace[key]):
            return
        suspect = replace(suspect, key=key)
        if key[0] in FORWARD:
            self._suspects += [suspect] if len(self._suspects) < HINTS else []
        else:
            self._late_suspects.append(suspect)

    def _hint(self) -> None:
        """Says of the first few that are over which option of a profile would allow them; the status stays as it is."""
        for suspect in (*self._suspects, *self._late_suspects):
            found, allowing = self._found[suspect.key], []
            for more in self._profile.with_more():
                made = self._makes(suspect.node, suspect.feed, rounding_of(more))
                [wanted] = [each for each in made if role_of(suspect.node, each) == suspect.role]
                if judge_local(wanted, self._trace[suspect.key]).agrees:
                    allowing.append(more)
            if allowing and found.status == "over":
                text = "; ".join(filter(None, (found.difference, hint(allowing))))
                self._found[suspect.key] = replace(found, difference=text)

    def _passed(self, node: Node, inputs: tuple[Array, ...]) -> Array | None:
        """Where an operation that decides by the sign let pass: where the subject's own output is above zero, or else
        the one value that it takes; ``None`` where neither tells."""
        if operation_of(node).decides(node) != "side":
            return None
        output = self._known("activation", node.name)
        if output is None and len(inputs) > 1:
            return None
        return (inputs[0] if output is None else output) > 0

    def _add(self, name: str, part: _Part, suspect: _Suspect | None = None) -> None:
        """One more consumer's gradient; the last one makes the sum, which is then judged."""
        parts = self._parts.setdefault(name, [])
        parts.append(part)
        key: Key = ("activation_gradient", name)
        if len(parts) < self._takers.get(name, 0) or name == INPUT or key not in self._trace:
            return
        del self._parts[name]
        exact = np.sum([each.exact for each in parts], axis=0)
        deviation = parts[0].deviation
        for each in parts[1:]:
            deviation = both(deviation, each.deviation)
        if len(parts) > 1:
            magnitude = np.sum([np.abs(each.exact) for each in parts], axis=0)
            deviation = both(deviation, Deviation(plain_chain(self._rounding.coarsest, len(parts) - 1, magnitude)))
        wanted = Expected("activation_gradient", name, exact, deviation, channel_axis(exact))
        # A kernel that does nothing hands its output's gradient back; one consumer's part may be all there is.
        known = {each.consumer: each.gradient for each in parts if each.gradient is not None}
        if len(parts) > 1:
            known |= {f"what {each.consumer} hands back": each.exact for each in parts}
        self._judge(wanted, known, suspect if len(parts) == 1 else None)
        pooled = parts[0].pooled
        if pooled is not None and len(parts) == 1 and self._found[key].status == "over":
            pool, image, gradient = pooled
            again = judge_ties(wanted, self._trace[key], image, gradient, self._rounding, pool.window)
            if again is not None:
                self._found[key] = replace(again, view="own")
