"""The loss: a mean over the batch of what each row costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from oracle.graph.graph import Node, Shape
from oracle.operations.operation import COMPOSED, Array, Expected, Feed, Made, Operation, input_gradient
from oracle.precision.rounding import FUNCTION_ROUNDINGS, Deviation, Rounding, growth, mean_square


def class_axis(node: Node) -> int:
    """The axis of the classes in what the loss takes."""
    axis: int = node.attributes.get("axis", 1)
    return axis


def _rows(node: Node, z: Array) -> Array:
    """Logits, a row for each label."""
    return np.moveaxis(z, class_axis(node), -1).reshape(-1, z.shape[class_axis(node)])


def _from_rows(node: Node, rows: Array, shape: Shape) -> Array:
    """Rows in the shape of the logits again."""
    axis = class_axis(node)
    return np.moveaxis(rows.reshape(*shape[:axis], *shape[axis + 1 :], shape[axis]), -1, axis)


def _loss(node: Node, feed: Feed, rounding: Rounding) -> Iterator[Expected]:
    """Cross-entropy, ``mean(log(sum(exp(z - top))) + top - z[label])``, and its gradient, ``(softmax - one) / N``.

    An exponential's argument is rounded once and the function costs `FUNCTION_ROUNDINGS`; the sum of the exponentials
    is a plain chain; a stored logarithm of a probability, from which the gradient starts, is rounded once more.
    """
    z, labels = _rows(node, feed.inputs[0]), feed.labels.reshape(-1)
    rows, classes = z.shape
    unit, stored = mean_square(rounding.sums), mean_square(rounding.store)
    top = z.max(1, keepdims=True)
    powers = np.exp(z - top)
    total = powers.sum(1, keepdims=True)
    log_total = np.log(total)
    log_probability = z - top - log_total
    total_error = unit * (growth(classes) + FUNCTION_ROUNDINGS**2 + (powers * np.square(z - top)).sum(1, keepdims=True))
    log_error = total_error + unit * (FUNCTION_ROUNDINGS**2 * np.square(log_total) + np.square(z - top))
    log_error = log_error + (unit + stored) * np.square(log_probability) + unit * np.square(top + log_total)
    taken = np.arange(rows), labels
    each, each_error = -log_probability[taken], log_error[taken]
    value = np.array(each.mean())
    error = each_error.sum() / rows**2 + unit * growth(rows) * np.abs(each).mean() ** 2
    yield Expected("loss", node.name, value, Deviation(np.array(error)))
    if not feed.training:
        return
    probability = np.exp(log_probability)
    wanted = np.zeros_like(z)
    wanted[taken] = 1.0
    dz = (probability - wanted) / rows
    own = (log_error + FUNCTION_ROUNDINGS**2 * unit + 2 * stored) * np.square(probability / rows) + 3 * unit * dz * dz
    shape = feed.inputs[0].shape
    yield input_gradient(node, _from_rows(node, dz, shape), Deviation(_from_rows(node, own, shape)))


def _of_loss(node: Node, feed: Feed, made: Made, unit: float, floor: float) -> dict[str, Deviation]:
    """The loss moves by ``sum(dz * e)``, ``e`` being the errors of ``z``; a probability by ``p * (e - sum(p * e))``."""
    z = _rows(node, feed.inputs[0])
    rows = z.shape[0]
    powers = np.exp(z - z.max(1, keepdims=True))
    probability = powers / powers.sum(1, keepdims=True)
    wanted = np.zeros_like(z)
    wanted[np.arange(rows), feed.labels.reshape(-1)] = 1.0
    of_loss = unit * np.square((probability - wanted) / rows * z).sum()
    together = np.square(probability * z).sum(1, keepdims=True)
    return {
        "output": Deviation(np.array(of_loss)),
        "input": Deviation(
            _from_rows(node, unit * np.square(probability / rows) * (z * z + together), feed.inputs[0].shape)
        ),
    }


def _compute(node: Node, inputs: Sequence[Any], parameters: Mapping[str, Any], setting: Any) -> Any:
    import torch

    logits = inputs[0].movedim(class_axis(node), 1)
    return torch.nn.functional.cross_entropy(logits, torch.from_numpy(setting.labels))


LOSS = Operation(
    "loss",
    COMPOSED,
    lambda node, inputs, parameters: ((),),
    _compute,
    lambda node, inputs, parameters: (
        f"cross-entropy of {node.inputs[0]}'s output against the labels, mean over the batch"
    ),
    makes=_loss,
    grants=_of_loss,
)
