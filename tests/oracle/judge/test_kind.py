"""What kind of difference it is: each kind that can be told is told, and none that is not there."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from oracle.faults.precision import to_tf32
from oracle.judge.differences.pair import Pair
from oracle.judge.exact import EXACT, Expected
from oracle.judge.local import judge_local
from oracle.judge.verdicts import SubjectVerdict, judge
from oracle.judge.words import describe_difference
from oracle.precision.difference import Budget
from oracle.precision.rounding import round_to
from oracle.trace import Key, Trace
from oracle.truth.truth import _explain as explain_with

BUDGET = Budget(1e-6)
SEEDS = (0, 1, 2)
Change = Callable[[np.ndarray], np.ndarray]

# Shapes by what they are; "image" ones have a batch, a channel and two sides.
SHAPES = {
    "activation": (2, 12, 8, 8),
    "batch of 1": (1, 16, 7, 9),
    "large image": (2, 16, 40, 40),
    "pooled": (4, 64, 1, 1),
    "weight": (64, 16, 3, 3),
    "taps of 1": (32, 16, 1, 1),
    "matrix": (4, 100),
    "bias": (64,),
}
IMAGES = ("activation", "batch of 1", "large image")
EVERY = tuple(SHAPES)
KIND_OF = {"weight": "parameter_gradient", "taps of 1": "parameter_gradient", "bias": "parameter_gradient"}
# Words of kinds: whatever a row does not list must not be said.
NAMES = (
    "sign is", "factor", "shift of", "zeros", "transposed", "read as", "upside", "exchanged", "shifted by",
    "permuted", "values of", "cut", "passes", "slope", "mask", "rounded", "bits", "flushed", "one value", "border",
    "tile", "channel", "image", "row", "column", "element,", "unbiased", "overwritten", "missing", "added", "memory",
)  # fmt: skip


def draw(name: str, seed: int) -> np.ndarray:
    """A tensor as layers leave it: channels of several scales and centres."""
    shape, rng = SHAPES[name], np.random.default_rng(seed)
    values = rng.standard_normal(shape)
    if len(shape) == 4 and name not in KIND_OF:
        columns = (1, shape[1], 1, 1)
        values = values * rng.uniform(0.5, 1.5, columns) + rng.uniform(-0.5, 0.5, columns)
    return values


def healthy(array: np.ndarray, seed: int) -> np.ndarray:
    """With roundings of a third of the budget."""
    return array + BUDGET.rms / 3 * np.sqrt(np.mean(array**2)) * np.random.default_rng(seed + 99).standard_normal(
        array.shape
    )


def at(*part: object, value: float | None = None, axis: int = 0) -> Change:
    """Other values in one part of the tensor."""

    def change(truth: np.ndarray) -> np.ndarray:
        wrong = truth.copy()
        shape = wrong[part].shape
        wrong[part] = np.random.default_rng(7).standard_normal(shape) * 3 if value is None else value
        return wrong

    return change


def frame(truth: np.ndarray) -> np.ndarray:
    wrong = np.random.default_rng(7).standard_normal(truth.shape)
    wrong[..., 1:-1, 1:-1] = truth[..., 1:-1, 1:-1]
    return wrong


def shifted(truth: np.ndarray, fill: float) -> np.ndarray:
    wrong = np.full_like(truth, fill)
    wrong[..., 1:] = truth[..., :-1]
    return wrong


def put(target: tuple, source: tuple, times: float = 1.0) -> Change:
    """One part holds the values of another, or a multiple."""

    def change(truth: np.ndarray) -> np.ndarray:
        wrong = truth.copy()
        wrong[target] = truth[source] * times
        return wrong

    return change


def swapped(axis: int, first: int, second: int) -> Change:
    def change(truth: np.ndarray) -> np.ndarray:
        order = np.arange(truth.shape[axis])
        order[[first, second]] = order[[second, first]]
        return np.take(truth, order, axis)

    return change


def moment(truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return truth.mean((0, 2, 3), keepdims=True), truth.var((0, 2, 3), keepdims=True)


def per_channel(truth: np.ndarray, low: float, high: float) -> np.ndarray:
    shape = [1] * truth.ndim
    shape[1] = truth.shape[1]
    return np.random.default_rng(5).uniform(low, high, shape)


def quantised(truth: np.ndarray, levels: int, axis: int | None = None, zero: float = 0.0) -> np.ndarray:
    rest = None if axis is None else tuple(each for each in range(truth.ndim) if each != axis)
    if zero:
        least = truth.min(rest, keepdims=True)
        step = (truth.max(rest, keepdims=True) - least) / (levels - 1)
        return least + np.round((truth - least) / step) * step
    step = np.abs(truth).max(rest, keepdims=True) / (levels // 2 - 1)
    return np.round(truth / step) * step


def cut_off(truth: np.ndarray, drop: int) -> np.ndarray:
    bits = truth.astype(np.float32).view(np.uint32)
    return (bits >> np.uint32(drop) << np.uint32(drop)).view(np.float32).astype(np.float64)


@dataclass(frozen=True)
class Row:
    """A change, the shapes that it is made to, words that must be said, words of kinds that may be said beside."""

    id: str
    change: Change
    shapes: tuple[str, ...]
    said: tuple[str, ...]
    may: tuple[str, ...] = ()


A = slice(None)
ROWS = [
    Row("negated", lambda t: -t, EVERY, ("the sign is reversed",)),
    Row("times 1024", lambda t: t * 1024, EVERY, ("a constant factor of 1024",)),
    Row("halved", lambda t: t / 2, EVERY, ("a constant factor of 0.5",)),
    Row("1 % off", lambda t: t * 1.01, EVERY, ("a constant factor of 1.01",)),
    Row("2**-12 off", lambda t: t * (1 + 2.0**-12), EVERY, ("a constant factor of 1.00024",)),
    Row("added", lambda t: t + 3, EVERY, ("a constant shift of 3",)),
    Row("affine", lambda t: t * 2 + 3, EVERY, ("a factor of 2 and a shift of 3",)),
    Row("zeros", lambda t: t * 0, EVERY, ("all zeros",)),
    Row("constant", lambda t: t * 0 + 2.5, EVERY, ("one value everywhere, 2.5",)),
    Row("ReLU in place", lambda t: np.maximum(t, 0), EVERY, ("the negative part is cut: a ReLU in place?",)),
    Row("leaky in place", lambda t: np.where(t > 0, t, 0.01 * t), EVERY, ("negative side by a slope of 0.01",)),
    Row("absolute", np.abs, EVERY, ("the absolute value",), ("sign is",)),
    Row("ceiling", lambda t: np.minimum(t, 1), EVERY, ("values above 1 are cut off",), ("cut",)),
    Row("clipped", lambda t: np.clip(t, -1, 1), EVERY, ("values above 1 and below -1 are cut off",), ("cut",)),
    Row("unbiased", lambda t: t * np.sqrt(1 - 1 / (t.size // t.shape[1])), IMAGES,
        ("factor of sqrt((M - 1) / M)", "unbiased variance?")),
    Row("unbiased, shifted", lambda t: moment(t)[0] + (t - moment(t)[0]) * np.sqrt(1 - 1 / (t.size // t.shape[1])),
        IMAGES, ("each channel by a factor of sqrt((M - 1) / M)", "unbiased variance?")),
    Row("eps", lambda t: t / np.sqrt(1 + 1e-3 / moment(t)[1]), IMAGES,
        ("each channel by a factor of its own", "eps or variance?")),
    Row("eps, shifted", lambda t: (t - moment(t)[0]) / np.sqrt(1 + 0.1 / moment(t)[1]) + moment(t)[0], IMAGES,
        ("each channel by a factor and a shift of its own", "eps or variance?")),
    Row("scales", lambda t: t * per_channel(t, 0.5, 2), (*IMAGES, "pooled"),
        ("each channel by a factor of its own", "scale or variance?")),
    Row("scales of columns", lambda t: t * per_channel(t, 0.5, 2), ("matrix",),
        ("each column by a factor of its own",)),
    Row("scales of filters", lambda t: (t.swapaxes(0, 1) * per_channel(t.swapaxes(0, 1), 0.5, 2)).swapaxes(0, 1),
        ("weight", "taps of 1"), ("each output channel by a factor of its own",)),
    Row("scales of images", lambda t: t * np.linspace(0.5, 2, len(t)).reshape(-1, 1, 1, 1), ("pooled", "activation"),
        ("each image by a factor of its own, 0.5 to 2",)),
    Row("denominators", lambda t: t * np.linspace(0.5, 2, len(t)).reshape(-1, 1), ("matrix",),
        ("each row by a factor of its own, 0.5 to 2",)),
    Row("no bias", lambda t: t + per_channel(t, -1, 1), (*IMAGES, "pooled"),
        ("each channel shifted by a constant of its own", "a mean or a bias?")),
    Row("no bias of a matrix", lambda t: t + per_channel(t, -1, 1), ("matrix",),
        ("each column shifted by a constant of its own", "a mean or a bias?")),
    Row("transposed image", lambda t: t.swapaxes(2, 3), ("activation", "large image", "weight"),
        ("transposed",), ("row", "column")),
    Row("transposed matrix", lambda t: t.T.reshape(t.shape), ("matrix",), ("transposed in memory",), ("memory",)),
    Row("NHWC as NCHW", lambda t: t.transpose(0, 2, 3, 1).reshape(t.shape), IMAGES, ("NHWC read as NCHW",)),
    Row("NCHW as NHWC", lambda t: t.reshape(t.shape[0], *t.shape[2:], t.shape[1]).transpose(0, 3, 1, 2), IMAGES,
        ("NCHW read as NHWC",)),
    Row("HWIO as OIHW", lambda t: t.transpose(2, 3, 1, 0).reshape(t.shape), ("weight",), ("HWIO read as OIHW",)),
    Row("OHWI as OIHW", lambda t: t.transpose(0, 2, 3, 1).reshape(t.shape), ("weight",), ("OHWI read as OIHW",)),
    Row("IOHW as OIHW", lambda t: t.transpose(1, 0, 2, 3).reshape(t.shape), ("weight", "taps of 1"),
        ("IOHW read as OIHW",)),
    Row("upside down", lambda t: t[..., ::-1, :], (*IMAGES, "weight"), ("upside down",)),
    Row("mirrored", lambda t: t[..., ::-1], (*IMAGES, "weight"), ("left and right exchanged",)),
    Row("turned", lambda t: t[..., ::-1, ::-1], (*IMAGES, "weight"), ("turned by half",)),
    Row("rolled", lambda t: np.roll(t, 1, 3), IMAGES, ("shifted by one column",)),
    Row("shifted, zeros", lambda t: shifted(t, 0), IMAGES, ("shifted by one column",)),
    Row("shifted, junk", lambda t: shifted(t, 9), IMAGES, ("shifted by one column",)),
    Row("rows shifted", lambda t: np.roll(t, -1, 2), IMAGES, ("shifted by one row",)),
    Row("channels swapped", swapped(1, 3, 4), (*IMAGES, "pooled"), ("channels 3 and 4 of", "are exchanged")),
    Row("filters swapped", swapped(0, 30, 31), ("weight", "taps of 1"),
        ("output channels 30 and 31 of", "are exchanged")),
    Row("inputs swapped", swapped(1, 3, 4), ("weight", "taps of 1"), ("input channels 3 and 4 of", "are exchanged")),
    Row("channels rolled", lambda t: np.roll(t, 3, 1), (*IMAGES, "weight", "pooled"), ("permuted: rotated by 3",)),
    Row("BGR", lambda t: t[:, ::-1], IMAGES, ("channels are permuted: in reverse order",)),
    Row("channels permuted", lambda t: t[:, np.random.default_rng(4).permutation(t.shape[1])], (*IMAGES, "pooled"),
        ("channels are permuted",)),
    Row("images permuted", lambda t: t[[2, 0, 3, 1]], ("pooled",), ("images are permuted",)),
    Row("images exchanged", lambda t: t[::-1], ("activation",), ("images 0 and 1 of 2 are exchanged",)),
    Row("rows permuted", lambda t: t[[2, 0, 3, 1]], ("matrix",), ("rows are permuted",)),
    Row("one image for all", lambda t: np.repeat(t[:1], len(t), 0), ("activation", "large image", "pooled"),
        ("the first image for all images",)),
    Row("stale image", put((1,), (0,)), ("activation", "large image"), ("the first image for all images",)),
    Row("stale image of 4", put((2,), (1,)), ("pooled",), ("image 2 of 4 holds the values of image 1",)),
    Row("stale row", put((3,), (0,)), ("matrix",), ("row 3 of 4 holds the values of row 0",)),
    Row("neighbour's channels", put((A, slice(4, 8)), (A, slice(0, 4))), IMAGES,
        ("channels 4 to 7", "hold the values of channels 0 to 3")),
    Row("channels of here and there", put((A, slice(4, 7)), (A, [0, 2, 1])), IMAGES,
        ("channels 4 to 6 of", "hold the values of other channels")),
    Row("a run of channels here and there", put((A, [4, 6, 9]), (A, slice(0, 3))), IMAGES,
        ("hold the values of other channels",)),
    Row("one row", at(A, A, 3), IMAGES, ("one row of", ": 3")),
    Row("two inner columns", at(..., slice(3, 5)), IMAGES, ("columns 3 to 4 of",)),
    Row("one channel", at(A, 3), (*IMAGES, "pooled"), ("one channel of", ": 3")),
    Row("zero tail of filters", at(slice(60, 64), value=0), ("weight",), ("zeros in output channels 60 to 63 of 64",)),
    Row("zero tail of a bias", at(slice(60, 64), value=0), ("bias",), ("zeros in elements 60 to 63 of 64",)),
    Row("zero tail of channels", at(A, slice(-2, None), value=0), IMAGES, ("zeros in channels",)),
    Row("zero columns", at(A, slice(96, 100), value=0), ("matrix",), ("zeros in columns 96 to 99 of 100",)),
    Row("every 4th channel", at(A, slice(1, None, 4)), IMAGES, ("every 4th channel of",)),
    Row("every 2nd column", at(..., slice(1, None, 2)), IMAGES, ("every 2nd column of",)),
    Row("lanes lost", at(..., slice(1, None, 2), value=0), IMAGES, ("zeros in every 2nd column of",)),
    Row("half the rows", at(A, A, slice(2, None), value=0), ("activation", "batch of 1"), ("zeros in rows 2 to",)),
    Row("right edge", at(..., slice(-1, None), value=0), IMAGES, ("zeros in the right border, column",)),
    Row("top edge", at(A, A, slice(0, 2)), IMAGES, ("the top border, rows 0 to 1",)),
    Row("frame", frame, IMAGES, ("the border alone: padding?",)),
    Row("tile", at(A, A, slice(2, 5), slice(3, 6)), IMAGES, ("one tile, rows 2 to 4, columns 3 to 5",)),
    Row("zero tile", at(A, A, slice(2, 5), slice(3, 6), value=0), IMAGES, ("zeros in one tile, rows 2 to 4",)),
    Row("constant tile", at(A, A, slice(2, 5), slice(3, 6), value=7), IMAGES,
        ("one tile, rows 2 to 4, columns 3 to 5 (one value everywhere, 7)",)),
    Row("stale tile", put((-1, 0, slice(0, 3), slice(3, 6)), (-1, 0, slice(0, 3), slice(0, 3))), IMAGES,
        ("one tile, rows 0 to 2, columns 3 to 5", "the values of columns 0 to 2")),
    Row("repeated row", put((..., slice(3, 6), A), (..., slice(2, 3), A)), IMAGES,
        ("rows 3 to 5 of", "all hold the values of row 2")),
    Row("scaled tile", put((A, A, slice(2, 5), slice(3, 6)), (A, A, slice(2, 5), slice(3, 6)), 2), IMAGES,
        ("one tile, rows 2 to 4, columns 3 to 5 (a constant factor of 2)",)),
    Row("negated channels", lambda t: t * np.where(np.isin(np.arange(t.shape[1]), (3, 4)), -1, 1).reshape(1, -1, 1, 1),
        IMAGES, ("channels 3 to 4 of", "(the sign is reversed)")),
    Row("one element", at(-1, 2, 3, 4, value=9), IMAGES, ("one element, at (", ", 2, 3, 4): 9, truth")),
    Row("one weight", at(5, 2, 1, 1), ("weight",), ("one element, at (5, 2, 1, 1)",)),
    Row("one of a bias", at(5), ("bias",), ("one element, at (5)",)),
    Row("bfloat16", lambda t: round_to(t, "bfloat16"), EVERY, ("rounded to bfloat16",)),
    Row("float16", lambda t: round_to(t, "float16"), ("bias",), ("rounded to",), ("bits",)),
    Row("TF32", lambda t: to_tf32(t), EVERY, ("rounded to TF32",), ("bits",)),
    Row("bfloat16 cut off", lambda t: cut_off(t, 16), EVERY,
        ("cut off to bfloat16", "not rounded"), ("rounded", "cut", "bits")),
    Row("TF32 cut off", lambda t: cut_off(t, 13), EVERY,
        ("cut off to TF32", "not rounded"), ("rounded", "cut", "bits")),
    Row("int8", lambda t: quantised(t, 256), ("large image", "weight", "activation"), ("rounded to 8 bits",)),
    Row("uint8", lambda t: quantised(t, 256, zero=1), ("large image", "weight"), ("rounded to 8 bits",)),
    Row("int4", lambda t: quantised(t, 16), ("large image", "weight", "matrix"), ("rounded to 4 bits",)),
    Row("int8 by filter", lambda t: quantised(t, 256, 0), ("weight",),
        ("rounded to 8 bits", "for each output channel")),
    Row("int8 by channel", lambda t: quantised(t, 256, 1), ("large image", "activation"),
        ("rounded to 8 bits", "for each channel")),
    Row("uint16 grid", lambda t: np.floor(t / 0.004) * 0.004, ("large image", "weight"), ("rounded down to", "levels")),
    Row("dropout", lambda t: np.where(np.random.default_rng(2).random(t.shape) < 0.8, t / 0.8, 0),
        (*IMAGES, "weight", "matrix"), ("% of the elements are zero", "by a factor of 1.25: a dropout?")),
    Row("memory shifted", lambda t: np.roll(t.reshape(-1), 3).reshape(t.shape), (*IMAGES, "weight", "matrix", "pooled"),
        ("shifted by 3 elements in memory",)),
    Row("rolled bias", lambda t: np.roll(t, 1), ("bias",), ("elements are permuted: rotated by 1",)),
    Row("most rows zero", at(slice(1, 3), value=0), ("matrix",), ("zeros in rows 1 to 2 of 4",)),
    Row("most images zero", at(slice(1, None), value=0), ("pooled",), ("zeros in images 1 to 3 of 4",)),
    Row("most rows scaled", put((slice(1, None),), (slice(1, None),), 3), ("matrix", "pooled"),
        ("s 1 to 3 of 4 (a constant factor of 3)",)),
    Row("zero row in a window", at(..., slice(0, 1), A, value=0), ("weight",),
        ("zeros in one row of 3 in the window: 0",)),
    Row("flushed", lambda t: np.where(np.abs(t) < 0.1, 0, t), ("large image", "weight", "matrix"),
        ("values below 0.", "are zero")),
    Row("NaN", at(-1, 1, 2, 3, value=np.nan), IMAGES, ("NaN appears in one element, at (",)),
    Row("NaN or infinity", at(-1, 1, value=np.inf), ("batch of 1",), ("infinity appears in one channel of 16: 1",)),
    Row("NaN rows", at(slice(1, 3), value=np.nan), ("matrix",), ("NaN appears in rows 1 to 2 of 4",)),
    Row("NaN everywhere", lambda t: t * np.nan, EVERY, ("NaN everywhere",)),
    Row("unwritten", at(A, slice(4, 6), value=1e30), IMAGES, ("channels 4 to 5",), ("one value", "memory")),
]  # fmt: skip


def normal(x: np.ndarray, eps: float = 1e-5, ddof: int = 0) -> np.ndarray:
    """A normalisation with a scale and a shift, as a layer has."""
    rng, columns = np.random.default_rng(3), (1, x.shape[1], 1, 1)
    scale, bias = rng.uniform(0.5, 2.5, columns), rng.uniform(-1, 1, columns)
    mean, var = x.mean((0, 2, 3), keepdims=True), x.var((0, 2, 3), keepdims=True, ddof=ddof)
    return np.asarray((x - mean) / np.sqrt(var + eps) * scale + bias)


@pytest.mark.parametrize("shape", IMAGES)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_normalisation_behind_a_relu(shape: str, seed: int) -> None:
    x = draw(shape, seed) * 0.3
    truth = np.maximum(normal(x), 0)
    told = describe_difference(np.maximum(normal(x, eps=1e-3), 0), truth, BUDGET, kind="activation")
    assert "each channel by a factor and a shift of its own before a ReLU" in told
    assert "eps or variance?" in told
    told = describe_difference(np.maximum(normal(x, ddof=1), 0), truth, BUDGET, kind="activation")
    assert "sqrt((M - 1) / M)" in told
    assert "before a ReLU: unbiased variance?" in told
    shift = per_channel(truth, -1, 1)
    told = describe_difference(np.maximum(normal(x) + shift, 0), truth, BUDGET, kind="activation")
    assert told == "each channel shifted by a constant of its own before a ReLU: a mean or a bias?"


CASES = [(row, shape) for row in ROWS for shape in row.shapes]


@pytest.mark.parametrize(("row", "shape"), CASES, ids=[f"{row.id}-{shape}" for row, shape in CASES])
def test_a_kind_is_told_and_no_other(row: Row, shape: str) -> None:
    for seed in SEEDS if shape != "large image" else SEEDS[:1]:
        truth = draw(shape, seed)
        exact = np.asarray(row.change(truth), np.float64)
        for subject in (exact, healthy(exact, seed)) if row.id in MAY_BE_NOISY else (exact,):
            told = describe_difference(subject, truth, BUDGET, kind=KIND_OF.get(shape, "activation"))
            for words in row.said:
                assert words in told, f"seed {seed}: {told}"
            for other in NAMES:
                known = any(other in words for words in (*row.said, *row.may))
                assert known or other not in told or _where(other, told), f"seed {seed}: {told}"


def test_what_is_turned_is_no_place() -> None:
    """An image that is symmetric but for its outer rows: turned, only those differ."""
    truth = draw("activation", 0)
    truth[..., 1:-1, :] += truth[..., -2:0:-1, :]
    assert describe_difference(truth[..., ::-1, :], truth, BUDGET, kind="activation") == "upside down"
    other = truth.copy()
    other[..., [0, -1], :] = draw("activation", 1)[..., [0, -1], :]
    assert "row" in describe_difference(other, truth, BUDGET, kind="activation")


def _where(other: str, told: str) -> bool:
    """What is said of where: any row may say which channel, image, row or column."""
    return other in ("channel", "image", "row", "column", "element,")


# What rounding beside it does not hide: nearly all but exact zeros, grids and formats.
MAY_BE_NOISY = {
    row.id
    for row in ROWS
    if not any(word in " ".join(row.said) for word in ("zeros", "rounded", "cut off", "zero", "one value", "element"))
    and "NaN" not in row.id
}


@pytest.mark.parametrize("shape", EVERY)
@pytest.mark.parametrize("seed", SEEDS)
def test_healthy_noise_is_no_kind(shape: str, seed: int) -> None:
    truth = draw(shape, seed)
    told = describe_difference(healthy(truth, seed), truth, BUDGET)
    assert not any(name in told for name in NAMES), told


@pytest.mark.parametrize("shape", EVERY)
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("size", [1.0, 1e-3, 30.0])
def test_what_is_unrelated_is_measured(shape: str, seed: int, size: float) -> None:
    truth = draw(shape, seed)
    wrong = np.random.default_rng(seed + 50).standard_normal(truth.shape)
    told = describe_difference(wrong * size, truth, BUDGET)
    assert re.match("all elements|9. % of the elements stand out", told), told
    assert "correlation with the truth" in told
    assert not any(name in told for name in NAMES), told
    told = describe_difference(truth + wrong * size, truth, BUDGET)
    assert re.match("all elements|9. % of the elements stand out", told), told
    assert not any(name in told for name in NAMES), told


def test_equal_tensors_have_no_difference() -> None:
    truth = draw("activation", 0)
    assert describe_difference(truth, truth, BUDGET) == ""


# -- sparse tensors, and others behind a ReLU -------------------------------------------------------------------------


def sparse(seed: int, shape: tuple[int, ...] = (2, 1000)) -> np.ndarray:
    """As behind a softmax: few large, many small."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal(shape) * np.where(rng.random(shape) < 0.02, 1.0, 1e-4)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_few_large_elements_do_not_hide_the_factor(seed: int) -> None:
    truth = sparse(seed)
    assert describe_difference(truth * 1024, truth, Budget(1e-5)) == "a constant factor of 1024"
    assert describe_difference(-truth, truth, Budget(1e-5)) == "the sign is reversed"
    assert "rotated by 1" in describe_difference(np.roll(truth, 1, 1), truth, Budget(1e-5))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("times", [2.0, -1.0, 0.0])
