"""Pieces of a graph: a tensor whose ancestors are not all in a trace, judged from the nearest that are.

The operations between a tensor and its nearest observed ancestors, forward and backward, are run in float64 with the
subject's own values: wherever it handed over a value or a gradient, that takes the place of the one that is computed,
for whoever takes it. One such run makes what every tensor of the trace should be, each over a piece of its own length.
Its budget comes from disturbed runs of the same pieces, as that of a whole run does (`oracle.budget.free`), with one
rounding of whatever the subject handed over, and of the weights.

*Decisions* inside a piece are the subject's own where its values tell them. Elsewhere rounding may have made them
either way: where a gradient is over its budget, what that does to it is granted, as far as it can be told from runs in
which the decisions fall as errors of a few times their usual size make them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from oracle.budget.driven import Decisions, Disturbance, Subgraph, roundoff_of, run_driven, winners_of
from oracle.budget.free import MAGNIFIED, Spread, from_spread, in_float64
from oracle.case.case import Case
from oracle.graph.graph import INPUT, Graph, Node
from oracle.judge.verdicts import LayerVerdict, judge
from oracle.judge.words import describe_difference
from oracle.operations import decisions, is_loss
from oracle.precision.difference import Budget, Difference, measure, root_mean_square
from oracle.precision.profile import Profile
from oracle.precision.rounding import round_to
from oracle.trace import Key, Trace

Array = np.ndarray[Any, Any]
Runs = dict[Key, list[Difference]]

RUNS = 8  # few say little of how far one more may go: with three, a bias is granted sixty times what is usual
# Decisions are drawn with errors so many times the usual, so that an element that a healthy subject may have on the
# other side is there in one of these runs at least.
FARTHEST = 10.0
# What so few runs say of decisions that may fall otherwise is what is usual, and not what is rare.
UNSEEN_MARGIN = 2.0

NOTE = "judged over the operations since its nearest observed ancestors"
UNSEEN_NOTE = f"{NOTE}; the decisions of {{}} are not in the trace: the budget grants what rounding may make of them"
GRADIENTS = ("activation_gradient", "parameter_gradient")


def judge_pieces(
    case: Case, profile: Profile, known: Mapping[Key, Array], wanted: Sequence[Key], trace: Trace
) -> dict[Key, LayerVerdict]:
    """The verdicts on tensors of a trace, each over the piece of the graph since its nearest observed ancestors.

    Args:
        case: what was run.
        profile: what the subject computed in.
        known: the values and gradients of values that it handed over, and that can be taken.
        wanted: the tensors to judge.
        trace: all that it handed over.
    """
    pieces = _Subgraphs(case, profile, known, wanted)
    return {key: pieces.judge(key, trace[key]) for key in wanted}


class _Subgraphs:
    """The pieces that lead to some tensors: what these should be, and how far they may be from it."""

    def __init__(self, case: Case, profile: Profile, known: Mapping[Key, Array], wanted: Sequence[Key]) -> None:
        self._case, self._profile, self._wanted = case, profile, wanted
        self._state = {name: round_to(value, profile) for name, value in case.state.items() if value.dtype.kind == "f"}
        self._given = {**known, ("activation", INPUT): round_to(case.input, profile)}
        self._nodes = nodes_between(case.graph, known, wanted)
        self._names = {node.name for node in self._nodes}
        self._unseen = [node for node in self._nodes if self._is_unseen(node)]
        self._decisions = Decisions(masks=self._own_masks())
        self._exact, self._flips = Trace(), Runs()
        self._taken = self._run(self._exact, self._decisions)
        self._budgets = self._measure()

    def judge(self, key: Key, array: Array) -> LayerVerdict:
        """One tensor."""
        exact, budget = self._exact[key], self._budgets[key]
        explain = partial(_explain, key, self._exact)
        found = judge(key, "own", array, exact, budget, explain=explain)
        if found.status != "over" or key not in self._flips:
            return replace(found, note=found.note or NOTE)
        again = judge(key, "own", array, exact, _widened(budget, self._flips[key]), explain=explain)
        names = ", ".join(node.name for node in self._unseen[:3])
        return found if again.status == "over" else replace(again, note=UNSEEN_NOTE.format(names))

    def _own_masks(self) -> dict[str, Array]:
        """Where the subject's own outputs say that a gradient passes."""
        sides = [name for name, how in decisions(self._case.graph).items() if how == "side" and name in self._names]
        return {name: self._given["activation", name] > 0 for name in sides if ("activation", name) in self._given}

    def _is_unseen(self, node: Node) -> bool:
        """Whether an operation decides, and its own values do not tell how. Which of equal elements it takes, they
        never tell."""
        how = decisions(self._case.graph).get(node.name, "")
        if how != "side":
            return how == "winner"
        alone = len(node.inputs) == 1 and ("activation", node.inputs[0]) in self._given
        return not alone and ("activation", node.name) not in self._given

    def _run(self, recorder: Any, decided: Decisions, disturb: Disturbance | None = None) -> dict[str, Array]:
        keep = {name for node in self._unseen for name in node.inputs}
        return run_driven(self._case, recorder, decided, disturb, Subgraph(self._nodes, self._given, self._state, keep))

    def _measure(self) -> dict[Key, Budget]:
        """Disturbed runs at the decisions of the run without errors; and runs at those that their errors would make."""
        base = "float32" if self._profile.base == "float64" else self._profile.base
        profile = replace(self._profile, base=base)
        magnified = MAGNIFIED.get(base, 1.0)
        roundoff = roundoff_of(profile)
        roundoff = replace(roundoff, weights=max(roundoff.weights, roundoff.stored)).times(magnified)
        scales = {key: root_mean_square(self._exact[key]) for key in self._exact}
        spread, fixed = Spread(self._exact, scales, magnified), self._fixed()
        backward = any(kind in GRADIENTS for kind, _ in self._wanted) and self._unseen
        for seed in range(RUNS):
            text = f"{self._case.model.name}/{self._case.mode}/{self._case.seed}/{profile}/piece/{seed}"
            drawn = int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "little")
            disturb = Disturbance(roundoff, np.random.Generator(np.random.SFC64(drawn)))
            taken = self._run(spread, fixed, disturb)
            if backward:
                self._flip(taken, magnified)
        budgets = from_spread(self._exact, spread.found, profile.format.stored, self._case.graph.output)
        narrow = self._profile.base == "float64"
        return {key: in_float64(key, each) if narrow else each for key, each in budgets.items()}

    def _fixed(self) -> Decisions:
        """The decisions of the run without errors."""
        sides = [name for name, how in decisions(self._case.graph).items() if how == "side" and name in self._names]
        passed = {name: self._exact["activation", name] > 0 for name in sides}
        pools = [node for node in self._unseen if node.name not in passed]
        winners = {node.name: winners_of(node, self._taken[node.inputs[0]]) for node in pools}
        return Decisions(passed, winners, {**passed, **self._decisions.masks})

    def _flip(self, taken: Mapping[str, Array], magnified: float) -> None:
        """Measure what becomes of gradients at the decisions that these errors, made larger, would make."""
        masks, winners = dict(self._decisions.masks), {}
        reach = FARTHEST / magnified
        for node in self._unseen:
            moved = [self._taken[name] + reach * (taken[name] - self._taken[name]) for name in node.inputs]
            if decisions(self._case.graph)[node.name] == "side":
                masks[node.name] = np.sum(moved, axis=0) > 0
            else:
                winners[node.name] = winners_of(node, moved[0])
        trace = Trace()
        self._run(trace, replace(self._fixed(), masks={**self._fixed().masks, **masks}, winners=winners))
        for key in self._wanted:
            if key[0] in GRADIENTS:
                self._flips.setdefault(key, []).append(measure(key[0], trace[key], self._exact[key]))


