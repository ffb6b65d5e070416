"""What a run leaves: an ordered list of named tensors.

Any run, of any engine, becomes such a list. It can be saved, read again elsewhere, and compared by name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np

from oracle.errors import UsageError
from oracle.files import write_whole
from oracle.tensors import WIDENED, open_tensors

Kind = Literal["activation", "loss", "statistic", "activation_gradient", "parameter_gradient"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Key = tuple[Kind, str]
FORMAT = "lucid-oracle trace 1"
_TORCH_WIDENED = [f"torch.{name}" for name in WIDENED]


class NotNumbersError(ValueError):
    """Something that was handed over as a tensor holds no real numbers; the text says what it is."""


def to_numbers(value: Any) -> np.ndarray:
    """An array of whatever is like one: nested lists, or a PyTorch tensor of any device. bfloat16 and the 8-bit floats
    become float32, exactly.

    Raises:
        NotNumbersError: it is none, or one of other elements than real numbers (objects, text, complex numbers).

    Example:
        >>> to_numbers([[1.0, 2.0]]).shape
        (1, 2)
        >>> to_numbers(np.array([None, "x"]))
        Traceback (most recent call last):
        ...
        oracle.trace.NotNumbersError: an array of object
    """
    try:
        if hasattr(value, "detach"):
            value = value.detach().cpu()
            value = value.float() if str(value.dtype) in _TORCH_WIDENED else value
        array = np.asarray(value)
        array = array.astype(np.float32) if array.dtype.name in WIDENED else array
    except Exception as error:  # whatever somebody's object raises, it is no array
        raise NotNumbersError(f"{_in_words(value)} ({type(error).__name__}: {error})") from None
    if array.dtype.kind not in "fiub":
        raise NotNumbersError(f"an array of {array.dtype.name}" if isinstance(value, np.ndarray) else _in_words(value))
    return array


def _in_words(value: Any) -> str:
    return "None" if value is None else f"of the type {type(value).__name__}"


def require_key(kind: object, name: object) -> None:
    """Check what a tensor is recorded as.

    Raises:
        ValueError: the kind is unknown, or the name is no text.
    """
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"kind: got {kind!r}; may be one of {', '.join(KINDS)}")
    if not isinstance(name, str):
        raise ValueError(f"name: got {name!r}, the name of a tensor ({kind}); may be text")


class Recorder(Protocol):
    """Whatever takes in what a run produces, tensor by tensor: a `Trace` keeps it, a `Comparison` measures it."""

    def record(self, kind: Kind, name: str, array: np.ndarray) -> None:
        """Take one tensor. The recorder may keep the array itself: whoever records it does not change it afterwards."""


class Trace:
    """Named tensors in the order in which they were recorded.

    Kinds: ``activation`` (the output of a layer), ``loss``, ``statistic`` (a ``running_mean`` or ``running_var`` after
    the train step), ``activation_gradient`` (of the loss by that output) and ``parameter_gradient``. A layer is a leaf
    module or a residual block, named by its path (``layer1.0.conv1``).

    Attributes:
        consumers: by layer, the layers that take its output, where the subject could tell.

    Example:
        >>> trace = Trace()
        >>> trace.record("activation", "fc", np.zeros((1, 10)))
        >>> list(trace), trace["activation", "fc"].shape
        ([('activation', 'fc')], (1, 10))
    """

    def __init__(self) -> None:
        self._tensors: dict[Key, np.ndarray] = {}
        self.consumers: dict[str, tuple[str, ...]] = {}

    def record(self, kind: Kind, name: str, array: np.ndarray) -> None:
        """Append one tensor.

        Raises:
            ValueError: the kind is unknown, the name is no text or was recorded before, or ``array`` holds no numbers.
        """
        require_key(kind, name)
        if (kind, name) in self._tensors:
            raise ValueError(f"name: {kind} {name!r} is recorded twice")
        try:
            self._tensors[kind, name] = to_numbers(array)
        except NotNumbersError as error:
            raise NotNumbersError(f"{kind} {name!r} holds no numbers: it is {error}") from None

    def __getitem__(self, key: Key) -> np.ndarray:
        """The tensor, in the usual order of its dimensions in memory: the order in which NumPy and PyTorch sum must not
        depend on how a subject laid it out. (Recording does not wait for that.)"""
        array = self._tensors[key]
        if not array.flags.c_contiguous and any(array.strides):  # one number over and over has no order, nor memory
            array = self._tensors[key] = np.ascontiguousarray(array)
        return array

    def replace(self, key: Key, array: np.ndarray) -> None:
        """Keep the same values in another array.

        Raises:
            KeyError: there is no such tensor.
        """
        if key not in self._tensors:
            raise KeyError(key)
        self._tensors[key] = array

    def __contains__(self, key: object) -> bool:
        return key in self._tensors

    def __iter__(self) -> Iterator[Key]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def names(self, kind: Kind) -> list[str]:
        """The names of one kind, in order."""
        return [name for found, name in self._tensors if found == kind]

    def replay(self, recorder: Recorder) -> None:
        """Record every tensor of this trace into ``recorder``."""
        for (kind, name), array in self._tensors.items():
            recorder.record(kind, name, array)

    def save(self, path: Path) -> None:
        """Write a safetensors file: ``kind/name`` by tensor, the order in its metadata. It is replaced whole or not
        at all.

        Raises:
            UsageError: it cannot be written.
        """
        from safetensors.numpy import save

        tensors = {f"{kind}/{name}": np.asarray(array, order="C") for (kind, name), array in self._tensors.items()}
        metadata = {"format": FORMAT, "order": json.dumps(list(tensors)), "consumers": json.dumps(self.consumers)}
        write_whole(path, save(tensors, metadata=metadata))

    @classmethod
    def load(cls, path: Path) -> Trace:
        """Read what `save` wrote.

        Raises:
            UsageError: the file is missing, corrupt, or no trace.
        """
        trace, file = cls(), open_tensors(path, "trace")
        entries = {entry.name: entry for entry in file.entries}
        try:
            if file.metadata.get("format") != FORMAT:
                raise ValueError(f"its format is {file.metadata.get('format')!r}, not {FORMAT!r}")
            order = json.loads(file.metadata["order"])
            consumers = json.loads(file.metadata["consumers"])
            trace.consumers = {name: tuple(takers) for name, takers in consumers.items()}
            if sorted(order) != sorted(entries):
                raise ValueError("its list of names is not that of its tensors")
            for key in order:
                kind, name = key.split("/", 1)
                trace.record(kind, name, entries[key].read())
        except UsageError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UsageError(f"trace: {path} is not a sound trace: {error}") from None
        return trace


def execution_order(truth: Iterable[Key], kinds: Iterable[Kind] = KINDS) -> list[Key]:
    """The truth's tensors as they come to be: activations, the loss, the statistics that are kept, then from the last
    layer to the first the gradient of its output and those of its parameters.

    Example:
        >>> trace = Trace()
        >>> for kind, name in [("activation", "stem.0"), ("activation", "fc"), ("parameter_gradient", "stem.0.weight"),
        ...                    ("activation_gradient", "stem.0"), ("activation_gradient", "fc")]:
        ...     trace.record(kind, name, np.zeros(1))
        >>> execution_order(trace)[2:]
        [('activation_gradient', 'fc'), ('activation_gradient', 'stem.0'), ('parameter_gradient', 'stem.0.weight')]
    """
    keys = list(truth)
    known = set(keys)
    forward = [key for key in keys if key[0] in ("activation", "loss")]
    forward += [key for key in keys if key[0] == "statistic"]
    parameters: dict[str, list[str]] = {}
    for kind, name in keys:
        if kind == "parameter_gradient":
            parameters.setdefault(name.rsplit(".", 1)[0], []).append(name)
    backward: list[Key] = []
    for layer in reversed([name for kind, name in keys if kind == "activation"]):
        if ("activation_gradient", layer) in known:
            backward.append(("activation_gradient", layer))
        backward += [("parameter_gradient", name) for name in parameters.pop(layer, ())]
    backward += [("parameter_gradient", name) for names in parameters.values() for name in names]  # of no module
    wanted = set(kinds)
    return [key for key in forward + backward if key[0] in wanted]
