"""Random numbers: known answers, streams, distributions, initial values, and what is refused."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

import lucid
from lucid.nn import init
from lucid.random import Generator

F64 = lucid.float64
COUNT = 20_000


def philox_block(seed: int, stream: int, block: int) -> list[int]:
    """Philox4x32-10 in plain integers, as the paper has it."""
    low = 0xFFFFFFFF
    counter = [block & low, block >> 32, stream & low, stream >> 32]
    key = [seed & low, seed >> 32]
    for _ in range(10):
        a, b = 0xD2511F53 * counter[0], 0xCD9E8D57 * counter[2]
        counter = [(b >> 32) ^ counter[1] ^ key[0], b & low, (a >> 32) ^ counter[3] ^ key[1], a & low]
        key = [(key[0] + 0x9E3779B9) & low, (key[1] + 0xBB67AE85) & low]
    return counter


def test_the_words_are_the_papers() -> None:
    # Known answers of Random123 for Philox4x32-10.
    assert philox_block(0, 0, 0) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    everything = (1 << 64) - 1
    assert philox_block(everything, everything, everything) == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]


@pytest.mark.parametrize("state", [(0, 0, 0), (7, 3, 5), (2**64 - 1, 2**40, 2**33), (2**63, 1, 2**64 - 1)])
def test_draws_are_made_of_those_words(backend: str, state: tuple[int, int, int]) -> None:
    seed, stream, block = state
    blocks = [philox_block(seed, stream, (block + i) % 2**64) for i in range(4)]
    words = [w for b in blocks for w in b]
    u = Generator(*state).uniform(-1.0, 3.0, 10)
    assert u.tolist() == [float(np.float32(-1.0 + 4.0 * ((r + 0.5) * 2.0**-32))) for r in words[:10]]
    v = Generator(*state).uniform(0.0, 1.0, 7, dtype=F64)
    pairs = list(zip(words[0::2], words[1::2], strict=True))
    assert v.tolist() == [((a >> 6) * 2**26 + (b >> 6) + 0.5) * 2.0**-52 for a, b in pairs[:7]]
    k = Generator(*state).randint(-5, 1000, 7)
    assert k.tolist() == [-5 + (((a << 32) + b) * 1005 >> 64) for a, b in pairs[:7]]
    full = Generator(*state).randint(0, 2**32, 7)
    assert full.tolist() == [a for a, _ in pairs[:7]]
    order = Generator(*state).permutation(8)
    assert order.tolist() == sorted(range(8), key=lambda i: (pairs[i], i))
    coins = Generator(*state).bernoulli(0.3, 9)
    assert coins.tolist() == [float((r + 0.5) * 2.0**-32 < 0.3) for r in words[:9]]


def test_a_coin_falls_by_the_middle_of_its_word(backend: str) -> None:
    """``(r + 0.5) * 2^-32 < probs``: probabilities a quarter of a word's step below, at, and above that middle."""
    words = [w for block in range(6) for w in philox_block(11, 0, block)]
    for offset, side in ((0.0, 0), (0.25, 0), (0.5, 0), (0.75, 1), (1.0, 1)):
        probs = lucid.tensor([(r + offset) * 2.0**-32 for r in words], dtype=F64)
        assert Generator(11).bernoulli(probs).tolist() == [side] * len(words), offset


def test_probabilities_reach_from_0_to_1(backend: str) -> None:
    for probs in (0.0, 1.0, 0, 1):
        assert Generator(4).bernoulli(probs, 5).tolist() == [probs] * 5
        assert Generator(4).bernoulli(lucid.tensor([float(probs)] * 5)).tolist() == [probs] * 5
    for probs in (-1e-9, 1 + 1e-9, 1.5, math.nan):
        with pytest.raises(ValueError, match="probs: got"):
            Generator(4).bernoulli(probs, 5)
        with pytest.raises(ValueError, match=r"probs: got .* at position 1"):
            Generator(4).bernoulli(lucid.tensor([0.5, probs], dtype=F64)).tolist()


def test_a_state_counts_modulo_two_to_the_64() -> None:
    assert Generator(2**64 + 7, -1, 2**65 + 3).get_state() == (7, 2**64 - 1, 3)
    assert Generator(3 << 64, 2**64 - 1, -(2**64)).get_state() == (0, 2**64 - 1, 0)
    last = Generator(0, 0, 2**64 - 1)
    last.uniform(size=9)
    assert last.get_state() == (0, 0, 2)


