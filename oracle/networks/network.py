"""A model of any module: lucid traces its graph, and a mirror in PyTorch shares no code with it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np

import lucid
from lucid import nn
from lucid.graph import Graph as Traced
from lucid.graph import trace
from oracle.errors import UsageError
from oracle.graph.graph import INPUT, Graph, Shape
from oracle.graph.model import Layout, Mode
from oracle.graph.state import State, check_state
from oracle.networks.graph import graph_of
from oracle.operations import class_axis, is_loss

_NOTHING = re.compile("(?!)")
LAYOUT = Layout("", {}, _NOTHING, _NOTHING, {}, _NOTHING)


@dataclass(frozen=True)
class Network:
    """A network that is described by the module that lucid runs.

    Args:
        name: what reports call it.
        make: the module of lucid.
        mirror: the module of PyTorch, with parameters of the same names, where there is one; whatever of its modules
            has the name of a value makes that value.
        shape: of the input, from the number of inputs and their size.
        sizes: by mode, size and batch of a standard case.
        tokens: how many tokens there are, where the input is of tokens; 0 where it is of floats.
        numbers: whatever else the modules are made from, for the record.
        weights: its own, where it has any; seeded ones otherwise.
        infers: whether a train step computes as inference does: statistics are the stored ones, nothing is dropped.
        renamed: other names of its values.
    """

    name: str
    make: Callable[[], nn.Module] = field(repr=False)
    mirror: Callable[[], Any] | None = field(repr=False)
    shape: Callable[[int, int], Shape] = field(repr=False)
    sizes: Mapping[Mode, tuple[int, int]] = field(hash=False)
    tokens: int = 0
    numbers: Mapping[str, Any] = field(default_factory=dict, hash=False)
    weights: State | None = field(default=None, repr=False, hash=False, compare=False)
    infers: bool = False
    renamed: Callable[[Traced], Mapping[str, str]] = field(default=lambda traced: {}, repr=False)

    @property
    def stored_whole(self) -> bool:
        """No golden holds its tensors whole."""
        return False

    @property
    def functional(self) -> bool:
        """Some of its operations are no modules."""
        return True

    @property
    def mirrored(self) -> bool:
        """Whether PyTorch has it too."""
        return self.mirror is not None

    @property
    def modular(self) -> bool:
        """Whether modules of lucid have the names of the values that they make: not those of ONNX."""
        return not self.infers

    @property
    def layout(self) -> Layout:
        """Nobody else has names for its operations."""
        return LAYOUT

    def graph(self, batch: int = 0, size: int = 0) -> Graph:
        """Its operations for so many inputs of that size; by default those of a standard case."""
        usual = self.sizes["eval"]
        return _graph(self, batch or usual[1], size or usual[0])

    def standard_shape(self, mode: Mode) -> tuple[int, int]:
        """Size and batch of a standard case."""
        return self.sizes[mode]

    def record(self) -> dict[str, Any]:
        """It as JSON."""
        return {"network": {"name": self.name, **self.numbers}}

    def torch_model(self, state: Mapping[str, Any], dtype: Any) -> Any:
        """The mirror, with these weights.

        Raises:
            UsageError: there is none.
        """
        if self.mirror is None:
            raise UsageError(f"subject: torch: {self.name} is no module of PyTorch, nor is one given with --mirror")
        import torch

        mirror = self.mirror().to(dtype)
        known, given = mirror.state_dict(), {name: torch.from_numpy(np.array(value)) for name, value in state.items()}
        needed = {name: tuple(known[name].shape) for name in known if known[name].is_floating_point()}
        needed |= {name: tuple(known[name].shape) for name in given if name in known}
        if self.infers:  # what an export has no use for, it has not
            needed = {name: shape for name, shape in needed.items() if name in given}
        try:
            check_state(needed, state)
        except ValueError as error:
            raise UsageError(f"model: its mirror in PyTorch: {error}") from None
        mirror.load_state_dict({**known, **given})
        if self.infers:
            mirror.eval().train = lambda mode=True: mirror
        if self._has_rows:
            mirror.loss_function = _of_rows(torch.nn.functional.cross_entropy)
        return mirror

    def lucid_model(self) -> nn.Module:
        """The module."""
        model = self.make()
        if self.infers:
            model.eval().train = lambda mode=True: model  # type: ignore[method-assign]
        if self._has_rows:
            model.loss_function = _of_rows(nn.functional.cross_entropy)
        return model

    @property
    def _has_rows(self) -> bool:
        """Whether the last axis is that of the classes, and there are others beside the first."""
        return any(class_axis(node) > 1 for node in self.graph().nodes if is_loss(node))

    def likeness(self, names: Iterable[str]) -> str:
        """Nothing is known."""
        return ""


def _of_rows(cross_entropy: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """The cross-entropy of logits whose last axis is that of the classes."""
    return lambda logits, labels: cross_entropy(logits.reshape(-1, logits.shape[-1]), labels.reshape(-1))


@lru_cache(maxsize=64)
def _graph(network: Network, batch: int, size: int) -> Graph:
    with nn.init.skip_init(), np.errstate(invalid="ignore"):  # the weights may be anything
        model = network.make().to("float64")  # so that constants in it are those of the truth
    shape = network.shape(batch, size)
    given = lucid.tensor(np.zeros(shape, np.int64 if network.tokens else np.float64))
    try:
        traced = trace(model, given)
    except (RuntimeError, ValueError, TypeError) as error:
        raise UsageError(f"model: {network.name} cannot be traced with an input of shape {shape}: {error}") from None
    graph = graph_of(traced, model, network.renamed(traced))
    return replace(graph, tokens={INPUT: network.tokens} if network.tokens else {})