def test_a_few_large_elements_do_not_speak_for_all(seed: int, times: float) -> None:
    truth = 1e-4 * np.random.default_rng(seed).standard_normal((2, 1000))
    truth[0, 17] = 1.0
    wrong = truth.copy()
    wrong[0, 17] *= times
    told = describe_difference(wrong, truth, Budget(1e-6))
    assert told.startswith("one element, at (0, 17)"), told


def test_a_few_elements_are_listed() -> None:
    truth = draw("matrix", 0)
    wrong = truth.copy()
    wrong[0, 2] += 0.5
    wrong[3, 5] -= 0.25
    assert describe_difference(wrong, truth, BUDGET) == "2 elements, at (0, 2) and (3, 5), off by 0.5 and -0.25"


@pytest.mark.parametrize("seed", SEEDS)
def test_a_bit_that_flipped_is_told(seed: int) -> None:
    truth = draw("activation", seed)
    for bit, words in ((31, "the sign bit"), (30, "bit 30"), (26, "bit 26"), (22, "bit 22"), (16, "bit 16")):
        wrong = truth.astype(np.float32)
        wrong.reshape(-1).view(np.uint32)[100] ^= np.uint32(1 << bit)
        told = describe_difference(wrong, truth, BUDGET)
        assert f"({words}" in told, (bit, told)


