"""The ten models: every backend has the reference's bits, forward and backward, at 1 and 2 threads.

Judged are the logits, the loss, the gradients of the input and of every parameter, the running statistics after the
step, and then the logits in evaluation, all of two images of 32x32: the smallest size at which every stage still
convolves what it would convolve in a larger image (the last one sees 1x1, where two images are what training needs).

By default each model has its full depth and few, odd channels, so that kernels meet the ends of their tiles: all ten
take seconds. The real widths are marked ``slow``, one model of each kind of block: the others repeat those blocks, and
their digests at real width are in the goldens. What is kept of a run is a digest of each tensor, so that the largest
models fit in a few gigabytes.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from support.backends import BACKENDS, on
from support.bits import bits
from support.networks import NARROW, SIZE, make, step, trained

import lucid
from lucid import models

SEED = 5
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


# The others repeat these blocks; narrow, all ten run at their full depth.
ONE_OF_EACH_BLOCK = ("resnet_18", "resnet_50", "resnet_200")
one_of_each_block = pytest.mark.parametrize("model_name", ONE_OF_EACH_BLOCK)


@pytest.mark.slow
@other_backends
@seeds
@one_of_each_block
def test_models_have_the_bits_of_the_reference(model_name: str, seed: int, name: str) -> None:
    check(model_name, seed, name)


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


@seeds
@pytest.mark.parametrize(
    ("model_name", "name"),
    [  # one of each kind of block is enough for the reference, whose bits the others have
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
@one_of_each_block
def test_an_image_does_not_feel_its_batch_at_real_width(model_name: str, seed: int, name: str) -> None:
    model, images, _ = make(model_name, seed)
    with on(name), lucid.no_grad():
        model.eval().to(lucid.get_default_device())
        together = model(lucid.tensor(images)).numpy()
        for place, image in enumerate(images):
            assert bits(model(lucid.tensor(image[None])).numpy()[0]) == bits(together[place]), f"place {place}"
