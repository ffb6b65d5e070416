"""A case: which model, with which weights, on which input, in which mode. Everything in it follows from its fields.

Weights (`lucid.models.seeded`, which ``lucid-export`` uses too), labels and seeded inputs come from the raw words of
NumPy's Philox4x64-10 (whose stream NumPy promises to keep), keyed by the seed and the tensor's own name, and no float
function is involved: their bits are the same on every machine.

A case has to be a good instrument: activations of order one at every depth, every branch and both sides of every ReLU
at work in every image, and little amplification of rounding, for an amplified rounding error hides a fault.
`lucid.models.seeded` says how the weights see to it; `oracle.truth.sides` measures it.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lucid.files import open_regular
from lucid.models.seeded import seeded_state, seeded_uniform, seeded_words
from oracle.case.names import Rules, adopt_state
from oracle.errors import UsageError
from oracle.graph.graph import INPUT, Graph
from oracle.graph.model import Mode, Model
from oracle.graph.state import State, check_state
from oracle.operations import class_axis, is_loss, shapes_of_values
from oracle.tensors import FLOATS, open_tensors

PHOTOGRAPH = "photo"
SEEDED = "seeded"

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# Where the crops of a batch lie (fractions of the free width and height): no two images of a batch are alike.
_CROPS = ((0.5, 0.5), (0.0, 1.0), (1.0, 0.0), (0.0, 0.0), (1.0, 1.0))


@dataclass(frozen=True)
class Case:
    """What is run.

    Args:
        model: what makes its graph.
        mode: ``eval`` runs forward with the stored statistics; ``train`` runs forward with batch statistics, takes the
            cross-entropy against seeded labels, and runs backward.
        source: ``"photo"`` (the photograph of Grace Hopper that matplotlib ships), ``"seeded"``, or the path of a
            picture.
        size: height and width of the input.
        batch: number of images.
        seed: what weights, labels and seeded inputs derive from.
        weights: a safetensors file to take the weights from; ``None`` takes seeded ones.
        names: a file of rules (`oracle.case.names.Rules`) for the names in ``weights``, and in what subjects read. It
            says how to find things, not what is run: two cases that differ in it alone are equal.

    Example:
        >>> from oracle.case.zoo import find_model
        >>> case = Case(find_model("resnet_18"), "train", source="seeded", size=32, batch=2)
        >>> case.name, case.input.shape, case.input.dtype, case.labels.shape
        ('resnet_18-train', (2, 3, 32, 32), dtype('float32'), (2,))
    """

    model: Model
    mode: Mode
    source: str | Path = PHOTOGRAPH
    size: int = 224
    batch: int = 1
    seed: int = 0
    weights: Path | None = None
    names: Path | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.mode not in ("eval", "train"):
            raise UsageError(f"mode: got {self.mode!r}; may be eval or train")
        for name, value in (("size", self.size), ("batch", self.batch)):
            if value < 1:
                raise UsageError(f"{name}: got {value}; must be at least 1")
        if math.prod(self.graph.inputs[INPUT]) > _MOST_ELEMENTS:
            raise UsageError(f"size: got {self.size} at batch {self.batch}; no machine has memory for that")
        if self.mode == "train" and not any(map(is_loss, self.graph.nodes)):
            raise UsageError(f"mode: {self.model.name} makes an output without an axis of classes; may be eval alone")
        if self.mode == "train" and self._least_values() < 2:
            raise UsageError(
                f"size: got {self.size} at batch {self.batch}; in training, batch normalisation needs more than one "
                "value a channel in the last stage: give a larger size or batch"
            )

    @property
    def name(self) -> str:
        """``MODEL-MODE``."""
        return f"{self.model.name}-{self.mode}"

    @property
    def architecture(self) -> Any:
        """The model, as subjects that build it themselves know it."""
        return self.model

    @property
    def graph(self) -> Graph:
        """The operations that are run, for the case's number and size of images."""
        return self.model.graph(self.batch, self.size)

    def _least_values(self) -> int:
        """How many values a channel has that a normalisation takes, at least."""
        shapes = shapes_of_values(self.graph)
        taken = [shapes[node.inputs[0]] for node in self.graph.nodes if node.statistics]
        return min((math.prod(shape) // shape[1] for shape in taken), default=2)

    @cached_property
    def input(self) -> np.ndarray:
        """The images, float32 ``(N, C, size, size)``, of mean about 0 and variance about 1; or int64 tokens.

        Raises:
            UsageError: the picture cannot be read.
        """
        shape, tokens = self.graph.inputs[INPUT], self.graph.tokens.get(INPUT, 0)
        if self.source == SEEDED and tokens:
            words = seeded_words(self.seed, "input", math.prod(shape)) % np.uint64(tokens)
            return words.astype(np.int64).reshape(shape)
        if self.source == SEEDED:
            return seeded_uniform(self.seed, "input", shape, scale=1.0).astype(np.float32)
        if Path(self.source).suffix in ARRAYS:
            return _read_input(Path(self.source), shape, tokens > 0)
        if tokens or len(shape) != 4 or shape[1] != 3:
            takes = "tokens" if tokens else f"{shape[1]} input channels" if len(shape) == 4 else f"an input of {shape}"
            raise UsageError(
                f"source: {self.source} is a colour picture; {self.model.name} has {takes}: use the seeded input"
            )
        return _picture_batch(photograph() if self.source == PHOTOGRAPH else Path(self.source), shape, self.seed)

    @cached_property
    def labels(self) -> np.ndarray:
        """The classes that a train step aims at, int64 ``(N,)``, neighbours distinct; drawn where an output has several
        rows: of the output's shape without the axis of its classes."""
        shape = shapes_of_values(self.graph)[self.graph.output]
        axis = next((class_axis(node) for node in self.graph.nodes if is_loss(node)), 1)
        rows, classes = (*shape[:axis], *shape[axis + 1 :]), shape[axis]
        if len(rows) > 1:
            words = seeded_words(self.seed, "labels", math.prod(rows)) % np.uint64(classes)
            return words.astype(np.int64).reshape(rows)
        start = int(seeded_words(self.seed, "labels", 1)[0] % classes)
        return (start + np.arange(*rows, dtype=np.int64) * max(1, classes // 3)) % classes

    @cached_property
    def state(self) -> Mapping[str, np.ndarray]:
        """Weights and statistics by name: float32, but ``num_batches_tracked``, int64.

        Raises:
            UsageError: the weights file cannot be read or does not fit the model.
        """
        return self._read_state[0]

    @property
    def notes(self) -> tuple[str, ...]:
        """What was assumed to read the weights, in sentences; none of seeded ones."""
        return () if self.weights is None else tuple(f"weights: {note}" for note in self._read_state[1])

    @cached_property
    def rules(self) -> Rules:
        """The rules for names; none without a file of them.

        Raises:
            UsageError: the file is none of rules.
        """
        return Rules() if self.names is None else Rules.read(self.names)

    @cached_property
    def _read_state(self) -> tuple[State, tuple[str, ...]]:
        shapes = self.graph.state
        if self.weights is None and self.model.weights is not None:
            return dict(self.model.weights), ()
        if self.weights is None:
            return seeded_state(dict(shapes), self.seed), ()
        needed = 8 * sum(math.prod(shape) for shape in shapes.values())  # as float64
        rules, found = self.rules, read_weights(self.weights, needed + _SPARE_BYTES)
        try:
            state, notes = adopt_state(found, self.model, shapes, rules)
            check_state(shapes, state)
        except (ValueError, UsageError) as error:
            raise UsageError(f"weights: {self.weights}: {error}") from None
        return state, notes

    @property
    def _origin_of_weights(self) -> str:
        return str(self.weights) if self.weights is not None else "seeded" if self.model.weights is None else "its own"

    def describe(self) -> dict[str, Any]:
        """What a report says of the case."""
        return {
            "name": self.name,
            "model": self.model.name,
            "mode": self.mode,
            "input": str(self.source),
            "shape": list(self.graph.inputs[INPUT]),
            "seed": self.seed,
            "weights": self._origin_of_weights,
            "notes": list(self.notes),
        }


_SPARE_BYTES = 64 << 20  # what a weights file may hold beside what the model takes
_MOST_PIXELS = 1 << 28  # of a picture once its shorter side fits
_MOST_ELEMENTS = 1 << 40  # of an input: no machine has memory for more


def standard_case(model: Model, mode: Mode) -> Case:
    """The case that goldens, vectors and checks mean by ``MODEL-MODE``: seeded weights, seeded input, seed 0.

    Example:
        >>> from oracle.case.zoo import find_model
        >>> case = standard_case(find_model("resnet_50"), "train")
        >>> case.name, case.batch, case.size
        ('resnet_50-train', 3, 72)
    """
    size, batch = model.standard_shape(mode)
    return Case(model, mode, source=SEEDED, size=size, batch=batch)


def read_weights(path: Path, most: int | None = None) -> State:
    """The tensors of a safetensors file, floats as float32: bfloat16, float16 and float8 widened, which is exact.

    Args:
        path: the file.
        most: how many bytes its tensors may take in memory, all together; no limit by default.

    Raises:
        UsageError: it is missing or corrupt, holds more than ``most``, or a parameter in it is not of floats.
    """
    file = open_tensors(path, "weights")
    total = sum(entry.size for entry in file.entries)
    if most is not None and total > most:
        raise UsageError(
            f"weights: {path} holds tensors of {total / 1e6:,.0f} MB, and this model's take at most "
            f"{most / 1e6:,.0f} MB: it is of another model"
        )
    state: State = {}
    for entry in file.entries:
        counts = entry.name.rpartition(".")[2] == "num_batches_tracked"
        if entry.name in state:
            raise UsageError(f"weights: {path}: {entry.name!r} is there twice")
        if entry.dtype in FLOATS:
            state[entry.name] = entry.read().astype(np.float32)
        elif counts and entry.dtype in ("int64", "int32", "uint8"):
            state[entry.name] = entry.read().astype(np.int64)
        else:
            raise UsageError(
                f"weights: {path}: {entry.name!r} is stored as {entry.dtype}; a parameter may be {', '.join(FLOATS)}"
            )
    return state


ARRAYS = (".npz", ".npy")


def _read_input(path: Path, shape: tuple[int, ...], tokens: bool) -> np.ndarray:
    """The input in a file of arrays, ``input`` or the only one.

    Raises:
        UsageError: it cannot be read, or is none of the shape or type.
    """
    array = read_array(path)
    if array.shape != shape or (array.dtype.kind in "iu") != tokens:
        wanted = f"{'integers' if tokens else 'floats'} of shape {shape}"
        raise UsageError(f"input: {path} holds {array.dtype} of shape {array.shape} where the model takes {wanted}")
    return array.astype(np.int64 if tokens else np.float32)


def read_array(path: Path) -> np.ndarray:
    """The array ``input`` of an ``.npz`` file, or the only one; that of an ``.npy`` file. Nothing in it is unpickled.

    Raises:
        UsageError: it cannot be read, or holds no numbers.
    """
    try:
        with open_regular(path) as file:
            found: Any = np.load(file, allow_pickle=False)
            if not isinstance(found, np.ndarray):
                found = found["input" if len(found.files) != 1 else found.files[0]]
    except KeyError:
        raise UsageError(f"input: {path} has several arrays, and none is called input") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UsageError(f"input: cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    array: np.ndarray = found
    if array.dtype.kind not in "fiu":
        raise UsageError(f"input: {path} holds {array.dtype}; may be floats, or integers for tokens")
    return array


def photograph() -> Path:
    """Where matplotlib keeps its public-domain photograph of Grace Hopper.

    Raises:
        UsageError: matplotlib is not installed.
    """
    try:
        from matplotlib import get_data_path
    except ImportError as error:
        raise UsageError(
            f"source: the photograph comes with matplotlib, which cannot be imported ({error}): "
            "pip install 'lucid-oracle[oracle]', or use the seeded input"
        ) from None
    return Path(get_data_path()) / "sample_data" / "grace_hopper.jpg"


def _picture_batch(path: Path, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Crops of one picture, every other one mirrored, normalised as ImageNet is; float32 of ``shape``.

    Half a grey level of seeded noise is added. Eight bits leave flat areas, in which every window of a max pooling is
    a tie that rounding breaks, and the gradient would then measure luck.
    """
    batch, channels, size, _ = shape
    picture = _open_picture(path, size)
    noise = seeded_uniform(seed, "dequantisation", (batch, size, size, channels), spread=0.5)
    images = np.empty(shape, np.float32)
    for index in range(batch):
        across, down = _CROPS[index % len(_CROPS)]
        left, top = round(across * (picture.shape[1] - size)), round(down * (picture.shape[0] - size))
        crop = picture[top : top + size, left : left + size]
        crop = crop[:, ::-1] if index % 2 else crop
        images[index] = (((crop + noise[index]) / 255 - IMAGENET_MEAN) / IMAGENET_STD).transpose(2, 0, 1)
    return images


def _open_picture(path: Path, size: int) -> np.ndarray:
    """The picture in colour, its shorter side an eighth longer than ``size``; float64 ``(H, W, 3)`` of 0 to 255."""
    try:
        from PIL import Image
    except ImportError as error:
        raise UsageError(
            f"source: pictures are read by Pillow, which cannot be imported ({error}): "
            "pip install 'lucid-oracle[oracle]', or use the seeded input"
        ) from None
    try:
        with open_regular(path) as file, Image.open(file) as opened:
            picture = opened.convert("RGB")
    except MemoryError:
        raise
    except Exception as error:  # whatever a decoder raises at a hostile picture
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise UsageError(f"image: cannot read {path}: {reason}") from None
    scale = (size * 8 / 7) / min(picture.size)
    width, height = (max(size, round(side * scale)) for side in picture.size)
    if width * height > _MOST_PIXELS:
        raise UsageError(
            f"image: {path} is {picture.size[0]} x {picture.size[1]}, too narrow to be cut to {size} x {size}"
        )
    return np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float64)
