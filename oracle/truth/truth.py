"""The truth of a case: lucid in float64, recomputed, and proved to be the truth.

lucid's float64 has the same bits on every machine, so where a golden exists its digests are the proof. Where none does,
PyTorch in float64, which shares no code with it, must agree within float64's own budget.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from oracle.budget.free import SIDE_NOTE, decisions_of, f_quantile, free_budget, in_float64, truth_at
from oracle.case.case import SEEDED, Case, standard_case
from oracle.case.zoo import STANDARD
from oracle.errors import UsageError
from oracle.graph.graph import Node
from oracle.judge.ties import TIE_NOTE, pool_gradients
from oracle.judge.verdicts import UNSEEN, Comparison, LayerVerdict, View, judge, status_of, tensor_in_words
from oracle.judge.words import describe_difference
from oracle.operations import consumers_of, decisions
from oracle.precision.difference import (
    JUDGEABLE,
    Budget,
    Difference,
    Precision,
    all_finite,
    count_not_finite,
    measure,
    root_mean_square,
)
from oracle.precision.profile import Profile, hint, profile_of
from oracle.subjects import find_subject
from oracle.trace import KINDS, Key, Kind, Trace, execution_order
from oracle.truth.digest import digest, digest_later, workers
from oracle.truth.goldens import (
    BUCKETS,
    SUFFIXES,
    Golden,
    GoldenError,
    golden_names,
    require_weights,
    sample,
    sketch,
)

Progress = Callable[[str], None]

# A hint for a whole run: for so many tensors, where trace times profiles is at most so many numbers, where nothing used
# more of its budget than this, and only for a profile whose budget is so many times wider (one differs a little from
# one draw to the next).
HINTS, HINT_COST, HINT_USED, HINT_WIDER = 6, 2**26, 64.0, 1.25


def prepare(case: Case, directory: Path | None = None) -> Truth:
    """The truth of a case, with its golden if it is a standard case or `oracle.truth.goldens.stored_case`; nothing is
    computed yet.

    Raises:
        GoldenError: the case should have a golden, and it is missing or damaged; or there are no goldens in a
            directory that was named.
    """
    if directory is not None:
        golden_names(directory)  # goldens were asked for: there have to be some
    known = STANDARD.get(case.model.name)
    standard = known is not None and standard_case(known, case.mode) == case and case.source == SEEDED
    own = directory is not None and case.weights == directory / f"{case.name}.{SUFFIXES[2]}"
    golden = Golden.load(case.name, directory, case if own else None) if standard or own else None
    return Truth(case, golden)


class Truth:
    """What a case's tensors are, as exactly as float64 has them, and how far a healthy subject may be from them.

    Attributes:
        case: what is run.
        golden: its golden, if there is one.
        how: how the truth was established, for reports.
    """

    def __init__(self, case: Case, golden: Golden | None = None) -> None:
        self.case, self.golden = case, golden
        self.how = "" if golden is None else f"the golden of {golden.name} (law {golden.law}), stored"
        self._trace: Trace | None = None
        self._scales: dict[Key, float] = {}
        self._budgets: dict[str, Mapping[Key, Budget]] = {}

    @property
    def trace(self) -> Trace:
        """Every tensor whole, float64."""
        self.recompute()
        assert self._trace is not None
        return self._trace

    @property
    def consumers(self) -> Mapping[str, tuple[str, ...]]:
        """By layer, those that take its output."""
        return consumers_of(self.case.graph)

    @property
    def loss(self) -> float | None:
        """Of a train step, where it is known."""
        key: Key = ("loss", "loss")
        if self._trace is not None:
            return float(self._trace[key]) if key in self._trace else None
        return self.golden.norm(key) if self.golden is not None and key in list(self.golden) else None

    def keys(self, kinds: Iterable[Kind] = KINDS) -> list[Key]:
        """The tensors of those kinds, in the order of execution."""
        wanted = set(kinds)
        keys = self.golden.keys() if self.golden is not None else execution_order(self.trace)
        return [key for key in keys if key[0] in wanted]

    def keys_and_statistics(self, kinds: Iterable[Kind] = KINDS) -> list[Key]:
        """The same with the statistics that a train step keeps, which older goldens do not hold."""
        keys, wanted = self.keys(kinds), tuple(kinds)
        if self.case.mode == "eval" or "statistic" not in wanted:
            return keys
        kept: list[Key] = [
            ("statistic", name) for name in self.case.state if name.endswith((".running_mean", ".running_var"))
        ]
        return execution_order([*keys, *(key for key in kept if key not in set(keys))])

    def shape(self, key: Key) -> tuple[int, ...]:
        """The shape of one tensor; the golden knows it without computing."""
        if key[0] == "statistic":
            return self.case.state[key[1]].shape
        if self.golden is not None:
            return self.golden.shape(key)
        return self.trace[key].shape

    def recompute(self, progress: Progress = lambda message: None) -> None:
        """Compute every tensor, unless that was done, and prove that it is the truth.

        Raises:
            GoldenError: a tensor has another digest than the golden's.
            UsageError: a tensor is not finite, or the two engines disagree.
        """
        if self._trace is not None:
            return
        progress(f"{self.case.name}: lucid in float64, the truth")
        trace = _Hashing() if self.golden is not None else Trace()
        _run_lucid(self.case, trace)
        for key in trace:
            trace.replace(key, np.asarray(trace[key], order="C"))
        if isinstance(trace, _Hashing):
            self._prove_by_digest(trace)
        else:
            self._prove_by_twin(trace, progress)
        self._trace = trace
        self._scales = {key: root_mean_square(trace[key]) for key in trace}

    def _prove_by_digest(self, trace: _Hashing) -> None:
        golden = self.golden
        assert golden is not None
        for key in golden:
            if key not in trace:
                raise GoldenError(f"{golden.name}: recomputing the truth left no {key[0]} {key[1]!r}")
            if trace.digests[key].result() != golden.digest(key, "float64"):
                require_weights(golden)  # where they differ, the sentence names them, not the arithmetic
                if self.case.model.weights is not None:
                    raise GoldenError(
                        f"{golden.name}: recomputed here, the truth's {key[0]} {key[1]!r} has another digest than the "
                        "golden: the model is not what it was, or this build of lucid does not follow the law"
                    )
                raise GoldenError(
                    f"{golden.name}: recomputed here, the truth's {key[0]} {key[1]!r} has another digest than "
                    "the golden: this build of lucid does not follow the law, or this machine is faulty (--view stored "
                    "does without)"
                )
        self.how = (
            f"lucid float64, recomputed here; all {len(golden.keys())} digests are the golden's (law {golden.law})"
        )

    def _prove_by_twin(self, trace: Trace, progress: Progress) -> None:
        for key in trace:
            if not all_finite(trace[key]):
                raise UsageError(
                    f"{self.case.name}: the float64 run is not finite from {key[0]} {key[1]!r} on: with these weights "
                    "and this input there is no truth to compare with"
                )
        if not self.case.model.mirrored:
            self.how = "lucid float64, made here: one origin alone, which no PyTorch module confirms"
            return
        progress(f"{self.case.name}: PyTorch in float64, the truth's second origin")
        layers = agreement(self.case, trace, self._budget_of_all("float64", trace, progress))
        worst = max((layer for layer in layers if layer.observed), key=lambda layer: layer.used)
        bad = [layer for layer in layers if layer.judged and not layer.agrees]
        if bad:
            raise UsageError(
                f"{self.case.name}: lucid and PyTorch disagree in float64, first in {tensor_in_words(bad[0])} (error "
                f"{bad[0].error:.1e}, budget {bad[0].budget:.1e}): there is no truth to compare with"
            )
        self.how = f"lucid float64, made here; PyTorch float64 agrees, at most {worst.used:.0%} of its budget used"

    def _budget_of_all(self, precision: str | Profile, trace: Trace, progress: Progress) -> Mapping[Key, Budget]:
        profile = profile_of(precision)
        if profile.base == "float64":
            single = self._budget_of_all("float32", trace, progress)
            return {key: in_float64(key, budget) for key, budget in single.items()}
        name = str(profile)
        if name not in self._budgets:
            self._budgets[name] = free_budget(self.case, profile, truth=trace, progress=progress)
        return self._budgets[name]

    def budget(self, key: Key, precision: str | Profile) -> Budget:
        """How far a healthy subject may be in a whole run.

        A golden has the budgets of the base precisions; those of a profile with options come from disturbed runs here.
        """
        profile = profile_of(precision).in_mode(self.case.mode)
        if self.golden is not None and not profile.options:
            return self.golden.budget(key, profile.base)
        return self._budget_of_all(profile, self.trace, lambda message: None)[key]

    def hinted(self, layers: Sequence[LayerVerdict], view: View, precision: str) -> list[LayerVerdict]:
        """The verdicts of a whole run; where one option more would allow all that is over, the first few say which.

        Only where the disturbed runs of that profile take seconds, and where nothing is far over: a hint is cheap, and
        never changes a status.
        """
        over = [layer for layer in layers if layer.observed and not layer.agrees]
        if view != "free" or not over or any(layer.status != "over" for layer in over):
            return list(layers)
        profile = profile_of(precision).in_mode(self.case.mode)
        gradients = all(layer.kind in ("activation_gradient", "parameter_gradient") for layer in over)
        others = [more for more in profile.with_more() if more.in_mode(self.case.mode) == more]
        others = [more for more in others if gradients or not more.sums_in_storage]
        cost = sum(self.trace[key].size for key in self.trace) * len(others)
        if cost > HINT_COST or max(layer.used for layer in over) > HINT_USED:
            return list(layers)
        found: list[Profile] = []
        for more in others:
            smaller = any(each.winograd for each in found) and more.winograd > 0
            if not smaller and all(self._within(layer, profile, more) for layer in over):
                found.append(more)
        if not found:
            return list(layers)
        hints = {
            id(layer): replace(layer, difference="; ".join(filter(None, (layer.difference, hint(found)))))
            for layer in over[:HINTS]
        }
        return [hints.get(id(layer), layer) for layer in layers]

    def _within(self, layer: LayerVerdict, profile: Profile, more: Profile) -> bool:
        """Whether another profile allows what was measured of a tensor, and clearly more than the declared one."""
        key = (layer.kind, layer.name)
        before, allowed = self.budget(key, profile).granted(), self.budget(key, more).granted()
        if layer.channel is not None and before.channel is not None and allowed.channel is not None:
            found = layer.channel_share * before.channel[layer.channel]
            if found > allowed.channel[layer.channel]:
                return False
        return HINT_WIDER * before.rms <= allowed.rms >= layer.error and layer.largest <= allowed.largest

    def judge(self, view: View, precision: str) -> Callable[[Key, np.ndarray], LayerVerdict | Future[LayerVerdict]]:
        """What makes the verdict on one tensor, in one view."""
        if view == "exact":
            return lambda key, array: self._judge_exact(key, array, precision)
        if view == "stored":
            profile = profile_of(precision).in_mode(self.case.mode)
            if profile.options:
                raise UsageError(
                    f"stored: the golden has budgets of the base precisions alone; {str(profile)!r} needs the truth "
                    "computed again, in the view free"
                )
            return lambda key, array: self._judge_stored(key, array, profile.base)
        return _Free(self, precision).judge

    def _judge_exact(self, key: Key, array: np.ndarray, precision: str) -> Future[LayerVerdict]:
        return workers().submit(self._compare_digest, key, array, precision)

    def _compare_digest(self, key: Key, array: np.ndarray, precision: str) -> LayerVerdict:
        assert self.golden is not None
        if array.shape != self.golden.shape(key):
            return LayerVerdict(*key, "exact", "shape", note=_shapes(array, self.golden.shape(key)))
        if digest(array) == self.golden.digest(key, precision):
            return LayerVerdict(*key, "exact", "exact")
        if not all_finite(array):
            return LayerVerdict(*key, "exact", "not finite", note=count_not_finite(array))
        return LayerVerdict(*key, "exact", "over", note=f"its {precision} digest is not the golden's")

    def _judge_stored(self, key: Key, array: np.ndarray, precision: Precision) -> LayerVerdict:
        """By the sketch and the samples. The sketch's estimate of a squared error is a sum of sixteen squares."""
        golden = self.golden
        assert golden is not None
        if array.shape != golden.shape(key):
            return LayerVerdict(*key, "stored", "shape", note=_shapes(array, golden.shape(key)))
        if not all_finite(array):
            return LayerVerdict(*key, "stored", "not finite", note=count_not_finite(array))
        allowed, scale = golden.budget(key, precision).granted(), golden.norm(key) or 1.0
        with np.errstate(over="ignore", invalid="ignore"):
            apart = sketch(golden.name, key, array) - golden.projections(key)
            error = math.sqrt(float(np.dot(apart, apart)) / max(1, array.size)) / scale
            largest = float(np.abs(sample(golden.name, key, array) - golden.samples(key)[1]).max()) / scale
        budget = allowed.rms * math.sqrt(f_quantile(min(BUCKETS, array.size), 1e6))
        within = error <= budget and largest <= allowed.largest
        status = status_of(within, golden.budget(key, precision).rms <= JUDGEABLE)
        return LayerVerdict(*key, "stored", status, error, budget, largest, allowed.largest)


