"""Stochastic gradient descent (``ARITHMETIC.md``, section 10)."""

from __future__ import annotations

import numbers
from collections.abc import Iterable
from typing import Any

from lucid.backends import backend_for
from lucid.core.tensor import Tensor, wrap
from lucid.optim._rule import refuse_others
from lucid.optim.optimizer import Optimizer

__all__ = ["SGD"]


class SGD(Optimizer):
    """Gradient descent with momentum: ``d = g + weight_decay p``, ``v = momentum v + (1 - dampening) d``,
    ``p = p - lr v``.

    Args:
        params: parameters, or dicts with ``"params"`` and settings of their own.
        lr: the learning rate.
        momentum: how much of the velocity ``v`` is kept; with 0 there is none, and ``p = p - lr d``.
        dampening: how much of ``d`` does not enter the velocity; the first ``v`` is ``d`` whole.
        weight_decay: how much of the parameter is added to its gradient.
        nesterov: whether to step by ``d + momentum v`` instead of ``v``.
        maximize: whether to ascend.

    Raises:
        TypeError: a setting that is no number, or one after ``momentum`` that is not named; ``foreach``, ``fused``,
            ``capturable`` or ``differentiable``.
        ValueError: a negative setting; Nesterov without momentum or with dampening.

    Source: Sutskever et al., ICML 2013, in PyTorch's form.

    Example:
        >>> import lucid
        >>> p = lucid.nn.Parameter([1.0])
        >>> optimizer = lucid.optim.SGD([p], lr=0.5)
        >>> (p * p).sum().backward()
        >>> optimizer.step()
        >>> p
        Parameter([0.], requires_grad=True)
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.0,
        *unnamed: Any,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        maximize: bool = False,
        **others: Any,
    ) -> None:
        refuse_others("SGD", others)
        if unnamed:  # PyTorch's fourth argument is dampening, the original Lucid's weight_decay
            raise TypeError(f"SGD: got {unnamed} after momentum; name it: dampening=, weight_decay=, nesterov=")
        settings = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
        }
        super().__init__(params, settings)

    def _check(self, group: dict[str, Any]) -> None:
        for name in ("lr", "momentum", "weight_decay"):
            if isinstance(group[name], bool) or not isinstance(group[name], numbers.Real | Tensor):
                raise TypeError(f"{name}: got {group[name]!r}; may be a number of 0 or more")
            if not group[name] >= 0:
                raise ValueError(f"{name}: got {group[name]}; may be 0 or more")
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
            raise ValueError(
                f"nesterov: needs a momentum above 0 and no dampening; got {group['momentum']} and {group['dampening']}"
            )

    def _update(self, param: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        be = backend_for(param.device)
        momentum = group["momentum"]
        velocity = state.get("momentum_buffer")
        first = velocity is None
        if first and momentum:
            velocity = state["momentum_buffer"] = wrap(be.xp.empty_like(param._array), param.device)
        be.sgd_step(
            param._array,
            param.grad._array,  # type: ignore[union-attr]
            velocity._array if velocity is not None and momentum else None,
            first,
            float(group["lr"]),
            float(momentum),
            float(group["dampening"]),
            float(group["weight_decay"]),
            bool(group["nesterov"]),
            bool(group["maximize"]),
        )
