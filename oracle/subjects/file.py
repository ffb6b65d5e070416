"""A file of named tensors, from anywhere, as a subject: for whoever has none of the runtimes that the oracle drives.

The file is safetensors or NumPy's .npz, and each tensor in it is named ``KIND/NAME``, as `oracle.trace` names them:

- ``activation/layer1.0.conv1``: the output of a layer or of a residual block (``activation/layer1.0``);
- ``activation_gradient/layer1.0.conv1``: the gradient of the loss by that output;
- ``parameter_gradient/layer1.0.conv1.weight``: the gradient by a parameter;
- ``loss``: the loss of a train step;
- ``statistic/layer1.0.bn1.running_mean`` (or without ``statistic/``, as a state dictionary has it), and
  ``running_var``: what a batch normalisation keeps after the train step.

Names of torchvision's layout, and with wrappers' prefixes, are read too (`oracle.case.names`), others with a file of
rules.

Layouts are PyTorch's (NCHW; weights OIHW); elements are float64, float32, float16, bfloat16 or float8. Nothing is
unpickled. What the file holds beside is not read, however large it is.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from oracle.case.adopt import Adopted, adopt_trace
from oracle.case.case import Case
from oracle.case.names import Rules
from oracle.case.shapes import Shape, shapes_of
from oracle.errors import UsageError
from oracle.graph.model import Mode
from oracle.precision.difference import PRECISIONS
from oracle.precision.profile import take_profile
from oracle.subjects import Brought, Subject
from oracle.tensors import FLOATS, Entry, open_tensors
from oracle.trace import KINDS, Key, Recorder, Trace

ALLOWANCE = 64 << 20  # bytes that tensors may take which the case has not, beyond what the case's take


@dataclass(frozen=True)
class Listing:
    """The tensors of a file, not read yet.

    Attributes:
        path: the file.
        entries: those whose names a trace knows, in the order that the file states.
        strangers: the other names, in the file's order.
    """

    path: Path
    entries: Mapping[Key, Entry]
    strangers: tuple[str, ...] = field(default=())

    def read(self, shapes: Mapping[Key, Shape] | None = None) -> TraceFile:
        """Read the tensors.

        Args:
            shapes: what the case has. Tensors of another size than the case's, or that the case has not, are then read
                only as long as they take no more than all of the case's, and `ALLOWANCE`; of the others the shape
                alone is taken over, which is out of line whatever their values are.

        Raises:
            UsageError: a tensor is damaged.
        """
        trace = Trace()
        allowance = ALLOWANCE + 8 * sum(math.prod(shape) for shape in (shapes or {}).values())
        for key, entry in self.entries.items():
            if shapes is None or (key in shapes and math.prod(shapes[key]) == math.prod(entry.shape)):
                array = entry.read()
            elif entry.size <= allowance:
                allowance -= entry.size
                array = entry.read()
            else:
                array = _stand_in(entry, self.path)
            trace.record(*key, as_recorded(key, array))
        return TraceFile(trace, {key: entry.dtype for key, entry in self.entries.items()}, self.strangers)


def _stand_in(entry: Entry, path: Path) -> np.ndarray:
    """An array of the entry's shape that takes no memory."""
    try:
        return np.broadcast_to(np.float32(np.nan), entry.shape)
    except ValueError:
        raise UsageError(f"trace: {path}: {entry.name!r} is of shape {entry.shape}, which no array has") from None


@dataclass(frozen=True)
class TraceFile:
    """What a file of tensors holds.

    Attributes:
        trace: the tensors whose names a trace knows; bfloat16 and float8 widened to float32, which is exact.
        stored: the dtype in which the file stores each of them.
        strangers: the other names, in the file's order.
    """

    trace: Trace
    stored: Mapping[Key, str]
    strangers: tuple[str, ...] = field(default=())


def list_trace(path: Path, rules: Rules | None = None) -> Listing:
    """List the tensors of a .safetensors or .npz file, and read none.

    Args:
        path: the file.
        rules: how names with their kind are read, and which kind those have that have none.

    Raises:
        UsageError: the file is missing, corrupt, of another format, or holds a tensor that is not of floats.
    """
    file = open_tensors(path, "trace")
    entries: dict[Key, Entry] = {}
    strangers = []
    by_name = {entry.name: entry for entry in file.entries}
    for entry in (by_name[name] for name in _recorded_order(by_name, file.metadata)):
        ours = entry.name if rules is None else rules.file_name(entry.name)
        if ours is None:
            continue
        key = parse_name(ours)
        if key is None:
            strangers.append(entry.name)
            continue
        if entry.dtype not in FLOATS:
            raise UsageError(f"trace: {path}: {entry.name} is stored as {entry.dtype}; may be {', '.join(FLOATS)}")
        if key in entries or len(by_name) < len(file.entries):
            twice = [each.name for each in file.entries if by_name[each.name] is not each] or [entry.name]
            raise UsageError(f"trace: {path}: {twice[0]} is there twice")
        entries[key] = entry
    return Listing(path, entries, tuple(strangers))