def _shapes(array: np.ndarray, shape: tuple[int, ...]) -> str:
    return f"shape {array.shape} where the truth has {shape}"


class _Hashing(Trace):
    """A trace that hashes what it keeps, in other threads."""

    def __init__(self) -> None:
        super().__init__()
        self.digests: dict[Key, Future[str]] = {}

    def record(self, kind: Kind, name: str, array: np.ndarray) -> None:
        super().record(kind, name, array)
        self.digests[kind, name] = digest_later(array)


def _run_lucid(case: Case, trace: Trace) -> None:
    find_subject("lucid:float64").run(case, trace)


def agreement(case: Case, truth: Trace, budgets: Mapping[Key, Budget]) -> list[LayerVerdict]:
    """PyTorch in float64, the second origin, judged against the first within float64's own budget."""
    free = _Free(_Known(case, truth, budgets), "float64")
    comparison = Comparison(
        execution_order(truth), "free", free.judge, partial=UNSEEN if case.model.functional else False
    )
    find_subject("torch:float64").run(case, comparison)
    return comparison.layers()


class _Known(Truth):
    """A truth whose tensors and budgets are given."""

    def __init__(self, case: Case, trace: Trace, budgets: Mapping[Key, Budget]) -> None:
        super().__init__(case)
        self._trace, self._given = trace, budgets
        self._scales = {key: root_mean_square(trace[key]) for key in trace}

    def budget(self, key: Key, precision: str | Profile) -> Budget:
        return self._given[key]