@pytest.mark.parametrize("seed", SEEDS)
def test_what_a_relu_decides(seed: int) -> None:
    before, gradient = draw("activation", seed), np.random.default_rng(seed + 9).standard_normal((2, 12, 8, 8))
    after, handed = np.maximum(before, 0), np.where(before > 0, gradient, 0)
    rows = [
        (before, after, "the negative side passes: no ReLU?"),
        (np.where(before > 0, before, 0.01 * before), after, "by a slope of about 0.01"),
        (np.minimum(after, 1), after, "values above 1 are cut off"),
        (gradient, handed, "a missing mask?"),
        (np.where(before > 0, 0, gradient), handed, "an inverted mask?"),
        (np.where(before[::-1] > 0, gradient, 0), handed, "its mask, which is another image's"),
        (np.where(before[:1] > 0, gradient, 0), handed, "its mask, which is the first image's for all images"),
        (np.where(np.roll(before, 1, 1) > 0, gradient, 0), handed, "another mask?"),
        (-handed, handed, "the sign is reversed"),
        (handed * 2, handed, "a constant factor of 2"),
    ]
    for wrong, truth, words in rows:
        assert words in describe_difference(wrong, truth, BUDGET), (words, describe_difference(wrong, truth, BUDGET))


@pytest.mark.parametrize(("limit", "words"), [(2.0**-14, "float16's smallest normal"), (2.0**-25, "half of float16's")])
def test_gradients_that_a_format_flushes(limit: float, words: str) -> None:
    truth = np.random.default_rng(3).standard_normal((2, 8, 16, 16)) * limit
    told = describe_difference(np.where(np.abs(truth) < limit, 0, truth), truth, BUDGET)
    assert words in told, told


