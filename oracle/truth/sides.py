"""How many channels of a case hold both signs at its ReLUs: where they do not, faults of a ReLU's mask do not show.

A ReLU passes or blocks the whole of a channel that has one sign. Then the mask of another element, channel mean or
image is the right one too, and no view can tell. So every standard case holds both signs, at every ReLU and in every
image, in at least `LEAST_TWO_SIDED` of the channels; a golden of a case that does not is not written.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

import lucid
from oracle.case.case import Case
from oracle.operations import rectified
from oracle.subjects.lucid_engine import LucidSubject, make_model
from oracle.trace import Kind

LEAST_TWO_SIDED = 0.25


def two_sided_share(output: np.ndarray) -> float:
    """Of what a ReLU made, ``(N, C, H, W)``: the share of channels with passed and blocked elements, in the image where
    that share is least.

    Example:
        >>> two_sided_share(np.array([[[[0.0, 1.0]], [[2.0, 1.0]]], [[[0.0, 0.0]], [[0.0, 3.0]]]]))
        0.5
    """
    passed = (output > 0).reshape(*output.shape[:2], -1)
    return float((passed.any(2) & ~passed.all(2)).mean(1).min())


def two_sided_shares(case: Case) -> dict[str, float]:
    """`two_sided_share` of every layer that a ReLU ends. The case is run forward once, by lucid in float32.

    Example:
        >>> from oracle.case.case import standard_case
        >>> from oracle.case.zoo import find_model
        >>> shares = two_sided_shares(standard_case(find_model("narrow_basic"), "train"))
        >>> min(shares.values()) >= LEAST_TWO_SIDED
        True
    """
    recorder = _Shares(frozenset(rectified(case.graph)))
    model = make_model(case).train(case.mode == "train")
    LucidSubject.watch(model, case.graph, recorder)
    with lucid.no_grad():
        model(lucid.tensor(case.input))
    return recorder.found


def least_two_sided(shares: Mapping[str, float]) -> tuple[str, float]:
    """The layer with the least share, and the share; none and 1 where no ReLU decides.

    Example:
        >>> least_two_sided({"stem.2": 0.5, "layer1.0": 0.4})
        ('layer1.0', 0.4)
    """
    return min(shares.items(), key=lambda item: item[1], default=("", 1.0))


class _Shares:
    """A recorder that keeps the shares alone."""

    def __init__(self, layers: frozenset[str]) -> None:
        self.layers = layers
        self.found: dict[str, float] = {}

    def record(self, kind: Kind, name: str, array: np.ndarray) -> None:
        if kind == "activation" and name in self.layers:
            self.found[name] = two_sided_share(array)
