"""Seeded weights that keep a network in a good state for tests: the same bits on every machine.

They come from the raw words of NumPy's Philox4x64-10 (whose stream NumPy promises to keep), keyed by the seed and the
tensor's own name. No float function is involved but the four operations and the square root, and every sum of several
terms is exact, so that its order does not matter. ``lucid-export`` writes these weights by default, and the oracle's
cases have them.

A network with these weights is a good instrument: activations are of order one at every depth, both sides of every
ReLU are at work within the images, and rounding is amplified little, for an amplified rounding error hides a fault.
`seeded_state` says how.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lucid import nn
from lucid.models.registry import get_model

__all__ = ["seeded_state", "seeded_uniform", "seeded_words"]

Array = np.ndarray[Any, Any]

# The weights' scales; `seeded_state` explains them.
CONVOLUTION_GAIN = 0.3
BRANCH_GAIN = 0.25
SIDE = 4.0  # standard deviations between the mean of a one-sided channel and zero
SIDE_SPREAD = 0.2
DECIDING_SHARE = 0.5  # of the channels before a ReLU: those that hold both signs
PASSING_SHARE = 1 / 3
DECIDING_SPREAD = 0.5  # standard deviations between the mean of a deciding channel and zero, at most
BRANCH_PULL = 0.5  # the mean of what a branch adds to a deciding channel, in its own standard deviations, downwards
POOLED_SHIFT = -1.4  # of a deciding channel before a max pooling: about half of the windows hold a positive value

EPS = 1e-5  # of the normalisations, as `nn.BatchNorm2d` has it by default

_BLOCK = re.compile(r"(layer\d+)\.(\d+)\.(.+)")


def seeded_words(seed: int, name: str, count: int) -> Array:
    """The first raw words of Philox4x64-10 whose key is the first 16 bytes of SHA-256 of ``SEED/NAME``, little-endian.

    Example:
        >>> from lucid.models.seeded import seeded_words
        >>> seeded_words(0, "input", 2).dtype
        dtype('uint64')
    """
    key = hashlib.sha256(f"{seed}/{name}".encode()).digest()[:16]
    words: Array = np.random.Philox(key=int.from_bytes(key, "little")).random_raw(count)
    return words


def _unit(seed: int, name: str, count: int) -> Array:
    """``count`` float64 values in [0, 1), multiples of 2**-53."""
    return (seeded_words(seed, name, count) >> np.uint64(11)) * 2.0**-53


def seeded_uniform(
    seed: int, name: str, shape: tuple[int, ...], *, mean: float = 0.0, scale: float | None = None, spread: float = 1.0
) -> Array:
    """Values uniform in ``mean - spread .. mean + spread``, or, with ``scale``, of that standard deviation. float64.

    Example:
        >>> from lucid.models.seeded import seeded_uniform
        >>> values = seeded_uniform(0, "fc.weight", (1000,), mean=1.0, spread=0.5)
        >>> bool(0.5 <= values.min() < 0.6 and 1.4 < values.max() < 1.5)
        True
    """
    spread = spread if scale is None else scale * 3**0.5
    count = math.prod(shape)
    return (mean - spread + 2 * spread * _unit(seed, name, count)).reshape(shape)


def seeded_state(model: nn.Module | str | Mapping[str, tuple[int, ...]], seed: int = 0) -> dict[str, Array]:
    """Weights and statistics of a residual network by name: float32, and int64 counters.

    - Convolutions and the classifier: variance ``CONVOLUTION_GAIN / fan_in``.
    - Before a ReLU, `DECIDING_SHARE` of the channels have a mean within `DECIDING_SPREAD` standard deviations of zero:
      they hold both signs in every image, so a ReLU that takes another element's decision shows. The mean of the others
      lies about `SIDE` standard deviations on the passing or on the blocked side: there the ReLU is linear, which keeps
      the amplification of rounding low. Which channel is of which class is drawn; the counts are not.
    - The normalisation (in pre-activation blocks: the convolution) that ends a residual branch is scaled by
      `BRANCH_GAIN`: the network stays near the identity. Where a ReLU follows the sum, a channel is of one class in
      all blocks of a stage, and the branch draws the deciding channels down by `BRANCH_PULL` of its deviation: what the
      ReLU cut off would otherwise drive them to the passing side.
    - Stored statistics are what the layer sees with independent inputs of mean 0 and variance 1, propagated from layer
      to layer, up to seeded factors: so eval mode has both signs too, and a wrong epsilon or variance still shows.

    Args:
        model: a network, the name of one that `get_model` knows, or the names and shapes of its state.
        seed: what the weights derive from.

    Returns:
        By name, in the model's own order. Names that are not those of ``ResNet`` get weights by their shapes alone.

    Raises:
        ValueError: no model has that name.

    Example:
        >>> from lucid.models import ResNet, seeded_state
        >>> from lucid.models.blocks import BasicBlock
        >>> model = ResNet(BasicBlock, [1, 1], num_classes=10, stem_width=4, channels=(4, 8))
        >>> state = seeded_state(model, seed=3)
        >>> _ = model.load_state_dict(state)
        >>> state["stem.1.running_var"].dtype, state["layer2.0.conv1.weight"].shape
        (dtype('float32'), (8, 4, 3, 3))
    """
    return _Maker(_shapes_of(model), seed).make()


def _shapes_of(model: nn.Module | str | Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    if isinstance(model, str):
        with nn.init.skip_init():
            model = get_model(model)
    if isinstance(model, nn.Module):
        return {name: tuple(value.shape) for name, value in model.state_dict().items()}
    return dict(model)


# -- moments ----------------------------------------------------------------------------------------------------------

# A normal variate of mean 0 and variance 1 as sixteen equally likely values, the middles of its sixteenths.
_UPPER = (0.078, 0.237, 0.402, 0.579, 0.776, 1.010, 1.318, 1.863)
_NORMAL = (*(-value for value in reversed(_UPPER)), *_UPPER)
_COUNT = len(_NORMAL)
_WINDOW = 9  # of the max pooling, 3x3


@dataclass(frozen=True)
class _Moments:
    """Mean and variance of a tensor's channels, taken as normal and independent."""

    mean: Array
    var: Array

    def values(self) -> Iterator[Array]:
        """The channels' sixteen equally likely values, the least first."""
        root = np.sqrt(self.var)
        return (self.mean + root * value for value in _NORMAL)

    def rectified(self, window: int = 1) -> _Moments:
        """Behind a ReLU, or behind a ReLU and the largest of a window of so many."""
        first, second = np.zeros_like(self.mean), np.zeros_like(self.mean)
        for place, value in enumerate(self.values()):
            chance = ((place + 1) ** window - place**window) / _COUNT**window
            passed = np.maximum(value, 0.0)
            first = first + chance * passed
            second = second + chance * (passed * passed)
        return _Moments(first, np.maximum(second - first * first, 0.0))

    def plus(self, other: _Moments) -> _Moments:
        """Of the sum of two that are independent."""
        return _Moments(self.mean + other.mean, self.var + other.var)


