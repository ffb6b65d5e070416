"""Adam and its kin: steps by averages of the gradient and of its square (``ARITHMETIC.md``, section 10.1)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from lucid.optim._rule import RuleOptimizer, power, refuse_others, within

__all__ = ["Adam", "AdamW", "Adamax", "NAdam", "RAdam"]


def _decay(group: dict[str, Any]) -> dict[str, float]:
    """Weight decay of the gradient, or what a decoupled one leaves of the parameter."""
    decay, decoupled = float(group["weight_decay"]), bool(group["decoupled_weight_decay"])
    return {
        "weight_decay": 0.0 if decoupled else decay,
        "shrink": 1.0 - float(group["lr"]) * decay if decoupled else 1.0,
    }


def _averages(group: dict[str, Any]) -> dict[str, float]:
    beta1, beta2 = map(float, group["betas"])
    return {
        "rest1": 1.0 - beta1,
        "beta2": beta2,
        "rest2": 1.0 - beta2,
        "eps": float(group["eps"]),
        "maximize": bool(group["maximize"]),
        **_decay(group),
    }


class _OfAverages(RuleOptimizer):
    """One that remembers averages of the gradient and of its square."""

    def _check(self, group: dict[str, Any]) -> None:
        within(group, "lr", "eps", "weight_decay")
        within(group, "betas", below=1)

    def _memory(self, group: dict[str, Any]) -> dict[str, float]:
        return {"exp_avg": 0.0, "exp_avg_sq": 0.0}


class Adam(_OfAverages):
    """Adam: ``m = beta1 m + (1 - beta1) g``, ``v = beta2 v + (1 - beta2) g^2``,
    ``p = p - lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)``.

    Args:
        params: parameters, or dicts with ``"params"`` and settings of their own.
        lr: the learning rate.
        betas: how much is kept of the averages of the gradient (``exp_avg``) and of its square (``exp_avg_sq``).
        eps: what is added to the root.
        weight_decay: how much of the parameter is added to its gradient.
        amsgrad: whether the largest average of squares so far (``max_exp_avg_sq``) stands for ``v``.
        maximize: whether to ascend.
        decoupled_weight_decay: whether decay is that of ``AdamW``.

    Raises:
        TypeError: a setting that is no number; ``foreach``, ``fused``, ``capturable`` or ``differentiable``.
        ValueError: a negative setting, or a beta of 1 or more.

    Source: Kingma and Ba, ICLR 2015; Reddi et al., ICLR 2018 (AMSGrad); in PyTorch's form.

    Example:
        >>> import lucid
        >>> p = lucid.nn.Parameter([1.0])
        >>> optimizer = lucid.optim.Adam([p], lr=0.5)
        >>> (p * p).sum().backward()
        >>> optimizer.step()
        >>> p
        Parameter([0.5], requires_grad=True)
    """

    rule = "adam"

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        decoupled_weight_decay: bool = False,
        **others: Any,
    ) -> None:
        refuse_others(type(self).__name__, others)
        settings = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "maximize": maximize,
            "decoupled_weight_decay": decoupled_weight_decay,
        }
        super().__init__(params, settings)

    def _memory(self, group: dict[str, Any]) -> dict[str, float]:
        largest = {"max_exp_avg_sq": 0.0} if group["amsgrad"] else {}
        return {**super()._memory(group), **largest}

    def _numbers(self, t: int, state: dict[str, Any], group: dict[str, Any]) -> dict[str, float]:
        beta1, beta2 = map(float, group["betas"])
        return {
            **_averages(group),
            "step_size": float(group["lr"]) / (1.0 - power(beta1, t)),
            "scale": 1.0 / math.sqrt(1.0 - power(beta2, t)),
            "amsgrad": bool(group["amsgrad"]),
        }


class AdamW(Adam):
    """Adam with decoupled weight decay: ``p = p - lr weight_decay p`` before the step, the gradient as it is.

    Args:
        params: parameters, or dicts with ``"params"`` and settings of their own.
        lr: the learning rate.
        betas: how much is kept of the averages of the gradient (``exp_avg``) and of its square (``exp_avg_sq``).
        eps: what is added to the root.
        weight_decay: how much of the parameter a step takes away, times the learning rate.
        amsgrad: whether the largest average of squares so far (``max_exp_avg_sq``) stands for ``v``.
        maximize: whether to ascend.

    Raises:
        TypeError: a setting that is no number; ``foreach``, ``fused``, ``capturable`` or ``differentiable``.
        ValueError: a negative setting, or a beta of 1 or more.

    Source: Loshchilov and Hutter, ICLR 2019, in PyTorch's form.

    Example:
        >>> import lucid
        >>> p = lucid.nn.Parameter([1.0])
        >>> optimizer = lucid.optim.AdamW([p], lr=0.5, weight_decay=0.5)
        >>> (p * p).sum().backward()
        >>> optimizer.step()
        >>> p
        Parameter([0.25], requires_grad=True)
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        **others: Any,
    ) -> None:
        if "decoupled_weight_decay" in others:
            raise TypeError("decoupled_weight_decay: AdamW's always is; may be left out, or use Adam")
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            maximize=maximize,
            decoupled_weight_decay=True,
            **others,
        )


