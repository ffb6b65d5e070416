"""The GPT of ``examples/gpt.py``, in small: a train step beside PyTorch in float64, and in bits on every backend."""

from __future__ import annotations

import numpy as np
import torch
from support.backends import on
from support.scripts import script
from torch.nn import functional

import lucid

SMALL = {"tokens": 31, "length": 12, "width": 24, "heads": 3, "layers": 2}
NEAR = 1e-11  # of the largest element, in float64


def step(dtype: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The parameters before, and loss, gradients and parameters after a step of AdamW."""
    lucid.random.seed(3)
    gpt = script("examples/gpt.py")
    model = gpt.GPT(**SMALL).to(dtype)
    before = {name: p.numpy().copy() for name, p in model.named_parameters()}
    optimizer = lucid.optim.AdamW(model.parameters(), lr=3e-3)
    loss = gpt.train_step(model, optimizer, lucid.tensor(tokens()))
    found = {"loss": loss.detach().numpy()}
    for name, p in model.named_parameters():
        found[f"{name}, gradient"], found[name] = p.grad.numpy(), p.numpy()
    return before, found


def tokens() -> np.ndarray:
    return np.random.default_rng(5).integers(0, SMALL["tokens"], (4, SMALL["length"] + 1))


def by_torch(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same step, written with PyTorch alone."""
    w = {name: torch.from_numpy(value.copy()).requires_grad_() for name, value in state.items()}
    batch = torch.from_numpy(tokens())
    n, t = batch[:, :-1].shape
    heads, width = SMALL["heads"], SMALL["width"]

    def norm(x: torch.Tensor, at: str) -> torch.Tensor:
        return functional.layer_norm(x, (width,), w[f"{at}.weight"], w[f"{at}.bias"])

    def linear(x: torch.Tensor, at: str) -> torch.Tensor:
        return functional.linear(x, w[f"{at}.weight"], w[f"{at}.bias"])

    x = w["token.weight"][batch[:, :-1]] + w["position.weight"][:t]
    for i in range(SMALL["layers"]):
        q, k, v = linear(norm(x, f"blocks.{i}.norm1"), f"blocks.{i}.qkv").chunk(3, -1)
        q, k, v = (each.reshape(n, t, heads, width // heads).transpose(1, 2) for each in (q, k, v))
        scores = q @ k.transpose(-1, -2) / (width // heads) ** 0.5
        scores = scores.masked_fill(torch.ones(t, t).triu(1).bool(), -torch.inf)
        x = x + linear((scores.softmax(-1) @ v).transpose(1, 2).reshape(n, t, width), f"blocks.{i}.out")
        inner = functional.gelu(linear(norm(x, f"blocks.{i}.norm2"), f"blocks.{i}.wide"), approximate="tanh")
        x = x + linear(inner, f"blocks.{i}.narrow")
    logits = norm(x, "norm") @ w["token.weight"].T
    loss = functional.cross_entropy(logits.reshape(-1, SMALL["tokens"]), batch[:, 1:].reshape(-1))
    loss.backward()
    found = {"loss": loss.detach().numpy()}
    torch.optim.AdamW(list(w.values()), lr=3e-3).step()
    for name, value in w.items():
        assert value.grad is not None
        found[f"{name}, gradient"], found[name] = value.grad.numpy(), value.detach().numpy()
    return found


def test_a_train_step_is_pytorchs() -> None:
    before, found = step("float64")
    expected = by_torch(before)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        # A step of AdamW divides a gradient by its size: where there is none, rounding is all that is left.
        near = 1e-7 if not name.endswith("gradient") and name != "loss" else NEAR
        assert np.abs(found[name] - value).max() <= near * np.abs(value).max(initial=1e-6), name


def test_a_train_step_has_the_same_bits(backend: str) -> None:
    with on("reference"):
        _, expected = step("float32")
    with on(backend):
        _, found = step("float32")
    assert {name: value.tobytes() for name, value in found.items()} == {k: v.tobytes() for k, v in expected.items()}
