"""What the optimisers share whose update is one rule in float64: section 10.1 of ``ARITHMETIC.md``."""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from lucid.backends import backend_for
from lucid.core.tensor import Tensor, wrap
from lucid.kernels.elementwise import reference
from lucid.kernels.elementwise.functions import power_whole
from lucid.optim.optimizer import Optimizer

__all__ = ["RuleOptimizer", "power", "refuse_others", "within"]

_OTHERS = "foreach", "fused", "capturable", "differentiable"
"""PyTorch's choices of an implementation."""


class RuleOptimizer(Optimizer):
    """An optimiser whose update is a rule of ``lucid.kernels.optimizer.rules``, in one pass over the parameter, its
    gradient and what is remembered. A subclass defines ``rule``, ``_memory`` and ``_numbers``."""

    rule: ClassVar[str]

    def _memory(self, group: dict[str, Any]) -> dict[str, float]:
        """The arrays that are remembered of each parameter, and the value with which each starts."""
        raise NotImplementedError(f"{type(self).__name__} does not define _memory")

    def _numbers(self, t: int, state: dict[str, Any], group: dict[str, Any]) -> dict[str, float]:
        """The numbers of the rule at step ``t``, from 1."""
        raise NotImplementedError(f"{type(self).__name__} does not define _numbers")

    def _update(self, param: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        be = backend_for(param.device)
        t = int(state.get("step", 0)) + 1
        memory = {}
        for name, start in self._memory(group).items():
            if name not in state:
                state[name] = wrap(be.xp.full_like(param._array, start), param.device)
            memory[name] = state[name]._array
        values = self._numbers(t, state, group)
        be.update(self.rule, param._array, param.grad._array, memory, values)  # type: ignore[union-attr]
        state["step"] = t


@lru_cache(4096)
def power(x: float, n: float) -> float:
    """``x ^ n`` as section 10 of the law has it: the same bits on every machine, unlike ``x**n``."""
    base = np.array([x], np.float64)
    whole = abs(n) < 2**30 and float(n).is_integer()
    return float((power_whole(base, int(n)) if whole else reference.power(base, n))[0])


def within(group: Mapping[str, Any], *names: str, below: float = float("inf")) -> None:
    """Raise unless each setting, or each of a pair of them, is a number of 0 or more, and less than ``below``."""
    for name in names:
        pair = name in ("betas", "etas", "step_sizes")
        values = group[name] if pair else (group[name],)
        what = ("two numbers" if pair else "a number") + " of 0 or more" + (f" and below {below:g}" * (below < 1e300))
        if not isinstance(values, tuple | list) or len(values) != 1 + pair:
            raise TypeError(f"{name}: got {group[name]!r}; may be {what}")
        for value in values:
            if isinstance(value, bool) or not isinstance(value, numbers.Real | Tensor):
                raise TypeError(f"{name}: got {group[name]!r}; may be {what}")
            if not 0 <= float(value) < below:
                raise ValueError(f"{name}: got {group[name]}; may be {what}")


def refuse_others(optimizer: str, others: Mapping[str, Any]) -> None:
    """Raise for arguments that are not the optimiser's; those of PyTorch that choose an implementation may be off."""
    for name, value in others.items():
        if name not in _OTHERS:
            raise TypeError(f"{optimizer}() got an unexpected keyword argument {name!r}")
        if value:
            raise TypeError(f"{name}: got {value!r}; may be left out: an update is one fused pass, and not recorded")