class Adamax(_OfAverages):
    """Adam by the infinity norm: ``u = max(beta2 u, |g| + eps)``, ``p = p - lr / (1 - beta1^t) m / u``.

    Args:
        params: parameters, or dicts with ``"params"`` and settings of their own.
        lr: the learning rate.
        betas: how much is kept of the average of the gradient (``exp_avg``) and of the norm (``exp_inf``).
        eps: what is added to the gradient's magnitude.
        weight_decay: how much of the parameter is added to its gradient.
        maximize: whether to ascend.

    Raises:
        TypeError: a setting that is no number; ``foreach``, ``fused``, ``capturable`` or ``differentiable``.
        ValueError: a negative setting, or a beta of 1 or more.

    Source: Kingma and Ba, ICLR 2015, in PyTorch's form.

    Example:
        >>> import lucid
        >>> p = lucid.nn.Parameter([1.0])
        >>> optimizer = lucid.optim.Adamax([p], lr=0.5)
        >>> (p * p).sum().backward()
        >>> optimizer.step()
        >>> p
        Parameter([0.5], requires_grad=True)
    """

    rule = "adamax"

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        **others: Any,
    ) -> None:
        refuse_others("Adamax", others)
        settings = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "maximize": maximize}
        super().__init__(params, settings)

    def _memory(self, group: dict[str, Any]) -> dict[str, float]:
        return {"exp_avg": 0.0, "exp_inf": 0.0}

    def _numbers(self, t: int, state: dict[str, Any], group: dict[str, Any]) -> dict[str, float]:
        beta1, beta2 = map(float, group["betas"])
        return {
            "rest1": 1.0 - beta1,
            "beta2": beta2,
            "eps": float(group["eps"]),
            "weight_decay": float(group["weight_decay"]),
            "step_size": float(group["lr"]) / (1.0 - power(beta1, t)),
            "maximize": bool(group["maximize"]),
        }


