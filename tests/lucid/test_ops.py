"""Every differentiable operation over a table of cases: against PyTorch, by central differences, bit for bit.

The rows are in ``support/tables``; what runs them and the tolerances are in ``support/operations.py``. A test's id is
the row, the seed of its numbers, and the backend; inside, it goes over dtypes and memory layouts, and a failure names
them.
"""

from __future__ import annotations

import importlib
import itertools
import math
import pkgutil
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from support import tables
from support.backends import BACKENDS, on
from support.bits import assert_same_bits
from support.operations import (
    DIFFERENCE_TOLERANCE,
    LAYOUTS,
    Row,
    assert_near,
    differences,
    gradient_like,
    run,
    run_torch,
)

import lucid
import lucid.nn.functional
import lucid.ops
from lucid.ops import _window, attention, fused

SEED = 0
MORE_SEEDS = range(1, 6)

rows = pytest.mark.parametrize("row", tables.ROWS, ids=lambda row: row.name)
backends = pytest.mark.parametrize("name", BACKENDS)
other_backends = pytest.mark.parametrize("name", [name for name in BACKENDS if name != "reference"])
seeds = pytest.mark.parametrize("seed", [SEED], ids="seed{}".format)


def check_against_torch(row: Row, seed: int, name: str) -> None:
    for dtype in row.dtypes:
        got, expected = run(row, name, dtype, "dense", seed), run_torch(row, dtype, seed)
        assert list(got) == list(expected)
        elements = max(x.size for x in [*row.arrays(dtype, "dense", seed), got["result"]] if x is not None)
        for key in got:
            assert_near(f"{np.dtype(dtype)}, {key}", got[key], expected[key], row.sums, elements)


def check_bits(row: Row, seed: int, name: str) -> None:
    """One run on the reference, of dense arrays, judges every layout on the backend, and the reference itself."""
    for dtype in row.dtypes:
        expected = run(row, "reference", dtype, "dense", seed)
        for layout, backend in itertools.product(LAYOUTS, dict.fromkeys([name, "reference"])):
            if (layout, backend) == ("dense", "reference"):
                continue
            got = run(row, backend, dtype, layout, seed)
            assert_same_bits(got, expected, f"{backend}, {np.dtype(dtype)}, {layout}")


@backends
@seeds
@rows
def test_is_pytorchs(row: Row, seed: int, name: str) -> None:
    check_against_torch(row, seed, name)


@other_backends
@seeds
@rows
def test_has_the_bits_of_the_reference(row: Row, seed: int, name: str) -> None:
    check_bits(row, seed, name)


@backends
@seeds
@pytest.mark.parametrize("row", [row for row in tables.ROWS if row.law], ids=lambda row: row.name)
def test_is_the_law(row: Row, seed: int, name: str) -> None:
    for dtype in row.dtypes:
        assert row.law is not None
        with np.errstate(all="ignore"):
            expected = row.law(*row.arrays(dtype, "dense", seed))
        got = run(row, name, dtype, "dense", seed)["result"]
        assert_same_bits({"result": got}, {"result": expected}, str(np.dtype(dtype)))


@pytest.mark.slow
@other_backends
@pytest.mark.parametrize(
    "row", [row for row in tables.ROWS if any(given.fixed is None for given in row.inputs)], ids=lambda row: row.name
)
def test_many_seeds(row: Row, name: str) -> None:
    for seed in MORE_SEEDS:
        try:
            check_against_torch(row, seed, name)
            check_bits(row, seed, name)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error


@seeds
@pytest.mark.parametrize("row", [row for row in tables.ROWS if row.smooth], ids=lambda row: row.name)
def test_gradient_is_the_slope(row: Row, seed: int) -> None:
    """By central differences in float64. The backends have the same bits, so one of them is enough."""
    got = run(row, next(iter(BACKENDS)), np.float64, "dense", seed)
    for index, given in enumerate(row.inputs):
        gradient = got.get(f"gradient of input {index}")
        if not given.grad or gradient is None:
            continue
        allowed = DIFFERENCE_TOLERANCE * max(1.0, np.abs(gradient).max(initial=0.0))
        for at, slope in differences(row, index, seed):
            assert abs(gradient[at] - slope) <= allowed, f"input {index} at {at}: {gradient[at]!r}, slope {slope!r}"


def disturb(values: Any) -> None:
    """Change a tensor, or the array whose memory it shares, in place: every element."""
    if values.dtype.kind == "b":
        values[...] = ~values
    elif values.dtype.kind == "f":
        values[...] = values + 1.0
    else:
        values[...] = (values + 1) % 2


