"""Averaged stochastic gradient descent (``ARITHMETIC.md``, section 10.1)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lucid.optim._rule import RuleOptimizer, power, refuse_others, within

__all__ = ["ASGD"]


class ASGD(RuleOptimizer):
    """Gradient descent, ``p = (1 - lambd eta) p - eta g``, which remembers the average ``ax`` of the parameters from
    step ``t0`` on; ``eta = lr / (1 + lambd lr t)^alpha``.

    Args:
        params: parameters, or dicts with ``"params"`` and settings of their own.
        lr: the learning rate.
        lambd: how fast parameters and the rate fall.
        alpha: by what power the rate falls.
        t0: the step at which averaging begins.
        weight_decay: how much of the parameter is added to its gradient.
        maximize: whether to ascend.

    Raises:
        TypeError: a setting that is no number; ``foreach``, ``fused``, ``capturable`` or ``differentiable``.
        ValueError: a negative setting.

    Source: Polyak and Juditsky, SIAM J. Control Optim. 30 (1992), in PyTorch's form.

    Example:
        >>> import lucid
        >>> p = lucid.nn.Parameter([1.0])
        >>> optimizer = lucid.optim.ASGD([p], lr=0.25, lambd=0)
        >>> (p * p).sum().backward()
        >>> optimizer.step()
        >>> p
        Parameter([0.5], requires_grad=True)
    """

    rule = "asgd"

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        lambd: float = 1e-4,
        alpha: float = 0.75,
        t0: float = 1e6,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        **others: Any,
    ) -> None:
        refuse_others("ASGD", others)
        settings = {
            "lr": lr,
            "lambd": lambd,
            "alpha": alpha,
            "t0": t0,
            "weight_decay": weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, settings)

    def _check(self, group: dict[str, Any]) -> None:
        within(group, "lr", "lambd", "alpha", "t0", "weight_decay")

    def _memory(self, group: dict[str, Any]) -> dict[str, float]:
        return {"ax": 0.0}

    def _numbers(self, t: int, state: dict[str, Any], group: dict[str, Any]) -> dict[str, float]:
        lr, lambd = float(group["lr"]), float(group["lambd"])
        eta, mu = float(state.get("eta", lr)), float(state.get("mu", 1.0))
        state["eta"] = lr / power(1.0 + lambd * lr * t, float(group["alpha"]))
        state["mu"] = 1.0 / max(1.0, t - float(group["t0"]))
        return {
            "weight_decay": float(group["weight_decay"]),
            "shrink": 1.0 - lambd * eta,
            "eta": eta,
            "mu": mu,
            "averaged": mu != 1.0,
            "maximize": bool(group["maximize"]),
        }