@pytest.mark.parametrize(("limit", "name"), [(65504.0, "float16"), (3.39e38, "bfloat16")])
def test_infinities_of_large_values_and_of_a_format(limit: float, name: str) -> None:
    truth = np.random.default_rng(3).uniform(-2, 2, (4, 50)) * limit
    told = describe_difference(np.where(np.abs(truth) > limit, np.inf, truth), truth, BUDGET)
    assert f"{name}'s largest" in told, told
    told = describe_difference(np.where(np.abs(truth) > limit / 3, np.inf, truth), truth, BUDGET)
    assert "infinity appears in" in told
    assert ", where the truth is beyond" in told
    assert name not in told


# -- with other tensors at hand ---------------------------------------------------------------------------------------


def residual(seed: int, rectified: bool = True) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    main, shortcut = rng.standard_normal((2, 2, 8, 6, 6))
    total = main + np.maximum(shortcut, 0)
    return {
        "before": np.maximum(shortcut, 0),
        "unrelated": rng.standard_normal((2, 8, 6, 6)),
        "small": rng.standard_normal((2, 8)),
        "conv2": rng.standard_normal((2, 8, 6, 6)),
        "bn2": main,
        "block": np.maximum(total, 0) if rectified else total,
        "next": rng.standard_normal((2, 8, 6, 6)),
    }