def disturbed(row: Row, place: int | None, owner: str) -> dict[str, Any] | None:
    """The gradients of a row whose input ``place`` (None: the result) was changed after the forward pass, by lucid or
    by the ``owner`` of the array that the tensor shares memory with; None where the backward pass refuses."""
    dtype = np.float32 if np.float32 in row.dtypes else np.float64
    arrays = [x.copy() for x in row.arrays(dtype, "dense", SEED)]  # fixed ones are the row's own
    tensors = [lucid.to_tensor(x) if owner == "array" else lucid.tensor(x) for x in arrays]
    for given, tensor in zip(row.inputs, tensors, strict=True):
        tensor.requires_grad = given.grad
    y = row.ours(*tensors)
    dy = gradient_like(row, y, "dense", SEED)
    with lucid.no_grad():
        disturb(y if place is None else arrays[place] if owner == "array" else tensors[place])
    try:
        y.backward(lucid.to_tensor(dy))
    except RuntimeError as error:
        assert "changed in place" in str(error)  # noqa: PT017
        return None
    return {str(i): None if t.grad is None else t.grad.numpy() for i, t in enumerate(tensors)}


@pytest.mark.parametrize("row", tables.ROWS, ids=lambda row: row.name)
def test_what_changes_before_the_backward_pass_is_noticed(row: Row) -> None:
    """The gradient is the same, or there is an error: over every operation and every input, data and indices alike."""
    if not any(given.grad for given in row.inputs):
        return
    dtype = np.float32 if np.float32 in row.dtypes else np.float64
    whole = run(row, next(iter(BACKENDS)), dtype, "dense", SEED)
    expected = {str(i): whole.get(f"gradient of input {i}") for i in range(len(row.inputs))}
    if not any(x is not None for x in expected.values()):
        return
    for place, owner in [(i, owner) for i in range(len(row.inputs)) for owner in ("lucid", "array")] + [
        (None, "lucid")
    ]:
        if place is None and row.operation is lucid.broadcast_to:
            continue  # its elements share memory: writing to it is refused
        got = disturbed(row, place, owner)
        if got is not None:
            assert_same_bits(got, expected, f"input {place} changed by {owner}")
        assert got is not None or owner == "lucid", f"input {place}: memory of others is copied, not watched"


@backends
@seeds
@pytest.mark.parametrize(
    "row", [row for row in tables.ROWS if sum(given.grad for given in row.inputs) > 1], ids=lambda row: row.name
)
def test_each_gradient_alone(row: Row, seed: int, name: str) -> None:
    """Where one input alone asks for its gradient, it is the same, and the others get none."""
    together = run(row, name, np.float32, seed=seed)
    for index, given in enumerate(row.inputs):
        if given.grad:
            alone = run(row, name, np.float32, seed=seed, wanted=(index,))
            asked = f"gradient of input {index}"
            expected = {key: x if key == asked or "gradient" not in key else None for key, x in together.items()}
            assert_same_bits(alone, expected, asked)


def functions_of(module: ModuleType) -> set[Any]:
    """The functions that ``module`` makes public, but for classes."""
    return {f for f in (getattr(module, name) for name in module.__all__) if not isinstance(f, type)}


FAMILIES = [found.name for found in pkgutil.iter_modules(lucid.ops.__path__) if not found.name.startswith("_")]
# Forms that layers and scaled_dot_product_attention choose; test_fused.py and the rows of attention hold them.
INNER = {*functions_of(fused), attention.attention}
OPERATIONS = set[Any]().union(
    *(functions_of(importlib.import_module(f"lucid.ops.{name}")) for name in FAMILIES if name != "methods"),
    *(functions_of(module) for module in (lucid.nn.functional, lucid.linalg, lucid.einops)),
)
COVERED = {row.operation for row in tables.ROWS}
# What is public in lucid and no operation: its tests are those of data, devices, files, gradients and random numbers.
NO_OPERATIONS = """tensor to_tensor from_dlpack load save rand randn manual_seed no_grad enable_grad set_grad_enabled
grad_enabled is_grad_enabled get_backend set_backend use_backend available_backends empty_cache compile
get_default_device set_default_device get_default_dtype set_default_dtype get_num_threads set_num_threads count_flops
register_model"""
# Likewise of tensors: test_tensor.py.
NO_METHODS = """T mT astype backward contiguous copy_ cpu data device double dtype fill_ float gpu grad is_contiguous
is_cpu is_gpu is_leaf item keep_grad long ndim numel numpy register_hook requires_grad requires_grad_ retain_grad shape
size to tolist zero_ zero_grad"""


def test_every_operation_has_rows() -> None:
    """A new public operation without rows fails here, in whatever module it stands."""
    assert {f.__name__ for f in OPERATIONS - INNER - COVERED} == set()
    assert {f.__name__ for f in COVERED - OPERATIONS} == set()


def test_every_function_of_lucid_has_rows_or_is_no_operation() -> None:
    functions = {name: f for name, f in vars(lucid).items() if callable(f) and not isinstance(f, type)}
    public = {name for name, f in functions.items() if not name.startswith("_") and f not in COVERED}
    assert public <= set(NO_OPERATIONS.split())


