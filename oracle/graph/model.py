"""What the oracle asks of a model: its graph, and how other engines run it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from re import Pattern
from typing import Any, Literal, Protocol

from oracle.graph.graph import Graph
from oracle.graph.state import State

Mode = Literal["eval", "train"]


@dataclass(frozen=True)
class Layout:
    """What else than the oracle's own names a model's operations are called in the wild.

    Args:
        called: by whom.
        aliases: their names to ours, of what has another one.
        part: what is itself a part of such a network, and no prefix of its names.
        shared: what a module that runs several times is called; its groups are the module's owner and the run's number.
        runs: by owner, the operations that its shared module may be, in the order of its runs.
        unobserved: what is no operation's output here.
    """

    called: str
    aliases: Mapping[str, str]
    part: Pattern[str]
    shared: Pattern[str]
    runs: Mapping[str, tuple[str, ...]]
    unobserved: Pattern[str]


class Model(Protocol):
    """Something that makes graphs. There are two kinds: those of `oracle.resnets`, and those of `oracle.networks`."""

    @property
    def name(self) -> str:
        """What reports call it."""

    @property
    def stored_whole(self) -> bool:
        """Whether a golden holds every tensor of it whole."""

    @property
    def functional(self) -> bool:
        """Whether operations of it are no modules, so that engines other than lucid leave some of its values unseen."""

    @property
    def modular(self) -> bool:
        """Whether a module of lucid that has the name of a value makes that value."""

    @property
    def mirrored(self) -> bool:
        """Whether PyTorch has it too, in code that shares nothing with lucid."""

    @property
    def weights(self) -> State | None:
        """Its own weights; ``None`` where cases have seeded ones."""

    @property
    def layout(self) -> Layout:
        """What else its operations are called."""

    def graph(self, batch: int = 1, size: int = 224) -> Graph:
        """Its operations for so many images of that height and width."""

    def standard_shape(self, mode: Mode) -> tuple[int, int]:
        """Size and batch of a standard case."""

    def record(self) -> dict[str, Any]:
        """It as JSON, under the name of its kind."""

    def torch_model(self, state: Mapping[str, Any], dtype: Any) -> Any:
        """It as a module of PyTorch that shares no code with lucid, with these weights."""

    def renamed(self, traced: Any) -> Mapping[str, str]:
        """What the oracle calls values of a graph that lucid traced of it, where it is another name."""

    def lucid_model(self) -> Any:
        """It as a module of lucid."""

    def likeness(self, names: Iterable[str]) -> str:
        """What a network is that differs in these operations alone, in a sentence; empty where that is not known."""
