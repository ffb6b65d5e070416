"""Steps divided by the root of a sum or an average of squares: Adagrad, Adadelta, RMSprop (``ARITHMETIC.md``, 10.1)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lucid.optim._rule import RuleOptimizer, refuse_others, within

__all__ = ["Adadelta", "Adagrad", "RMSprop"]


class Adagrad(RuleOptimizer):
    """``s = s + g^2``, ``p = p - lr / (1 + (t - 1) lr_decay) g / (sqrt(s) + eps)``.

    Args:
        params: parameters, or dicts with ``"params"`` and settings of their own.
        lr: the learning rate.
        lr_decay: how fast it falls.
        weight_decay: how much of the parameter is added to its gradient.
        initial_accumulator_value: with what ``sum`` starts.
        eps: what is added to the root.
        maximize: whether to ascend.

    Raises:
        TypeError: a setting that is no number; ``foreach``, ``fused``, ``capturable`` or ``differentiable``.
        ValueError: a negative setting.

    Source: Duchi et al., JMLR 2011, in PyTorch's form.

    Example:
        >>> import lucid
        >>> p = lucid.nn.Parameter([1.0])
        >>> optimizer = lucid.optim.Adagrad([p], lr=0.5)
        >>> (p * p).sum().backward()
        >>> optimizer.step()
        >>> p
        Parameter([0.5], requires_grad=True)
    """

    rule = "adagrad"

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        *,
        maximize: bool = False,
        **others: Any,
    ) -> None:
        refuse_others("Adagrad", others)
        settings = {
            "lr": lr,
            "lr_decay": lr_decay,
            "eps": eps,
            "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value,
            "maximize": maximize,
        }
        super().__init__(params, settings)

    def _check(self, group: dict[str, Any]) -> None:
        within(group, "lr", "lr_decay", "eps", "weight_decay", "initial_accumulator_value")

    def _memory(self, group: dict[str, Any]) -> dict[str, float]:
        return {"sum": float(group["initial_accumulator_value"])}

    def _numbers(self, t: int, state: dict[str, Any], group: dict[str, Any]) -> dict[str, float]:
        return {
            "eps": float(group["eps"]),
            "weight_decay": float(group["weight_decay"]),
            "step_size": float(group["lr"]) / (1.0 + (t - 1) * float(group["lr_decay"])),
            "maximize": bool(group["maximize"]),
        }


class Adadelta(RuleOptimizer):
    """``v = rho v + (1 - rho) g^2``, ``d = sqrt(a + eps) / sqrt(v + eps) g``, ``a = rho a + (1 - rho) d^2``,
    ``p = p - lr d``.

    Args:
        params: parameters, or dicts with ``"params"`` and settings of their own.
        lr: the learning rate.
        rho: how much is kept of the averages of squares, of gradients (``square_avg``) and steps (``acc_delta``).
        eps: what is added to them under the roots.
        weight_decay: how much of the parameter is added to its gradient.
        maximize: whether to ascend.

    Raises:
        TypeError: a setting that is no number; ``foreach``, ``fused``, ``capturable`` or ``differentiable``.
        ValueError: a negative setting, or ``rho`` above 1.

    Source: Zeiler, arXiv 1212.5701 (2012), in PyTorch's form.

    Example:
        >>> import lucid
        >>> p = lucid.nn.Parameter([1.0])
        >>> optimizer = lucid.optim.Adadelta([p])
        >>> (p * p).sum().backward()
        >>> optimizer.step()
        >>> round(p.item(), 4)
        0.9968
    """

    rule = "adadelta"

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        **others: Any,
    ) -> None:
        refuse_others("Adadelta", others)
        settings = {"lr": lr, "rho": rho, "eps": eps, "weight_decay": weight_decay, "maximize": maximize}
        super().__init__(params, settings)

    def _check(self, group: dict[str, Any]) -> None:
        within(group, "lr", "rho", "eps", "weight_decay")
        if group["rho"] > 1:
            raise ValueError(f"rho: got {group['rho']}; may be 0 to 1")

    def _memory(self, group: dict[str, Any]) -> dict[str, float]:
        return {"square_avg": 0.0, "acc_delta": 0.0}

    def _numbers(self, t: int, state: dict[str, Any], group: dict[str, Any]) -> dict[str, float]:
        return {
            "lr": float(group["lr"]),
            "rho": float(group["rho"]),
            "rest": 1.0 - float(group["rho"]),
            "eps": float(group["eps"]),
            "weight_decay": float(group["weight_decay"]),
            "maximize": bool(group["maximize"]),
        }


class RMSprop(RuleOptimizer):
    """``v = alpha v + (1 - alpha) g^2``, ``p = p - lr g / (sqrt(v) + eps)``.

    Args:
        params: parameters, or dicts with ``"params"`` and settings of their own.
        lr: the learning rate.
        alpha: how much is kept of the average of squares (``square_avg``).
        eps: what is added to the root.
        weight_decay: how much of the parameter is added to its gradient.
        momentum: how much is kept of the steps before (``momentum_buffer``); with 0 there are none.
        centered: whether the square of the average gradient (``grad_avg``) is taken from ``v`` under the root.
        maximize: whether to ascend.

    Raises:
        TypeError: a setting that is no number; ``foreach``, ``fused``, ``capturable`` or ``differentiable``.
        ValueError: a negative setting.

    Source: Hinton's lecture 6e (2012); centred, Graves, arXiv 1308.0850 (2013); in PyTorch's form.

    Example:
        >>> import lucid
        >>> p = lucid.nn.Parameter([1.0])
        >>> optimizer = lucid.optim.RMSprop([p], lr=0.5, alpha=0.75)
        >>> (p * p).sum().backward()
        >>> optimizer.step()
        >>> round(p.item(), 6)
        0.0
    """

    rule = "rmsprop"

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        *,
        maximize: bool = False,
        **others: Any,
    ) -> None:
        refuse_others("RMSprop", others)
        settings = {
            "lr": lr,
            "momentum": momentum,
            "alpha": alpha,
            "eps": eps,
            "centered": centered,
            "weight_decay": weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, settings)

    def _check(self, group: dict[str, Any]) -> None:
        within(group, "lr", "alpha", "eps", "weight_decay", "momentum")

    def _memory(self, group: dict[str, Any]) -> dict[str, float]:
        wanted = {"square_avg": True, "momentum_buffer": group["momentum"] > 0, "grad_avg": group["centered"]}
        return dict.fromkeys((name for name, is_wanted in wanted.items() if is_wanted), 0.0)

    def _numbers(self, t: int, state: dict[str, Any], group: dict[str, Any]) -> dict[str, float]:
        return {
            "lr": float(group["lr"]),
            "alpha": float(group["alpha"]),
            "rest": 1.0 - float(group["alpha"]),
            "eps": float(group["eps"]),
            "weight_decay": float(group["weight_decay"]),
            "momentum": float(group["momentum"]),
            "centered": bool(group["centered"]),
            "maximize": bool(group["maximize"]),
        }