def test_every_method_has_rows_or_is_no_operation() -> None:
    aliases = {"view": "reshape", "expand": "broadcast_to", "permute": "transpose"}
    computing = {name for name in dir(lucid.Tensor) if not name.startswith("_")} - set(NO_METHODS.split())
    found = {name: getattr(lucid, aliases.get(name, name), None) for name in computing}
    assert {name for name, operation in found.items() if operation not in COVERED} == set()


def test_rows_have_names_of_their_own() -> None:
    names = [row.name for row in tables.ROWS]
    assert sorted(set(names)) == sorted(names)


# -- what lucid says about its corners -------------------------------------------------------------------------------


def slopes(function: Any, *inputs: Any) -> list[Any]:
    """The gradients of the sum of ``function`` of these numbers."""
    tensors = [lucid.tensor(x, requires_grad=True) for x in inputs]
    lucid.sum(function(*tensors)).backward()
    return [np.asarray(t.grad).tolist() for t in tensors]


def test_gradients_at_ties(backend: str) -> None:
    assert slopes(lucid.maximum, [1.0, 2.0], [1.0, 1.0]) == [[0.5, 1.0], [0.5, 0.0]]
    assert slopes(lucid.minimum, [1.0, 2.0], [1.0, 1.0]) == [[0.5, 0.0], [0.5, 1.0]]
    assert slopes(lucid.max, [3.0, 1.0, 3.0]) == [[0.5, 0.0, 0.5]]
    assert slopes(lucid.min, [1.0, 1.0, 3.0, 1.0]) == [[np.float32(1 / 3), np.float32(1 / 3), 0.0, np.float32(1 / 3)]]
    assert slopes(lambda x: lucid.clip(x, 0.0, 1.0), [0.0, 1.0, -0.5, 2.0]) == [[1.0, 1.0, 0.0, 0.0]]
    assert slopes(lucid.nn.functional.relu, [0.0, -0.0, 1.0]) == [[0.0, 0.0, 1.0]]
    assert slopes(lucid.abs, [0.0, -0.0, -2.0]) == [[0.0, 0.0, -1.0]]
    image = [[[[2.0, 2.0], [1.0, 2.0]]]]
    assert slopes(lambda x: lucid.nn.functional.max_pool2d(x, 2), image) == [[[[[1.0, 0.0], [0.0, 0.0]]]]]


def test_gradients_at_nan(backend: str) -> None:
    nan = float("nan")
    assert slopes(lucid.nn.functional.relu, [nan, -1.0]) == [[1.0, 0.0]]
    assert slopes(lucid.max, [nan, 1.0, nan]) == [[0.5, 0.0, 0.5]]
    assert slopes(lambda x: lucid.clip(x, 0.0, 1.0), [nan]) == [[0.0]]
    image = [[[[1.0, nan], [nan, 2.0]]]]
    assert slopes(lambda x: lucid.nn.functional.max_pool2d(x, 2), image) == [[[[[0.0, 1.0], [0.0, 0.0]]]]]


def test_signs_of_zeros(backend: str) -> None:
    """The comparisons above take zeros of both signs for equal, the law does not."""

    def signs(x: lucid.Tensor) -> list[bool]:
        return np.signbit(x.numpy()).tolist()

    zeros = lucid.tensor([0.0, -0.0])
    assert signs(lucid.nn.functional.relu(zeros)) == [False, False]
    assert signs(lucid.neg(zeros)) == [True, False]
    assert signs(lucid.sqrt(zeros)) == [False, True]
    assert signs(lucid.abs(zeros)) == [False, False]
    assert signs(zeros + -0.0) == [False, True]
    assert signs(zeros - 0.0) == [False, True]
    assert signs(lucid.reciprocal(zeros)) == [False, True]
    assert signs(lucid.maximum(zeros, lucid.tensor([-0.0, 0.0]))) == [False, True]  # equal: the first operand
    assert signs(lucid.max(lucid.tensor([[-0.0, 0.0], [0.0, -0.0]]), 1)) == [True, False]  # the first in order
    assert signs(lucid.sum(lucid.tensor([[-0.0, -0.0]]), 1)) == [False]  # a sum starts from +0


def test_no_pixel_in_a_window(backend: str) -> None:
    """Dilation can step over a small image: minus infinity, and no gradient (PyTorch refuses, or reads elsewhere)."""
    x = lucid.tensor(np.ones((1, 1, 1, 1), np.float32), requires_grad=True)
    y = lucid.nn.functional.max_pool2d(x, (2, 1), padding=(1, 0), dilation=(2, 1))
    assert y.tolist() == [[[[-np.inf]]]]
    y.backward(lucid.ones(1, 1, 1, 1))
    assert x.grad is not None
    assert x.grad.tolist() == [[[[0.0]]]]