def _widened(budget: Budget, flips: Sequence[Difference]) -> Budget:
    """The budget, and what decisions that are not seen add to it."""
    channel, parts = budget.channel, [each.channel for each in flips if each.channel is not None]
    if channel is not None and parts:
        # Which channel an element that flips is in is chance: each may have what the worst of them had.
        channel = channel + UNSEEN_MARGIN * np.max(parts)
    worst, largest = max(each.error for each in flips), max(each.largest for each in flips)
    return Budget(budget.rms + UNSEEN_MARGIN * worst, budget.largest + UNSEEN_MARGIN * largest, channel)


def _explain(key: Key, exact: Trace, array: Array, truth: Array, budget: Budget) -> str:
    others = {name: exact[kind, name] for kind, name in exact if kind == key[0] and name != key[1]}
    return describe_difference(array, truth, budget, kind=key[0], others=others)


def nodes_between(graph: Graph, known: Collection[Key], wanted: Iterable[Key]) -> list[Node]:
    """The operations between some tensors and their nearest known ancestors, in order.

    Example:
        >>> graph = Graph((Node("a", "relu", ("input",)), Node("b", "relu", ("a",)), Node("c", "relu", ("b",))), {}, {})
        >>> [node.name for node in nodes_between(graph, [("activation", "a")], [("activation", "c")])]
        ['b', 'c']
    """
    values: set[str] = set()
    gradients: set[str] = set()
    pending: list[Key] = []
    for kind, name in wanted:
        node = graph.owner.get(name)
        if kind in ("parameter_gradient", "statistic") and node is not None:
            pending += [("activation", node.name)]
            if kind == "parameter_gradient" and ("activation_gradient", node.name) not in known:
                pending += [("activation_gradient", node.name)]
        else:
            pending += [("activation", name) if kind == "loss" else (kind, name)]
    while pending:
        kind, name = pending.pop()
        found = values if kind == "activation" else gradients
        if name in found:
            continue
        found.add(name)
        if kind == "activation":
            given = graph.maker[name].inputs
            pending += [("activation", each) for each in given if each != INPUT and ("activation", each) not in known]
            continue
        for taker in graph.consumers.get(name, ()):
            pending += [("activation", taker.name)]
            if not is_loss(taker) and ("activation_gradient", taker.name) not in known:
                pending += [("activation_gradient", taker.name)]
    return [node for node in graph.nodes if not values.isdisjoint(node.outputs)]
