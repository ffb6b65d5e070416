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
from lucid.graph import trace
from oracle.graph.graph import INPUT, Graph, Shape
from oracle.graph.model import Layout, Mode
from oracle.networks.graph import graph_of

_NOTHING = re.compile("(?!)")
LAYOUT = Layout("", {}, _NOTHING, _NOTHING, {}, _NOTHING)


@dataclass(frozen=True)
class Network:
    """A network that is described by the module that lucid runs.

    Args:
        name: what reports call it.
        make: the module of lucid.
        mirror: the module of PyTorch, with parameters of the same names; whatever of its modules has the name of a
            value makes that value.
        shape: of the input, from the number of inputs and their size.
        sizes: by mode, size and batch of a standard case.
        tokens: how many tokens there are, where the input is of tokens; 0 where it is of floats.
        axis: of the classes in the output: 1, or its last.
        numbers: whatever else the modules are made from, for the record.
    """

    name: str
    make: Callable[[], nn.Module] = field(repr=False)
    mirror: Callable[[], Any] = field(repr=False)
    shape: Callable[[int, int], Shape] = field(repr=False)
    sizes: Mapping[Mode, tuple[int, int]] = field(hash=False)
    tokens: int = 0
    axis: int = 1
    numbers: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def stored_whole(self) -> bool:
        """No golden holds its tensors whole."""
        return False

    @property
    def functional(self) -> bool:
        """Some of its operations are no modules."""
        return True

    @property
    def layout(self) -> Layout:
        """Nobody else has names for its operations."""
        return LAYOUT

    def graph(self, batch: int = 1, size: int = 0) -> Graph:
        """Its operations for so many inputs of that size; by default that of a standard case."""
        return _graph(self, batch, size or self.sizes["eval"][0])

    def standard_shape(self, mode: Mode) -> tuple[int, int]:
        """Size and batch of a standard case."""
        return self.sizes[mode]

    def record(self) -> dict[str, Any]:
        """It as JSON."""
        return {"network": {"name": self.name, **self.numbers}}

    def torch_model(self, state: Mapping[str, Any], dtype: Any) -> Any:
        """The mirror, with these weights."""
        import torch

        mirror = self.mirror().to(dtype)
        mirror.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in state.items()})
        if self.axis > 1:
            mirror.loss_function = _of_rows(torch.nn.functional.cross_entropy)
        return mirror

    def lucid_model(self) -> nn.Module:
        """The module."""
        model = self.make()
        if self.axis > 1:
            model.loss_function = _of_rows(nn.functional.cross_entropy)
        return model

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
    given = np.zeros(shape, np.int64 if network.tokens else np.float64)
    state = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    buffers = frozenset(name for name, _ in model.named_buffers())
    graph = graph_of(trace(model, lucid.tensor(given)), state, buffers, network.axis)
    return replace(graph, tokens={INPUT: network.tokens} if network.tokens else {})