class NAdam(_OfAverages):
    """Adam with Nesterov's momentum: with ``u_t = beta1 (1 - 0.96^(t momentum_decay) / 2)`` and their product ``U_t``,
    ``p = p - lr ((1 - u_t) / (1 - U_t) g + u_{t+1} / (1 - U_{t+1}) m) / (sqrt(v / (1 - beta2^t)) + eps)``.

    Args:
        params: parameters, or dicts with ``"params"`` and settings of their own.
        lr: the learning rate.
        betas: how much is kept of the averages of the gradient (``exp_avg``) and of its square (``exp_avg_sq``).
        eps: what is added to the root.
        weight_decay: how much of the parameter is added to its gradient.
        momentum_decay: how fast ``u`` grows to ``beta1``.
        decoupled_weight_decay: whether decay is that of ``AdamW``.
        maximize: whether to ascend.

    Raises:
        TypeError: a setting that is no number; ``foreach``, ``fused``, ``capturable`` or ``differentiable``.
        ValueError: a negative setting, or a beta of 1 or more.

    Source: Dozat, ICLR workshop 2016, in PyTorch's form.

    Example:
        >>> import lucid
        >>> p = lucid.nn.Parameter([1.0])
        >>> optimizer = lucid.optim.NAdam([p], lr=0.5)
        >>> (p * p).sum().backward()
        >>> optimizer.step()
        >>> round(p.item(), 2)
        0.47
    """

    rule = "nadam"

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
        **others: Any,
    ) -> None:
        refuse_others("NAdam", others)
        settings = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "momentum_decay": momentum_decay,
            "decoupled_weight_decay": decoupled_weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, settings)

    def _check(self, group: dict[str, Any]) -> None:
        super()._check(group)
        within(group, "momentum_decay")

    def _numbers(self, t: int, state: dict[str, Any], group: dict[str, Any]) -> dict[str, float]:
        lr, (beta1, beta2), decay = float(group["lr"]), map(float, group["betas"]), float(group["momentum_decay"])
        mu, after = (beta1 * (1.0 - 0.5 * power(0.96, step * decay)) for step in (t, t + 1))
        product = state["mu_product"] = float(state.get("mu_product", 1.0)) * mu
        return {
            **_averages(group),
            "scale": 1.0 / math.sqrt(1.0 - power(beta2, t)),
            "grad_size": lr * (1.0 - mu) / (1.0 - product),
            "avg_size": lr * after / (1.0 - product * after),
        }


class RAdam(_OfAverages):
    """Rectified Adam: with ``r_t`` the length of the average of squares, ``r`` its limit, where ``r_t > 5``
    ``p = p - lr m / (1 - beta1^t) sqrt(1 - beta2^t) / (sqrt(v) + eps) rect``, else ``p = p - lr m / (1 - beta1^t)``;
    ``rect = sqrt((r_t - 4) (r_t - 2) r / ((r - 4) (r - 2) r_t))``.

    Args:
        params: parameters, or dicts with ``"params"`` and settings of their own.
        lr: the learning rate.
        betas: how much is kept of the averages of the gradient (``exp_avg``) and of its square (``exp_avg_sq``).
        eps: what is added to the root.
        weight_decay: how much of the parameter is added to its gradient.
        decoupled_weight_decay: whether decay is that of ``AdamW``.
        maximize: whether to ascend.

    Raises:
        TypeError: a setting that is no number; ``foreach``, ``fused``, ``capturable`` or ``differentiable``.
        ValueError: a negative setting, or a beta of 1 or more.

    Source: Liu et al., ICLR 2020, in PyTorch's form.

    Example:
        >>> import lucid
        >>> p = lucid.nn.Parameter([1.0])
        >>> optimizer = lucid.optim.RAdam([p], lr=0.25)
        >>> (p * p).sum().backward()
        >>> optimizer.step()
        >>> p
        Parameter([0.5], requires_grad=True)
    """

    rule = "radam"

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
        **others: Any,
    ) -> None:
        refuse_others("RAdam", others)
        settings = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "decoupled_weight_decay": decoupled_weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, settings)

    def _numbers(self, t: int, state: dict[str, Any], group: dict[str, Any]) -> dict[str, float]:
        beta1, beta2 = map(float, group["betas"])
        kept = power(beta2, t)
        limit = 2.0 / (1.0 - beta2) - 1.0
        length = limit - 2.0 * t * kept / (1.0 - kept)
        size = float(group["lr"]) / (1.0 - power(beta1, t))
        if length > 5.0:
            rise = (length - 4.0) * (length - 2.0) * limit
            size = size * math.sqrt(rise / ((limit - 4.0) * (limit - 2.0) * length)) * math.sqrt(1.0 - kept)
        return {**_averages(group), "step_size": size, "adaptive": length > 5.0}
