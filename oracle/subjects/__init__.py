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
from collections.abc import Collection, Mapping
from typing import Any, get_args

from oracle.case.adopt import Brought
from oracle.case.case import Case
from oracle.errors import UsageError, name_of
from oracle.graph.graph import Graph
from oracle.graph.model import Mode
from oracle.imports import import_module, member
from oracle.precision.profile import profile_of
from oracle.subjects.layerwise import Layerwise
from oracle.trace import KINDS, Kind, Recorder, Trace

__all__ = [
    "Brought",
    "Subject",
    "choose",
    "find_subject",
    "observed",
    "positive",
    "stands_alone",
    "subject_names",
    "take",
]


def observed(model: Any, graph: Graph) -> list[tuple[str, Any]]:
    """The modules of an engine's model whose outputs a trace names, by their path; the model itself returns the output,
    where that is no module's."""
    modules = dict(model.named_modules())
    found = [(name, module) for name, module in modules.items() if name in graph.maker]
    return found if graph.output in modules else [*found, (graph.output, model)]


def stands_alone(name: str, graph: Graph) -> bool:
    """Whether the module of that path, if there is one, is the operation alone: none runs inside of it."""
    return not any(node.name.startswith(f"{name}.") for node in graph.nodes)


class Subject(ABC):
    """Something that can run a case.

    Attributes:
        label: what reports call it.
        precision: what it computes in, ``float32``, ``float64``, ``tf32``, ``bfloat16`` or ``float16``, and options as
            `oracle.precision.profile` has them: ``"float16, sums in float16"``.
        modes: the modes that it can run.
        kinds: the kinds of tensors that it owes.
        partial: whether tensors may be absent (fused away, or not dumped). What is absent is then reported as not
            observed: no agreement of that layer, and no disagreement. Otherwise it is missing, a disagreement.
        exact: whether it follows lucid's arithmetic, and is held to the golden's digests.
        layered: whether it can be driven layer by layer (`layerwise`), and so has the local view.
    """

    label: str
    precision: str = "float32"
    modes: frozenset[Mode] = frozenset({"eval", "train"})
    kinds: tuple[Kind, ...] = KINDS
    partial: bool = False
    exact: bool = False
    layered: bool = False

    @abstractmethod
    def run(self, case: Case, recorder: Recorder) -> None:
        """Run ``case`` and record every layer's output and, in a train step, the loss and all gradients.

        What is recorded is an array of real numbers, or like one (`oracle.trace.to_numbers`); anything else is out of
        line there. An exception says that the subject could not finish.
        """

    def trace(self, case: Case) -> Trace:
        """Run ``case`` and keep everything."""
        trace = Trace()
        self.run(case, trace)
        return trace

    def layerwise(self, case: Case) -> Layerwise | None:
        """The case's model taken apart, for the local view; ``None`` where it cannot be driven layer by layer."""
        return None

    def brings(self, case: Case) -> Brought | None:
        """The subject's own weights, which are compared with the case's before it runs, and what was assumed of its
        names; ``None`` where it takes all from the case."""
        return None


_SUBJECTS = {
    "lucid": ("oracle.subjects.lucid_engine", "LucidSubject"),
    "torch": ("oracle.subjects.pytorch", "TorchSubject"),
    "onnxruntime": ("oracle.subjects.onnx_runtime", "OnnxRuntimeSubject"),
    "file": ("oracle.subjects.file", "FileSubject"),
}
_ALIASES = {"pytorch": "torch", "ort": "onnxruntime", "onnx": "onnxruntime"}


def subject_names() -> list[str]:
    """The names that `find_subject` knows."""
    return list(_SUBJECTS)


