"""Where ``lucid-export`` takes a model from: the zoo by its name, an ONNX file, or a function of a Python module."""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx

from lucid import models, nn
from lucid.core.tensor import Tensor, tensor
from lucid.io import load as load_state
from lucid.onnx._load import load
from lucid.random import manual_seed

__all__ = ["InputShape", "Source", "Wanted", "find"]

LISTED = 4  # how many of the entries that do not fit an error names
Shape = tuple[str, tuple[int, ...]]


class InputShape(click.ParamType):
    """``N,C,H,W``, or with a dtype before it: ``int64:N,T``."""

    name = "[DTYPE:]N,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Shape:
        """The dtype and the sizes."""
        dtype, _, sizes = str(value).rpartition(":")
        parts = sizes.split(",")
        if dtype not in ("", "float32", "float64", "int64", "int32", "bool") or not all(p.isdecimal() for p in parts):
            self.fail(f"got {value!r}; it may be numbers, such as 1,3,224,224, or int64:1,16", param, ctx)
        return dtype or "float32", tuple(map(int, parts))


@dataclass(slots=True)
class Wanted:
    """What the command line says of the model."""

    model: str
    weights: Path | None
    seed: int
    at_random: bool
    batch: int | None
    image_size: int
    shapes: Sequence[Shape]


@dataclass(slots=True)
class Source:
    """A model, inputs for its shapes, where its weights come from, and whether its batch is open."""

    name: str
    network: nn.Module
    inputs: list[Tensor]
    origin: str
    open_batch: bool


def find(wanted: Wanted) -> Source:
    """The model.

    Raises:
        ValueError: there is no such model, or its shapes are not known.
    """
    if wanted.model.endswith(".onnx"):
        return _of_file(wanted)
    if ":" in wanted.model:
        return _of_factory(wanted)
    if wanted.shapes:
        raise click.UsageError("--input-shape is for ONNX files and factories; a model of the zoo takes --image-size")
    network, origin = _of_zoo(wanted.model, wanted.weights, wanted.seed, wanted.at_random)
    channels = next(module for module in network.modules() if isinstance(module, nn.Conv2d)).in_channels
    image = np.zeros((wanted.batch or 1, channels, wanted.image_size, wanted.image_size), np.float32)
    return Source(wanted.model, network, [tensor(image)], origin, not wanted.batch)


def _of_file(wanted: Wanted) -> Source:
    """With the shapes that it declares; what it leaves open is the batch, or to be said."""
    path = Path(wanted.model)
    module = load(path)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    shapes, opened = list(wanted.shapes), False
    if not shapes:
        shapes, opened = _declared(path, wanted.batch or 1)
    if len(shapes) != len(module.input_names):
        raise ValueError(f"{path}: got {len(shapes)} of --input-shape; it takes {', '.join(module.input_names)}")
    opened = opened if wanted.batch is None else not wanted.batch
    return Source(path.stem, module, _zeros(shapes), f"{path.name}, sha256:{digest}", opened)


def _declared(path: Path, batch: int) -> tuple[list[Shape], bool]:
    """The inputs of a file, an open first axis being ``batch`` long; and whether that of every one is open."""
    graph = onnx.load(path, load_external_data=False).graph
    held = {each.name for each in graph.initializer}
    shapes: list[Shape] = []
    opened = []
    for info in (info for info in graph.input if info.name not in held):
        sides = info.type.tensor_type.shape.dim
        sizes = tuple(side.dim_value or (batch if axis == 0 else 0) for axis, side in enumerate(sides))
        if 0 in sizes or not info.type.tensor_type.HasField("shape"):
            raise ValueError(f"{path}: the input {info.name!r} has sizes that are open; say all by --input-shape")
        opened.append(bool(sides) and not sides[0].dim_value)
        shapes.append((str(onnx.helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type)), sizes))
    return shapes, all(opened)


def _of_factory(wanted: Wanted) -> Source:
    """``package.module:function``, which returns a module; modules of the current directory count."""
    package, _, name = wanted.model.partition(":")
    if not wanted.shapes:
        raise click.UsageError(f"{wanted.model}: say the shape of its input by --input-shape")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        factory = getattr(importlib.import_module(package), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{wanted.model}: cannot be imported: {error}") from error
    manual_seed(wanted.seed)
    try:
        network = factory() if callable(factory) else factory
    except Exception as error:  # somebody's code
        raise ValueError(f"{wanted.model}: raised {type(error).__name__}: {error}") from error
    if not isinstance(network, nn.Module):
        raise ValueError(f"{wanted.model}: made {type(network).__name__}; it may make a lucid.nn.Module")
    origin = f"{wanted.model}, seed {wanted.seed}"
    if wanted.weights is not None:
        origin = _filled(network, wanted.model, wanted.weights)
    return Source(name, network, _zeros(wanted.shapes), origin, wanted.batch == 0)


def _zeros(shapes: Sequence[Shape]) -> list[Tensor]:
    return [tensor(np.zeros(sizes, dtype)) for dtype, sizes in shapes]


def _of_zoo(name: str, weights: Path | None, seed: int, at_random: bool) -> tuple[nn.Module, str]:
    """The model, and where its weights come from."""
    if weights is None and at_random:
        manual_seed(seed)
        return models.get_model(name), f"random, seed {seed}"
    if weights is not None:
        load_state(weights)  # a bad file is said before a large model is made
    with nn.init.skip_init():
        network = models.get_model(name)
    if weights is None:
        network.load_state_dict(models.seeded_state(network, seed))
        return network, f"seed {seed}"
    return network, _filled(network, name, weights)


def _filled(network: nn.Module, name: str, weights: Path) -> str:
    """Take the weights of a file, whose digest is the origin."""
    state = load_state(weights)
    with weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    try:
        network.load_state_dict(state)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"{weights}: does not fit {name}: {_shortened(str(error))}") from error
    return f"sha256:{digest}"


def _shortened(text: str) -> str:
    """A list of lines as one sentence: what it begins with, and how much more there is."""
    lines = text.splitlines()
    shown = "; ".join(line.strip() for line in lines[1 : 1 + LISTED]) if len(lines) > 1 else text
    more = len(lines) - 1 - LISTED
    return f"{shown}; and {more} more" if more > 0 else shown
