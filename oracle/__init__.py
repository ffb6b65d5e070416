"""The test oracle: is this model right here, forward and backward, and if not, which layer goes wrong first?

``import oracle`` imports nothing heavy; torch, onnxruntime and the others come when a check needs them.

Example:
    >>> import oracle
    >>> verdict = oracle.check("resnet_18", source="seeded", size=32)  # doctest: +SKIP
    >>> verdict.agrees  # doctest: +SKIP
    True
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oracle.case.case import Case
    from oracle.errors import UsageError
    from oracle.judge.summary import CaseVerdict, Verdict
    from oracle.judge.verdicts import Comparison, LayerVerdict, SubjectVerdict, judge
    from oracle.kernel.check import check_kernel
    from oracle.kernel.verdict import KernelVerdict
    from oracle.resnets import ARCHITECTURES, Architecture, find_architecture
    from oracle.run import check, run_case
    from oracle.subjects import Subject, find_subject
    from oracle.trace import Trace

_HOMES = {
    "ARCHITECTURES": "resnets",
    "Architecture": "resnets",
    "Case": "case.case",
    "CaseVerdict": "judge.summary",
    "Comparison": "judge.verdicts",
    "KernelVerdict": "kernel.verdict",
    "LayerVerdict": "judge.verdicts",
    "Subject": "subjects",
    "SubjectVerdict": "judge.verdicts",
    "Trace": "trace",
    "UsageError": "errors",
    "Verdict": "judge.summary",
    "check": "run",
    "check_kernel": "kernel.check",
    "find_architecture": "resnets",
    "find_subject": "subjects",
    "judge": "judge.verdicts",
    "run_case": "run",
}

__all__ = [
    "ARCHITECTURES",
    "Architecture",
    "Case",
    "CaseVerdict",
    "Comparison",
    "KernelVerdict",
    "LayerVerdict",
    "Subject",
    "SubjectVerdict",
    "Trace",
    "UsageError",
    "Verdict",
    "check",
    "check_kernel",
    "find_architecture",
    "find_subject",
    "judge",
    "run_case",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(import_module(f"oracle.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'oracle' has no attribute {name!r}")
