"""Gradients against central differences."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from lucid import random
from lucid.autograd._grad import grad
from lucid.core.device import to_numpy
from lucid.core.dtypes import float64
from lucid.core.grad_mode import enable_grad, no_grad, recording
from lucid.core.tensor import Tensor, tensor
from lucid.nn.module import Module

__all__ = ["GradcheckError", "gradcheck"]


class GradcheckError(AssertionError):
    """A gradient differs from central differences."""


def gradcheck(
    func: Callable[..., Any],
    inputs: Tensor | Sequence[Any] | Mapping[str, Any],
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
) -> bool:
    """Whether the gradients of ``func`` are those that central differences give, element by element.

    Everything runs in float64: float32 inputs are widened; of a module a copy is, whose parameters are checked too. Of
    the results the sum ``L`` with random weights is differentiated, ``(L(x + eps) - L(x - eps)) / (2 eps)``; a gradient
    ``g`` agrees with the difference ``d`` where ``|g - d| <= atol + rtol |d|``. Random numbers that the function draws
    are the same in each run.

    Args:
        func: a function or a module; it returns a tensor, or several.
        inputs: its arguments, in order or by name; those that require a gradient are checked. They are not changed.
        eps: the step.
        atol: see above.
        rtol: see above.
        raise_exception: whether a difference is an error, or False is returned.

    Raises:
        GradcheckError: a gradient differs. It names the input or parameter, the worst element, both numbers, and how
            many elements differ.
        ValueError: nothing requires a gradient.
        RuntimeError: a second run returns other values.

    Example:
        >>> import lucid
        >>> x = lucid.tensor([1.0, 2.0], requires_grad=True)
        >>> lucid.autograd.gradcheck(lambda x: x.exp() * x, x)
        True
    """
    arguments: dict[Any, Any]
    if isinstance(inputs, Mapping):
        arguments = dict(inputs)
    else:
        arguments = dict(enumerate([inputs] if isinstance(inputs, Tensor) else inputs))
    arguments = {name: _widened(value) for name, value in arguments.items()}
    checked = {
        f"input {name}": value for name, value in arguments.items() if isinstance(value, Tensor) and value.requires_grad
    }
    if isinstance(func, Module):
        func = copy.deepcopy(func).double()
        checked |= {f"parameter {name!r}": p for name, p in func.named_parameters() if p.requires_grad}
    if not checked:
        raise ValueError("inputs: none requires a gradient, and func is no module with parameters; at least one must")
    problems = _problems(_Run(func, arguments), checked, eps, atol, rtol)
    if problems and raise_exception:
        raise GradcheckError("gradcheck: " + "\n".join(problems))
    return not problems


def _widened(value: Any) -> Any:
    if not isinstance(value, Tensor) or value.dtype.kind != "f":
        return value
    wide = tensor(to_numpy(value._array).astype(np.float64), dtype=float64, device=value.device)
    wide.requires_grad = value.requires_grad
    return wide


class _Run:
    """Calls the function, always with the same random numbers and without leaving statistics behind."""

    def __init__(self, func: Callable[..., Any], arguments: dict[Any, Any]) -> None:
        self.func = func
        self.positional = [value for name, value in arguments.items() if isinstance(name, int)]
        self.named = {name: value for name, value in arguments.items() if isinstance(name, str)}
        self.state = random.get_state()
        self.weights: list[Any] = []

    def outputs(self) -> list[Tensor]:
        before, recording.recomputing = recording.recomputing, True
        now = random.get_state()
        random.set_state(self.state)
        try:
            result = self.func(*self.positional, **self.named)
        finally:
            recording.recomputing = before
            random.set_state(now)
        several = result if isinstance(result, tuple | list) else [result]
        return [each for each in several if isinstance(each, Tensor) and each.dtype.kind == "f"]

    def weighted(self) -> float:
        with no_grad():
            return float(sum(np.sum(w * to_numpy(y._array)) for w, y in zip(self.weights, self.outputs(), strict=True)))


def _problems(run: _Run, checked: dict[str, Tensor], eps: float, atol: float, rtol: float) -> list[str]:
    with enable_grad():
        outputs = run.outputs()
    rng = np.random.default_rng(0)
    run.weights = [rng.standard_normal(y.shape) for y in outputs]
    if run.weighted() != run.weighted():
        raise RuntimeError("gradcheck: two runs of the function return other values")
    ends = [(y, w) for y, w in zip(outputs, run.weights, strict=True) if y.requires_grad]
    found: tuple[Tensor | None, ...] = (None,) * len(checked)
    if ends:
        weights = [tensor(w.astype(y.dtype), device=y.device) for y, w in ends]
        found = grad([y for y, _ in ends], list(checked.values()), weights, allow_unused=True)
    problems = []
    for (name, x), gradient in zip(checked.items(), found, strict=True):
        backward = np.zeros(x.shape) if gradient is None else to_numpy(gradient._array)
        differences = _central(run, x, eps)
        with np.errstate(invalid="ignore"):
            off = ~(np.abs(backward - differences) <= atol + rtol * np.abs(differences))
            excess = np.abs(backward - differences) - rtol * np.abs(differences)
        if off.any():
            place = np.unravel_index(int(np.argmax(np.where(off, np.nan_to_num(excess, nan=np.inf), -np.inf))), x.shape)
            problems.append(
                f"the gradient of {name} at {[int(i) for i in place]} is {backward[place]:.9g}, central differences "
                f"say {differences[place]:.9g}; {int(off.sum())} of {x.size} elements differ"
            )
    return problems


def _central(run: _Run, x: Tensor, eps: float) -> np.ndarray[Any, Any]:
    array = x._array
    differences = np.zeros(x.shape)
    for place in np.ndindex(*x.shape):
        value = array[place].copy()
        sides = []
        for moved in (value + eps, value - eps):
            array[place] = moved
            x._changed()
            sides.append(run.weighted())
        array[place] = value
        x._changed()
        differences[place] = (sides[0] - sides[1]) / (2 * eps)
    return differences
