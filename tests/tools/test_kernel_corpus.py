"""tools/kernel_corpus: healthy kernels are near the float64 result, mutants are not what they were, there are enough.

The kernel check is measured on it (`tools/kernel_records.py`), so a slip here would be charged to the check.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("scipy")
pytest.importorskip("onnxruntime")
TOOLS = Path(__file__).parents[2] / "tools"
pytestmark = pytest.mark.skipif(not (TOOLS / "kernel_corpus").exists(), reason="the tools are not beside the tests")
if (TOOLS / "kernel_corpus").exists():
    sys.path.insert(0, str(TOOLS))
    from kernel_corpus import contraction, elementwise, libraries, loss, normalization, pooling, softmax, sums
    from kernel_corpus.draws import draws, truth
    from kernel_corpus.kernel import load
    from kernel_corpus.kinds import WORDS

    FAMILIES = (contraction, elementwise, loss, normalization, pooling, softmax, sums)
    EVERY = (*FAMILIES, libraries)
WIDE = np.dtype(np.float64)
STEP = 5  # of the healthy kernels, so many times fewer are run


@pytest.mark.parametrize("place", range(8))
def test_healthy_kernels_are_within_the_worst_of_any_order(place):
    """Their results, in normal numbers, and of special values what is NaN and infinite."""
    for kernel in list(EVERY[place].healthy())[place % STEP :: STEP]:
        for draw in draws(kernel):
            exact, (made, *_) = truth(kernel, draw), kernel.call(draw.inputs)
            actual = load(made, WIDE)
            assert actual.shape == exact.result.shape, (kernel.title, draw.name)
            with np.errstate(over="ignore"):
                stored = exact.result.astype(draw.inputs[0].dtype).astype(float)
            assert np.array_equal(np.isnan(actual), np.isnan(stored)), (kernel.title, draw.name)
            if draw.special:
                assert np.array_equal(np.isinf(actual), np.isinf(stored)), (kernel.title, draw.name)
            else:
                assert (np.abs(actual - exact.result) <= exact.bound).all(), (kernel.title, draw.name)


def test_healthy_gradients_are_those_of_autograd():
    """Of the kernels that have a backward pass of their own."""
    limits = {"float32": 3e-4, "tf32": 3e-3, "bfloat16": 1e-2, "float16": 2e-3}
    kernels = [each for family in FAMILIES for each in family.healthy() if each.backward is not None]
    assert len(kernels) > 60
    for kernel in kernels[::5]:
        for draw in draws(kernel):
            if draw.special:
                continue
            exact = truth(kernel, draw, backward=True)
            _, *made = kernel.call(draw.inputs, exact.gradient.astype(draw.inputs[0].dtype))
            wanted = [each for each in exact.gradients if each is not None]
            for actual, expected in zip(made, wanted, strict=True):
                allowed = limits[kernel.precision.split(",")[0]] * (np.abs(expected).max() + 1e-3)
                assert np.abs(load(actual, WIDE) - expected).max() <= allowed, (kernel.title, draw.name)


@pytest.mark.parametrize("place", range(7))
def test_mutants_change_bits(place):
    """Each changes at least one bit of a result, a gradient or an input, in numbers that anybody would draw."""

    def bits(results):
        return [np.ascontiguousarray(each).tobytes() for each in results]

    for kernel in FAMILIES[place].mutants():
        assert kernel.kind in WORDS, kernel.title
        for draw in draws(kernel):
            healthy = kernel.of.call(draw.inputs)
            gradient = np.resize([-1.9, 1.3, 0.7], healthy[0].shape).astype(healthy[0].dtype)
            right = bits([*kernel.of.call(draw.inputs, gradient), *draw.inputs])
            if bits([*kernel.call(draw.inputs, gradient), *draw.inputs]) != right:
                break
        else:
            pytest.fail(f"changes nothing: {kernel.title}")


def test_it_is_large():
    """And every kernel has a title of its own."""
    healthy = [each.title for family in EVERY for each in family.healthy()]
    mutants = [each.title for family in FAMILIES for each in family.mutants()]
    assert len(healthy) >= 1000
    assert len(mutants) >= 200
    assert len(set(healthy + mutants)) == len(healthy + mutants)