@pytest.mark.parametrize("span", [3_000_000_000, 2**31 + 1, 2**32 - 1])
def test_integers_of_a_wide_range_are_exact(backend: str, span: int) -> None:
    """The lower word carries into the upper one for every few of them."""
    words = [w for block in range(30) for w in philox_block(12, 0, block)]
    pairs = list(zip(words[0::2], words[1::2], strict=True))
    assert any(((a << 32) + b) * span >> 64 != (a * span) >> 32 for a, b in pairs)
    expected = [((a << 32) + b) * span >> 64 for a, b in pairs]
    assert Generator(12).randint(span, size=len(pairs)).tolist() == expected


# By name: the module's function with nothing said, and the generator's with everything said.
DEFAULTS: dict[str, tuple[Callable[[], Any], Callable[[Generator], Any]]] = {
    "rand": (lambda: lucid.random.rand(5), lambda g: g.uniform(0.0, 1.0, (5,), lucid.float32, "cpu")),
    "randn": (lambda: lucid.random.randn(5), lambda g: g.normal(0.0, 1.0, (5,), lucid.float32, "cpu")),
    "uniform": (lambda: lucid.random.uniform(size=5), lambda g: g.uniform(0.0, 1.0, (5,), lucid.float32, "cpu")),
    "normal": (lambda: lucid.random.normal(size=5), lambda g: g.normal(0.0, 1.0, (5,), lucid.float32, "cpu")),
    "randint": (lambda: lucid.random.randint(9, size=5), lambda g: g.randint(0, 9, (5,), "cpu")),
    "bernoulli": (lambda: lucid.random.bernoulli(size=64), lambda g: g.bernoulli(0.5, (64,), lucid.float32, "cpu")),
    "Generator.uniform": (
        lambda: lucid.random.default_generator.uniform(),
        lambda g: g.uniform(0.0, 1.0, (), lucid.float32, "cpu"),
    ),
    "Generator.normal": (
        lambda: lucid.random.default_generator.normal(),
        lambda g: g.normal(0.0, 1.0, (), lucid.float32, "cpu"),
    ),
    "Generator.bernoulli": (
        lambda: lucid.random.default_generator.bernoulli(size=64),
        lambda g: g.bernoulli(0.5, (64,), lucid.float32, "cpu"),
    ),
}


@pytest.mark.parametrize("name", DEFAULTS)
def test_what_is_drawn_where_nothing_is_said(name: str) -> None:
    short, whole = DEFAULTS[name]
    lucid.random.seed(23)
    got, expected = short(), whole(Generator(23))
    assert got.tolist() == expected.tolist()
    assert (got.dtype, got.requires_grad, got.keep_grad) == (expected.dtype, False, False)
    assert lucid.random.get_state() == (23, 0, lucid.random.get_state()[2])
    assert Generator().get_state() == (0, 0, 0)


def test_draws_take_whole_blocks(backend: str) -> None:
    draws: list[tuple[Callable[[Generator], Any], int]] = [
        (lambda g: g.uniform(size=5), 2),
        (lambda g: g.uniform(size=(2, 2)), 1),
        (lambda g: g.uniform(size=5, dtype=F64), 3),
        (lambda g: g.normal(size=4), 1),
        (lambda g: g.normal(size=4, dtype=F64), 2),
        (lambda g: g.randint(9, size=3), 2),
        (lambda g: g.bernoulli(0.5, 6), 2),
        (lambda g: g.permutation(3), 2),
        (lambda g: g.uniform(size=0), 0),
        (lambda g: g.uniform(), 1),
    ]
    for draw, blocks in draws:
        generator = Generator(3)
        draw(generator)
        assert generator.get_state() == (3, 0, blocks)


def test_a_state_can_be_gone_back_to(backend: str) -> None:
    generator = Generator(5)
    generator.normal(size=10)
    state = generator.get_state()
    first = generator.normal(size=10).tolist()
    generator.set_state(state)
    assert generator.normal(size=10).tolist() == first
    assert generator.manual_seed(5).get_state() == (5, 0, 0)
    assert Generator(5, stream=1).normal(size=10).tolist() != first


