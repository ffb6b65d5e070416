"""Optimisers and schedules, step by step against PyTorch's, their state, and what they refuse."""

from __future__ import annotations

import itertools
import math
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lucid
from lucid import nn, optim
from lucid.optim import lr_scheduler

SETTINGS = [
    {"momentum": momentum, "dampening": dampening, "weight_decay": decay, "nesterov": nesterov, "maximize": maximize}
    for momentum, dampening, decay, nesterov, maximize in itertools.product(
        (0.0, 0.9), (0.0, 0.3), (0.0, 0.01), (False, True), (False, True)
    )
    if not (nesterov and (momentum == 0 or dampening))
]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: "-".join(str(v) for v in s.values()))
def test_sgd_is_pytorchs(backend: str, settings: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    start = rng.standard_normal((3, 4))
    ours, theirs = nn.Parameter(start.copy()), torch.nn.Parameter(torch.tensor(start))
    own, other = optim.SGD([ours], lr=0.1, **settings), torch.optim.SGD([theirs], lr=0.1, **settings)
    for step in range(5):
        gradient = rng.standard_normal((3, 4))
        ours.grad, theirs.grad = lucid.tensor(gradient), torch.tensor(gradient)
        if step == 3:
            own.param_groups[0]["lr"] = other.param_groups[0]["lr"] = 0.01
        own.step()
        other.step()
        np.testing.assert_allclose(ours.numpy(), theirs.detach().numpy(), rtol=1e-13)


OPTIMIZERS: dict[str, list[dict[str, Any]]] = {
    "ASGD": [{}, {"t0": 3, "lambd": 0.01, "alpha": 0.5, "weight_decay": 0.1, "maximize": True}, {"t0": 9, "alpha": 2}],
    "Adadelta": [{}, {"rho": 0.5, "weight_decay": 0.1, "maximize": True}],
    "Adagrad": [{}, {"lr_decay": 0.1, "weight_decay": 0.1, "maximize": True}, {"initial_accumulator_value": 0.5}],
    "Adam": [
        {},
        {"weight_decay": 0.1, "maximize": True},
        {"amsgrad": True, "betas": (0.5, 0.75)},
        {"decoupled_weight_decay": True, "weight_decay": 0.1},
        {"betas": (0.0, 0.0), "eps": 0.1},
    ],
    "AdamW": [{}, {"weight_decay": 0.3, "amsgrad": True, "maximize": True}],
    "Adamax": [{}, {"weight_decay": 0.1, "maximize": True}],
    "NAdam": [
        {},
        {"weight_decay": 0.1, "momentum_decay": 0.5},
        {"weight_decay": 0.1, "decoupled_weight_decay": True, "maximize": True},
    ],
    "RAdam": [
        {},
        {"weight_decay": 0.1},
        {"weight_decay": 0.1, "decoupled_weight_decay": True, "maximize": True, "betas": (0.9, 0.99)},
    ],
    "RMSprop": [
        {},
        {"momentum": 0.9, "weight_decay": 0.1},
        {"centered": True, "maximize": True},
        {"centered": True, "momentum": 0.5},
    ],
    "Rprop": [{}, {"etas": (0.3, 1.5), "step_sizes": (0.001, 0.02), "maximize": True}],
}
SETTINGS_OF = [(name, settings) for name, rows in OPTIMIZERS.items() for settings in rows]


def numbers_of(memory: dict[str, Any]) -> dict[str, Any]:
    return {name: np.asarray(getattr(value, "numpy", lambda value=value: value)()) for name, value in memory.items()}


@pytest.fixture
def wide() -> Iterator[None]:
    """PyTorch keeps some of its numbers in its default dtype."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(("name", "settings"), SETTINGS_OF, ids=str)
def test_optimizers_are_pytorchs(backend: str, wide: None, name: str, settings: dict[str, Any]) -> None:
    """Parameters and memory, by the same names, over 50 steps."""
    rng = np.random.default_rng(0)
    start = rng.standard_normal((3, 4))
    ours, theirs = nn.Parameter(start.copy()), torch.nn.Parameter(torch.tensor(start))
    own, other = getattr(optim, name)([ours], **settings), getattr(torch.optim, name)([theirs], **settings)
    assert own.param_groups[0].keys() == other.param_groups[0].keys() - {
        "foreach",
        "fused",
        "capturable",
        "differentiable",
    }
    for step in range(50):
        gradient = rng.standard_normal((3, 4)) * (step % 7 > 0)
        ours.grad, theirs.grad = lucid.tensor(gradient), torch.tensor(gradient)
        if step == 30:
            own.param_groups[0]["lr"] = other.param_groups[0]["lr"] = 0.01
        own.step()
        other.step()
    np.testing.assert_allclose(ours.numpy(), theirs.detach().numpy(), rtol=1e-13)
    found, expected = numbers_of(own.state[ours]), numbers_of(other.state[theirs])
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value, rtol=1e-13, atol=1e-15, err_msg=key)


@pytest.mark.parametrize(("name", "settings"), SETTINGS_OF, ids=str)
def test_float32_is_nearer_to_float64_than_pytorch(name: str, settings: dict[str, Any]) -> None:
    """After 50 steps; both start from the same float32 values."""
    if settings.get("centered"):
        settings = {**settings, "eps": 0.1}  # a difference of near numbers: whoever is nearer is so by chance
    rng, size = np.random.default_rng(1), 2000
    start = rng.standard_normal(size).astype(np.float32)
    ours, theirs, truth = (
        nn.Parameter(start.copy()),
        torch.nn.Parameter(torch.tensor(start)),
        torch.nn.Parameter(torch.tensor(start, dtype=torch.float64)),
    )
    optimizers = [
        getattr(optim, name)([ours], **settings),
        getattr(torch.optim, name)([theirs], **settings),
        getattr(torch.optim, name)([truth], **settings),
    ]
    for _ in range(50):
        gradient = (rng.standard_normal(size) + 0.5).astype(np.float32)
        ours.grad, theirs.grad = lucid.tensor(gradient), torch.tensor(gradient)
        truth.grad = torch.tensor(gradient, dtype=torch.float64)
        for optimizer in optimizers:
            optimizer.step()
    exact = truth.detach().numpy()
    own, other = (float(np.sqrt(np.mean((x - exact) ** 2))) for x in (ours.numpy(), theirs.detach().numpy()))
    assert own <= 1.05 * other


@pytest.mark.parametrize(("name", "settings"), SETTINGS_OF, ids=str)
def test_any_saved_state_goes_on_bit_for_bit(backend: str, tmp_path: Path, name: str, settings: dict[str, Any]) -> None:
    a = nn.Parameter(lucid.ones(3, 2))
    optimizer = getattr(optim, name)([a], **settings)
    train(optimizer, a, 4, seed=0)
    lucid.save({"a": a, "optimizer": optimizer.state_dict()}, tmp_path / "checkpoint.safetensors")
    train(optimizer, a, 4, seed=1)
    saved = lucid.load(tmp_path / "checkpoint.safetensors", device=a.device)
    b = nn.Parameter(saved["a"])
    again = getattr(optim, name)([b])
    again.load_state_dict(saved["optimizer"])
    train(again, b, 4, seed=1)
    np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_a_setting_may_be_switched_on_later() -> None:
    p = param()
    optimizer = optim.Adam([p])
    train(optimizer, p, 2, seed=0)
    optimizer.param_groups[0]["amsgrad"] = True
    train(optimizer, p, 1, seed=1)
    assert optimizer.state[p]["max_exp_avg_sq"].item() >= optimizer.state[p]["exp_avg_sq"].item()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_any_optimizer_takes_layouts_groups_and_closures(backend: str, name: str) -> None:
    start = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
    plain, turned, scalar = nn.Parameter(start.copy()), nn.Parameter(start.T.copy().T), nn.Parameter(lucid.tensor(0.5))
    empty, idle = nn.Parameter(lucid.zeros(0, 3)), nn.Parameter([1.0])
    optimizer = getattr(optim, name)(
        [{"params": [plain, scalar]}, {"params": [turned, empty, idle], "lr": 0.5}], lr=0.5
    )

    def closure() -> lucid.Tensor:
        optimizer.zero_grad()
        loss = sum(((p * p).sum() for p in (plain, turned, scalar, empty)), start=lucid.tensor(0.0))
        loss.backward()
        return loss

    losses = [optimizer.step(closure).item() for _ in range(4)]
    assert losses[-1] < losses[0]
    np.testing.assert_array_equal(plain.numpy(), turned.numpy())
    assert (idle.item(), idle in optimizer.state) == (1.0, False)


def test_steps_happen_in_place_and_skip_what_has_no_gradient(backend: str) -> None:
    a, b = nn.Parameter([1.0]), nn.Parameter([1.0])
    array = a.data
    optimizer = optim.SGD([a, b], lr=0.5)
    (a * 2).sum().backward()
    optimizer.step()
    assert a.data is array
    assert (a.item(), b.item()) == (0.0, 1.0)


def test_without_momentum_nothing_is_remembered() -> None:
    p = param()
    p.grad = lucid.ones(1)
    optimizer = optim.SGD([p], lr=0.1)
    optimizer.step()
    assert optimizer.state_dict()["state"] == {0: {}}


def test_layouts_of_parameters(backend: str) -> None:
    start = np.random.default_rng(0).standard_normal((2, 3, 4))
    plain, turned = nn.Parameter(start.copy()), nn.Parameter(start.copy().T.copy().T)
    assert not turned.is_contiguous()
    for p in (plain, turned):
        optimizer = optim.SGD([p], lr=0.1, momentum=0.9)
        for _ in range(3):
            optimizer.zero_grad()
            (p * p).sum().backward()
            optimizer.step()
    np.testing.assert_array_equal(plain.numpy(), turned.numpy())


def test_closure_and_zero_grad() -> None:
    p = nn.Parameter([1.0])
    optimizer = optim.SGD([p], lr=0.25)

    def closure() -> lucid.Tensor:
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss

    with lucid.no_grad():
        assert optimizer.step(closure).item() == 1.0
    assert p.item() == 0.5
    optimizer.zero_grad(set_to_none=False)
    assert p.grad.tolist() == [0.0]
    optimizer.zero_grad()
    assert p.grad is None


def test_groups_have_their_own_settings() -> None:
    a, b = nn.Parameter([1.0]), nn.Parameter([1.0])
    optimizer = optim.SGD([{"params": [a]}, {"params": b, "lr": 0.5}], lr=0.1)
    for p in (a, b):
        p.grad = lucid.ones(1)
    optimizer.step()
    assert (a.item(), b.item()) == (pytest.approx(0.9), 0.5)
    c = nn.Parameter([1.0])
    optimizer.add_param_group({"params": [c], "momentum": 0.9})
    assert [g["momentum"] for g in optimizer.param_groups] == [0.0, 0.0, 0.9]
    assert "group 2: 1 parameters, lr=0.1, momentum=0.9" in repr(optimizer)


def param() -> nn.Parameter:
    return nn.Parameter([1.0])


def with_gradient(shape: tuple[int, ...], dtype: Any) -> optim.SGD:
    p = param()
    p.grad = lucid.ones(1)
    p.data = lucid.ones(shape, dtype=dtype)
    return optim.SGD([p], lr=0.1)


REFUSED: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "nothing": (lambda: optim.SGD([]), ValueError, "got none"),
    "a tensor": (lambda: optim.SGD(param()), TypeError, "got a tensor"),
    "a number": (lambda: optim.SGD([3]), TypeError, "got int"),
    "a result": (lambda: optim.SGD([param() * 2]), TypeError, "leaves"),
    "twice": (lambda: optim.SGD([p := param(), p]), ValueError, "given twice"),
    "rate": (lambda: optim.SGD([param()], lr=-1), ValueError, "lr: got -1"),
    "rate that is none": (lambda: optim.SGD([param()], lr=float("nan")), ValueError, "lr: got nan"),
    "momentum": (lambda: optim.SGD([param()], momentum=-0.1), ValueError, "momentum: got -0.1"),
    "decay": (lambda: optim.SGD([param()], weight_decay=-1), ValueError, "weight_decay"),
    "Nesterov": (lambda: optim.SGD([param()], nesterov=True), ValueError, "momentum above 0"),
    "a beta of 1": (lambda: optim.Adam([param()], betas=(0.9, 1.0)), ValueError, "betas: got .*below 1"),
    "one beta": (lambda: optim.NAdam([param()], betas=0.9), TypeError, "betas: got 0.9; may be two numbers"),
    "three betas": (lambda: optim.AdamW([param()], betas=(0.9, 0.9, 0.9)), TypeError, "may be two numbers"),
    "a negative eps": (
        lambda: optim.RMSprop([param()], eps=-1e-8),
        ValueError,
        "eps: got -1e-08; may be a number of 0",
    ),
    "rho": (lambda: optim.Adadelta([param()], rho=1.5), ValueError, "rho: got 1.5; may be 0 to 1"),
    "a rate of text, elsewhere": (lambda: optim.Adagrad([param()], lr="1"), TypeError, "lr: got '1'"),
    "etas": (lambda: optim.Rprop([param()], etas=(1.2, 0.5)), ValueError, "etas: got"),
    "foreach": (lambda: optim.Adam([param()], foreach=True), TypeError, "foreach: got True; may be left out"),
    "fused": (lambda: optim.AdamW([param()], fused=True), TypeError, "fused: got True; may be left out"),
    "a misspelt setting": (lambda: optim.ASGD([param()], lamb=1), TypeError, r"ASGD\(\) got an unexpected .* 'lamb'"),
    "AdamW's decay": (
        lambda: optim.AdamW([param()], decoupled_weight_decay=True),
        TypeError,
        "may be left out, or use",
    ),
    "setting of a group": (lambda: optim.SGD([{"params": [param()], "speed": 1}]), ValueError, "speed"),
    "gradient of another shape": (lambda: with_gradient((2,), lucid.float32).step(), ValueError, "grad: got"),
    "gradient of another dtype": (lambda: with_gradient((1,), lucid.float64).step(), ValueError, "float64"),
    "state of other groups": (
        lambda: optim.SGD([param()]).load_state_dict(optim.SGD([param(), param()]).state_dict()),
        ValueError,
        r"groups of \[2\]",
    ),
    "schedule of nothing": (lambda: lr_scheduler.StepLR(param(), 1), TypeError, "must be an Optimizer"),
    "step size": (lambda: lr_scheduler.StepLR(optim.SGD([param()]), 0), ValueError, "step_size"),
    "cosine of nothing": (lambda: lr_scheduler.CosineAnnealingLR(optim.SGD([param()]), 0), ValueError, "T_max"),
    "functions": (
        lambda: lr_scheduler.LambdaLR(optim.SGD([param()]), [lambda e: 1, lambda e: 1]),
        ValueError,
        "2 functions",
    ),
    "schedule first": (lambda: lr_scheduler.LambdaLR(lambda e: 1, optim.SGD([param()])), TypeError, "LambdaLR's first"),
    "no function": (lambda: lr_scheduler.LambdaLR(optim.SGD([param()]), 3), TypeError, "lr_lambda: got 3"),
    "a mode": (lambda: lr_scheduler.CyclicLR(optim.SGD([param()]), 0.1, 1.0, mode="round"), ValueError, "mode: got"),
    "no momentum": (lambda: lr_scheduler.CyclicLR(optim.Adagrad([param()]), 0.1, 1.0), ValueError, "cycle_momentum"),
    "no steps": (lambda: lr_scheduler.OneCycleLR(optim.SGD([param()]), 0.1), ValueError, "total_steps: got None"),
    "two rates": (
        lambda: lr_scheduler.CyclicLR(optim.SGD([param()]), [1, 2], 1.0),
        ValueError,
        "base_lr: got 2 numbers",
    ),
    "growing": (
        lambda: lr_scheduler.ReduceLROnPlateau(optim.SGD([param()]), factor=1.0),
        ValueError,
        "factor: got 1.0",
    ),
    "half an epoch": (lambda: lr_scheduler.StepLR(optim.SGD([param()]), 0.5), TypeError, "step_size: got 0.5"),
    "settings by position": (
        lambda: optim.SGD([param()], 0.1, 0.9, 5e-4),
        TypeError,
        r"SGD: got \(0.0005,\) after momentum; name it: dampening=, weight_decay=",
    ),
    "no schedules": (lambda: lr_scheduler.ChainedScheduler([]), ValueError, "schedulers: got none"),
    "milestones": (
        lambda: lr_scheduler.SequentialLR(o := optim.SGD([param()]), [lr_scheduler.StepLR(o, 1)], [1]),
        ValueError,
        "milestones: got 1 for 1",
    ),
    "two optimizers": (
        lambda: lr_scheduler.ChainedScheduler([lr_scheduler.StepLR(optim.SGD([param()]), 1) for _ in range(2)]),
        ValueError,
        "of several optimizers",
    ),
    "going on from nothing": (
        lambda: lr_scheduler.StepLR(optim.SGD([param()]), 1, last_epoch=3),
        KeyError,
        "initial_lr",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name: str) -> None:
    action, kind, message = REFUSED[name]
    with pytest.raises(kind, match=message):
        action()


def train(optimizer: optim.Optimizer, p: nn.Parameter, steps: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        p.grad = lucid.tensor(rng.standard_normal(p.shape).astype(np.float32))
        optimizer.step()


def test_a_saved_state_goes_on_bit_for_bit(backend: str, tmp_path: Path) -> None:
    a = nn.Parameter(lucid.ones(3, 2))
    optimizer = optim.SGD([a], lr=0.1, momentum=0.9, nesterov=True)
    train(optimizer, a, 3, seed=0)
    lucid.save({"model": {"a": a}, "optimizer": optimizer.state_dict()}, tmp_path / "checkpoint.safetensors")
    train(optimizer, a, 3, seed=1)

    saved = lucid.load(tmp_path / "checkpoint.safetensors", device=a.device)
    b = nn.Parameter(saved["model"]["a"])
    again = optim.SGD([b], lr=7.0)
    again.load_state_dict(saved["optimizer"])
    assert again.param_groups[0]["lr"] == 0.1
    assert again.param_groups[0]["params"] == [b]
    train(again, b, 3, seed=1)
    np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_a_loaded_state_is_a_copy() -> None:
    a, b = param(), param()
    first, second = optim.SGD([a], lr=0.1, momentum=0.9), optim.SGD([b], lr=0.1, momentum=0.9)
    train(first, a, 1, seed=0)
    second.load_state_dict(first.state_dict())
    before = first.state[a]["momentum_buffer"].item()
    train(second, b, 1, seed=1)
    assert first.state[a]["momentum_buffer"].item() == before
    wrong = first.state_dict()
    wrong["state"][0]["momentum_buffer"] = lucid.ones(7)
    with pytest.raises(ValueError, match="momentum_buffer has shape"):
        second.load_state_dict(wrong)


def random_schedule(draw: Any, simple: bool = False) -> tuple[Callable[[Any, Any], Any], bool]:
    """A schedule with settings that ``draw`` chooses; and whether its rates are PyTorch's bit for bit (else a power or
    a cosine of the machine's library may be another)."""
    whole, part = st.integers(1, 7), st.floats(0.05, 1.0)
    kinds: dict[str, Callable[[], tuple[dict[str, Any], bool]]] = {
        "StepLR": lambda: ({"step_size": draw(whole), "gamma": draw(part)}, True),
        "MultiStepLR": lambda: ({"milestones": draw(st.lists(whole, max_size=4)), "gamma": draw(part)}, False),
        "ConstantLR": lambda: ({"factor": draw(part), "total_iters": draw(whole)}, True),
        "LinearLR": lambda: (
            {"start_factor": draw(part), "end_factor": draw(part), "total_iters": draw(whole)},
            True,
        ),
        "ExponentialLR": lambda: ({"gamma": draw(part)}, True),
        "PolynomialLR": lambda: ({"total_iters": draw(whole), "power": draw(st.sampled_from([1.0, 2.0, 0.7]))}, False),
        "CosineAnnealingLR": lambda: ({"T_max": draw(whole), "eta_min": draw(st.sampled_from([0.0, 0.01]))}, False),
        "MultiplicativeLR": lambda: ({"lr_lambda": [lambda e: 0.9, lambda e: 1 / (1 + e)]}, True),
        "LambdaLR": lambda: ({"lr_lambda": draw(st.sampled_from([lambda e: 1 / (1 + e), lambda e: e]))}, True),
        "CosineAnnealingWarmRestarts": lambda: (
            {"T_0": draw(whole), "T_mult": draw(st.integers(1, 3)), "eta_min": 0.001},
            False,
        ),
    }
    alone: dict[str, Callable[[], tuple[dict[str, Any], bool]]] = {
        "CyclicLR": lambda: (
            {
                "base_lr": 0.01,
                "max_lr": [0.1, 0.2],
                "step_size_up": draw(whole),
                "step_size_down": draw(whole),
                "mode": draw(st.sampled_from(["triangular", "triangular2", "exp_range"])),
                "gamma": draw(part),
            },
            False,
        ),
        "OneCycleLR": lambda: (
            {
                "max_lr": [0.1, 0.2],
                "total_steps": draw(st.integers(40, 60)),
                "pct_start": draw(st.floats(0.1, 0.45)),
                "anneal_strategy": draw(st.sampled_from(["cos", "linear"])),
                "three_phase": draw(st.booleans()),
                "cycle_momentum": draw(st.booleans()),
            },
            False,
        ),
    }
    name = draw(st.sampled_from(list(kinds) if simple else [*kinds, *alone]))
    settings, exact = {**kinds, **alone}[name]()
    return (lambda module, optimizer: getattr(module, name)(optimizer, **settings)), exact


def composed_schedule(draw: Any) -> tuple[Callable[[Any, Any], Any], bool]:
    """One schedule, several in turn, or one after the other."""
    kind = draw(st.sampled_from(["one", "one", "one", "chained", "sequence"]))
    if kind == "one":
        return random_schedule(draw)
    parts = [random_schedule(draw, simple=True) for _ in range(draw(st.integers(1, 3)))]
    milestones = sorted(draw(st.sets(st.integers(1, 12), min_size=len(parts) - 1, max_size=len(parts) - 1)))

    def make(module: Any, optimizer: Any) -> Any:
        made = [part(module, optimizer) for part, _ in parts]
        return module.ChainedScheduler(made) if kind == "chained" else module.SequentialLR(optimizer, made, milestones)

    return make, all(exact for _, exact in parts)


def two_groups(module: Any, parameter: Any, adam: bool) -> Any:
    groups = [{"params": [parameter()]}, {"params": [parameter()], "lr": 0.3}]
    return module.Adam(groups, lr=0.1) if adam else module.SGD(groups, lr=0.1, momentum=0.9)


def rates_of(optimizer: Any) -> list[float]:
    """Rates and momentums."""
    return [
        number
        for g in optimizer.param_groups
        for number in (g["lr"], g["momentum"] if "momentum" in g else g["betas"][0])
    ]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_schedules_are_pytorchs_and_resume(data: Any) -> None:
    """Over 30 steps, and gone on from a saved state in the middle, in any order of loading."""
    (make, exact), adam, middle = composed_schedule(data.draw), data.draw(st.booleans()), data.draw(st.integers(0, 29))
    ours, theirs = (
        two_groups(optim, param, adam),
        two_groups(torch.optim, lambda: torch.nn.Parameter(torch.ones(1)), adam),
    )
    own, other = make(lr_scheduler, ours), make(torch.optim.lr_scheduler, theirs)
    for step in range(30):
        found, expected = rates_of(ours), rates_of(theirs)
        assert found == expected if exact else found == pytest.approx(expected, rel=1e-13, abs=1e-17)
        assert own.get_last_lr() == found[::2] == [group["lr"] for group in ours.param_groups]
        if step == middle:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "state.safetensors"
                lucid.save({"schedule": own.state_dict(), "optimizer": ours.state_dict()}, path)
                saved = lucid.load(path)
            ours = two_groups(optim, param, adam)
            own = make(lr_scheduler, ours)
            for owner in (own, ours)[:: data.draw(st.sampled_from([1, -1]))]:
                owner.load_state_dict(saved["schedule" if owner is own else "optimizer"])
        theirs.step()
        own.step()
        other.step()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_plateau_is_pytorchs_and_resumes(data: Any) -> None:
    number = st.floats(0.0, 0.5)
    chosen = {
        "mode": data.draw(st.sampled_from(["min", "max"])),
        "factor": data.draw(st.floats(0.1, 0.9)),
        "patience": data.draw(st.integers(0, 3)),
        "threshold": data.draw(number),
        "threshold_mode": data.draw(st.sampled_from(["rel", "abs"])),
        "cooldown": data.draw(st.integers(0, 3)),
        "min_lr": data.draw(st.sampled_from([0.0, [0.01, 0.2]])),
        "eps": data.draw(st.sampled_from([1e-8, 0.01])),
    }
    ours, theirs = (
        two_groups(optim, param, False),
        two_groups(torch.optim, lambda: torch.nn.Parameter(torch.ones(1)), False),
    )
    own, other = (
        lr_scheduler.ReduceLROnPlateau(ours, **chosen),
        torch.optim.lr_scheduler.ReduceLROnPlateau(theirs, **chosen),
    )
    for step, value in enumerate(data.draw(st.lists(st.floats(-2, 2), min_size=10, max_size=20))):
        own.step(lucid.tensor(value, dtype=lucid.float64) if step % 2 else value)
        other.step(value)
        assert rates_of(ours) == rates_of(theirs)
        if step == 5:
            state = own.state_dict()
            ours = two_groups(optim, param, False)
            own = lr_scheduler.ReduceLROnPlateau(ours, **chosen)
            own.load_state_dict(state)


def test_two_schedules_of_one_optimizer_change_its_rates_in_turn() -> None:
    ours, theirs = optim.SGD([param()], lr=1.0), torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    own = [lr_scheduler.LinearLR(ours, 0.5), lr_scheduler.StepLR(ours, 2, 0.3), lr_scheduler.ExponentialLR(ours, 0.9)]
    module = torch.optim.lr_scheduler
    other = [module.LinearLR(theirs, 0.5), module.StepLR(theirs, 2, 0.3), module.ExponentialLR(theirs, 0.9)]
    for _ in range(9):
        theirs.step()
        for each in (*own, *other):
            each.step()
        assert ours.param_groups[0]["lr"] == theirs.param_groups[0]["lr"]


def test_cosines_are_the_nearest() -> None:
    mpmath.mp.prec = 200
    points = [
        math.pi * epoch / length
        for length in (1, 2, 3, 7, 90, 1000)
        for epoch in range(0, 3 * length, max(1, length // 9))
    ]
    for x in [*points, 0.0, 1e-300, 1e6, -2.5]:
        assert lr_scheduler.cosine(x) == float(mpmath.cos(mpmath.mpf(x)))


def test_warm_restarts_go_to_any_epoch() -> None:
    for mult in (1, 2, 3):
        ours, theirs = optim.SGD([param()], lr=1.0), torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
        own = lr_scheduler.CosineAnnealingWarmRestarts(ours, 3, mult)
        other = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(theirs, 3, mult)
        for epoch in (0.5, 2.75, 4, 8.5, 1):
            own.step(epoch)
            other.step(epoch)
            assert own.get_last_lr() == pytest.approx(other.get_last_lr(), rel=1e-12)
        with pytest.raises(ValueError, match="epoch: got -1"):
            own.step(-1)
        assert own.last_epoch == 1


def test_a_cycle_ends() -> None:
    schedule = lr_scheduler.OneCycleLR(optim.SGD([param()], momentum=0.5), 0.1, 4)
    for _ in range(4):
        schedule.step()
    with pytest.raises(ValueError, match="step: got the step 5; the cycle has 4"):
        schedule.step()
    assert schedule.last_epoch == 4


def test_a_schedule_goes_on_from_its_state() -> None:
    first, second = optim.SGD([param()], lr=0.1), optim.SGD([param()], lr=0.7)
    a = lr_scheduler.CosineAnnealingLR(first, 10)
    for _ in range(4):
        a.step()
    b = lr_scheduler.CosineAnnealingLR(second, 10)
    b.load_state_dict(a.state_dict())
    a.step()
    b.step()
    assert a.get_last_lr() == b.get_last_lr()
    c = lr_scheduler.CosineAnnealingLR(first, 10, last_epoch=4)
    assert c.get_last_lr() == a.get_last_lr()
    with pytest.raises(ValueError, match="2 groups"):
        b.load_state_dict({"last_epoch": 1, "base_lrs": [1.0, 2.0]})


@pytest.mark.parametrize("kind", ["StepLR", "ExponentialLR", "CosineAnnealingLR", "MultiStepLR", "LambdaLR"])
def test_a_group_that_is_added_is_scheduled(kind: str) -> None:
    """Its rate follows the same formula from its own rate on."""
    options: dict[str, tuple[Any, ...]] = {
        "StepLR": (2, 0.5),
        "ExponentialLR": (0.5,),
        "CosineAnnealingLR": (8,),
        "MultiStepLR": ([1, 3], 0.5),
        "LambdaLR": (lambda epoch: 1.0 / (1 + epoch),),
    }
    optimizer = optim.SGD([param()], lr=0.5)
    schedule = getattr(optim.lr_scheduler, kind)(optimizer, *options[kind])
    schedule.step()
    optimizer.add_param_group({"params": [param()], "lr": 4.0})
    assert optimizer.param_groups[1]["initial_lr"] == 4.0
    for _ in range(4):
        schedule.step()
        first, second = schedule.get_last_lr()
        assert second == pytest.approx(8.0 * first, rel=1e-12)
    assert schedule.state_dict()["base_lrs"] == [0.5, 4.0]
    again = optim.SGD([{"params": [param()]}, {"params": [param()], "lr": 4.0}], lr=0.5)
    other = getattr(optim.lr_scheduler, kind)(again, *options[kind])
    other.load_state_dict(schedule.state_dict())
    assert other.get_last_lr() == schedule.get_last_lr()


def test_a_group_without_a_function_is_named() -> None:
    optimizer = optim.SGD([param()], lr=1.0)
    schedule = optim.lr_scheduler.LambdaLR(optimizer, [lambda epoch: 0.5**epoch])
    optimizer.add_param_group({"params": [param()]})
    with pytest.raises(ValueError, match="lr_lambda: got 1 functions; the optimizer has 2 groups"):
        schedule.step()
    assert (schedule.last_epoch, schedule.get_last_lr()) == (0, [1.0, 1.0])
    schedule.lr_lambdas.append(lambda epoch: 0.25**epoch)
    schedule.step()
    assert schedule.get_last_lr() == [0.5, 0.25]


GROUPS: dict[str, tuple[Any, type[Exception], str]] = {
    "no dict": ([1], TypeError, "group: got list"),
    "no parameters": ({"lr": 0.1}, ValueError, r"group: got \['lr'\]; must have 'params'"),
    "an empty list": ({"params": []}, ValueError, "params: got none"),
    "a set": ({"params": {1}}, TypeError, "params: got set"),
    "a number": ({"params": 3}, TypeError, "params: got int"),
    "names too": ({"params": [("name", param())]}, TypeError, r"params: got tuple; .* module.parameters\(\)"),
    "an unknown setting": ({"params": [param()], "rate": 1}, ValueError, r"settings \['rate'\]; may be lr"),
    "a rate of text": ({"params": [param()], "lr": "0.1"}, TypeError, "lr: got '0.1'"),
    "no rate": ({"params": [param()], "lr": None}, TypeError, "lr: got None"),
}


@pytest.mark.parametrize("name", GROUPS)
def test_a_refused_group_is_not_added(name: str) -> None:
    group, error, message = GROUPS[name]
    optimizer = optim.SGD([param()], lr=0.1)
    with pytest.raises(error, match=message):
        optimizer.add_param_group(group)
    assert len(optimizer.param_groups) == 1


@pytest.mark.parametrize("junk", [None, {}, {"state": {}}, [1]])
def test_junk_for_a_state_is_named(junk: Any) -> None:
    optimizer = optim.SGD([param()], lr=0.1)
    for owner in (optimizer, optim.lr_scheduler.StepLR(optimizer, 1)):
        with pytest.raises(ValueError, match=r"state_dict: got .*; must hold"):
            owner.load_state_dict(junk)
