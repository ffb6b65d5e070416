"""Random numbers: ``lucid.random`` for ONNX's operators.

With a ``seed`` an operator has a generator of its own, which goes on from call to call; without one it draws from
lucid's global generator. The numbers are those of the law, and no other runtime's.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lucid import ops, random
from lucid.core.dtypes import float32, float64
from lucid.core.tensor import Tensor
from lucid.onnx._importer import Call, imports
from lucid.random import Generator


def generator(call: Call) -> Generator:
    """What the operator draws from."""
    seed = call["seed"]
    if seed is None:
        return random.default_generator
    made = call["generator"]
    if made is None:
        whole = float(seed).is_integer()
        made = Generator(int(seed) if whole else int(np.float64(seed).view(np.uint64)))
        call.attributes["generator"] = made
    return made


def _dtype(call: Call) -> Any:
    """Half precision is drawn in float32."""
    declared = call.results[0]
    return float64 if declared is not None and declared == float64 else float32


@imports("RandomNormal", random=True, gradient=False)
def _import_random_normal(call: Call) -> Tensor:
    return _normal(call, tuple(call["shape"]))


@imports("RandomNormalLike", random=True, gradient=False)
def _import_random_normal_like(call: Call, x: Tensor) -> Tensor:
    return _normal(call, x.shape)


def _normal(call: Call, shape: tuple[int, ...]) -> Tensor:
    return generator(call).normal(call["mean"], call["scale"], shape, _dtype(call), call.device)


@imports("RandomUniform", random=True, gradient=False)
def _import_random_uniform(call: Call) -> Tensor:
    return _uniform(call, tuple(call["shape"]))


@imports("RandomUniformLike", random=True, gradient=False)
def _import_random_uniform_like(call: Call, x: Tensor) -> Tensor:
    return _uniform(call, x.shape)


def _uniform(call: Call, shape: tuple[int, ...]) -> Tensor:
    return generator(call).uniform(call["low"], call["high"], shape, _dtype(call), call.device)


@imports("Bernoulli", random=True, gradient=False)
def _import_bernoulli(call: Call, probs: Tensor) -> Tensor:
    return generator(call).bernoulli(probs, dtype=float32, device=call.device)


@imports("Multinomial", random=True, gradient=False)
def _import_multinomial(call: Call, logits: Tensor) -> Tensor:
    """Of unnormalised logarithms: the class whose sum with a number of Gumbel's distribution is the largest."""
    rows, classes = logits.shape
    drawn = generator(call).uniform(0.0, 1.0, (rows, call["sample_size"], classes), float64, call.device)
    return ops.argmax(ops.unsqueeze(logits.astype(float64), 1) - ops.log(-ops.log(drawn)), -1)
