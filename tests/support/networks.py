"""Networks that run on any backend, and digests of all that a run of them leaves: equal digests are equal bits."""

from __future__ import annotations

import hashlib

import numpy as np

import lucid
import lucid.nn.functional as F
from lucid import models, nn
from support.bits import bits

SIZE = 32  # the smallest at which every stage still convolves what it would convolve in a larger image
NARROW = {"stem_width": 6, "channels": (3, 5, 4, 7), "num_classes": 11}


def make(model_name: str, seed: int, **options: object) -> tuple[models.ResNet, np.ndarray, np.ndarray]:
    """A model with weights of its own, statistics as after some training, images, and their classes."""
    lucid.manual_seed(seed)
    model = models.get_model(model_name, **options)
    assert isinstance(model, models.ResNet)
    rng = np.random.default_rng(seed)
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.copy_(rng.standard_normal(buffer.shape).astype(np.float32) / 8)
        elif name.endswith("running_var"):
            buffer.copy_(rng.uniform(0.5, 2.0, buffer.shape).astype(np.float32))
    images = rng.standard_normal((2, 3, SIZE, SIZE)).astype(np.float32)
    return model, images, rng.integers(0, model.num_classes, 2)


def digest(x: np.ndarray) -> str:
    return f"{x.dtype} {x.shape} {hashlib.sha256(bits(x)).hexdigest()}"


def step(model: nn.Module, images: np.ndarray, classes: np.ndarray) -> dict[str, str]:
    """A training step without the update, then an evaluation; the buffers end as they began."""
    buffers = {name: buffer.numpy().copy() for name, buffer in model.named_buffers()}
    x = lucid.tensor(images, requires_grad=True)
    logits = model.train()(x)
    loss = F.cross_entropy(logits, lucid.tensor(classes))
    loss.backward()
    assert x.grad is not None
    left = {"logits": logits.numpy(), "loss": loss.numpy(), "gradient of the input": x.grad.numpy()}
    digests = {name: digest(value) for name, value in left.items()}
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        digests[f"gradient of {name}"] = digest(parameter.grad.numpy())
    digests |= {name: digest(buffer.numpy()) for name, buffer in model.named_buffers()}
    with lucid.no_grad():
        digests["logits in evaluation"] = digest(model.eval()(x).numpy())
    model.zero_grad()
    for name, buffer in model.named_buffers():
        buffer.copy_(buffers[name])
    return digests


STEPS = 3


def trained(model: nn.Module, images: np.ndarray, classes: np.ndarray) -> dict[str, str]:
    """The losses of some steps, and all that they leave in the model and in the optimiser."""
    optimizer = lucid.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)
    x, target, digests = lucid.tensor(images), lucid.tensor(classes), {}
    for number in range(STEPS):
        optimizer.zero_grad()
        loss = F.cross_entropy(model.train()(x), target)
        loss.backward()
        optimizer.step()
        digests[f"loss {number}"] = digest(loss.numpy())
    digests |= {name: digest(tensor.numpy()) for name, tensor in model.state_dict().items()}
    memory = [state["momentum_buffer"] for state in optimizer.state.values()]
    return digests | {f"momentum {i}": digest(tensor.numpy()) for i, tensor in enumerate(memory)}