def wrong_row_stride(b: np.ndarray, stride: int) -> np.ndarray:
    n, c, h, w = np.indices(b.shape)
    return b.reshape(-1)[(n * 8 * 36 + c * 36 + h * stride + w) % b.size]


Known = dict[str, np.ndarray]
RELATED: list[tuple[str, Callable[[Known, Callable], np.ndarray], str]] = [
    ("overwritten", lambda k, act: k["next"], "equal to next, a later tensor: overwritten in place?"),
    ("skipped", lambda k, act: k["before"], "equal to before, an earlier tensor"),
    ("dropped", lambda k, act: act(k["bn2"]), "the addition of before is missing"),
    ("twice", lambda k, act: act(k["bn2"] + 2 * k["before"]), "before is added twice"),
    ("subtracted", lambda k, act: act(k["bn2"] - k["before"]), "before is subtracted"),
    ("NHWC", lambda k, act: act(k["bn2"] + k["before"].transpose(0, 2, 3, 1).reshape(2, 8, 6, 6)), "NHWC read as NCHW"),
    ("stride 7", lambda k, act: act(k["bn2"] + wrong_row_stride(k["before"], 7)), "row stride of 7 instead of 6"),
    ("stride 0", lambda k, act: act(k["bn2"] + wrong_row_stride(k["before"], 0)), "row stride of 0 instead of 6"),
    ("other image", lambda k, act: act(k["bn2"] + k["before"][::-1]), "images are in reverse order"),
    ("transposed", lambda k, act: act(k["bn2"] + k["before"].swapaxes(2, 3)), "its rows and columns are transposed"),
    ("early", lambda k, act: np.maximum(k["bn2"], 0) + k["before"], "the ReLU stands before the addition of before"),
]


