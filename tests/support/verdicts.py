"""Verdicts made up for the tests of reports: every status, forward and backward, without running anything."""

from __future__ import annotations

import math
from typing import Any

from oracle.case.case import standard_case
from oracle.graph.model import Mode
from oracle.judge.verdicts import LayerVerdict, SubjectVerdict, View
from oracle.resnets import Architecture
from oracle.run import CaseVerdict, Verdict
from oracle.trace import Key

NARROW = Architecture("narrow", "bottleneck", (1, 1, 1, 1), num_classes=10, stem_width=8, channels=(8, 8, 8, 8))
LAYERS = ("stem.0", "stem.1", "stem.2", "maxpool", "layer1.0.conv1", "layer1.0", "avgpool", "fc")
FORWARD: list[Key] = [("activation", name) for name in LAYERS]
BACKWARD: list[Key] = [
    ("activation_gradient", "fc"),
    ("parameter_gradient", "fc.weight"),
    ("activation_gradient", "stem.0"),
]
KEYS: dict[Mode, list[Key]] = {"eval": FORWARD, "train": [*FORWARD, ("loss", "loss"), *BACKWARD]}

OVER: dict[str, Any] = {
    "status": "over",
    "error": 3e-5,
    "difference": "one channel (3)",
    "channel": 3,
    "channel_share": 90.0,
}
NOT_FINITE: dict[str, Any] = {"status": "not finite", "error": math.nan, "note": "2 NaN and 0 infinite of 64"}
ABSENT: dict[str, Any] = {"status": "not observed", "error": math.nan, "budget": math.nan}


def a_subject(
    mode: Mode = "train",
    view: View = "free",
    changes: dict[Key, dict[str, Any]] | None = None,
    *,
    label: str = "torch:no-onednn",
    failure: str = "",
) -> SubjectVerdict:
    """A healthy subject, but for ``changes``, by tensor: other values of a `LayerVerdict`'s fields."""
    changes = changes or {}
    layers = []
    for place, key in enumerate(KEYS[mode]):
        usual: dict[str, Any] = {"status": "exact"}
        if view != "exact":
            usual = {"status": "within", "error": 1e-7 * (1 + place), "budget": 4e-7 * (1 + place)}
            usual |= {"largest": 2e-7, "largest_budget": 1e-5}
        layers.append(LayerVerdict(*key, view, **(usual | changes.get(key, {}))))
    return SubjectVerdict(label, view, "float32", layers, failure, 1.25)


def a_verdict(*subjects: SubjectVerdict, mode: Mode = "train") -> Verdict:
    """A verdict of one case."""
    case = CaseVerdict(standard_case(NARROW, mode), subjects, 2.5 if mode == "train" else None, "made up", 3.0)
    return Verdict([case], {"lucid-oracle": "0.1.0", "numpy": "2.0.0"})