class _Free:
    """Judges a whole run, tensor by tensor; gradients after all activations that there are (`Comparison` sees to it).

    Where a ReLU or a max pooling decided otherwise than the truth's, within the forward budget, gradients are judged
    against the truth at the subject's decisions, which is computed when the first gradient comes. What a layer decided
    is read from its own output, or else from its input, both found by name. Decisions that a partial subject does not
    show may have been either where rounding can move them: the budget then grants what that does to a gradient.
    """

    def __init__(self, truth: Truth, precision: str) -> None:
        self._truth, self._precision = truth, precision
        self._signs: dict[str, np.ndarray] = {}
        self._before: dict[str, np.ndarray] = {}  # by max pooling, what it takes
        self._beside: dict[str, np.ndarray] = {}  # the gradients on both sides of max poolings
        self._ties = 0
        self._seen: set[str] = set()

    @cached_property
    def _rectified(self) -> dict[str, tuple[str, ...]]:
        """By layer that ends in a ReLU, what it takes."""
        maker, found = self._truth.case.graph.maker, decisions(self._truth.case.graph)
        return {name: maker[name].inputs for name, how in found.items() if how == "side"}

    @cached_property
    def _watched(self) -> frozenset[str]:
        """The layers whose signs tell what a ReLU decided."""
        relus = {inputs[0] for inputs in self._rectified.values() if len(inputs) == 1}
        return frozenset(relus | set(self._rectified)) if self._truth.case.mode == "train" else frozenset()

    @cached_property
    def _pools(self) -> dict[str, Node]:
        """By value that a max pooling takes, the pooling."""
        maker, found = self._truth.case.graph.maker, decisions(self._truth.case.graph)
        return {maker[name].inputs[0]: maker[name] for name, how in found.items() if how == "winner"}

    @cached_property
    def _beside_pools(self) -> frozenset[str]:
        return frozenset((*self._pools, *(pool.name for pool in self._pools.values())))

    def judge(self, key: Key, array: np.ndarray) -> LayerVerdict:
        """One tensor."""
        truth, scale, moved = self._truth.trace[key], self._truth._scales[key], False
        backward = key[0] in ("activation_gradient", "parameter_gradient")
        if backward and self.decided_otherwise:
            truth, scale, moved = self._moved_truth[key], None, True  # type: ignore[assignment]
        allowed = self._truth.budget(key, self._precision)
        explain = partial(_explain, key, self._moved_truth if moved else self._truth.trace)
        found = judge(key, "free", array, truth, allowed, scale=scale, explain=explain)
        if key[0] == "activation" and self._truth.case.mode == "train":
            # What is within a budget that says nothing has its own decisions too: no fault was shown.
            self._watch(key[1], array, found.status in ("exact", "within", "not judged"))
        if backward and key[1] in self._beside_pools:
            self._beside[key[1]] = array
        if backward and found.status == "over" and key in self._tied:
            again = judge(key, "free", array, self._tied[key], allowed, explain=explain)
            found = replace(again, note=TIE_NOTE.format(self._ties)) if again.agrees else found
        if backward and found.status == "over" and self._unseen:
            found = judge(key, "free", array, truth, self._widened(key, allowed), scale=scale, explain=explain)
            if found.agrees:
                return replace(found, note=UNSEEN_NOTE.format(", ".join(self._unseen[:3])))
        if moved and found.agrees:
            found = replace(found, note=SIDE_NOTE.format(self.decided_otherwise))
        return found

    def _watch(self, name: str, array: np.ndarray, agrees: bool) -> None:
        self._seen.add(name)
        if agrees and name in self._watched:
            self._signs[name] = array > 0
        if agrees and name in self._pools:
            self._before[name] = array

    @cached_property
    def _passed(self) -> dict[str, np.ndarray]:
        """By layer that ends in a ReLU, where the subject's lets pass, as far as that is known and not the truth's."""
        found = {}
        for name, inputs in self._rectified.items():
            passed = self._signs.get(name, self._signs.get(inputs[0]) if len(inputs) == 1 else None)
            if passed is not None and (passed != (self._truth.trace["activation", name] > 0)).any():
                found[name] = passed
        return found

    @cached_property
    def _winners(self) -> tuple[dict[str, np.ndarray], int]:
        """The winners of the subject's max poolings, where they are known and not the truth's, and their number."""
        from oracle.budget.driven import winners_of

        found, total = {}, 0
        for name, before in self._before.items():
            pool = self._pools[name]
            exact, winners = winners_of(pool, self._truth.trace["activation", name]), winners_of(pool, before)
            # Among zeros that a ReLU blocked, it does not matter which wins: no gradient passes.
            flat = np.asarray(before).reshape(*before.shape[:2], -1)
            pooled = np.take_along_axis(flat, winners.reshape(*winners.shape[:2], -1), 2).reshape(winners.shape)
            apart = int(np.count_nonzero((exact != winners) & (pooled > 0)))
            if apart:
                found[pool.name], total = winners, total + apart
        return found, total

    @cached_property
    def decided_otherwise(self) -> int:
        """How many elements of a ReLU or of the max pooling the subject decided otherwise than the truth."""
        if self._truth.case.mode == "eval":
            return 0
        truth = self._truth.trace
        sides = sum(
            int(np.count_nonzero(passed != (truth["activation", name] > 0))) for name, passed in self._passed.items()
        )
        return sides + self._winners[1]

    @cached_property
    def _unseen(self) -> list[str]:
        """The layers whose decisions the subject does not show."""
        hidden = [
            name
            for name, inputs in self._rectified.items()
            if name not in self._seen and (len(inputs) > 1 or inputs[0] not in self._seen)
        ]
        return hidden + [pool.name for name, pool in self._pools.items() if name not in self._seen]

    @cached_property
    def _moved_truth(self) -> Trace:
        return truth_at(self._truth.case, self._truth.trace, self._passed, self._winners[0])

    @cached_property
    def _tied(self) -> dict[Key, np.ndarray]:
        """The truth of what lies before a max pooling, at the subject's own choice among equal elements.

        That choice is read from its gradients on both sides of the pooling; without them there is nothing to read.
        """
        truth, case = self._moved_truth if self.decided_otherwise else self._truth.trace, self._truth.case
        found: dict[Key, np.ndarray] = {}
        for name, before in self._before.items():
            pool = self._pools[name]
            if not {pool.name, name} <= set(self._beside) or case.graph.consumers[name] != [pool]:
                continue
            own = (self._beside[pool.name], self._beside[name])
            of_truth = truth["activation_gradient", pool.name]
            candidates, ties = pool_gradients(before, *own, pool.window, of_truth)
            self._ties += ties
            if candidates:
                gradient = min((each for each, _ in candidates), key=lambda each: float(np.square(each - own[1]).sum()))
                found |= self._before_pool(name, gradient)
        return found

    def _before_pool(self, name: str, gradient: np.ndarray) -> dict[Key, np.ndarray]:
        """The gradients of everything that leads to a value, from that of the value."""
        from oracle.budget.driven import Subgraph, run_driven

        case, moved = self._truth.case, Trace()
        decided = decisions_of(case, self._truth.trace)
        decided = replace(decided, passed={**decided.passed, **self._passed}) if self.decided_otherwise else decided
        key: Key = ("activation_gradient", name)
        run_driven(case, moved, decided, piece=Subgraph(case.graph.ancestors(name), {key: gradient}, case.state))
        found = {each: moved[each] for each in moved if each[0] in ("activation_gradient", "parameter_gradient")}
        return {key: gradient, **found}

    def _widened(self, key: Key, allowed: Budget) -> Budget:
        """The budget, and what unseen decisions add to it."""
        spread = self._spread_of_the_unseen[key]
        worst = max(each.error for each in spread)
        channel = allowed.channel
        parts = [each.channel for each in spread if each.channel is not None]
        if channel is not None and parts:
            # Which channel an element that flips is in is chance: each may have what the worst of them had.
            channel = channel + UNSEEN_MARGIN * np.max(parts)
        largest = max(each.largest for each in spread)
        return Budget(allowed.rms + UNSEEN_MARGIN * worst, allowed.largest + UNSEEN_MARGIN * largest, channel)

    @cached_property
    def _spread_of_the_unseen(self) -> dict[Key, list[Difference]]:
        """How far gradients go where the unseen decisions fall as errors as large as the forward budget make them."""
        from oracle.budget.driven import winners_of

        case, truth = self._truth.case, self._truth.trace
        base = self._moved_truth if self.decided_otherwise else truth
        found: dict[Key, list[Difference]] = {}
        for seed in range(UNSEEN_RUNS):
            generator = np.random.Generator(np.random.SFC64(seed))
            passed, winners = dict(self._passed), dict(self._winners[0])
            for name in self._unseen:
                if name not in self._rectified:
                    pool = case.graph.maker[name]
                    winners[name] = winners_of(pool, self._disturbed(pool.inputs[0], generator))
                    continue
                ends = [self._disturbed(each, generator) for each in self._rectified[name]]
                passed[name] = np.sum(ends, axis=0) > 0
            trace = truth_at(case, truth, passed, winners)
            for key in base:
                if key[0] in ("activation_gradient", "parameter_gradient"):
                    found.setdefault(key, []).append(measure(key[0], trace[key], base[key]))
        return found

    def _disturbed(self, name: str, generator: np.random.Generator) -> np.ndarray:
        key: Key = ("activation", name)
        truth = self._truth.trace[key]
        size = self._truth.budget(key, self._precision).rms * self._truth._scales[key]
        return truth + size * generator.standard_normal(truth.shape)


# The runs that show what unseen decisions do to a gradient, and by how much the worst of them is widened: so few runs
# say what is usual and not what is rare.
UNSEEN_RUNS = 3
UNSEEN_MARGIN = 2.0
UNSEEN_NOTE = "the decisions of {} are not in the trace: the budget grants what rounding may have made of them"


def _explain(key: Key, trace: Trace, array: np.ndarray, truth: np.ndarray, budget: Budget) -> str:
    """What kind of difference it is, told with the truth's other tensors of the same kind at hand. (Which is the later
    one is known of activations alone: a trace has gradients in the order in which the subject handed them over.)"""
    kind, own = key
    forward = kind == "activation"
    others = {name: trace[kind, name] for name in trace.names(kind) if forward or name != own}
    return describe_difference(array, truth, budget, kind=kind, name=own if forward else "", others=others)
