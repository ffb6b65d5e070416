"""Gradients of chosen tensors, returned and not kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lucid.backends import backend_for
from lucid.core.node import GradNode
from lucid.core.tensor import Tensor, as_tensor, wrap
from lucid.core.walk import gradients

__all__ = ["grad"]


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Any = None,
    retain_graph: bool = False,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> tuple[Tensor | None, ...]:
    """The gradients of ``sum(grad_outputs * outputs)`` with respect to ``inputs``; no tensor's ``grad`` changes.

    Args:
        outputs: one tensor, or several.
        inputs: tensors of the graph, leaves or not.
        grad_outputs: for each output a tensor of its shape and dtype, or None (1) for one of a single element.
        retain_graph: whether the graph may be walked again.
        create_graph: must be False: a backward pass is not recorded here.
        allow_unused: whether an input that no output depends on gets None.

    Raises:
        RuntimeError: an output or an input that requires no gradient; an input that no output depends on, unless
            ``allow_unused``; a ``grad_outputs`` that is missing or does not fit.
        ValueError: ``create_graph``; another number of ``grad_outputs`` than of outputs.

    Example:
        >>> import lucid
        >>> x = lucid.tensor([1.0, 2.0], requires_grad=True)
        >>> lucid.autograd.grad((x * x).sum(), x)
        (tensor([2., 4.]),)
    """
    if create_graph:
        raise ValueError("create_graph: got True; may be False, as a backward pass is not recorded")
    ends, wanted = _several("outputs", outputs), _several("inputs", inputs)
    given = [grad_outputs] if isinstance(outputs, Tensor) and not _is_several(grad_outputs) else grad_outputs
    given = [None] * len(ends) if given is None else list(given)
    if len(given) != len(ends):
        raise ValueError(f"grad_outputs: got {len(given)}; must be {len(ends)}, one for each output")
    for name, tensors in (("outputs", ends), ("inputs", wanted)):
        for i, each in enumerate(tensors):
            if not each.requires_grad:
                raise RuntimeError(f"{name}: number {i} does not require a gradient")
    roots: dict[GradNode, Any] = {}
    for i, (end, gradient) in enumerate(zip(ends, given, strict=True)):
        node, array = end._edge(), _gradient_of(i, end, gradient)
        roots[node] = backend_for(end.device).binary("add", roots[node], array) if node in roots else array
    found: dict[GradNode, Any] = {each._edge(): None for each in wanted}
    gradients(roots, found, retain_graph)
    results = []
    for i, each in enumerate(wanted):
        array = found[each._edge()]
        if array is None and not allow_unused:
            raise RuntimeError(f"inputs: no output depends on number {i}; allow_unused=True returns None for it")
        results.append(None if array is None else wrap(array, each.device))
    return tuple(results)


def _is_several(value: Any) -> bool:
    return isinstance(value, tuple | list) and (not value or value[0] is None or isinstance(value[0], Tensor))


def _several(name: str, given: Any) -> list[Tensor]:
    tensors = [given] if isinstance(given, Tensor) else list(given)
    for each in tensors:
        if not isinstance(each, Tensor):
            raise TypeError(f"{name}: got {type(each).__name__}; may be a tensor, or several")
    if not tensors:
        raise ValueError(f"{name}: got none; must be at least one tensor")
    return tensors


def _gradient_of(number: int, end: Tensor, gradient: Any) -> Any:
    if gradient is None:
        if end.size != 1:
            raise RuntimeError(
                f"grad_outputs: got None for output {number} of shape {end.shape}; must be of that shape"
            )
        return backend_for(end.device).xp.ones_like(end._array)
    tensor = as_tensor(gradient, device=end.device)
    if (tensor.shape, tensor.dtype, tensor.device) != (end.shape, end.dtype, end.device):
        raise RuntimeError(
            f"grad_outputs: got {tensor.dtype} of shape {tensor.shape} on {tensor.device} for output {number}; "
            f"must be {end.dtype} of shape {end.shape} on {end.device}"
        )
    return tensor._array
