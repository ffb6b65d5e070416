"""What many subjects of one case share: its truth, its budgets, and what every layer should make.

`oracle.run` judges a subject once; here hundreds of them run the same small case, and each runs it once for the
free view and the question whether any bit changed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from oracle.case.case import Case
from oracle.judge.local import LocalTruth, local_checks
from oracle.judge.own import own_check
from oracle.judge.verdicts import Comparison, LayerVerdict, SubjectVerdict
from oracle.subjects import Subject
from oracle.trace import Key, Trace
from oracle.truth.truth import Truth, prepare


class Bench:
    """One case at one precision, ready to judge.

    Args:
        case: what is run.
        precision: of the subjects.
        truth: the case's truth, where it was made before.
        keep: whether to keep what every layer should make; it takes several times the truth's memory.
    """

    def __init__(
        self, case: Case, precision: str = "float32", truth: Truth | None = None, *, keep: bool = True
    ) -> None:
        self.case, self.precision = case, precision
        self.truth = prepare(case) if truth is None else truth
        self.truth.recompute()
        self.local_truth = LocalTruth(case, self.truth.trace, precision, keep=keep)

    def free(self, subject: Subject, trace: Trace) -> SubjectVerdict:
        """The free view of what a subject's run left."""
        return self._compared(subject, trace, "free", self.truth.judge("free", self.precision))

    def own(self, subject: Subject, trace: Trace) -> SubjectVerdict:
        """The own view of what a subject's run left."""
        keys = self.truth.keys_and_statistics(subject.kinds)
        return own_check(trace, self.case, self.precision, keys, self.truth.shape, subject.label)

    def local(self, subject: Subject) -> SubjectVerdict:
        """The local view of a subject that can be driven layer by layer."""
        return local_checks([subject], self.local_truth)[0]

    def exact(self, subject: Subject, trace: Trace, healthy: Trace) -> SubjectVerdict:
        """Bit by bit against the healthy run of the same arithmetic."""

        def one(key: Key, array: np.ndarray) -> LayerVerdict:
            return LayerVerdict(*key, "exact", "exact" if same_bits(array, healthy[key]) else "over")

        return self._compared(subject, trace, "exact", one)

    def _compared(self, subject: Subject, trace: Trace, view: Any, one: Any) -> SubjectVerdict:
        comparison = Comparison(self.truth.keys(subject.kinds), view, one, partial=subject.partial)
        trace.replay(comparison)
        return SubjectVerdict(subject.label, view, self.precision, comparison.layers())


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays have one shape, one dtype and the same bytes.

    Example:
        >>> same_bits(np.array([0.0]), np.array([-0.0]))
        False
    """
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    return np.ascontiguousarray(a).tobytes() == np.ascontiguousarray(b).tobytes()