@pytest.mark.parametrize("p", [0.25, 0.5, 0.9])
def test_dropout_keeps_and_scales(backend: str, p: float) -> None:
    """The result is the input times a mask, the gradient ``dy`` times that mask, which is the same on every backend."""
    masks = []
    for name in BACKENDS:
        with on(name):
            lucid.manual_seed(11)
            x = lucid.ones(40, 50, requires_grad=True)
            y = lucid.nn.functional.dropout(x, p)
            y.backward(lucid.full((40, 50), 2.0))
            assert x.grad is not None
            assert set(np.unique(y.numpy())) == {np.float32(0.0), np.float32(1.0 / (1.0 - p))}
            assert (x.grad.numpy() == 2.0 * y.numpy()).all()
            masks.append(y.numpy())
    assert all((mask == masks[0]).all() for mask in masks)
    assert abs((masks[0] != 0).mean() - (1 - p)) < 4 * (p * (1 - p) / 2000) ** 0.5


def test_max_pool_says_where(backend: str) -> None:
    x = lucid.tensor([[[[1.0, 5.0, 5.0], [5.0, 0.0, 7.0]]]])
    y, index = lucid.nn.functional.max_pool2d(x, 2, stride=1, return_indices=True)
    assert (y.tolist(), index.tolist(), index.dtype) == ([[[[5.0, 7.0]]]], [[[[1, 5]]]], lucid.int64)


@pytest.mark.parametrize("sides", [1, 2, 3])
def test_a_transposed_convolution_is_the_gradient_of_a_convolution(backend: str, sides: int) -> None:
    """Bit for bit, and its own gradients are the convolution and the convolution's weight gradient."""
    rng, name = np.random.default_rng(sides), f"{sides}d"
    convolve, transpose = (getattr(F, kind + name) for kind in ("conv", "conv_transpose"))
    options = {"stride": (2, 1, 3)[:sides], "padding": (1, 0, 1)[:sides], "dilation": (1, 2, 1)[:sides], "groups": 2}
    image = lucid.tensor(rng.standard_normal((2, 6, *(6, 5, 8)[:sides])), dtype="float32", requires_grad=True)
    weight = lucid.tensor(rng.standard_normal((4, 3, *(3, 2, 3)[:sides])), dtype="float32", requires_grad=True)
    y = convolve(image, weight, **options)
    dy = lucid.tensor(rng.standard_normal(y.shape), dtype="float32", requires_grad=True)
    y.backward(dy.detach())
    missing = [
        size - ((n - 1) * step - 2 * pad + gap * (k - 1) + 1)
        for size, n, step, pad, gap, k in zip(
            image.shape[2:],
            y.shape[2:],
            *(options[key] for key in ("stride", "padding", "dilation")),
            weight.shape[2:],
            strict=True,
        )
    ]
    other = lucid.tensor(weight.numpy(), requires_grad=True)
    again = transpose(dy, other, output_padding=missing, **options)
    assert (again.numpy() == image.grad.numpy()).all()
    again.backward(image.detach())
    assert (dy.grad.numpy() == y.numpy()).all()
    assert (other.grad.numpy() == weight.grad.numpy()).all()


@pytest.mark.parametrize("operation", ["conv", "max_pool", "avg_pool", "adaptive_avg_pool", "conv_transpose"])
def test_one_side_is_a_height_of_one(backend: str, operation: str) -> None:
    rng = np.random.default_rng(5)
    line = lucid.tensor(rng.standard_normal((2, 17, 19)), dtype="float32", requires_grad=True)
    weight = lucid.tensor(rng.standard_normal((17, 17, 3)), dtype="float32")
    pools = (3, 2, 1), [(1, 3), (1, 2), (0, 1)]
    one, wide = {"max_pool": pools, "avg_pool": pools, "adaptive_avg_pool": ((4,), [(1, 4)])}.get(
        operation, ((weight, None, 2, 1), [weight[:, :, None], None, (1, 2), (0, 1)])
    )
    y = getattr(F, f"{operation}1d")(line, *one)
    y.backward(y.detach())
    image = lucid.tensor(line.numpy()[:, :, None], requires_grad=True)
    z = getattr(F, f"{operation}2d")(image, *wide)
    z.backward(z.detach())
    assert (z.numpy()[:, :, 0] == y.numpy()).all()
    assert (image.grad.numpy()[:, :, 0] == line.grad.numpy()).all()


# -- pooling, by a loop over PyTorch's documented formulas -------------------------------------------------------------


def windows_along(size: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool) -> int:
    room = size + 2 * padding - dilation * (kernel - 1) - 1
    count = (math.ceil(room / stride) if ceil_mode else math.floor(room / stride)) + 1
    if ceil_mode and (count - 1) * stride >= size + padding:
        count -= 1  # a window that would begin behind the image is dropped
    return count