def test_streams_and_seeds_differ() -> None:
    draws = [Generator(*state).uniform(size=8).tolist() for state in ((0,), (1,), (2**32,), (0, 1), (0, 2**32))]
    assert len({tuple(d) for d in draws}) == 5


def test_the_global_generator() -> None:
    lucid.manual_seed(11)
    state = lucid.random.get_state()
    values = [
        lucid.random.rand(2, 3),
        lucid.random.randn((2, 3)),
        lucid.random.uniform(1, 2, 4),
        lucid.random.normal(0.0, 2.0, 4),
        lucid.random.randint(3, 9, (2, 2)),
        lucid.random.bernoulli(0.5, 4),
        lucid.random.permutation(4),
        lucid.rand(2),
        lucid.randn(2),
        lucid.random.randperm(3),
    ]
    lucid.random.set_state(state)
    generator = Generator(11)
    assert values[0].tolist() == generator.uniform(size=(2, 3)).tolist()
    assert values[1].tolist() == generator.normal(size=(2, 3)).tolist()
    lucid.random.seed(11)
    assert lucid.random.rand(2, 3).tolist() == values[0].tolist()
    x = lucid.random.randn(2, requires_grad=True, keep_grad=True, dtype=F64)
    assert (x.requires_grad, x.keep_grad, x.dtype) == (True, True, F64)
    assert lucid.random.rand().shape == ()


def test_threads_share_a_generator_without_sharing_numbers() -> None:
    generator, results = Generator(0), []

    def work() -> None:
        results.extend(generator.uniform(size=1, dtype=F64).item() for _ in range(200))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(results)) == 800


