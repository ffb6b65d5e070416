"""The parameters and statistics of a graph, by name."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

State = dict[str, np.ndarray]


def check_state(shapes: Mapping[str, tuple[int, ...]], state: Mapping[str, np.ndarray]) -> None:
    """Compare the names and shapes of ``state`` with the model's.

    Raises:
        ValueError: they differ.

    Example:
        >>> check_state({"fc.bias": (10,)}, {"fc.bais": np.zeros(10)})
        Traceback (most recent call last):
        ...
        ValueError: the weights do not fit the model: missing fc.bias; unexpected fc.bais
    """
    problems = {
        "missing": [name for name in shapes if name not in state],
        "unexpected": [name for name in state if name not in shapes],
        "of another shape": [
            f"{name} {tuple(state[name].shape)} where the model has {shape}"
            for name, shape in shapes.items()
            if name in state and tuple(state[name].shape) != tuple(shape)
        ],
    }
    found = [f"{kind} {_shortened(names)}" for kind, names in problems.items() if names]
    if found:
        raise ValueError(f"the weights do not fit the model: {'; '.join(found)}")


def _shortened(names: list[str], limit: int = 5) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