@pytest.mark.parametrize("rectified", [True, False])
@pytest.mark.parametrize(("change", "words"), [row[1:] for row in RELATED], ids=[row[0] for row in RELATED])
def test_other_tensors_tell_more(change: Callable, words: str, rectified: bool) -> None:
    for seed in SEEDS:
        known = residual(seed, rectified)
        wrong = change(known, (lambda total: np.maximum(total, 0)) if rectified else (lambda total: total))
        told = describe_difference(wrong, known["block"], BUDGET, kind="activation", name="block", others=known)
        if words.startswith("the addition") and not rectified:
            words = "equal to bn2, an earlier tensor"  # the same tensor, and no less true
        assert words in told, told


def test_a_relu_behind_a_sum_that_is_missing_or_too_much() -> None:
    known = residual(0)
    total = known["bn2"] + known["before"]
    told = describe_difference(total, known["block"], BUDGET, name="block", others=known)
    assert told == "the negative side passes: no ReLU?"
    known["block"] = total
    told = describe_difference(np.maximum(total, 0), total, BUDGET, name="block", others=known)
    assert "the negative part is cut" in told


def test_a_place_that_was_left_as_the_input() -> None:
    known = residual(0)
    wrong = known["block"].copy()
    wrong[:, 5:] = known["unrelated"][:, 5:]
    told = describe_difference(wrong, known["block"], BUDGET, kind="activation", name="block", others=known)
    assert told == "channels 5 to 7 of 8 (the values of unrelated there)"