DISTRIBUTIONS: dict[str, tuple[Callable[[Generator], lucid.Tensor], Any]] = {
    "uniform": (lambda g: g.uniform(-2.0, 3.0, COUNT), stats.uniform(-2.0, 5.0)),
    "uniform, float64": (lambda g: g.uniform(-2.0, 3.0, COUNT, dtype=F64), stats.uniform(-2.0, 5.0)),
    "normal": (lambda g: g.normal(1.0, 2.0, COUNT), stats.norm(1.0, 2.0)),
    "normal, float64": (lambda g: g.normal(1.0, 2.0, COUNT, dtype=F64), stats.norm(1.0, 2.0)),
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_distributions(backend: str, name: str) -> None:
    draw, distribution = DISTRIBUTIONS[name]
    values = draw(Generator(123)).numpy().astype(np.float64)
    assert stats.kstest(values, distribution.cdf).pvalue > 0.01
    lagged = np.corrcoef(values[:-1], values[1:])[0, 1]
    assert abs(lagged) < 4 / math.sqrt(COUNT)


def test_integers_and_coins_are_even(backend: str) -> None:
    counts = np.bincount(Generator(1).randint(7, size=COUNT).numpy(), minlength=7)
    assert stats.chisquare(counts).pvalue > 0.01
    probabilities = lucid.tensor([[0.0], [0.25], [1.0]])
    means = Generator(1).bernoulli(probabilities, (3, COUNT)).numpy().mean(1)
    assert (means[0], means[2]) == (0.0, 1.0)
    assert abs(means[1] - 0.25) < 0.02
    assert Generator(1).bernoulli(probabilities, dtype=lucid.bool_).dtype == lucid.bool_
    firsts = [Generator(s).permutation(3).tolist() for s in range(600)]
    assert len({tuple(f) for f in firsts}) == 6
    assert min(np.unique(firsts, axis=0, return_counts=True)[1]) > 60


REFUSED: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "a seed": (lambda: Generator("x"), TypeError, "str"),
    "a fraction as a seed": (lambda: lucid.manual_seed(1.5), TypeError, "float"),
    "a deviation": (lambda: lucid.random.normal(0.0, -1.0, 2), ValueError, "std: got -1.0"),
    "a size": (lambda: lucid.random.rand(-1), ValueError, "size: got"),
    "a dtype": (lambda: lucid.random.rand(2, dtype=lucid.int64), TypeError, "float32 or float64"),
    "an empty range": (lambda: lucid.random.randint(3, 3), ValueError, "high: got 3"),
    "a wide range": (lambda: lucid.random.randint(0, 2**33), ValueError, "2\\^32"),
    "a probability": (lambda: lucid.random.bernoulli(1.5, 2), ValueError, "probs: got 1.5"),
    "no probability": (lambda: lucid.random.bernoulli(float("nan"), 2), ValueError, "probs"),
    "a permutation": (lambda: lucid.random.permutation(-1), ValueError, "n: got -1"),
    "gain": (lambda: init.calculate_gain("reluu"), ValueError, "'reluu'"),
    "fan": (lambda: init.kaiming_normal(lucid.empty(3)), ValueError, "at least two axes"),
    "mode": (lambda: init.kaiming_normal(lucid.empty(3, 3), mode="fan"), ValueError, "'fan'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name: str) -> None:
    action, kind, message = REFUSED[name]
    with pytest.raises(kind, match=message):
        action()


# -- initial values ---------------------------------------------------------------------------------------------------

SHAPE = (24, 16, 3, 5)
FAN_IN, FAN_OUT = 16 * 15, 24 * 15
INITIAL: dict[str, tuple[Callable[[lucid.Tensor], Any], float, bool]] = {
    "kaiming uniform": (lambda x: init.kaiming_uniform_(x), math.sqrt(2 / FAN_IN), True),
    "kaiming uniform, slope": (lambda x: init.kaiming_uniform(x, a=math.sqrt(5)), math.sqrt(1 / 3 / FAN_IN), True),
    "kaiming normal": (
        lambda x: init.kaiming_normal_(x, mode="fan_out", nonlinearity="relu"),
        math.sqrt(2 / FAN_OUT),
        False,
    ),
    "kaiming normal, linear": (lambda x: init.kaiming_normal(x, nonlinearity="linear"), math.sqrt(1 / FAN_IN), False),
    "xavier uniform": (lambda x: init.xavier_uniform_(x), math.sqrt(2 / (FAN_IN + FAN_OUT)), True),
    "xavier normal": (lambda x: init.xavier_normal(x, 2.0), 2 * math.sqrt(2 / (FAN_IN + FAN_OUT)), False),
    "uniform": (lambda x: init.uniform_(x, -2.0, 2.0), 2 / math.sqrt(3), True),
    "normal": (lambda x: init.normal_(x, 0.0, 3.0), 3.0, False),
}


@pytest.mark.parametrize("name", INITIAL)
def test_initial_values_have_the_right_spread(backend: str, name: str) -> None:
    write, std, bounded = INITIAL[name]
    lucid.manual_seed(4)
    x = lucid.empty(SHAPE, requires_grad=True)
    assert write(x) is x
    values = x.numpy().ravel()
    assert values.std() == pytest.approx(std, rel=0.05)
    assert abs(values.mean()) < 5 * std / math.sqrt(values.size)
    if bounded:
        assert np.abs(values).max() <= std * math.sqrt(3) * (1 + 1e-6)
        assert stats.kstest(values, stats.uniform(-std * math.sqrt(3), 2 * std * math.sqrt(3)).cdf).pvalue > 0.01
    else:
        assert stats.kstest(values, stats.norm(0, std).cdf).pvalue > 0.01


@pytest.mark.parametrize(
    ("name", "parameter"),
    [(n, None) for n in ("linear", "conv1d", "conv2d", "conv3d", "sigmoid", "tanh", "relu", "selu", "leaky_relu")]
    + [("leaky_relu", 0.3), ("leaky_relu", math.sqrt(5))],
)
def test_gains_are_pytorchs(name: str, parameter: float | None) -> None:
    assert init.calculate_gain(name, parameter) == pytest.approx(torch.nn.init.calculate_gain(name, parameter))


def test_constant_values_and_generators(backend: str) -> None:
    x = lucid.empty(2, 2)
    assert init.ones_(x).tolist() == [[1, 1], [1, 1]]
    assert init.zeros(x).tolist() == [[0, 0], [0, 0]]
    assert init.constant_(x, 3).tolist() == [[3, 3], [3, 3]]
    a = init.normal(lucid.empty(4), generator=Generator(9)).tolist()
    assert a == Generator(9).normal(size=4).tolist()
    assert init.kaiming_normal(lucid.empty(0, 3)).shape == (0, 3)


def test_initial_values_count_as_changes() -> None:
    w = lucid.nn.Parameter([2.0])
    y = (w * w).sum()
    init.ones(w)
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward()
