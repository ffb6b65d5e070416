"""What kind of difference it is: each kind that can be told is told."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from oracle.compare import Budget
from oracle.faults.precision import to_tf32
from oracle.kind import describe
from oracle.rounding import round_to

BUDGET = Budget(1e-6)


def image() -> np.ndarray:
    values = np.random.default_rng(0).standard_normal((2, 6, 8, 8))
    return values + np.arange(6).reshape(1, 6, 1, 1)


def with_part(part: tuple, value: float | None = None) -> Callable[[np.ndarray], np.ndarray]:
    def change(truth: np.ndarray) -> np.ndarray:
        wrong = truth.copy()
        wrong[part] = wrong[part] * 1.5 + 1 if value is None else value
        return wrong

    return change


def noise(truth: np.ndarray) -> np.ndarray:
    return truth + np.random.default_rng(1).standard_normal(truth.shape)


def border(truth: np.ndarray) -> np.ndarray:
    wrong = truth + 1
    wrong[..., 1:-1, 1:-1] = truth[..., 1:-1, 1:-1]
    return wrong


EVERY = slice(None)
ROWS: list[tuple[Callable[[np.ndarray], np.ndarray], str]] = [
    (lambda truth: -truth, "the sign is reversed"),
    (lambda truth: truth * 2, "a constant factor of 2"),
    (lambda truth: truth + 3, "a constant shift of 3"),
    (lambda truth: truth * 0, "all zeros"),
    (lambda truth: truth.swapaxes(2, 3), "rows and columns are transposed"),
    (lambda truth: truth.transpose(0, 2, 3, 1).reshape(truth.shape), "NHWC read as NCHW"),
    (lambda truth: truth[..., ::-1, :], "upside down"),
    (lambda truth: truth[..., ::-1], "left and right exchanged"),
    (lambda truth: np.roll(truth, 1, 3), "shifted by one column"),
    (lambda truth: truth[:, [0, 2, 1, 3, 5, 4]], "channels are permuted"),
    (lambda truth: truth[::-1], "images are permuted"),
    (lambda truth: truth * np.arange(1, 7).reshape(1, 6, 1, 1), "each channel by a factor of its own, 1 to 6"),
    (lambda truth: truth + np.arange(6).reshape(1, 6, 1, 1), "each channel shifted by its own constant"),
    (with_part((EVERY, 3)), "one channel of 6: 3"),
    (with_part((1, 2, 3, 4)), "one element, at (1, 2, 3, 4)"),
    (with_part((0,)), "one image of 2: 0"),
    (with_part((EVERY, EVERY, EVERY, slice(7, 8))), "the right border, columns 7 to 7"),
    (with_part((EVERY, EVERY, slice(0, 2))), "the top border, rows 0 to 1"),
    (with_part((EVERY, EVERY, slice(2, 5), slice(3, 6))), "one tile, rows 2 to 4, columns 3 to 5"),
    (with_part((EVERY, EVERY, EVERY, slice(7, 8)), 0.0), "zeros in the right border, columns 7 to 7"),
    (with_part((0, 1, 2, 3), np.nan), "NaN appears in one element, at (0, 1, 2, 3)"),
    (with_part((0, 1), np.inf), "infinity appears in one channel of 6: 1"),
    (lambda truth: round_to(truth, "bfloat16"), "all elements, by as much as rounding to bfloat16 leaves"),
    (lambda truth: to_tf32(truth), "all elements, by as much as rounding to TF32 or float16 leaves"),
    (noise, "all elements"),
    (border, "the border"),
]


@pytest.mark.parametrize(("change", "told"), ROWS, ids=[told for _, told in ROWS])
def test_kind_is_told(change: Callable[[np.ndarray], np.ndarray], told: str) -> None:
    truth = image()
    assert describe(np.asarray(change(truth)), truth, BUDGET) == told


def test_rounding_beside_the_fault_does_not_hide_where_it_is() -> None:
    truth = image()
    subject = with_part((EVERY, 3))(truth) * (1 + 1e-7 * np.random.default_rng(2).standard_normal(truth.shape))
    assert describe(subject, truth, BUDGET) == "one channel of 6: 3"


def test_what_only_one_element_shows_is_no_factor_of_the_whole() -> None:
    truth = image()
    subject = truth * (1 + 1e-7 * np.random.default_rng(2).standard_normal(truth.shape))
    assert "factor" not in describe(subject, truth, BUDGET)


def test_equal_tensors_have_no_difference() -> None:
    assert describe(image(), image(), BUDGET) == ""


@pytest.mark.parametrize("shape", [(), (1,), (5,), (2, 10)])
def test_small_tensors_are_described(shape: tuple[int, ...]) -> None:
    truth = np.ones(shape)
    assert describe(truth * -1, truth, BUDGET) != ""


def test_matrices() -> None:
    truth = np.random.default_rng(3).standard_normal((8, 8))
    assert describe(truth.T, truth, BUDGET) == "transposed"
    wrong = truth.copy()
    wrong[:, 2] += 1
    assert describe(wrong, truth, BUDGET) == "one column of 8: 2"