@pytest.mark.parametrize("sides", [1, 2, 3])
@pytest.mark.parametrize("ceil_mode", [False, True])
def test_windows_are_counted_along_every_side(sides: int, ceil_mode: bool) -> None:
    rng = np.random.default_rng(sides)
    seen = set()
    for _ in range(300):
        kernel, stride, padding, dilation = (
            _window.per_side(what, [int(n) for n in rng.integers(low, 5, sides)], low, sides)
            for what, low in [("kernel_size", 1), ("stride", 1), ("padding", 0), ("dilation", 1)]
        )
        shape = (2, 3, *map(int, rng.integers(0, 12, sides)))
        expected = tuple(
            windows_along(*side, ceil_mode) for side in zip(shape[2:], kernel, stride, padding, dilation, strict=True)
        )
        seen.add(min(expected) < 1)
        if min(expected) < 1:
            with pytest.raises(ValueError, match="larger than the input"):
                _window.output_size("pool", shape, kernel, stride, padding, dilation, ceil_mode)
        else:
            assert _window.output_size("pool", shape, kernel, stride, padding, dilation, ceil_mode) == expected
    assert seen == {False, True}
    assert _window.per_side("stride", 2, 1, sides) == _window.per_side("stride", [2], 1, sides) == (2,) * sides
    with pytest.raises(ValueError, match=r"stride: got .*; may be an integer or"):
        _window.per_side("stride", (1,) * 4, 1, sides)
    with pytest.raises(ValueError, match=rf"must have {sides + 2} axes"):
        _window.require_image("pool", (1,) * (sides + 1), sides)


