"""A model of your own: a factory of a module, of lucid or of PyTorch, or an ONNX file.

lucid runs the module, or what `lucid.onnx.load` makes of the file. A module of PyTorch is exported to ONNX in float64
for lucid to run, and is itself the truth's second origin; the values of the export that a module of it returns have the
module's path for a name. Where there is no module of PyTorch, lucid alone says what is true.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from lucid import nn, onnx
from lucid.files import open_regular
from lucid.graph import Graph as Traced
from oracle.errors import UsageError, foreign
from oracle.graph.graph import Shape
from oracle.graph.state import State
from oracle.imports import import_module, member
from oracle.networks.network import Network

ONNX = ".onnx"
_OPSET = 18


class _Found(NamedTuple):
    """What a text names: modules, weights, the input's shape, and the rest as `Network` has it."""

    make: Callable[[], nn.Module]
    mirror: Callable[[], Any] | None
    weights: State
    shape: Shape | None
    infers: bool
    renamed: Callable[[Traced], Mapping[str, str]] = lambda traced: {}


def is_given(text: str) -> bool:
    """Whether a model is one of somebody's own.

    Example:
        >>> is_given("networks.py:small"), is_given("model.onnx"), is_given("resnet_18")
        (True, True, False)
    """
    return ":" in text or text.endswith(ONNX)


def name_of(text: str) -> str:
    """What reports and files call such a model.

    Example:
        >>> name_of("nets/networks.py:small"), name_of("models/encoder.onnx")
        ('networks-small', 'encoder')
    """
    where, _, factory = text.rpartition(":")
    text = Path(text).stem if text.endswith(ONNX) else f"{Path(where).name.removesuffix('.py')}-{factory}"
    return re.sub(r"[^A-Za-z0-9_]+", "-", text).strip("-")


@lru_cache(8)
def given_network(text: str, shape: Shape | None = None, tokens: int = 0, mirror: str = "") -> Network:
    """The network that a text names.

    Args:
        text: ``package.module:factory``, ``PATH.py:factory`` or ``FILE.onnx``.
        shape: of the input; an ONNX file may say it itself.
        tokens: how many tokens there are, where the input is of tokens.
        mirror: ``package.module:factory`` of the same in PyTorch, with parameters of the same names.

    Raises:
        UsageError: there is no such thing, it cannot be made, or the shape is missing.
    """
    with foreign(f"model: {text} cannot be made"):
        found = _of_file(Path(text)) if text.endswith(ONNX) else _of_factory(text, shape, tokens)
    sides = shape or found.shape
    if sides is None:
        raise UsageError(f"model: {text} does not say what shape its input has: give it with --input-shape or --input")
    return Network(
        name_of(text),
        found.make,
        _factory(mirror) if mirror else found.mirror,
        shape=lambda batch, size: (batch, *sides[1:]),
        sizes={"eval": (sides[-1], sides[0]), "train": (sides[-1], sides[0])},
        tokens=tokens,
        numbers={"shape": list(sides), "tokens": tokens},
        weights=found.weights,
        infers=found.infers,
        renamed=found.renamed,
    )


def _factory(text: str) -> Callable[[], Any]:
    module, _, name = text.rpartition(":")
    found = member(import_module(module), name)
    if not callable(found):
        raise UsageError(f"model: {text}: {module} has no {name} that can be called")
    factory: Callable[[], Any] = found
    return factory


def _of_file(path: Path) -> _Found:
    """An ONNX file, read again each time."""
    with open_regular(path) as file:
        content = file.read()
    whole = onnx.load(path)
    return _Found(lambda: onnx.load(path), None, _state(whole.state_dict()), _shape_of(content), True)


def _shape_of(content: bytes) -> Shape | None:
    """The shape of a file's only input; ``None`` where it leaves a side open."""
    from onnx import load_from_string

    graph = load_from_string(content).graph
    weights = {tensor.name for tensor in graph.initializer}
    given = [value.type.tensor_type.shape.dim for value in graph.input if value.name not in weights]
    sides = tuple(side.dim_value for side in given[0]) if len(given) == 1 else ()
    return sides if sides and all(sides) else None