# Numbers on these grids have products and sums that float64 holds exactly, in whichever order they are added.
_WEIGHT_GRID, _MEAN_GRID = 2.0**24, 2.0**8


def _convolved(weight: Array, variance: float, inputs: _Moments) -> _Moments:
    """Behind a convolution without its borders. ``variance`` is that of the weights that ``weight`` was drawn from."""
    outputs, width, taps = weight.shape[0], weight.shape[1], math.prod(weight.shape[2:])
    groups = len(inputs.mean) // width
    kernels = np.rint(weight.astype(np.float64) * _WEIGHT_GRID).reshape(groups, outputs // groups, width, taps)
    means = np.rint(inputs.mean * _MEAN_GRID).reshape(groups, width)
    sums = np.einsum("gowt,gw->go", kernels, means).reshape(outputs)
    rough = np.rint(inputs.var * _MEAN_GRID**2).reshape(groups, width).sum(1) * (taps * variance / _MEAN_GRID**2)
    return _Moments(sums / (_WEIGHT_GRID * _MEAN_GRID), np.repeat(rough, outputs // groups))


# -- the weights ------------------------------------------------------------------------------------------------------


class _Maker:
    """The weights of one network, module by module in the order of the state."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], seed: int) -> None:
        self.shapes, self.seed = shapes, seed
        self.made: dict[str, Array] = {}
        self.preact = self._is_preact()
        convs = [leaf for _, _, leaf in self._blocks() if re.fullmatch(r"conv\d+\.weight", leaf)]
        self.last = max((leaf.partition(".")[0] for leaf in convs), default="")  # of a block's convolutions

    def make(self) -> dict[str, Array]:
        """Every tensor."""
        for name, shape in self.shapes.items():
            self.made[name] = self._drawn(name, shape)
        self._store_statistics()
        return self.made

    def _blocks(self) -> Iterator[tuple[str, str, str]]:
        """Stage, block and leaf of every tensor of the residual blocks."""
        for name in self.shapes:
            found = _BLOCK.fullmatch(name)
            if found:
                yield found[1], found[2], found[3]

    def _is_preact(self) -> bool:
        """Whether the last normalisation of a block comes before its last convolution."""
        for stage, block, leaf in self._blocks():
            if leaf == "conv3.weight":
                conv = self.shapes[f"{stage}.{block}.conv3.weight"]
                return self.shapes.get(f"{stage}.{block}.bn3.weight", ()) == (conv[1],) != (conv[0],)
        return False

    def _ends_branch(self, module: str) -> bool:
        found = _BLOCK.fullmatch(module)
        if found is None or not self.last:
            return False
        return found[3] == (self.last if self.preact else f"bn{self.last.removeprefix('conv')}")

    def _drawn(self, name: str, shape: tuple[int, ...]) -> Array:
        module, _, leaf = name.rpartition(".")
        if leaf == "num_batches_tracked":
            return np.zeros(shape, np.int64)
        if leaf == "running_mean":
            value = seeded_uniform(self.seed, name, shape, spread=0.5)
        elif leaf == "running_var":
            value = seeded_uniform(self.seed, name, shape, mean=1.0, spread=0.5)
        elif len(shape) > 1:
            value = seeded_uniform(self.seed, name, shape, scale=self._variance(name) ** 0.5)
        elif leaf == "weight":
            gain = BRANCH_GAIN if self._ends_branch(module) else 1.0
            value = gain * seeded_uniform(self.seed, name, shape, mean=1.0, spread=0.2)
        else:
            value = self._shift(name, module, shape)
        return value.astype(np.float32)

    def _variance(self, name: str) -> float:
        """What the weights of a convolution or a linear layer are drawn with."""
        gain = BRANCH_GAIN if self._ends_branch(name.rpartition(".")[0]) else 1.0
        return gain * gain * CONVOLUTION_GAIN / math.prod(self.shapes[name][1:])

    def _shift(self, name: str, module: str, shape: tuple[int, ...]) -> Array:
        """A bias: of a normalisation before a ReLU, by the channels' classes."""
        plain = seeded_uniform(self.seed, name, shape)
        projection = module.endswith(".downsample.1")
        normalises = f"{module}.running_mean" in self.shapes and len(shape) == 1
        if not normalises or (projection and self.preact):
            return plain
        ends_branch = self._ends_branch(module)
        side = self._classes(self._stream(module) if ends_branch or projection else module, shape[0])
        far = seeded_uniform(self.seed, name, shape, mean=SIDE, spread=SIDE * SIDE_SPREAD)
        if ends_branch:  # the stream that it joins stands on the passing side already
            down = -BRANCH_PULL * seeded_uniform(self.seed, name, shape, mean=1.0, spread=0.5)
            return BRANCH_GAIN * np.where(side == 0, down, np.where(side < 0, -far, plain))
        near = DECIDING_SPREAD * plain
        if module == self._stem() and not self.preact:
            near = POOLED_SHIFT + 0.4 * near
        return np.where(side == 0, near, side * far)

    def _classes(self, group: str, count: int) -> Array:
        """By channel: 0 decides, 1 passes, -1 is blocked; as many of each as the shares say."""
        deciding = math.ceil(DECIDING_SHARE * count)
        passing = max(1, round(PASSING_SHARE * count)) if count > deciding else 0
        ranks = np.argsort(np.argsort(seeded_words(self.seed, f"{group}/side", count), kind="stable"), kind="stable")
        return np.where(ranks < deciding, 0, np.where(ranks < deciding + passing, 1, -1))

    def _stem(self) -> str:
        """The normalisation before the max pooling."""
        stem = [name for name in self.shapes if name.startswith("stem.") and name.endswith(".running_mean")]
        return stem[-1].rpartition(".")[0] if stem else ""

    def _stream(self, module: str) -> str:
        """What decides the classes of the stream's channels: the stage, or the stem where it has no projection."""
        stage = module.split(".")[0]
        if f"{stage}.0.downsample.1.weight" in self.shapes:
            return stage
        return self._stem() if stage == "layer1" else stage

    # -- the stored statistics --

    def _store_statistics(self) -> None:
        """Give the normalisations the statistics of what they see, as far as the network is a ``ResNet``."""
        stem = [name.rpartition(".")[0] for name in self.shapes if re.fullmatch(r"stem\.\d+\.weight", name)]
        if len(stem) < 2 or len(stem) % 2 or len(self.shapes[f"{stem[0]}.weight"]) != 4:
            return
        width = self.shapes[f"{stem[0]}.weight"][1]
        x = _Moments(np.zeros(width), np.ones(width))
        for conv, norm in zip(stem[::2], stem[1::2], strict=True):
            x = self._normalised(norm, self._convolve(conv, x)).rectified(_WINDOW if norm == stem[-1] else 1)
        for block in dict.fromkeys(f"{stage}.{place}" for stage, place, _ in self._blocks()):
            if not {f"{block}.conv1.weight", f"{block}.bn1.running_var", f"{block}.{self.last}.weight"} <= {
                *self.shapes
            }:
                return
            x = self._preact_block(block, x) if self.preact else self._block(block, x)

    def _steps(self, block: str) -> list[tuple[str, str]]:
        """A block's convolutions and their normalisations, in order."""
        return [(f"{block}.conv{place}", f"{block}.bn{place}") for place in range(1, int(self.last[4:]) + 1)]

    def _block(self, block: str, x: _Moments) -> _Moments:
        y = x
        for conv, norm in self._steps(block):
            y = self._normalised(norm, self._convolve(conv, y if conv.endswith("conv1") else y.rectified()))
        return y.plus(self._shortcut(block, x, x)).rectified()

    def _preact_block(self, block: str, x: _Moments) -> _Moments:
        y, activated = x, x
        for conv, norm in self._steps(block):
            passed = self._normalised(norm, y).rectified()
            activated = passed if conv.endswith("conv1") else activated
            y = self._convolve(conv, passed)
        return y.plus(self._shortcut(block, x, activated))

    def _shortcut(self, block: str, x: _Moments, taken: _Moments) -> _Moments:
        if f"{block}.downsample.0.weight" not in self.shapes:
            return x
        return self._normalised(f"{block}.downsample.1", self._convolve(f"{block}.downsample.0", taken))

    def _convolve(self, conv: str, inputs: _Moments) -> _Moments:
        return _convolved(self.made[f"{conv}.weight"], self._variance(f"{conv}.weight"), inputs)

    def _normalised(self, norm: str, inputs: _Moments) -> _Moments:
        """Store what the normalisation sees, up to the factors drawn; what it makes of it."""
        mean = inputs.mean + np.sqrt(inputs.var) * self.made[f"{norm}.running_mean"]
        var = inputs.var * self.made[f"{norm}.running_var"]
        self.made[f"{norm}.running_mean"], self.made[f"{norm}.running_var"] = (
            mean.astype(np.float32),
            var.astype(np.float32),
        )
        scale = self.made[f"{norm}.weight"].astype(np.float64) / np.sqrt(var + EPS)
        return _Moments(self.made[f"{norm}.bias"] + (inputs.mean - mean) * scale, inputs.var * scale * scale)