def read_trace(path: Path, shapes: Mapping[Key, Shape] | None = None, rules: Rules | None = None) -> TraceFile:
    """Read the tensors of a .safetensors or .npz file.

    Args:
        path: the file.
        shapes: what the case has; as in `Listing.read`.
        rules: as in `list_trace`.

    Raises:
        UsageError: the file is missing, corrupt, of another format, or holds a tensor that is not of floats.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "trace.npz"
        ...     np.savez(path, **{"activation/fc": np.zeros((1, 1000), np.float32), "input": np.zeros(3)})
        ...     found = read_trace(path)
        >>> list(found.trace), found.stored["activation", "fc"], found.strangers
        ([('activation', 'fc')], 'float32', ('input',))
    """
    return list_trace(path, rules).read(shapes)


def _recorded_order(names: Iterable[str], metadata: Mapping[str, str]) -> list[str]:
    """The file's names, those first that its metadata puts in an order, as `Trace.save` does."""
    try:
        order = json.loads(metadata.get("order", "[]"))
        places = {name: place for place, name in enumerate(order)} if isinstance(order, list) else {}
    except (ValueError, TypeError, RecursionError):  # it is somebody else's
        places = {}
    return sorted(names, key=lambda name: places.get(name, len(places)))


def parse_name(text: str) -> Key | None:
    """The kind and name that a file's tensor is called by; ``None`` where it is no name of a trace's tensor.

    Example:
        >>> parse_name("activation/fc"), parse_name("loss"), parse_name("fc.weight")
        (('activation', 'fc'), ('loss', 'loss'), None)
        >>> parse_name("stem.1.running_mean")
        ('statistic', 'stem.1.running_mean')
    """
    if text == "loss":
        return ("loss", "loss")
    if text.endswith((".running_mean", ".running_var")) and "/" not in text:  # as a state dictionary has them
        return ("statistic", text)
    head, _, name = text.partition("/")
    kind = next((kind for kind in KINDS if kind == head), None)
    return (kind, name) if kind is not None and name else None


def as_recorded(key: Key, array: np.ndarray) -> np.ndarray:
    """A tensor as a trace has it: the loss is a number, whether it was written as one or as an array of one.

    Example:
        >>> [as_recorded((kind, kind), np.ones(1)).shape for kind in ("loss", "activation")]
        [(), (1,)]
    """
    return array.reshape(()) if key[0] == "loss" and array.size == 1 else array


def file_name(key: Key) -> str:
    """What a tensor is called in a file; `parse_name` reads it.

    Example:
        >>> file_name(("activation", "fc")), file_name(("loss", "loss"))
        ('activation/fc', 'loss')
    """
    return "loss" if key == ("loss", "loss") else "/".join(key)


class FileSubject(Subject):
    """What somebody's runtime left in a file, judged as if it had just run: ``file:PATH`` or ``file:PATH:PRECISION``,
    with options as `oracle.precision.profile` has them (``file:PATH:float16:sums-in-float16``).

    The file holds one mode's run; a train step is known by its loss or its gradients. What it leaves out is not
    observed.
    """

    partial = True

    def __init__(self, *options: str, rules: Rules | None = None) -> None:
        declared, paths = take_profile("file", options)
        if not paths:
            raise UsageError(f"subject: file takes a path and one of {', '.join(PRECISIONS)}; got {options}")
        path = Path(":".join(paths))  # a path may hold colons
        self.listing = list_trace(path, rules)
        self._read: dict[Case, Adopted] = {}
        if not self.listing.entries:
            raise UsageError(
                f"subject: {path} holds no tensor of a trace; names are such as activation/layer1.0.conv1, and "
                "others are read with --names"
            )
        self.precision = str(declared)
        self.label = ":".join(("file", path.name, *(option for option in options if option not in paths)))
        train = any(kind != "activation" for kind, _ in self.listing.entries)
        modes: Mode = "train" if train else "eval"
        self.modes = frozenset({modes})

    def run(self, case: Case, recorder: Recorder) -> None:
        """Record the file's tensors."""
        self._adopted(case).trace.replay(recorder)

    def brings(self, case: Case) -> Brought | None:
        """What was assumed of the names in the file; no weights."""
        notes = self._adopted(case).notes
        return Brought(None, notes) if notes else None

    def _adopted(self, case: Case) -> Adopted:
        if case not in self._read:
            self._read[case] = adopt_trace(self.listing.read(shapes_of(case)).trace, case, case.rules)
        return self._read[case]