def pooled_by_loops(x: Any, dy: Any, side: Any, average: bool, include_pad: bool) -> tuple[Any, Any, Any]:
    """Result, places and gradient of one plane, pixel by pixel; ``side``: count, kernel, stride, padding, dilation."""
    y, places, dx = np.zeros(dy.shape), np.zeros(dy.shape, int), np.zeros(x.shape)
    for at in np.ndindex(dy.shape):
        taps: list[list[int]] = []
        area = 1
        for i, size, (_, kernel, stride, padding, dilation) in zip(at, x.shape, side, strict=True):
            start = i * stride - padding
            area *= min(start + kernel, size + padding) - start
            taps.append([p for p in range(start, start + dilation * kernel, dilation) if 0 <= p < size])
        pixels = list(itertools.product(*taps))
        if average:
            divisor = area if include_pad else len(pixels)
            y[at] = sum(x[p] for p in pixels) / divisor
            for p in pixels:
                dx[p] += dy[at] / divisor
        else:
            best = max(pixels, key=lambda p: x[p])  # the first of the largest
            y[at], places[at] = x[best], best[0] * x.shape[1] + best[1]
            dx[best] += dy[at]
    return y, places, dx


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("average", [False, True], ids=["max", "avg"])
def test_pooling_is_the_loop_over_windows(backend: str, average: bool, ceil_mode: bool) -> None:
    rng = np.random.default_rng(3)
    compared = 0
    for size, kernel, stride, dilation in itertools.product(
        (1, 2, 3, 5), (1, 2, 3, 4), (1, 2, 3), (1,) if average else (1, 2)
    ):
        for padding in range((dilation * (kernel - 1) + 1) // 2 + 1):
            across = (int(rng.integers(1, 6)), 2, int(rng.integers(1, 3)), int(rng.integers(0, 2)), 1)
            sizes = size, across[0]
            sides = (kernel, stride, padding, dilation), across[1:]
            counts = [windows_along(n, *side, ceil_mode) for n, side in zip(sizes, sides, strict=True)]
            x = lucid.tensor(rng.integers(-9, 10, (1, 1, *sizes)) * 1.0, dtype="float64", requires_grad=True)
            options: dict[str, Any] = {"stride": (stride, across[2]), "padding": (padding, across[3])}
            include = bool(rng.integers(2))
            if not average:
                options.update(dilation=(dilation, 1), return_indices=True)
            where = f"{sizes} {sides} {ceil_mode} {include}"

            def call(x: Any = x, options: Any = options, kernel: Any = (kernel, 2), include: bool = include) -> Any:
                if average:
                    return F.avg_pool2d(x, kernel, ceil_mode=ceil_mode, count_include_pad=include, **options), None
                return F.max_pool2d(x, kernel, ceil_mode=ceil_mode, **options)

            if min(counts) < 1:
                with pytest.raises(ValueError, match="is larger than the input"):
                    call()
                continue
            if dilation > 1 and padding >= size:
                continue  # taps may step over the whole image: test_no_pixel_in_a_window
            y, places = call()
            assert y.shape == (1, 1, *counts), where
            dy = rng.integers(-4, 5, y.shape) * 1.0
            y.backward(lucid.tensor(dy))
            side = [(count, *one) for count, one in zip(counts, sides, strict=True)]
            expected = pooled_by_loops(x.numpy()[0, 0], dy[0, 0], side, average, include)
            np.testing.assert_allclose(y.numpy()[0, 0], expected[0], rtol=1e-14, atol=1e-14, err_msg=where)
            np.testing.assert_allclose(x.grad.numpy()[0, 0], expected[2], rtol=1e-14, atol=1e-13, err_msg=where)
            if places is not None:
                np.testing.assert_array_equal(places.numpy()[0, 0], expected[1], err_msg=where)
            compared += 1
    assert compared > 50


# -- bad input -------------------------------------------------------------------------------------------------------

IMAGE, WEIGHT = (2, 4, 5, 5), (6, 4, 3, 3)


def conv(image: Any = IMAGE, weight: Any = WEIGHT, bias: Any = None, **options: Any) -> lucid.Tensor:
    third = None if bias is None else lucid.zeros(*bias)
    return lucid.nn.functional.conv2d(lucid.zeros(*image), lucid.zeros(*weight), third, **options)


def up(image: Any = (1, 4, 3, 3), weight: Any = (4, 3, 2, 2), bias: Any = None, **options: Any) -> lucid.Tensor:
    third = None if bias is None else lucid.zeros(*bias)
    return lucid.nn.functional.conv_transpose2d(lucid.zeros(*image), lucid.zeros(*weight), third, **options)


def norm(image: Any, means: int | None, variances: int | None, training: bool = False) -> lucid.Tensor:
    mean, var = (None if n is None else lucid.ones(n) for n in (means, variances))
    return lucid.nn.functional.batch_norm(lucid.zeros(*image), mean, var, training=training)


def nll(logits: Any, classes: Any, **options: Any) -> lucid.Tensor:
    return lucid.nn.functional.nll_loss(lucid.zeros(*logits), lucid.tensor(classes), **options)


F = lucid.nn.functional
REFUSED: dict[str, tuple[Any, type[Exception], str]] = {
    "conv rank": (lambda: conv((4, 5, 5)), ValueError, r"conv2d: input has shape \(4, 5, 5\); must have 4 axes"),
    "conv channels": (lambda: conv((2, 3, 5, 5)), ValueError, r"has 3 channels; the weight .* takes 4"),
    "conv groups": (lambda: conv(groups=3), ValueError, "groups: got 3; must divide the 4 input channels"),
    "conv weight": (lambda: conv(weight=(6, 4, 3)), ValueError, r"conv2d: weight has shape \(6, 4, 3\)"),
    "conv bias": (lambda: conv(bias=(5,)), ValueError, r"conv2d: bias has shape \(5,\); must be \(6,\)"),
    "conv stride": (lambda: conv(stride=0), ValueError, "stride: got 0; may be 1 or more"),
    "conv padding": (lambda: conv(padding=(1, -1)), ValueError, r"padding: got \(1, -1\); may be 0 or more"),
    "conv padding word": (lambda: conv(padding="full"), ValueError, "padding: got 'full'; may be 'same', 'valid'"),
    "conv same stride": (lambda: conv(padding="same", stride=2), ValueError, "'same' needs stride 1"),
    "conv dilation": (lambda: conv(dilation=(1, 2, 3)), ValueError, r"dilation: got \(1, 2, 3\); may be an integer"),
    "conv kernel": (lambda: conv((1, 4, 2, 5)), ValueError, "conv2d: "),
    "conv1d rank": (
        lambda: F.conv1d(lucid.zeros(1, 2, 3, 4), lucid.zeros(2, 2, 1)),
        ValueError,
        r"3 axes, \(N, C, L\)",
    ),
    "conv1d weight": (lambda: F.conv1d(lucid.zeros(1, 2, 3), lucid.zeros(2, 2, 1, 1)), ValueError, "C/groups, K\\)"),
    "conv1d padding": (
        lambda: F.conv1d(lucid.zeros(1, 2, 3), lucid.zeros(2, 2, 1), padding=(1, 1)),
        ValueError,
        r"padding: got \(1, 1\); may be an integer or a sequence of one",
    ),
    "conv3d stride": (
        lambda: F.conv3d(lucid.zeros(1, 2, 3, 3, 3), lucid.zeros(2, 2, 1, 1, 1), stride=(1, 2)),
        ValueError,
        r"stride: got \(1, 2\); may be an integer or three integers",
    ),
    "conv3d kernel": (
        lambda: F.conv3d(lucid.zeros(1, 2, 1, 3, 3), lucid.zeros(2, 2, 2, 1, 1)),
        ValueError,
        "conv3d: a kernel of 2x1x1 .* is larger than the input 1x3x3",
    ),
    "transposed channels": (lambda: up((1, 3, 4, 4)), ValueError, r"has 3 channels; the weight .* takes 4"),
    "transposed rank": (lambda: up((4, 4, 4)), ValueError, r"conv_transpose2d: input has shape .* must have 4 axes"),
    "transposed weight": (lambda: up(weight=(4, 3, 2)), ValueError, r"must be \(C, O/groups, KH, KW\)"),
    "transposed groups": (lambda: up(groups=3), ValueError, "groups: got 3; must divide the 4 input channels"),
    "transposed bias": (lambda: up(bias=(4,), groups=2), ValueError, r"bias has shape \(4,\); must be \(6,\)"),
    "transposed output padding": (
        lambda: up(stride=2, output_padding=(1, 2)),
        ValueError,
        r"output_padding: got \(1, 2\); must be less than the stride \(2, 2\) or the dilation \(1, 1\)",
    ),
    "transposed away": (lambda: up((1, 4, 1, 1), padding=1), ValueError, "leaves a result of 0x0; each side must be"),
    "max_pool3d padding": (
        lambda: F.max_pool3d(lucid.zeros(1, 1, 3, 3, 3), 2, padding=(0, 2, 0)),
        ValueError,
        r"padding: got \(0, 2, 0\); may be at most half of the window 2x2x2",
    ),
    "avg_pool1d rank": (
        lambda: F.avg_pool1d(lucid.zeros(5, 5), 2),
        ValueError,
        r"avg_pool1d: input has shape \(5, 5\)",
    ),
    "max_pool padding": (
        lambda: F.max_pool2d(lucid.zeros(*IMAGE), 2, padding=2),
        ValueError,
        r"padding: got \(2, 2\); may be at most half of the window 2x2",
    ),
    "max_pool kernel": (lambda: F.max_pool2d(lucid.zeros(*IMAGE), 6), ValueError, "max_pool2d: "),
    "avg_pool rank": (lambda: F.avg_pool2d(lucid.zeros(5, 5), 2), ValueError, "avg_pool2d: input has shape"),
    "adaptive empty": (lambda: F.adaptive_avg_pool2d(lucid.zeros(1, 2, 0, 3), 1), ValueError, "at least one pixel"),
    "adaptive size": (lambda: F.adaptive_avg_pool2d(lucid.zeros(*IMAGE), 0), ValueError, "output_size: got"),
    "norm channels": (lambda: norm(IMAGE, 3, 3), ValueError, r"has 4 channels; .* must have shape \(4,\)"),
    "norm rank": (lambda: norm((4,), 4, 4), ValueError, "batch_norm: input has shape"),
    "norm single": (
        lambda: norm((1, 4, 1, 1), 4, 4, training=True),
        ValueError,
        "training needs more than one value per channel",
    ),
    "norm statistics": (lambda: norm(IMAGE, None, 4), ValueError, "evaluation needs running_mean and running_var"),
    "linear features": (lambda: F.linear(lucid.zeros(2, 3), lucid.zeros(4, 5)), ValueError, "must have length 5"),
    "linear weight": (lambda: F.linear(lucid.zeros(2, 3), lucid.zeros(3)), ValueError, "linear: weight has shape"),
    "matmul": (lambda: lucid.matmul(lucid.zeros(2, 3), lucid.zeros(2, 3)), ValueError, "matmul: got shapes"),
    "matmul scalar": (lambda: lucid.matmul(lucid.zeros(2, 3), 2.0), ValueError, "both operands need an axis"),
    "target": (lambda: nll((2, 3), [0, 3]), IndexError, "target: got class 3 at position 1; may be 0 to 2"),
    "target negative": (lambda: nll((2, 3), [-1, 0]), IndexError, "target: got class -1 at position 0"),
    "target dtype": (lambda: F.nll_loss(lucid.zeros(2, 3), lucid.zeros(2)), TypeError, "target: got float32"),
    "target shape": (lambda: nll((2, 3), [0, 1, 2]), ValueError, "nll_loss: got an input of shape"),
    "reduction": (lambda: nll((2, 3), [0, 1], reduction="total"), ValueError, "reduction: got 'total'"),
    "smoothing": (
        lambda: F.cross_entropy(lucid.zeros(2, 3), lucid.tensor([0, 1]), label_smoothing=1.5),
        ValueError,
        "label_smoothing: got 1.5; may be 0 to 1",
    ),
    "class weights": (
        lambda: F.cross_entropy(lucid.zeros(2, 3), lucid.tensor([0, 1]), lucid.ones(4)),
        ValueError,
        r"weight: got shape \(4,\); must be \(3,\)",
    ),
    "bce shape": (
        lambda: F.binary_cross_entropy(lucid.ones(2), lucid.ones(1)),
        ValueError,
        "binary_cross_entropy: inp",
    ),
    "bce chance": (
        lambda: F.binary_cross_entropy(lucid.tensor([0.5, 1.5]), lucid.ones(2)),
        ValueError,
        "got 1.5 at pos",
    ),
    "bce weight": (
        lambda: F.binary_cross_entropy(lucid.ones(2), lucid.ones(2), lucid.ones(3, 2)),
        ValueError,
        "weight: got shape",
    ),
    "huber delta": (lambda: F.huber_loss(lucid.ones(2), lucid.ones(2), delta=0), ValueError, "delta: got 0; may"),
    "smooth beta": (lambda: F.smooth_l1_loss(lucid.ones(2), lucid.ones(2), beta=-1), ValueError, "beta: got -1; may"),
    "interpolate rank": (lambda: F.interpolate(lucid.ones(2, 3), 4), ValueError, "interpolate: input has shape"),
    "interpolate mode": (
        lambda: F.interpolate(lucid.ones(1, 1, 2), 4, mode="bilinear"),
        ValueError,
        "may be 'nearest'",
    ),
    "interpolate both": (
        lambda: F.interpolate(lucid.ones(1, 1, 2), 4, 2.0),
        ValueError,
        "size, scale_factor: got 4 and",
    ),
    "interpolate corners": (
        lambda: F.interpolate(lucid.ones(1, 1, 2), 4, align_corners=False),
        ValueError,
        "align_corners: got False for mode 'nearest'",
    ),
    "interpolate factor": (
        lambda: F.interpolate(lucid.ones(1, 1, 2, 2), scale_factor=(2.0, 0.0)),
        ValueError,
        "scale_factor: got",
    ),
    "interpolate empty": (lambda: F.interpolate(lucid.ones(1, 1, 0), 2), ValueError, "may have 1 to"),
    "interpolate to nothing": (
        lambda: F.interpolate(lucid.ones(1, 1, 2), scale_factor=0.1),
        ValueError,
        "the sides of the result: got",
    ),
    "interpolate smoothed": (
        lambda: F.interpolate(lucid.ones(1, 1, 2), 2, antialias=True),
        ValueError,
        "antialias: got True",
    ),
    "unfold rank": (lambda: F.unfold(lucid.ones(2, 3), 2), ValueError, "unfold: input has shape"),
    "unfold kernel": (lambda: F.unfold(lucid.ones(1, 1, 2, 2), 3), ValueError, "unfold: a kernel of 3x3"),
    "fold windows": (lambda: F.fold(lucid.ones(1, 4, 5), 3, 2), ValueError, "columns of 2x2 windows"),
    "grid shape": (
        lambda: F.grid_sample(lucid.ones(1, 1, 2, 2), lucid.ones(1, 2, 2, 3)),
        ValueError,
        r"must be \(1, OH, OW, 2\)",
    ),
    "grid mode": (
        lambda: F.grid_sample(lucid.ones(1, 1, 2, 2), lucid.ones(1, 2, 2, 2), "cubic"),
        ValueError,
        "mode: got 'cubic'",
    ),
    "grid padding": (
        lambda: F.grid_sample(lucid.ones(1, 1, 2, 2), lucid.ones(1, 2, 2, 2), padding_mode="ones"),
        ValueError,
        "padding_mode: got 'ones'",
    ),
    "theta": (lambda: F.affine_grid(lucid.ones(1, 2, 2), (1, 1, 2, 2)), ValueError, r"must be \(1, 2, 3\)"),
    "angle": (lambda: F.rotate(lucid.ones(1, 1, 2, 2), math.inf), ValueError, "angle: got inf"),
    "mse shape": (lambda: F.mse_loss(lucid.zeros(2, 3), lucid.zeros(3)), ValueError, "mse_loss: input has shape"),
    "dropout": (lambda: F.dropout(lucid.zeros(2), -0.1), ValueError, "p: got -0.1; may be 0 to 1"),
    "softmax integers": (lambda: F.log_softmax(lucid.tensor([1, 2])), TypeError, "log_softmax: got a int64 tensor"),
    "mixed": (
        lambda: F.linear(lucid.zeros(2, 3), lucid.zeros(4, 3, dtype=lucid.float64)),
        TypeError,
        "linear: got tensors of dtype float32 and float64",
    ),
    "mixed statistics": (
        lambda: F.batch_norm(lucid.zeros(*IMAGE), lucid.zeros(4), lucid.ones(4, dtype=lucid.float64)),
        TypeError,
        "batch_norm: got tensors of dtype float32 and float64",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name: str) -> None:
    call, error, message = REFUSED[name]
    with pytest.raises(error, match=message):
        call()


def test_a_refused_update_changes_nothing() -> None:
    """Running statistics are written after everything was checked and computed."""
    mean, var = lucid.zeros(4), lucid.ones(4, dtype=lucid.float64)
    with pytest.raises(TypeError):
        F.batch_norm(lucid.ones(*IMAGE), mean, var, training=True)
    assert mean.tolist() == [0.0] * 4
    assert var.tolist() == [1.0] * 4
