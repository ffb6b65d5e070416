"""A case: which model, with which weights, on which input, in which mode. Everything in it follows from its fields.

Weights, labels and seeded inputs come from the raw words of NumPy's Philox4x64-10 (whose stream NumPy promises to
keep), keyed by the seed and the tensor's own name, so that no tensor depends on another and no float function is
involved.

A case has to be a good instrument: activations of order one at every depth, every branch and both sides of every ReLU
at work, and little amplification of rounding, for an amplified rounding error hides a fault. `seeded_state` says how.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from oracle.architecture import NARROW, Architecture
from oracle.errors import UsageError
from oracle.tensors import FLOATS, open_tensors

if TYPE_CHECKING:
    from oracle.names import Rules

Mode = Literal["eval", "train"]
State = dict[str, np.ndarray]

PHOTOGRAPH = "photo"
SEEDED = "seeded"

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# The weights' scales; `seeded_state` explains them.
CONVOLUTION_GAIN = 0.3
OFF_SHARE = 1 / 3
SIDE = 4.0
SIDE_SPREAD = 0.2
BRANCH_GAIN = 0.25

# Where the crops of a batch lie (fractions of the free width and height): no two images of a batch are alike.
_CROPS = ((0.5, 0.5), (0.0, 1.0), (1.0, 0.0), (0.0, 0.0), (1.0, 1.0))


@dataclass(frozen=True)
class Case:
    """What is run.

    Args:
        architecture: the model.
        mode: ``eval`` runs forward with the stored statistics; ``train`` runs forward with batch statistics, takes the
            cross-entropy against seeded labels, and runs backward.
        source: ``"photo"`` (the photograph of Grace Hopper that matplotlib ships), ``"seeded"``, or the path of a
            picture.
        size: height and width of the input.
        batch: number of images.
        seed: what weights, labels and seeded inputs derive from.
        weights: a safetensors file to take the weights from; ``None`` takes seeded ones.
        names: a file of rules (`oracle.names.Rules`) for the names in ``weights``, and in what subjects read. It says
            how to find things, not what is run: two cases that differ in it alone are equal.

    Example:
        >>> from oracle.architecture import find_architecture
        >>> case = Case(find_architecture("resnet_18"), "train", source="seeded", size=32, batch=2)
        >>> case.name, case.input.shape, case.input.dtype, case.labels.shape
        ('resnet_18-train', (2, 3, 32, 32), dtype('float32'), (2,))
    """

    architecture: Architecture
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
        if self.batch * self.architecture.in_channels * self.size**2 > _MOST_ELEMENTS:
            raise UsageError(f"size: got {self.size} at batch {self.batch}; no machine has memory for that")
        smallest = (-(-self.size // 32)) ** 2 * self.batch
        if self.mode == "train" and smallest < 2:
            raise UsageError(
                f"size: got {self.size} at batch {self.batch}; in training, batch normalisation needs more than one "
                "value a channel in the last stage: give a larger size or batch"
            )

    @property
    def name(self) -> str:
        """``MODEL-MODE``."""
        return f"{self.architecture.name}-{self.mode}"

    @cached_property
    def input(self) -> np.ndarray:
        """The images, float32 ``(N, C, size, size)``, of mean about 0 and variance about 1.

        Raises:
            UsageError: the picture cannot be read.
        """
        shape = (self.batch, self.architecture.in_channels, self.size, self.size)
        if self.source == SEEDED:
            return seeded_uniform(self.seed, "input", shape, scale=1.0).astype(np.float32)
        if self.architecture.in_channels != 3:
            raise UsageError(
                f"source: {self.source} is a colour picture; {self.architecture.name} has "
                f"{self.architecture.in_channels} input channels: use the seeded input"
            )
        return _picture_batch(photograph() if self.source == PHOTOGRAPH else Path(self.source), shape, self.seed)

    @cached_property
    def labels(self) -> np.ndarray:
        """The classes that a train step aims at, int64 ``(N,)``, neighbours distinct."""
        classes = self.architecture.num_classes
        start = int(seeded_words(self.seed, "labels", 1)[0] % classes)
        return (start + np.arange(self.batch, dtype=np.int64) * max(1, classes // 3)) % classes

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
        from oracle.names import Rules

        return Rules() if self.names is None else Rules.read(self.names)

    @cached_property
    def _read_state(self) -> tuple[State, tuple[str, ...]]:
        from oracle.adopt import adopt_state
        from oracle.mirror.torch_twin import check_state, parameter_shapes

        shapes = parameter_shapes(self.architecture)
        if self.weights is None:
            return seeded_state(self.architecture, shapes, self.seed), ()
        needed = 8 * sum(math.prod(shape) for shape in shapes.values())  # as float64
        rules, found = self.rules, read_weights(self.weights, needed + _SPARE_BYTES)
        try:
            state, notes = adopt_state(found, self.architecture, shapes, rules)
            check_state(shapes, state)
        except (ValueError, UsageError) as error:
            raise UsageError(f"weights: {self.weights}: {error}") from None
        return state, notes

    def describe(self) -> dict[str, Any]:
        """What a report says of the case."""
        return {
            "name": self.name,
            "model": self.architecture.name,
            "mode": self.mode,
            "input": str(self.source),
            "shape": [self.batch, self.architecture.in_channels, self.size, self.size],
            "seed": self.seed,
            "weights": "seeded" if self.weights is None else str(self.weights),
            "notes": list(self.notes),
        }


_SPARE_BYTES = 64 << 20  # what a weights file may hold beside what the model takes
_MOST_PIXELS = 1 << 28  # of a picture once its shorter side fits
_MOST_ELEMENTS = 1 << 40  # of an input: no machine has memory for more

# Height and width of a standard case's images, and how many there are.
_STANDARD: dict[Mode, tuple[int, int]] = {"eval": (224, 1), "train": (64, 2)}


def standard_case(architecture: Architecture, mode: Mode) -> Case:
    """The case that goldens, vectors and checks mean by ``MODEL-MODE``: seeded weights, seeded input, seed 0.

    Example:
        >>> from oracle.architecture import find_architecture
        >>> case = standard_case(find_architecture("resnet_50"), "train")
        >>> case.name, case.batch, case.size
        ('resnet_50-train', 2, 64)
    """
    size, batch = standard_shape(architecture, mode)
    return Case(architecture, mode, source=SEEDED, size=size, batch=batch)


def standard_shape(architecture: Architecture, mode: Mode) -> tuple[int, int]:
    """The size and batch of a standard case.

    Example:
        >>> from oracle.architecture import find_architecture
        >>> standard_shape(find_architecture("resnet_50"), "train")
        (64, 2)
    """
    size, batch = _STANDARD[mode]
    return (min(size, 32), batch) if architecture in NARROW.values() and mode == "eval" else (size, batch)


def seeded_words(seed: int, name: str, count: int) -> np.ndarray:
    """The first raw words of Philox4x64-10 whose key is the first 16 bytes of SHA-256 of ``SEED/NAME``, little-endian.

    Example:
        >>> seeded_words(0, "input", 2).dtype
        dtype('uint64')
    """
    key = hashlib.sha256(f"{seed}/{name}".encode()).digest()[:16]
    words: np.ndarray = np.random.Philox(key=int.from_bytes(key, "little")).random_raw(count)
    return words


def _unit(seed: int, name: str, count: int) -> np.ndarray:
    """``count`` float64 values in [0, 1), multiples of 2**-53."""
    return (seeded_words(seed, name, count) >> np.uint64(11)) * 2.0**-53


def seeded_uniform(
    seed: int, name: str, shape: tuple[int, ...], *, mean: float = 0.0, scale: float | None = None, spread: float = 1.0
) -> np.ndarray:
    """Values uniform in ``mean - spread .. mean + spread``, or, with ``scale``, of that standard deviation. float64.

    Example:
        >>> values = seeded_uniform(0, "fc.weight", (1000,), mean=1.0, spread=0.5)
        >>> bool(0.5 <= values.min() < 0.6 and 1.4 < values.max() < 1.5)
        True
    """
    spread = spread if scale is None else scale * 3**0.5
    count = int(np.prod(shape))
    return (mean - spread + 2 * spread * _unit(seed, name, count)).reshape(shape)


def seeded_state(architecture: Architecture, shapes: Mapping[str, tuple[int, ...]], seed: int) -> State:
    """Weights that make the case a good instrument.

    - Convolutions and the classifier: variance ``CONVOLUTION_GAIN / fan_in``, so that in eval mode, where stored
      statistics of order one normalise, activations neither grow nor fade with depth.
    - Each channel of a normalisation before a ReLU is shifted by about ``SIDE`` standard deviations to the passing
      side, or (``OFF_SHARE`` of the channels) to the blocked side. Both sides of every ReLU are at work, but few
      values lie so near to zero that rounding decides the side; each such value is a jump in the gradient that says
      nothing of correctness.
    - The normalisation (in pre-activation blocks: the convolution) that ends a residual branch is scaled by
      ``BRANCH_GAIN``: the network stays near the identity, and a train step amplifies rounding about tenfold over 152
      layers instead of ten thousand times. The blocked channels are the same in all blocks of a stage, so the sums
      stay clear of zero too.

    Example:
        >>> from oracle.architecture import Architecture
        >>> tiny = Architecture("tiny", "basic", (1, 1, 1, 1))
        >>> seeded_state(tiny, {"stem.1.running_var": (64,)}, seed=0)["stem.1.running_var"].dtype
        dtype('float32')
    """
    return {name: _seeded_tensor(architecture, shapes, seed, name) for name in shapes}


def _seeded_tensor(
    architecture: Architecture, shapes: Mapping[str, tuple[int, ...]], seed: int, name: str
) -> np.ndarray:
    shape = shapes[name]
    module, leaf = name.rsplit(".", 1)
    if leaf == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    if leaf == "running_mean":
        value = seeded_uniform(seed, name, shape, spread=0.5)
    elif leaf == "running_var":
        value = seeded_uniform(seed, name, shape, mean=1.0, spread=0.5)
    elif len(shape) > 1:
        gain = BRANCH_GAIN if _ends_branch(architecture, module) else 1.0
        value = gain * seeded_uniform(seed, name, shape, scale=float(CONVOLUTION_GAIN / np.prod(shape[1:])) ** 0.5)
    elif leaf == "weight":
        gain = BRANCH_GAIN if _ends_branch(architecture, module) else 1.0
        value = gain * seeded_uniform(seed, name, shape, mean=1.0, spread=0.2)
    else:
        value = _seeded_shift(architecture, shapes, seed, name, module)
    return value.astype(np.float32)


def _ends_branch(architecture: Architecture, module: str) -> bool:
    last = {"basic": "bn2", "bottleneck": "bn3", "preact": "conv3"}[architecture.block]
    return module.startswith("layer") and module.endswith(f".{last}")


def _seeded_shift(
    architecture: Architecture, shapes: Mapping[str, tuple[int, ...]], seed: int, name: str, module: str
) -> np.ndarray:
    """The bias of a normalisation (or of the classifier)."""
    shape = shapes[name]
    plain = seeded_uniform(seed, name, shape)
    projection = module.endswith(".downsample.1")
    if module == "fc" or (projection and architecture.block == "preact"):
        return plain
    ends_branch = _ends_branch(architecture, module)
    group = _stream(shapes, module) if ends_branch or projection else module
    blocked = _unit(seed, f"{group}/side", shape[0]) < OFF_SHARE
    size = seeded_uniform(seed, name, shape, mean=SIDE, spread=SIDE * SIDE_SPREAD)
    if ends_branch:
        # The stream that this branch joins already stands on the passing side; only the blocked channels need a push.
        return BRANCH_GAIN * np.where(blocked, -size, plain)
    return np.where(blocked, -size, size)


def _stream(shapes: Mapping[str, tuple[int, ...]], module: str) -> str:
    """What decides the stream's blocked channels: the stage, or, where no projection follows it, the stem."""
    stage = module.split(".")[0]
    if f"{stage}.0.downsample.1.weight" in shapes:
        return stage
    stem = [name for name in shapes if name.startswith("stem.") and name.endswith(".running_mean")]
    return stem[-1].rsplit(".", 1)[0] if stage == "layer1" else stage


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
        with Image.open(path) as opened:
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