@pytest.mark.parametrize(("times", "words"), [(-1, "is missing from the sum"), (1, "is added once more")])
def test_a_contribution_to_a_gradient(times: float, words: str) -> None:
    known = residual(1)
    truth = known["conv2"] + known["bn2"]
    told = describe_difference(
        truth + times * known["unrelated"], truth, BUDGET, others={"unrelated": known["unrelated"]}
    )
    assert told == f"unrelated {words}"


def test_other_tensors_make_no_kind_of_noise() -> None:
    for seed in SEEDS:
        known = residual(seed)
        noise = np.random.default_rng(seed + 70).standard_normal(known["block"].shape)
        told = describe_difference(known["block"] + noise, known["block"], BUDGET, name="block", others=known)
        assert told.startswith("all elements"), told


# -- odd tensors ------------------------------------------------------------------------------------------------------

ODD = [
    np.float64(1.5), np.zeros(()), np.zeros((0, 3)), np.ones(1), np.ones((1, 1, 1, 1)), np.full((2, 3), np.nan),
    np.full((3,), np.inf), np.array([1e300, -1e300, 5.0]), np.array([1e-300, 2e-300]), np.arange(24).reshape(2, 3, 4),
    np.arange(32).reshape(2, 2, 2, 2, 2), np.array([True, False]), np.array(["a", "b"], object), np.array([1 + 2j]),
    np.zeros((2, 3, 4, 4)), np.ones((1, 3, 1, 1), np.float16), np.ones((3, 1)), np.arange(7, dtype=np.uint8),
]  # fmt: skip


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("budget", [Budget(0.0), Budget(1e-6), Budget(np.inf), Budget(np.nan), Budget(30.0)])
def test_odd_tensors_raise_nothing(budget: Budget) -> None:
    for left in ODD:
        for right in ODD:
            assert isinstance(describe_difference(left, right, budget), str)
        if np.asarray(left).dtype.kind in "fiu":
            left = np.asarray(left, np.float64)
            with np.errstate(all="ignore"):
                for wrong in (-left, left * 2, left + 1, left * np.nan, left * 0, left * 1e200):
                    for others in (None, {"a": left, "b": wrong, "c": np.ones(left.shape)}):
                        assert isinstance(describe_difference(wrong, left, budget, name="a", others=others), str)


@pytest.mark.parametrize("seed", SEEDS)
def test_what_holds_for_the_large_elements_alone_is_no_rule(seed: int) -> None:
    truth, other = sparse(seed), sparse(seed + 10)
    large = np.abs(truth) > 1e-3
    for wrong in (np.where(large, 2 * truth, 1e-4 * other), np.where(large, -truth, 1e-4 * other)):
        told = describe_difference(wrong, truth, Budget(1e-6))
        assert "factor" not in told
        assert "sign is" not in told


@pytest.mark.parametrize("seed", SEEDS)
def test_what_lies_behind_a_dead_channel_is_zero_and_nobody_else(seed: int) -> None:
    truth = np.maximum(draw("activation", seed), 0)
    truth[:, 3] = 0
    wrong = truth.copy()
    wrong[:, 8:] = 0
    assert describe_difference(wrong, truth, BUDGET, kind="activation") == "zeros in channels 8 to 11 of 12"
    wrong = truth.copy()
    wrong[1] = 0
    assert describe_difference(wrong, truth, BUDGET, kind="activation") == "zeros in one image of 2: 1"


def test_a_single_number_is_shown() -> None:
    assert describe_difference(np.float32(2.5), np.float64(2.0), BUDGET, kind="loss") == "2.5, truth 2"


@pytest.mark.parametrize("shape", [(), (1,), (5,), (2, 10)])
def test_small_tensors_are_described(shape: tuple[int, ...]) -> None:
    truth = np.ones(shape)
    assert describe_difference(truth * -1, truth, BUDGET) == "the sign is reversed"


@pytest.mark.parametrize(
    ("meant", "words"),
    [
        (lambda t: t.transpose(0, 2, 3, 1), "axes in the order NHWC"),
        (lambda t: t.reshape(2, -1), "the same values in another shape"),
        (lambda t: t[:, :, :4], ""),
        (lambda t: -t.transpose(0, 2, 3, 1), ""),
    ],
)
def test_another_shape_with_the_same_values(meant: Change, words: str) -> None:
    truth = draw("activation", 0)
    told = describe_difference(meant(truth), truth, BUDGET)
    assert (words in told) if words else told == "", told


