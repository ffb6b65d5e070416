"""Rprop: steps by the sign of the gradient alone (``ARITHMETIC.md``, section 10.1)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lucid.optim._rule import RuleOptimizer, refuse_others, within

__all__ = ["Rprop"]


class Rprop(RuleOptimizer):
    """Resilient backpropagation: each element has a step of its own, which grows where the gradient keeps its sign and
    shrinks where it turns; there the step is left out. ``p = p - sign(g) step_size``.

    Args:
        params: parameters, or dicts with ``"params"`` and settings of their own.
        lr: the first steps.
        etas: by what a step shrinks and grows, ``0 < etas[0] < 1 < etas[1]``.
        step_sizes: the least and the largest step.
        maximize: whether to ascend.

    Raises:
        TypeError: a setting that is no number; ``foreach``, ``fused``, ``capturable`` or ``differentiable``.
        ValueError: a negative setting, or other etas.

    Source: Riedmiller and Braun, ICNN 1993, in PyTorch's form.

    Example:
        >>> import lucid
        >>> p = lucid.nn.Parameter([1.0])
        >>> optimizer = lucid.optim.Rprop([p], lr=0.5)
        >>> (p * p).sum().backward()
        >>> optimizer.step()
        >>> p
        Parameter([0.5], requires_grad=True)
    """

    rule = "rprop"

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50.0),
        *,
        maximize: bool = False,
        **others: Any,
    ) -> None:
        refuse_others("Rprop", others)
        super().__init__(params, {"lr": lr, "etas": etas, "step_sizes": step_sizes, "maximize": maximize})

    def _check(self, group: dict[str, Any]) -> None:
        within(group, "lr", "etas", "step_sizes")
        if not 0 < group["etas"][0] < 1 < group["etas"][1]:
            raise ValueError(f"etas: got {group['etas']}; may be a number between 0 and 1, and one above 1")

    def _memory(self, group: dict[str, Any]) -> dict[str, float]:
        return {"prev": 0.0, "step_size": float(group["lr"])}

    def _numbers(self, t: int, state: dict[str, Any], group: dict[str, Any]) -> dict[str, float]:
        (etaminus, etaplus), (least, most) = map(float, group["etas"]), map(float, group["step_sizes"])
        return {
            "etaminus": etaminus,
            "etaplus": etaplus,
            "least": least,
            "most": most,
            "maximize": bool(group["maximize"]),
        }