def _of_factory(text: str, shape: Shape | None, tokens: int) -> _Found:
    factory = _factory(text)
    made = factory()
    if isinstance(made, nn.Module):
        return _Found(factory, None, _state(made.state_dict()), None, False)
    if not any(cls.__module__.startswith("torch.nn") for cls in type(made).__mro__):
        raise UsageError(f"model: {text} made a {type(made).__name__}; may be a module of lucid or of PyTorch")
    if shape is None:
        raise UsageError(f"model: {text} does not say what shape its input has: give it with --input-shape or --input")
    return _of_torch(factory, made, shape, tokens)


def _state(state: Mapping[str, Any]) -> State:
    """As a case has weights: float32, and integers as they are."""
    arrays = {name: np.array(value.numpy() if hasattr(value, "numpy") else value) for name, value in state.items()}
    return {name: value.astype(np.float32) if value.dtype.kind == "f" else value for name, value in arrays.items()}


# -- modules of PyTorch ------------------------------------------------------------------------------------------------


def _of_torch(factory: Callable[[], Any], made: Any, shape: Shape, tokens: int) -> _Found:
    """A module of PyTorch, and its export, which lucid runs."""
    weights = _state({name: value.detach().cpu() for name, value in made.state_dict().items()})
    content = _exported(factory(), shape, tokens)

    def make() -> nn.Module:
        module = onnx.load(content)
        for name, value in module.state_dict().items():
            if name not in weights:  # a constant of the export
                setattr(module, name, nn.Buffer(value.detach(), persistent=False))
        return module

    def mirror() -> Any:
        """With attributes that are numbers as ONNX has them, in float32: those of a definition such as eps."""
        module = factory()
        for part in module.modules():
            for name, value in vars(part).items():
                if type(value) is float:
                    setattr(part, name, float(np.float32(value)))
        return module

    return _Found(
        make,
        mirror,
        {name: weights[name] for name in make().state_dict()},
        None,
        True,
        lambda traced: _paths(traced, {name for name, _ in made.named_modules()}),
    )


def _exported(module: Any, shape: Shape, tokens: int) -> bytes:
    """A module in ONNX and float64, every value named by the module that made it.

    The weights are made different from each other first: equal ones would become one.
    """
    import torch
    from onnx import load_from_string

    module = module.double().eval()
    with torch.no_grad():
        for place, value in enumerate(module.state_dict().values()):
            if value.is_floating_point():
                value.copy_(1.0 + torch.arange(value.numel()).reshape(value.shape) / (value.numel() + 1.0) + place)
    given = torch.zeros(shape, dtype=torch.int64 if tokens else torch.float64)
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (given,),
            cast(Any, file),  # (its annotation has forgotten files that are open)
            dynamo=False,
            do_constant_folding=False,
            opset_version=_OPSET,
            input_names=["input"],
        )
    proto = load_from_string(file.getvalue())
    for output in proto.graph.output:
        for node in proto.graph.node:
            if output.name in node.output:
                renamed = f"{node.name}_output_{list(node.output).index(output.name)}"
                _rename(proto, output.name, renamed)
                break
    content: bytes = proto.SerializeToString()
    return content


def _rename(proto: Any, before: str, after: str) -> None:
    """Give a tensor of a model, which is its output, another name."""
    for node in proto.graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                if name == before:
                    names[place] = after
    for value in proto.graph.output:
        if value.name == before:
            value.name = after


def _paths(traced: Traced, modules: set[str]) -> dict[str, str]:
    """Names of values by the paths of modules: that of the module for the last of its own values, dotted ones for the
    others (``/act/Erf_output_0`` is ``act.Erf_output_0``)."""
    found: dict[str, str] = {}
    last: dict[str, str] = {}
    for step in traced.nodes:
        parts: list[str] = []
        for part in step.output.split("/")[1:-1]:  # each of them repeats the one before
            parts = [part] if parts and part.startswith(f"{parts[-1]}.") else [*parts, part]
        path = ".".join(parts)
        found[step.output] = ".".join([*parts, step.output.rpartition("/")[2]])
        if path in modules and not any(other.startswith(f"{path}.") for other in modules):
            last[path] = step.output
    return {**found, **{value: path for path, value in last.items() if path}}
