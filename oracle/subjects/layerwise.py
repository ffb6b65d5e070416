"""What a subject that can be driven layer by layer offers: the local view's side of `oracle.subjects.Subject`.

Arrays travel in float32 (float64 for a float64 subject) and hold numbers that the subject's precision has, so that
handing them over rounds nothing. A subject that cannot be driven has no ``layerwise``, and gets no local view.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from oracle.graph.graph import Node

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class LayerRun:
    """What one layer made of what it was fed.

    Args:
        output: of the layer.
        input_gradients: for each input; ``None`` where there is none (an eval run, the image).
        parameter_gradients: by the parameter's own name, such as ``weight``.
        statistics: of a batch normalisation in training, ``running_mean`` and ``running_var`` after the step.
    """

    output: Array
    input_gradients: Sequence[Array | None] = ()
    parameter_gradients: Mapping[str, Array] = field(default_factory=dict)
    statistics: Mapping[str, Array] = field(default_factory=dict)


@dataclass(frozen=True)
class CodeFeed:
    """What an operation's own code is fed.

    Args:
        source: what it takes.
        outputs: by name, what each operation inside returns when it is called.
        input_gradients: by name, what each of them hands back as its input's gradient, if there are any.
        gradient: of its output; ``None`` runs forward alone.
    """

    source: Array
    outputs: Mapping[str, Array]
    input_gradients: Mapping[str, Array]
    gradient: Array | None


@dataclass(frozen=True)
class CodeRun:
    """What an operation's own code made, the operations inside of it being replaced by what they should return.

    Args:
        output: of the operation.
        arrivals: by name, the gradient that reached what the code takes and the outputs of the operations inside of it.
    """

    output: Array
    arrivals: Mapping[str, Array] = field(default_factory=dict)


class Layerwise(ABC):
    """A subject's model of one case, taken apart."""

    def drives(self, node: Node) -> bool:
        """Whether there is something that does this operation alone."""
        return True

    @abstractmethod
    def run(self, node: Node, inputs: Sequence[Array], gradient: Array | None) -> LayerRun:
        """Run one operation (none that has code) forward, and backward from ``gradient`` if one is given.

        The loss takes the logits; its gradient is 1.
        """

    @abstractmethod
    def run_code(self, node: Node, feed: CodeFeed) -> CodeRun:
        """Run an operation's own code (`Node.source`), not the operations inside of it."""
