"""The reference backend as a backend: accuracy of its functions, known answers, empty arrays, and what must not matter.

That its bits are those of the law is the subject of ``test_law.py``.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lucid.backends import get_backend
from lucid.kernels.contraction import reference as contraction
from lucid.kernels.elementwise import functions
from lucid.kernels.pool import reference as pool
from lucid.kernels.random import reference as random_numbers

Array = Any
Call = Callable[[Callable[[Array], Array]], Any]
BACKEND = get_backend("reference")
SEED = 8128
pytestmark = pytest.mark.filterwarnings("error")


def random(*shape: int, dtype: Any = np.float32, seed: int = SEED) -> Array:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def assert_same(a: Any, b: Any) -> None:
    """Equal dtypes, shapes and bits (any NaN equals any other), of an array or a tuple of arrays."""
    if isinstance(a, tuple):
        for left, right in zip(a, b, strict=True):
            assert_same(left, right)
        return
    assert (a.dtype, a.shape) == (b.dtype, b.shape)
    np.testing.assert_array_equal(a, b)
    if a.dtype.kind == "f":
        np.testing.assert_array_equal(np.signbit(a)[~np.isnan(a)], np.signbit(b)[~np.isnan(b)])


# -- functions -------------------------------------------------------------------------------------------------------


def ulps(ours: Array, theirs: Array) -> float:
    return float(np.max(np.abs(ours - theirs) / np.spacing(np.abs(theirs))))


def test_exp_is_within_an_ulp() -> None:
    x = np.random.default_rng(SEED).uniform(-708, 709.7, 200_000)
    assert ulps(functions.exp64(x), np.exp(x)) <= 1
    assert ulps(functions.exp64(x / 700), np.exp(x / 700)) <= 1


def test_log_is_within_an_ulp() -> None:
    rng = np.random.default_rng(SEED)
    for x in (2.0 ** rng.uniform(-1074, 1024, 200_000), rng.uniform(0.5, 2, 200_000)):
        assert ulps(functions.log64(x), np.log(x)) <= 1


@pytest.mark.parametrize(
    ("function", "x", "y"),
    [
        ("exp64", 0.0, 1.0),
        ("exp64", -0.0, 1.0),
        ("exp64", np.inf, np.inf),
        ("exp64", -np.inf, 0.0),
        ("exp64", np.nan, np.nan),
        ("exp64", 709.79, np.inf),
        ("exp64", -746.0, 0.0),
        ("exp64", -745.13, 5e-324),
        ("exp64", 1e308, np.inf),
        ("log64", 1.0, 0.0),
        ("log64", 0.0, -np.inf),
        ("log64", -0.0, -np.inf),
        ("log64", -1.0, np.nan),
        ("log64", -np.inf, np.nan),
        ("log64", np.inf, np.inf),
        ("log64", np.nan, np.nan),
        ("log64", 5e-324, -744.4400719213812),
        ("sigmoid64", 0.0, 0.5),
        ("sigmoid64", -np.inf, 0.0),
        ("sigmoid64", np.inf, 1.0),
        ("sigmoid64", -800.0, 0.0),
        ("sigmoid64", np.nan, np.nan),
    ],
)
def test_special_values(function: str, x: float, y: float) -> None:
    with np.errstate(all="ignore"):
        assert_same(getattr(functions, function)(np.array([x])), np.array([y]))


def test_normal_deviates_are_accurate() -> None:
    """Against SciPy, whose method is another one, and the standard library, whose logarithm is another one."""
    special = pytest.importorskip("scipy.special")
    rng = np.random.default_rng(SEED)
    u = np.concatenate([rng.random(20_000), 2.0 ** -rng.uniform(1, 1000, 5000), 1 - 2.0 ** -rng.uniform(1, 52, 5000)])
    u = u[np.abs(u - 0.5) > 1e-6]  # nearer, a relative error says little
    with np.errstate(all="ignore"):
        z = random_numbers.normal64(u)
    np.testing.assert_allclose(z, special.ndtri(u), rtol=2e-15, atol=0)
    np.testing.assert_allclose(z, [statistics.NormalDist().inv_cdf(v) for v in u], rtol=2e-15, atol=0)


# -- random numbers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_philox_known_answers(counter: str, key: str, words: str) -> None:
    """The known-answer vectors that its authors publish with Random123."""
    block_low, block_high, stream_low, stream_high = (int(word, 16) for word in counter.split())
    seed_low, seed_high = (int(word, 16) for word in key.split())
    ours = BACKEND.philox(seed_high << 32 | seed_low, stream_high << 32 | stream_low, block_high << 32 | block_low, 4)
    assert ours.dtype == np.uint32
    assert [f"{word:08x}" for word in ours] == words.split()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_draws_continue_block_by_block(dtype: Any) -> None:
    a_block = 4 if dtype == np.float32 else 2
    for draw in (BACKEND.uniform, BACKEND.normal):
        whole = draw(5, 6, 7, 50 * a_block, 0.0, 1.0, dtype)
        assert whole.dtype == dtype
        assert_same(draw(5, 6, 7 + 20, 30 * a_block, 0.0, 1.0, dtype), whole[20 * a_block :])
        assert_same(draw(5, 6, 7, 3, 0.0, 1.0, dtype), whole[:3])
        assert draw(5, 6, 7, 0, 0.0, 1.0, dtype).shape == (0,)


def test_words_go_round_at_the_last_block() -> None:
    assert_same(BACKEND.philox(1, 2, 2**64 - 1, 8)[4:], BACKEND.philox(1, 2, 0, 4))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("word", [0, 2**32 - 1])
def test_extreme_words_give_finite_deviates(word: int, dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random_numbers, "philox", lambda *args: np.full(args[-1], word, np.uint32))
    u = BACKEND.uniform(0, 0, 0, 4, 0.0, 1.0, np.float64)
    assert ((u > 0) & (u < 1)).all()
    z = BACKEND.normal(0, 0, 0, 4, 0.0, 1.0, dtype)
    assert np.isfinite(z).all()
    assert ((z > 6) if word else (z < -6)).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_draws_have_the_right_moments(dtype: Any) -> None:
    n = 200_000
    u, z = BACKEND.uniform(1, 2, 3, n, -1.0, 3.0, dtype), BACKEND.normal(1, 2, 3, n, 5.0, 2.0, dtype)
    for x, mean, std in ((u, 1.0, 4 / 12**0.5), (z, 5.0, 2.0)):
        assert abs(x.mean(dtype=np.float64) - mean) < 5 * std / n**0.5
        assert abs(x.std(dtype=np.float64) - std) < 5 * std / n**0.5


# -- empty arrays ----------------------------------------------------------------------------------------------------

F32 = np.float32
ONE, TWO, NONE = (1, 1), (2, 2), (0, 0)
EMPTY: dict[str, tuple[Callable[[], Any], Any]] = {
    "conv2d": (
        lambda: BACKEND.conv2d(random(0, 3, 5, 5), random(2, 3, 3, 3), random(2), TWO, ONE, ONE, 1),
        np.zeros((0, 2, 3, 3), F32),
    ),
    "conv2d_input_grad": (
        lambda: BACKEND.conv2d_input_grad(random(0, 2, 3, 3), random(2, 3, 3, 3), (0, 3, 5, 5), TWO, ONE, ONE, 1),
        np.zeros((0, 3, 5, 5), F32),
    ),
    "conv2d_weight_grad": (
        lambda: BACKEND.conv2d_weight_grad(random(0, 2, 3, 3), random(0, 3, 5, 5), (2, 3, 3, 3), TWO, ONE, ONE, 1),
        np.zeros((2, 3, 3, 3), F32),
    ),
    "matmul, no rows": (lambda: BACKEND.matmul(random(0, 3), random(3, 2)), np.zeros((0, 2), F32)),
    "matmul, no terms": (lambda: BACKEND.matmul(random(4, 0), random(0, 2)), np.zeros((4, 2), F32)),
    "matmul, no batch": (lambda: BACKEND.matmul(random(0, 4, 3), random(3, 2)), np.zeros((0, 4, 2), F32)),
    "linear": (lambda: BACKEND.linear(random(0, 3), random(2, 3), random(2)), np.zeros((0, 2), F32)),
    "sum": (lambda: BACKEND.reduce("sum", random(0, 3), (0,), False), np.zeros(3, F32)),
    "sum of no columns": (lambda: BACKEND.reduce("sum", random(3, 0), (0,), True), np.zeros((1, 0), F32)),
    "mean": (lambda: BACKEND.reduce("mean", random(0, 3), (0,), False), np.full(3, np.nan, F32)),
    "max of no columns": (lambda: BACKEND.reduce("max", random(3, 0), (0,), False), np.zeros(0, F32)),
    "unary": (lambda: BACKEND.unary("exp", random(0, 3)), np.zeros((0, 3), F32)),
    "binary": (lambda: BACKEND.binary("add", random(0, 3), random(3)), np.zeros((0, 3), F32)),
    "power": (lambda: BACKEND.power(random(0), 1.5), np.zeros(0, F32)),
    "index_add": (lambda: BACKEND.index_add((3, 2), np.zeros(0, int), random(0, 2)), np.zeros((3, 2), F32)),
    "batch_norm_train": (
        lambda: BACKEND.batch_norm_train(random(0, 2, 3, 3), random(2), random(2), 1e-5),
        (np.zeros((0, 2, 3, 3), F32), np.full(2, np.nan), np.full(2, np.nan)),
    ),
    "batch_norm_eval": (
        lambda: BACKEND.batch_norm_eval(random(0, 2, 3, 3), None, None, np.zeros(2), np.ones(2), 1e-5),
        np.zeros((0, 2, 3, 3), F32),
    ),
    "batch_norm_grad": (
        lambda: BACKEND.batch_norm_grad(*[random(0, 2, 3, 3)] * 2, None, np.zeros(2), np.ones(2), 1e-5, True),
        (np.zeros((0, 2, 3, 3), F32), np.zeros(2, F32), np.zeros(2, F32)),
    ),
    "max_pool2d": (
        lambda: BACKEND.max_pool2d(random(0, 2, 4, 4), TWO, TWO, NONE, ONE, TWO),
        (np.zeros((0, 2, 2, 2), F32), np.zeros((0, 2, 2, 2), np.int64)),
    ),
    "max_pool2d_grad": (
        lambda: BACKEND.max_pool2d_grad(random(0, 2, 2, 2), np.zeros((0, 2, 2, 2), np.int64), (0, 2, 4, 4)),
        np.zeros((0, 2, 4, 4), F32),
    ),
    "avg_pool2d": (
        lambda: BACKEND.avg_pool2d(random(0, 2, 4, 4), TWO, TWO, NONE, True, TWO),
        np.zeros((0, 2, 2, 2), F32),
    ),
    "avg_pool2d_grad": (
        lambda: BACKEND.avg_pool2d_grad(random(0, 2, 2, 2), (0, 2, 4, 4), TWO, TWO, NONE, True),
        np.zeros((0, 2, 4, 4), F32),
    ),
    "adaptive_avg_pool2d": (lambda: BACKEND.adaptive_avg_pool2d(random(0, 2, 4, 4), ONE), np.zeros((0, 2, 1, 1), F32)),
    "adaptive_avg_pool2d_grad": (
        lambda: BACKEND.adaptive_avg_pool2d_grad(random(0, 2, 1, 1), (0, 2, 4, 4)),
        np.zeros((0, 2, 4, 4), F32),
    ),
    "log_softmax": (lambda: BACKEND.log_softmax(random(0, 4), 1), np.zeros((0, 4), F32)),
    "log_softmax_grad": (lambda: BACKEND.log_softmax_grad(random(0, 4), random(0, 4), 1), np.zeros((0, 4), F32)),
    "nll_loss": (
        lambda: BACKEND.nll_loss(random(0, 4), np.zeros(0, np.int64), None, -100, "mean"),
        (np.array(np.nan, F32), np.array(0.0)),
    ),
    "philox": (lambda: BACKEND.philox(1, 2, 3, 0), np.zeros(0, np.uint32)),
}


@pytest.mark.parametrize("case", EMPTY)
def test_empty(case: str) -> None:
    call, expected = EMPTY[case]
    assert_same(call(), expected)


def test_extreme_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="empty"):
        BACKEND.reduce("max", random(0, 3), (0,), False)


# -- what must not matter --------------------------------------------------------------------------------------------
# Each kernel as a call whose array arguments pass through `lay`, which may store them in another order.

TARGET = np.array([0, 3, 1])
KERNELS: dict[str, Call] = {
    "unary": lambda lay: BACKEND.unary("sigmoid", lay(random(3, 4, 5))),
    "binary": lambda lay: BACKEND.binary("maximum", lay(random(3, 4, 5)), lay(random(4, 5))),
    "power": lambda lay: BACKEND.power(lay(random(3, 4)), 1),
    "sum": lambda lay: BACKEND.reduce("sum", lay(random(20, 30, 4)), (0, 1), False),
    "max": lambda lay: BACKEND.reduce("max", lay(random(20, 30, 4)), (1,), True),
    "sum of one term": lambda lay: BACKEND.reduce("max", lay(random(3, 4)), (), True),
    "index_add": lambda lay: BACKEND.index_add((3, 4), lay(np.array([[0, 1], [0, 2]])), lay(random(2, 2, 4))),
    "matmul": lambda lay: BACKEND.matmul(lay(random(2, 3, 300)), lay(random(2, 300, 4))),
    "linear": lambda lay: BACKEND.linear(lay(random(3, 300)), lay(random(5, 300)), lay(random(5))),
    "conv2d": lambda lay: BACKEND.conv2d(
        lay(random(2, 4, 6, 5)), lay(random(6, 2, 3, 3)), lay(random(6)), TWO, ONE, ONE, 2
    ),
    "conv2d_input_grad": lambda lay: BACKEND.conv2d_input_grad(
        lay(random(2, 6, 3, 3)), lay(random(6, 2, 3, 3)), (2, 4, 6, 5), TWO, ONE, ONE, 2
    ),
    "conv2d_weight_grad": lambda lay: BACKEND.conv2d_weight_grad(
        lay(random(2, 6, 3, 3)), lay(random(2, 4, 6, 5)), (6, 2, 3, 3), TWO, ONE, ONE, 2
    ),
    "batch_norm_train": lambda lay: BACKEND.batch_norm_train(
        lay(random(2, 3, 12, 15)), lay(random(3)), lay(random(3, seed=1)), 1e-5
    ),
    "batch_norm_grad": lambda lay: BACKEND.batch_norm_grad(
        lay(random(2, 3, 4, 5)), lay(random(2, 3, 4, 5, seed=1)), None, lay(np.zeros(3)), lay(np.ones(3)), 1e-5, True
    ),
    "max_pool2d": lambda lay: BACKEND.max_pool2d(lay(random(2, 3, 6, 5)), TWO, TWO, ONE, ONE, (4, 3)),
    "max_pool2d_grad": lambda lay: BACKEND.max_pool2d_grad(
        lay(random(1, 2, 2, 2)), lay(np.array([[[[0, 0], [3, 8]], [[4, 4], [4, -1]]]])), (1, 2, 3, 3)
    ),
    "avg_pool2d": lambda lay: BACKEND.avg_pool2d(lay(random(2, 3, 6, 5)), TWO, TWO, ONE, False, (4, 3)),
    "avg_pool2d_grad": lambda lay: BACKEND.avg_pool2d_grad(lay(random(2, 3, 4, 3)), (2, 3, 6, 5), TWO, TWO, ONE, False),
    "adaptive_avg_pool2d": lambda lay: BACKEND.adaptive_avg_pool2d(lay(random(2, 3, 7, 5)), (3, 2)),
    "adaptive_avg_pool2d_grad": lambda lay: BACKEND.adaptive_avg_pool2d_grad(lay(random(2, 3, 3, 2)), (2, 3, 7, 5)),
    "log_softmax": lambda lay: BACKEND.log_softmax(lay(random(3, 4, 5)), 1),
    "log_softmax_grad": lambda lay: BACKEND.log_softmax_grad(lay(random(3, 4, 5)), lay(random(3, 4, 5, seed=1)), 1),
    "nll_loss": lambda lay: BACKEND.nll_loss(lay(random(3, 4)), lay(TARGET), lay(np.abs(random(4))), 1, "mean"),
    "nll_loss_grad": lambda lay: BACKEND.nll_loss_grad(
        lay(random(3)), lay(TARGET), lay(np.abs(random(4))), 1, "none", np.array(2.0), 4
    ),
}


def column_major(x: Array) -> Array:
    return np.asfortranarray(x)


def channels_last(x: Array) -> Array:
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1) if x.ndim > 2 else x


def backwards_with_gaps(x: Array) -> Array:
    spread = np.zeros(tuple(2 * n for n in x.shape), x.dtype)[tuple(slice(None, None, -2) for _ in x.shape)]
    spread[...] = x
    return spread


def read_only(x: Array) -> Array:
    x.flags.writeable = False
    return x


@pytest.mark.parametrize("lay", [column_major, channels_last, backwards_with_gaps, read_only])
@pytest.mark.parametrize("kernel", KERNELS)
def test_memory_order(kernel: str, lay: Callable[[Array], Array]) -> None:
    assert_same(KERNELS[kernel](lay), KERNELS[kernel](lambda x: x))


@pytest.mark.parametrize("kernel", KERNELS)
def test_results_are_new_and_arguments_untouched(kernel: str) -> None:
    given_: list[tuple[Array, Array]] = []

    def keep(x: Array) -> Array:
        given_.append((x, x.copy()))
        return x

    results = KERNELS[kernel](keep)
    for result in results if isinstance(results, tuple) else (results,):
        assert isinstance(result, np.ndarray)
        assert not any(np.shares_memory(result, x) for x, _ in given_)
    for x, before in given_:
        assert_same(x, before)


@pytest.mark.parametrize(("block", "width", "gathered"), [(64, 3, 1), (1 << 20, 1 << 12, 1 << 30)])
@pytest.mark.parametrize("kernel", KERNELS)
def test_block_sizes(kernel: str, block: int, width: int, gathered: int, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = KERNELS[kernel](lambda x: x)
    monkeypatch.setattr(contraction, "BLOCK", block)
    monkeypatch.setattr(contraction, "WIDTH", width)
    for family in (contraction, pool):
        monkeypatch.setattr(family, "GATHERED", gathered)
    assert_same(KERNELS[kernel](lambda x: x), usual)


ROWWISE: dict[str, Callable[[Array], Array]] = {
    "conv2d": lambda x: BACKEND.conv2d(x, random(5, 3, 3, 3), random(5), TWO, ONE, ONE, 1),
    "conv2d_input_grad": lambda x: BACKEND.conv2d_input_grad(
        x, random(3, 2, 3, 3), (len(x), 2, 2 * x.shape[2], 2 * x.shape[3]), TWO, ONE, ONE, 1
    ),
    "linear": lambda x: BACKEND.linear(x.reshape(len(x), -1), random(4, x[0].size), None),
    "batch_norm_eval": lambda x: BACKEND.batch_norm_eval(x, None, None, np.arange(3.0), np.ones(3), 1e-5),
    "max_pool2d": lambda x: BACKEND.max_pool2d(x, TWO, ONE, NONE, ONE, (x.shape[2] - 1, x.shape[3] - 1))[0],
    "adaptive_avg_pool2d": lambda x: BACKEND.adaptive_avg_pool2d(x, ONE),
    "log_softmax": lambda x: BACKEND.log_softmax(x.reshape(len(x), -1), 1),
}


@pytest.mark.parametrize("kernel", ROWWISE)
@given(batch=st.integers(2, 6), height=st.integers(2, 9), width=st.integers(2, 9), seed=st.integers(0, 99))
@settings(derandomize=True, deadline=None, max_examples=15)
def test_an_image_does_not_feel_its_neighbours(kernel: str, batch: int, height: int, width: int, seed: int) -> None:
    x = random(batch, 3, height, width, seed=seed)
    together = ROWWISE[kernel](x)
    for i in range(batch):
        assert_same(ROWWISE[kernel](x[i : i + 1])[0], together[i])


def test_sgd_writes_in_place() -> None:
    p, g, v = random(4, 3), random(4, 3, seed=1), np.full((4, 3), np.nan, F32)
    param, velocity = p.copy().T, v.T
    BACKEND.sgd_step(param, g.T, velocity, True, 0.5, 0.9, 0.0, 0.0, False, False)
    assert_same(v, g)
    BACKEND.sgd_step(p, g, None, True, 0.5, 0.0, 0.0, 0.0, False, False)
    assert_same(p, param.T)
    BACKEND.sgd_step(param, g.T, velocity, False, 0.5, 0.9, 0.0, 0.0, False, False)
    assert not np.array_equal(v, g)


# -- the meaning of the kernels, against PyTorch ---------------------------------------------------------------------


def close(ours: Array, theirs: Any) -> None:
    np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("shape", "weight", "stride", "padding", "dilation", "groups"),
    [
        ((2, 4, 9, 8), (6, 4, 3, 3), ONE, ONE, ONE, 1),
        ((2, 4, 9, 8), (6, 2, 3, 2), (2, 3), (1, 0), (2, 1), 2),
        ((3, 8, 5, 5), (8, 1, 3, 3), TWO, ONE, ONE, 8),
        ((1, 3, 7, 7), (5, 3, 1, 1), TWO, NONE, ONE, 1),
        ((1, 40, 6, 6), (5, 40, 3, 3), ONE, ONE, ONE, 1),
    ],
)
def test_convolution_is_pytorchs(
    shape: Any, weight: Any, stride: Any, padding: Any, dilation: Any, groups: int
) -> None:
    torch = pytest.importorskip("torch")
    x, w, b = (random(*s, dtype=np.float64) for s in (shape, weight, weight[:1]))
    their_x, their_w = (torch.tensor(a, requires_grad=True) for a in (x, w))
    settings_ = stride, padding, dilation, groups
    theirs = torch.nn.functional.conv2d(their_x, their_w, torch.tensor(b), *settings_)
    dy = random(*theirs.shape, dtype=np.float64)
    theirs.backward(torch.tensor(dy))
    close(BACKEND.conv2d(x, w, b, *settings_), theirs)
    close(BACKEND.conv2d_input_grad(dy, w, shape, *settings_), their_x.grad)
    close(BACKEND.conv2d_weight_grad(dy, x, weight, *settings_), their_w.grad)


@pytest.mark.parametrize("ceil_mode", [True, False])
@pytest.mark.parametrize("include", [True, False])
@pytest.mark.parametrize(("kernel", "stride", "padding"), [((3, 3), TWO, ONE), ((3, 2), (2, 1), ONE), (TWO, TWO, NONE)])
def test_pooling_is_pytorchs(kernel: Any, stride: Any, padding: Any, include: bool, ceil_mode: bool) -> None:
    torch = pytest.importorskip("torch")
    functional, x = torch.nn.functional, random(2, 3, 6, 7, dtype=np.float64)
    for kind in ("average", "max"):
        their_x = torch.tensor(x, requires_grad=True)
        if kind == "average":
            theirs = functional.avg_pool2d(their_x, kernel, stride, padding, ceil_mode, include)
            ours = BACKEND.avg_pool2d(x, kernel, stride, padding, include, tuple(theirs.shape[2:]))
        else:
            theirs, where = functional.max_pool2d(their_x, kernel, stride, padding, 1, ceil_mode, True)
            ours, index = BACKEND.max_pool2d(x, kernel, stride, padding, ONE, tuple(theirs.shape[2:]))
            assert_same(index, where.numpy())
        close(ours, theirs)
        dy = random(*theirs.shape, dtype=np.float64)
        theirs.backward(torch.tensor(dy))
        if kind == "average":
            close(BACKEND.avg_pool2d_grad(dy, x.shape, kernel, stride, padding, include), their_x.grad)
        else:
            close(BACKEND.max_pool2d_grad(dy, index, x.shape), their_x.grad)


# A backend is not asked for what is not an image; should it be, it must not compute with the sides that fit.
SIDES = {
    "adaptive, three sides": lambda: BACKEND.adaptive_avg_pool2d(random(2, 3, 6, 7), (2, 3, 4)),
    "adaptive, one side": lambda: BACKEND.adaptive_avg_pool2d(random(2, 3, 6, 7), (2,)),
    "adaptive gradient, an axis more": lambda: BACKEND.adaptive_avg_pool2d_grad(random(2, 3, 2, 3, 1), (2, 3, 6, 7)),
    "adaptive gradient, an axis less": lambda: BACKEND.adaptive_avg_pool2d_grad(random(2, 3, 2), (2, 3, 6, 7)),
    "adaptive gradient, of another image": lambda: BACKEND.adaptive_avg_pool2d_grad(
        random(2, 3, 2, 3), (2, 3, 6, 7, 1)
    ),
    "average gradient, of another image": lambda: BACKEND.avg_pool2d_grad(
        random(2, 3, 3, 3), (2, 3, 6, 6, 1), TWO, TWO, NONE, True
    ),
}


@pytest.mark.parametrize("name", SIDES)
def test_the_sides_of_a_pooling_must_agree(name: str) -> None:
    with pytest.raises(ValueError, match=r"zip\(\) argument 2 is|not enough values|too many values"):
        SIDES[name]()


@pytest.mark.parametrize("output", [(1, 1), (4, 3), (7, 9)])
def test_adaptive_pooling_is_pytorchs(output: Any) -> None:
    torch = pytest.importorskip("torch")
    x, dy = random(2, 3, 6, 7, dtype=np.float64), random(2, 3, *output, dtype=np.float64)
    their_x = torch.tensor(x, requires_grad=True)
    theirs = torch.nn.functional.adaptive_avg_pool2d(their_x, output)
    theirs.backward(torch.tensor(dy))
    close(BACKEND.adaptive_avg_pool2d(x, output), theirs)
    close(BACKEND.adaptive_avg_pool2d_grad(dy, x.shape), their_x.grad)


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_is_pytorchs(training: bool) -> None:
    torch = pytest.importorskip("torch")
    x, dy = random(3, 5, 4, 6, dtype=np.float64), random(3, 5, 4, 6, dtype=np.float64, seed=1)
    gamma, beta = random(5, dtype=np.float64), random(5, dtype=np.float64, seed=1)
    mean, var = random(5, dtype=np.float64, seed=2), np.exp(random(5, dtype=np.float64, seed=3))
    leaves = [torch.tensor(a, requires_grad=True) for a in (x, gamma, beta)]
    running = None if training else torch.tensor(mean), None if training else torch.tensor(var)
    theirs = torch.nn.functional.batch_norm(leaves[0], *running, *leaves[1:], training, eps=1e-3)
    theirs.backward(torch.tensor(dy))
    if training:
        ours, mean, var = BACKEND.batch_norm_train(x, gamma, beta, 1e-3)
    else:
        ours = BACKEND.batch_norm_eval(x, gamma, beta, mean, var, 1e-3)
    close(ours, theirs)
    for part, leaf in zip(BACKEND.batch_norm_grad(dy, x, gamma, mean, var, 1e-3, training), leaves, strict=True):
        close(part, leaf.grad)


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_loss_is_pytorchs(reduction: str, weighted: bool) -> None:
    torch = pytest.importorskip("torch")
    x, weight = random(6, 5, dtype=np.float64), np.abs(random(5, dtype=np.float64)) if weighted else None
    target = np.array([1, -100, 4, 0, 0, 2])
    their_x = torch.tensor(x, requires_grad=True)
    their_weight = None if weight is None else torch.tensor(weight)
    theirs = torch.nn.functional.cross_entropy(their_x, torch.tensor(target), their_weight, reduction=reduction)
    dloss = np.asarray(random(*theirs.shape, dtype=np.float64))
    theirs.backward(torch.tensor(dloss))
    logp = BACKEND.log_softmax(x, 1)
    ours, weight_sum = BACKEND.nll_loss(logp, target, weight, -100, reduction)
    close(ours, theirs)
    dlogp = BACKEND.nll_loss_grad(dloss, target, weight, -100, reduction, weight_sum, 5)
    close(BACKEND.log_softmax_grad(dlogp, logp, 1), their_x.grad)
