"""The ten models: every backend has the reference's bits, forward and backward, at 1 and 2 threads.

Judged are the logits, the loss, the gradients of the input and of every parameter, the running statistics after the
step, and then the logits in evaluation, all of two images of 32x32: the smallest size at which every stage still
convolves what it would convolve in a larger image (the last one sees 1x1, where two images are what training needs).

By default each model has its full depth and few, odd channels, so that kernels meet the ends of their tiles: all ten
take seconds. The real widths are marked ``slow``: from 2 seconds (``resnet_18``) to a minute and a half
(``resnet_1001``, 149 million parameters), three minutes for all ten. What is kept of a run is a digest of each tensor,
so that the largest models fit in a few gigabytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import pytest
from support.backends import BACKENDS, on
from support.bits import bits

import lucid
import lucid.nn.functional as F
from lucid import models, nn

SEED = 5
SIZE = 32
NARROW = {"stem_width": 6, "channels": (3, 5, 4, 7), "num_classes": 11}
THREADS = (1, 2)

every_model = pytest.mark.parametrize("model_name", models.get_model_names())
seeds = pytest.mark.parametrize("seed", [SEED], ids="seed{}".format)
other_backends = pytest.mark.parametrize("name", [name for name in BACKENDS if name != "reference"])


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    """Whatever a test sets is put back."""
    before = lucid.get_num_threads()
    yield
    lucid.set_num_threads(before)


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


def check(model_name: str, seed: int, name: str, **options: object) -> None:
    model, images, classes = make(model_name, seed, **options)
    assert len(list(model.named_buffers())) > 0
    with on("reference"):
        expected = step(model, images, classes)
    with on(name):
        model.to(lucid.get_default_device())
        for threads in THREADS:
            lucid.set_num_threads(threads)
            got = step(model, images, classes)
            assert list(got) == list(expected)
            different = [key for key in got if got[key] != expected[key]]
            assert not different, f"{name}, {threads} threads: {len(different)} of {len(got)} differ: {different[:5]}"


@other_backends
@seeds
@every_model
def test_narrow_models_have_the_bits_of_the_reference(model_name: str, seed: int, name: str) -> None:
    check(model_name, seed, name, **NARROW)


@other_backends
@seeds
@pytest.mark.parametrize("options", ["deep", "cardinality", "se", "dilation"])
def test_variants_have_the_bits_of_the_reference(options: str, seed: int, name: str) -> None:
    """What the ten do not use: the deep stem, groups, squeeze-and-excitation, dilation."""
    arguments: dict[str, dict[str, object]] = {
        "deep": {"stem_type": "deep"},
        "cardinality": {"block_args": {"cardinality": 3, "base_width": 32}},
        "se": {"block_args": {"se": True, "se_reduction": 2}},
        "dilation": {"block_args": {"dilation": 2}},
    }
    check("resnet_50", seed, name, **NARROW, **arguments[options])


@pytest.mark.slow
@other_backends
@seeds
@every_model
def test_models_have_the_bits_of_the_reference(model_name: str, seed: int, name: str) -> None:
    check(model_name, seed, name)


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


@other_backends
@seeds
@pytest.mark.parametrize("model_name", ["resnet_18", "resnet_200"])
def test_training_narrow_models_has_the_bits_of_the_reference(model_name: str, seed: int, name: str) -> None:
    results = []
    for backend in ("reference", name):
        model, images, classes = make(model_name, seed, **NARROW)
        with on(backend):
            results.append(trained(model.to(lucid.get_default_device()), images, classes))
    assert list(results[0]) == list(results[1])
    different = [key for key in results[0] if results[0][key] != results[1][key]]
    assert not different, f"{name}: {len(different)} of {len(results[0])} differ: {different[:5]}"


ONE_OF_EACH_BLOCK = ("resnet_18", "resnet_50", "resnet_200")  # enough for the reference, whose bits the others have


@seeds
@pytest.mark.parametrize(
    ("model_name", "name"),
    [
        (model_name, name)
        for model_name in models.get_model_names()
        for name in BACKENDS
        if name != "reference" or model_name in ONE_OF_EACH_BLOCK
    ],
)
def test_an_image_does_not_feel_its_batch(model_name: str, seed: int, name: str) -> None:
    """In evaluation an image has the same logits alone, at any place of a batch, and beside a NaN."""
    model, images, _ = make(model_name, seed, **NARROW)
    others = np.random.default_rng(seed).standard_normal((5, 3, SIZE, SIZE)).astype(np.float32)
    others[1] = np.nan
    with on(name), lucid.no_grad():
        model.eval().to(lucid.get_default_device())
        alone = bits(model(lucid.tensor(images[:1])).numpy()[0])
        for place in (0, 2, 4):
            batch = others.copy()
            batch[place] = images[0]
            assert bits(model(lucid.tensor(batch)).numpy()[place]) == alone, f"place {place}"


@pytest.mark.slow
@other_backends
@seeds
@every_model
def test_an_image_does_not_feel_its_batch_at_real_width(model_name: str, seed: int, name: str) -> None:
    model, images, _ = make(model_name, seed)
    with on(name), lucid.no_grad():
        model.eval().to(lucid.get_default_device())
        together = model(lucid.tensor(images)).numpy()
        for place, image in enumerate(images):
            assert bits(model(lucid.tensor(image[None])).numpy()[0]) == bits(together[place]), f"place {place}"
