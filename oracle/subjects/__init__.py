"""Who runs a case. Rules that this package keeps:

- A subject is one small class with one method, `Subject.run`, which feeds what the run produces to a recorder.
  Writing one for another runtime needs nothing else.
- Nothing is imported until a subject is asked for; one whose package is missing is one clear sentence.
- No subject knows of another, or of the comparison.
"""

from __future__ import annotations

import difflib
import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from oracle.case import Case, Mode
from oracle.errors import UsageError
from oracle.trace import KINDS, Kind, Recorder, Trace

__all__ = ["Subject", "choose", "find_subject", "subject_names"]


class Subject(ABC):
    """Something that can run a case.

    Attributes:
        label: what reports call it.
        precision: the dtype that it computes in, ``float32`` or ``float64``.
        modes: the modes that it can run.
        kinds: the kinds of tensors that it owes.
    """

    label: str
    precision: str = "float32"
    modes: frozenset[Mode] = frozenset({"eval", "train"})
    kinds: tuple[Kind, ...] = KINDS

    @abstractmethod
    def run(self, case: Case, recorder: Recorder) -> None:
        """Run ``case`` and record every layer's output and, in a train step, the loss and all gradients."""

    def trace(self, case: Case) -> Trace:
        """Run ``case`` and keep everything."""
        trace = Trace()
        self.run(case, trace)
        return trace


_SUBJECTS = {
    "lucid": ("oracle.subjects.lucid_engine", "LucidSubject"),
    "torch": ("oracle.subjects.pytorch", "TorchSubject"),
    "onnxruntime": ("oracle.subjects.onnx_runtime", "OnnxRuntimeSubject"),
}
_ALIASES = {"pytorch": "torch", "ort": "onnxruntime", "onnx": "onnxruntime"}


def subject_names() -> list[str]:
    """The names that `find_subject` knows."""
    return list(_SUBJECTS)


def find_subject(text: str) -> Subject:
    """Make the subject that ``text`` names: ``NAME`` or ``NAME:option:option``, such as ``lucid:reference:float64``.

    Raises:
        UsageError: no such subject or option, or its package cannot be imported.

    Example:
        >>> find_subject("onnxruntme")
        Traceback (most recent call last):
        ...
        oracle.errors.UsageError: subject: got 'onnxruntme'; did you mean 'onnxruntime'? There are lucid, torch,
        onnxruntime
    """
    name, *options = text.split(":")
    name = _ALIASES.get(name, name)
    if name not in _SUBJECTS:
        near = difflib.get_close_matches(name, _SUBJECTS, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UsageError(f"subject: got {text!r}; {hint}There are {', '.join(_SUBJECTS)}")
    module, cls = _SUBJECTS[name]
    try:
        made: Any = getattr(importlib.import_module(module), cls)
    except ImportError as error:
        raise UsageError(
            f"subject: {name} cannot run here ({error}): pip install 'lucid-oracle[oracle]' brings what it needs"
        ) from error
    subject: Subject = made(*options)
    return subject


def choose(subject: str, options: tuple[str, ...], groups: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """Sort a subject's options into groups; the first of each group is its default.

    Raises:
        UsageError: an option is in no group, or a group is chosen twice.

    Example:
        >>> choose("torch", ("float64",), {"precision": ("float32", "float64")})
        {'precision': 'float64'}
    """
    chosen: dict[str, str] = {}
    for option in options:
        group = next((group for group, members in groups.items() if option in members), None)
        if group is None or group in chosen:
            known = "; ".join(f"{name}: {', '.join(members)}" for name, members in groups.items())
            reason = "is not an option of" if group is None else f"is a second {group} for"
            raise UsageError(f"subject: {option!r} {reason} {subject}, which takes {known or 'none'}")
        chosen[group] = option
    return {group: chosen.get(group, members[0]) for group, members in groups.items()}
