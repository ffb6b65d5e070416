"""One comparison: a subject's tensors against the truth of the case, each within the budget that was derived for it.

Five views. *exact*: the digest is the golden's, or it is not. *free*: the subject ran the whole case and is judged
against the whole truth, as a whole, by its largest deviation, and channel by channel. *stored*: the same where only
the golden's samples and projections are at hand. *local*: one layer at a time (`oracle.judge.local`). *own*: every
tensor of a run from those that it is made from, with the run's own values (`oracle.judge.own`).

What is missing, misshapen, unexpected, not finite or no numbers at all is over. Where a budget exceeds a stated share
of its tensor (`JUDGEABLE`), what stays within it is *not judged*; and judging nothing never agrees.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from oracle.precision.difference import JUDGEABLE, Budget, all_finite, count_not_finite, measure
from oracle.trace import KINDS, Key, Kind, NotNumbersError, require_key, to_numbers

View = Literal["exact", "free", "local", "own", "stored"]
Status = Literal[
    "exact",
    "within",
    "over",
    "missing",
    "shape",
    "not finite",
    "not numbers",
    "unexpected",
    "repeated",
    "not observed",
    "not judged",
]

# The views in which every tensor is judged by itself: what is out of line there does not follow from what came before.
LAYERWISE: tuple[View, ...] = ("local", "own")


# What an engine may leave unseen where operations of a model are no modules of it.
UNSEEN: tuple[Kind, ...] = ("activation", "activation_gradient")


@dataclass(frozen=True)
class LayerVerdict:
    """What became of one tensor.

    Args:
        kind: what it is.
        name: the layer or parameter.
        view: how it was looked at.
        status: ``exact`` and ``within`` agree; ``not observed``, what a subject may leave out and did, and ``not
            judged``, of which nothing could be told, neither agree nor disagree.
        error: root mean square of the difference over that of the truth (view ``stored``: estimated).
        budget: what a healthy subject of that precision may have there.
        largest: the largest single deviation over the truth's root mean square; NaN where not judged.
        largest_budget: what it may be.
        channel: the channel that used most of its own budget.
        channel_share: how much of it.
        difference: what kind of difference it is, where it is over and that can be told.
        note: anything else to say.
    """

    kind: Kind
    name: str
    view: View
    status: Status
    error: float = math.nan
    budget: float = math.nan
    largest: float = math.nan
    largest_budget: float = math.nan
    channel: int | None = None
    channel_share: float = math.nan
    difference: str = ""
    note: str = ""

    @property
    def agrees(self) -> bool:
        """Whether this tensor was observed, and is in line."""
        return self.status in ("exact", "within")

    @property
    def observed(self) -> bool:
        """Whether the subject handed this tensor over, or owed it."""
        return self.status != "not observed"

    @property
    def judged(self) -> bool:
        """Whether it was observed, and something could be told of it: in line or out of line."""
        return self.status not in ("not observed", "not judged")

    @property
    def used(self) -> float:
        """The largest share of any budget that was used: over 1 is over. NaN where nothing could be measured.

        Example:
            >>> LayerVerdict("activation", "fc", "free", "within", 1e-7, 4e-7, 1e-6, 2e-6).used
            0.5
        """
        shares = [share(self.error, self.budget), share(self.largest, self.largest_budget), self.channel_share]
        known = [each for each in shares if not math.isnan(each)]
        return max(known) if known else (0.0 if self.status == "exact" else math.nan)


def share(value: float, allowed: float) -> float:
    """How much of ``allowed`` is used by ``value``; NaN where either was not judged.

    Example:
        >>> share(1.0, 4.0), share(0.0, 0.0), share(1.0, 0.0)
        (0.25, 0.0, inf)
    """
    if math.isnan(value) or math.isnan(allowed):
        return math.nan
    if math.isinf(allowed):
        return 0.0
    return value / allowed if allowed > 0 else (0.0 if value == 0 else math.inf)


@dataclass(frozen=True)
class SubjectVerdict:
    """What became of one subject in one case under one view: every tensor in the order of execution.

    Args:
        subject: its label.
        view: how it was looked at.
        precision: the profile whose budget it was given, in its canonical spelling.
        layers: forward, then backward.
        failure: why it could not finish, if it could not.
        seconds: how long it took.
        consumers: by layer, the layers that take its output.
        notes: what was assumed, in sentences.
        differing: parameters and statistics of the subject's own that are not the case's.
    """

    subject: str
    view: View
    precision: str
    layers: Sequence[LayerVerdict]
    failure: str = ""
    seconds: float = 0.0
    consumers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    differing: tuple[str, ...] = ()

    @property
    def agrees(self) -> bool:
        """Whether all that was judged is in line, and something was."""
        judged = self.judged
        return not self.failure and not self.differing and bool(judged) and all(layer.agrees for layer in judged)

    @property
    def undecided(self) -> bool:
        """Whether nothing could be judged of what the subject handed over: no agreement, and no disagreement."""
        return not self.failure and bool(self.observed) and not self.judged

    @property
    def observed(self) -> list[LayerVerdict]:
        """The tensors without those that the subject may leave out and did."""
        return [layer for layer in self.layers if layer.observed]

    @property
    def judged(self) -> list[LayerVerdict]:
        """The tensors that are in line or out of line."""
        return [layer for layer in self.layers if layer.judged]

    @property
    def first(self) -> LayerVerdict | None:
        """The first tensor, in the order of execution, that is not in line."""
        return self._first(KINDS)

    @property
    def first_forward(self) -> LayerVerdict | None:
        """The first output (or the loss, or a kept statistic) that is not in line."""
        return self._first(("activation", "loss", "statistic"))

    @property
    def first_backward(self) -> LayerVerdict | None:
        """The first gradient that is not in line."""
        return self._first(("activation_gradient", "parameter_gradient"))

    def _first(self, kinds: tuple[Kind, ...]) -> LayerVerdict | None:
        return next((layer for layer in self.judged if layer.kind in kinds and not layer.agrees), None)

    def sentence(self) -> str:
        """The verdict in words."""
        who = f"{self.subject} ({self.view})"
        if self.failure:
            found = next((layer for layer in self.judged if not layer.agrees and layer.status != "missing"), None)
            before = f"; before that, out of line: {tensor_in_words(found)} ({self._why(found)})" if found else ""
            return f"{who} could not finish: {self.failure}{before}"
        if not self.observed:
            return f"{who}: nothing was compared, which is no agreement"
        if not self.judged:
            return f"{who}: nothing was judged{self._left_out()}, which is no agreement"
        forward, backward = self.first_forward, self.first_backward
        if forward is None and backward is None and not self.differing:
            every = "all " if len(self.judged) == len(self.observed) else ""
            return f"{who} agrees in {every}{len(self.judged)} tensors{self._left_out()}{self._closest()}"
        parts = []
        if self.differing:
            more = f" and {len(self.differing) - 3} more" if len(self.differing) > 3 else ""
            differ = "differs" if len(self.differing) == 1 else "differ"
            parts.append(f"its own {', '.join(self.differing[:3])}{more} {differ} from the case's")
        if forward is not None:
            parts.append(f"forward, first out of line: {tensor_in_words(forward)} ({self._why(forward)})")
        if backward is not None:
            after = "" if forward is None or self.view in LAYERWISE else ", which may follow from the forward pass"
            parts.append(f"backward, first out of line: {tensor_in_words(backward)} ({self._why(backward)}){after}")
        if len(self.observed) < len(self.layers):
            parts.append(f"{len(self.layers) - len(self.observed)} of {len(self.layers)} tensors not observed")
        if len(self.judged) < len(self.observed):
            parts.append(f"{len(self.observed) - len(self.judged)} not judged")
        return f"{who} disagrees. {'; '.join(parts)}"

    def _left_out(self) -> str:
        """How many tensors were not judged, and why, and how many not observed."""
        unjudged = [layer for layer in self.observed if not layer.judged]
        vague = sum(not math.isnan(layer.budget) for layer in unjudged)
        parts = []
        if vague:
            parts.append(f"{vague} not judged: their budget exceeds {JUDGEABLE:g} of the tensor")
        if len(unjudged) > vague:
            reason = next(layer.note for layer in unjudged if math.isnan(layer.budget))
            parts.append(f"{len(unjudged) - vague} not judged{': ' if reason else ''}{reason}")
        if len(self.observed) < len(self.layers):
            parts.append(f"{len(self.layers) - len(self.observed)} not observed")
        return f" ({'; '.join(parts)})" if parts else ""

    def _closest(self) -> str:
        if self.view == "exact":
            return ", bit by bit"
        worst = max(self.judged, key=lambda layer: layer.used)
        return f"; closest to its budget: {tensor_in_words(worst)}, {worst.used:.0%} used"

    def _why(self, layer: LayerVerdict) -> str:
        if layer.status != "over":
            return "; ".join(filter(None, (layer.note or layer.status, layer.difference)))
        if layer.view == "exact":
            text = "another digest"
        elif layer.error > layer.budget:
            text = f"error {layer.error:.1e}, budget {layer.budget:.1e}"
        elif layer.largest > layer.largest_budget:
            text = f"largest deviation {layer.largest:.1e} of the root mean square, budget {layer.largest_budget:.1e}"
        elif layer.channel is not None:
            text = f"channel {layer.channel} used {layer.channel_share:.1f} times its budget"
        else:
            text = layer.note or "over"
        if layer.difference:
            text += f"; {layer.difference}"
        if layer.kind == "activation_gradient" and self.consumers.get(layer.name):
            text += f"; the backward of {' and '.join(self.consumers[layer.name])} makes it"
        return text


def tensor_in_words(layer: LayerVerdict) -> str:
    """What a tensor is called in a sentence.

    Example:
        >>> tensor_in_words(LayerVerdict("activation_gradient", "layer1.0.bn1", "free", "within"))
        'the gradient of the output of layer1.0.bn1'
    """
    if layer.view == "local" and layer.kind == "activation_gradient":
        return f"the gradient that {layer.name} hands back"
    words = {
        "activation": "the output of {}",
        "loss": "the {}",
        "statistic": "{} after the step",
        "activation_gradient": "the gradient of the output of {}",
        "parameter_gradient": "the gradient of {}",
    }
    return words[layer.kind].format(layer.name)


def no_numbers(key: Key, view: View, error: NotNumbersError) -> LayerVerdict:
    """The verdict on what a subject handed over as a tensor, and is none: whoever makes no numbers makes wrong ones."""
    return LayerVerdict(*key, view, "not numbers", note=f"no numbers: it is {error}")


Describe = Callable[[np.ndarray, np.ndarray, Budget], str]


def judge(
    key: Key,
    view: View,
    array: np.ndarray,
    truth: np.ndarray,
    budget: Budget,
    *,
    scale: float | None = None,
    explain: Describe | None = None,
) -> LayerVerdict:
    """One tensor of a subject against the whole truth.

    Args:
        key: kind and name.
        view: ``free`` or ``local``.
        array: the subject's tensor.
        truth: the truth's, float64.
        budget: what a healthy subject may have.
        scale: the truth's root mean square, where it is known already.
        explain: names the kind of difference where the tensor is over, as `oracle.judge.words.describe` does.

    Example:
        >>> judge(("activation", "fc"), "free", np.full((1, 4), 1.1), np.ones((1, 4)), Budget(1e-6)).status
        'over'
    """
    if array.shape != truth.shape:
        text = explain(array, truth, budget) if explain else ""
        note = f"shape {array.shape} where the truth has {truth.shape}"
        return LayerVerdict(*key, view, "shape", difference=text, note=note)
    found = measure(key[0], array, truth, scale)
    if not math.isfinite(found.error) and not all_finite(array):
        text = explain(array, truth, budget) if explain else ""
        return LayerVerdict(*key, view, "not finite", difference=text, note=count_not_finite(array))
    judgeable = budget.rms <= JUDGEABLE
    budget = budget.granted()
    channel, used = worst_channel(found.channel, budget.channel)
    within = found.error <= budget.rms and found.largest <= budget.largest and not used > 1.0
    return LayerVerdict(
        *key,
        view,
        status_of(within, judgeable),
        found.error,
        budget.rms,
        found.largest,
        budget.largest,
        channel,
        used,
        difference="" if within or explain is None else explain(array, truth, budget),
    )


def status_of(within: bool, judgeable: bool) -> Status:
    """What a tensor is called that is within its budget or over: staying within one that exceeds `JUDGEABLE` of the
    tensor says nothing.

    Example:
        >>> status_of(True, True), status_of(True, False), status_of(False, False)
        ('within', 'not judged', 'over')
    """
    return "over" if not within else "within" if judgeable else "not judged"


def worst_channel(found: np.ndarray | None, allowed: np.ndarray | None) -> tuple[int | None, float]:
    """The channel that used most of its budget, and how much; ``(None, nan)`` where channels are not judged.

    Example:
        >>> worst_channel(np.array([1.0, 3.0]), np.array([2.0, 2.0]))
        (1, 1.5)
    """
    if found is None or allowed is None or found.shape != allowed.shape or found.size == 0:
        return None, math.nan
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = np.where(found == 0.0, 0.0, found / allowed)
    worst = int(shares.argmax())
    return worst, float(shares[worst])


class Comparison:
    """A recorder that judges each tensor when it comes and keeps only the verdict.

    In the view ``free`` a gradient is judged at what the subject decided forward, so gradients wait until every
    activation that the subject owes has come, or until the end; the verdicts do not depend on the order of recording.

    Args:
        keys: what the subject owes, in the order of execution.
        view: how it is looked at.
        judge_one: makes the verdict on one tensor.
        partial: whether the subject may leave tensors out, or of which kinds; they are then not observed instead of
            missing.
    """

    def __init__(
        self,
        keys: Sequence[Key],
        view: View,
        judge_one: Callable[[Key, np.ndarray], LayerVerdict | Future[LayerVerdict]],
        *,
        partial: bool | Sequence[Kind] = False,
    ) -> None:
        self._keys, self._view, self._judge = list(keys), view, judge_one
        self._optional = {"statistic", *(KINDS if partial is True else partial or ())}  # nobody owes what is kept
        self._wanted = set(self._keys)
        self._keeps_statistics = any(kind == "statistic" for kind, _ in self._keys)
        self._found: dict[Key, LayerVerdict | Future[LayerVerdict]] = {}
        self._owed = {key for key in self._keys if key[0] == "activation"} if view == "free" else set()
        self._waiting: dict[Key, np.ndarray] = {}

    def record(self, kind: Kind, name: str, array: np.ndarray) -> None:
        """Judge one tensor, or keep it until it can be judged."""
        require_key(kind, name)
        key = (kind, name)
        if key in self._found or key in self._waiting:
            self._waiting.pop(key, None)
            self._found[key] = LayerVerdict(kind, name, self._view, "repeated", note="recorded twice")
        elif kind == "statistic" and not self._keeps_statistics:
            return  # a golden that was made before they were kept cannot judge them
        elif key not in self._wanted:
            self._found[key] = LayerVerdict(kind, name, self._view, "unexpected", note="the truth has no such tensor")
        else:
            self._take(key, array)

    def _take(self, key: Key, array: np.ndarray) -> None:
        try:
            array = to_numbers(array)
        except NotNumbersError as error:
            self._found[key] = no_numbers(key, self._view, error)
        else:
            if self._owed and key[0] in ("activation_gradient", "parameter_gradient"):
                self._waiting[key] = array
                return
            self._found[key] = self._judge(key, array)
        self._owed.discard(key)
        if not self._owed:
            self._finish()

    def _finish(self) -> None:
        """Judge what waited."""
        for key in [key for key in self._keys if key in self._waiting]:
            self._found[key] = self._judge(key, self._waiting.pop(key))

    def layers(self) -> list[LayerVerdict]:
        """The verdicts in the order of execution; what was not recorded is missing, what is strange comes last."""
        self._finish()
        found = {key: each.result() if isinstance(each, Future) else each for key, each in self._found.items()}
        note = "the subject left no such tensor"
        absent: dict[Kind, Status] = {kind: "not observed" if kind in self._optional else "missing" for kind in KINDS}
        owed = [found.get(key, LayerVerdict(*key, self._view, absent[key[0]], note=note)) for key in self._keys]
        return owed + [found[key] for key in sorted(found) if key not in self._wanted]