def test_an_axis_is_called_what_the_tensor_says() -> None:
    truth = np.random.default_rng(0).standard_normal((64, 32, 3, 3))
    wrong = truth.copy()
    wrong[60:] = 0
    assert describe_difference(wrong, truth, BUDGET) == "zeros in output channels 60 to 63 of 64"
    assert describe_difference(wrong, truth, BUDGET, kind="activation") == "zeros in images 60 to 63 of 64"


def test_what_is_left_is_said() -> None:
    truth = draw("large image", 0)
    noise = np.random.default_rng(1).standard_normal(truth.shape) * np.sqrt(np.mean(truth**2))
    told = describe_difference(truth * 2 + 0.05 * noise, truth, BUDGET)
    assert re.fullmatch("a constant factor of 2, which explains 99\\.[67]\\d? % of the squared difference", told), told
    told = describe_difference(truth * 2 + 0.2 * noise, truth, BUDGET)
    assert "factor" not in told


def test_what_only_one_element_shows_is_no_factor_of_the_whole() -> None:
    truth = draw("activation", 0)
    subject = truth * (1 + 1e-7 * np.random.default_rng(2).standard_normal(truth.shape))
    assert "factor" not in describe_difference(subject, truth, BUDGET)


def test_a_channel_over_its_own_budget_is_told() -> None:
    truth = draw("large image", 0)
    wrong = truth.copy()
    wrong[:, 5] += 1e-3 * np.random.default_rng(1).standard_normal(wrong[:, 5].shape)
    told = describe_difference(wrong, truth, Budget(1e-2, channel=np.full(16, 1e-4)))
    assert "one channel of 16: 5" in told, told


def test_few_explanations_are_tried_on_all_of_a_large_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever kind it is, a part of the tensor is asked first."""
    tried = 0

    def counted(self: Pair, candidate: np.ndarray, freedom: float = 0.0) -> str | None:
        nonlocal tried
        tried += self.truth.size == truth.size
        return original(self, candidate, freedom)

    original = Pair.explained
    monkeypatch.setattr(Pair, "explained", counted)
    truth = np.random.default_rng(0).standard_normal((2, 32, 96, 96))
    noise = np.random.default_rng(1).standard_normal(truth.shape)
    for wrong in (truth + noise, truth * 2, truth.swapaxes(2, 3), truth * np.linspace(0.5, 2, 32).reshape(1, 32, 1, 1)):
        tried = 0
        others = {f"other{number}": np.roll(noise, number) for number in range(1, 8)}
        assert describe_difference(wrong, truth, BUDGET, others=others)
        assert tried <= 4


# -- in a verdict -----------------------------------------------------------------------------------------------------


def test_the_free_view_tells_with_the_tensors_of_the_trace() -> None:
    trace, known = Trace(), residual(0)
    for kind in ("activation", "activation_gradient"):
        for name, array in known.items():
            trace.record(kind, name, array)  # type: ignore[arg-type]
    for name, words in (("next", "equal to next, a later tensor: overwritten in place?"), ("bn2", "equal to bn2")):
        told = explain_with(("activation", "block"), trace, known[name], known["block"], BUDGET)
        assert told.startswith(words)
        told = explain_with(("activation_gradient", "block"), trace, known[name], known["block"], BUDGET)
        assert told == f"equal to {name}"  # which gradient is the later one, a trace does not say


def test_the_local_view_tells_with_what_the_layer_was_fed() -> None:
    known = residual(0)
    wanted = Expected("activation", "block", known["block"], EXACT)
    fed = {"layer1.0.bn2": known["bn2"], "layer1.0.downsample.1": known["before"]}
    told = judge_local(wanted, np.maximum(known["bn2"], 0), fed).difference
    assert told == "the addition of layer1.0.downsample.1 is missing"
    assert judge_local(wanted, -known["block"]).difference == "the sign is reversed"


def test_a_verdict_reads_as_a_sentence() -> None:
    truth = draw("activation", 0)
    key: Key = ("activation", "layer1.0.conv1")

    def sentence(wrong: np.ndarray) -> str:
        found = judge(key, "free", wrong, truth, BUDGET, explain=describe_difference)
        return SubjectVerdict("subject", "free", "float32", [found]).sentence()

    first = "subject (free) disagrees. forward, first out of line: the output of layer1.0.conv1 "
    assert sentence(truth * 2) == first + "(error 1.0e+00, budget 1.0e-06; a constant factor of 2)"
    assert sentence(truth.transpose(0, 2, 3, 1)) == first + (
        "(shape (2, 8, 8, 12) where the truth has (2, 12, 8, 8); the truth's values with axes in the order NHWC)"
    )
    broken = truth.copy()
    broken[0, 1, 2, 3] = np.nan
    assert sentence(broken) == first + ("(1 NaN and 0 infinite of 1536; NaN appears in one element, at (0, 1, 2, 3))")


def test_a_matrix_or_a_sequence_of_another_shape() -> None:
    truth = draw("matrix", 0)
    assert describe_difference(truth.T, truth, BUDGET) == "the truth's values, transposed"
    sequence = np.random.default_rng(0).standard_normal((2, 3, 5))
    assert describe_difference(sequence.swapaxes(1, 2), sequence, BUDGET) == "the truth's axes in the order (0, 2, 1)"