def find_subject(text: str) -> Subject:
    """Make the subject that ``text`` names.

    - ``NAME`` or ``NAME:option:option``, such as ``lucid:reference:float64``;
    - ``file:PATH``: a file of tensors;
    - ``MODULE:CLASS`` or ``PATH.py:CLASS``, again with options: a `Subject` of your own. Modules are looked for in the
      current directory too.

    Raises:
        UsageError: no such subject or option, or it cannot be imported.

    Example:
        >>> find_subject("onnxruntme")
        Traceback (most recent call last):
        ...
        oracle.errors.UsageError: subject: got 'onnxruntme'; did you mean 'onnxruntime'? There are lucid, torch,
        onnxruntime, file, and your own as MODULE:CLASS or PATH.py:CLASS
    """
    name, *options = text.split(":")
    name = _ALIASES.get(name, name)
    if name in _SUBJECTS:
        module, cls = _SUBJECTS[name]
        try:
            made: Any = getattr(importlib.import_module(module), cls)
        except ImportError as error:
            raise UsageError(
                f"subject: {name} cannot run here ({error}): pip install 'lucid-oracle[oracle]' brings what it needs"
            ) from error
    elif options:
        made = _own_class(text, name, options.pop(0))
    else:
        raise UsageError(f"subject: got {text!r}; {_known(name)}, and your own as MODULE:CLASS or PATH.py:CLASS")
    try:
        subject: Subject = made(*options)
        return require_sound(subject)
    except (UsageError, MemoryError):
        raise
    except Exception as error:  # a subject is foreign code
        reason = str(error) if isinstance(error, TypeError) else name_of(error)
        raise UsageError(f"subject: {text!r} cannot be made with the options {options}: {reason}") from error


def require_sound(subject: Subject) -> Subject:
    """A subject whose class says of it what a subject has to say.

    Raises:
        UsageError: its label, precision, modes or kinds are none.
    """
    if not isinstance(subject.label, str) or not subject.label:
        raise UsageError(f"subject: its label is {subject.label!r}; may be text")
    if not isinstance(subject.precision, str):
        raise UsageError(f"subject: the precision of {subject.label} is {subject.precision!r}; may be text")
    profile_of(subject.precision)
    for what, given, known in (
        ("modes", subject.modes, get_args(Mode)),
        ("kinds", subject.kinds, KINDS),
    ):
        if isinstance(given, str) or not isinstance(given, Collection) or not set(given) <= set(known):
            raise UsageError(f"subject: the {what} of {subject.label} are {given!r}; may be of {', '.join(known)}")
    return subject


def _known(name: str) -> str:
    near = difflib.get_close_matches(name, _SUBJECTS, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}There are {', '.join(_SUBJECTS)}"


def _own_class(text: str, module: str, cls: str) -> type[Subject]:
    """The class of a subject that is not the oracle's."""
    try:
        found = member(import_module(module), cls)
    except Exception as error:  # whatever somebody's module raises while it is imported is a sentence for them
        raise UsageError(
            f"subject: got {text!r}; {_known(module)}; and {module} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    if not (isinstance(found, type) and issubclass(found, Subject)):
        raise UsageError(f"subject: got {text!r}; {module} has no class {cls} derived from oracle.Subject")
    return found


def take(subject: str, options: tuple[str, ...], keys: tuple[str, ...]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Take the options of the form ``KEY=VALUE`` out; returns them, and the others.

    Raises:
        UsageError: a key is not one of ``keys``, is given twice, or has no value.

    Example:
        >>> take("torch", ("float64", "threads=2"), ("threads",))
        ({'threads': '2'}, ('float64',))
    """
    taken: dict[str, str] = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not equals:
            continue
        if key not in keys or key in taken or not value:
            reason = (
                "is not an option of" if key not in keys else "is given twice to" if key in taken else "is empty for"
            )
            known = ", ".join(f"{key}=" for key in keys) or "none of the form KEY=VALUE"
            raise UsageError(f"subject: {option!r} {reason} {subject}, which takes {known}")
        taken[key] = value
    return taken, tuple(option for option in options if "=" not in option)


def positive(subject: str, key: str, text: str) -> int:
    """The positive number that an option's value stands for.

    Raises:
        UsageError: it is none.

    Example:
        >>> positive("torch", "threads", "2")
        2
    """
    if not (text.isdigit() and int(text) > 0):
        raise UsageError(f"subject: {key}={text} of {subject} must be a positive number")
    return int(text)


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
