"""Losses as modules."""

from __future__ import annotations

from lucid.core.tensor import Tensor
from lucid.nn.module import Module
from lucid.ops import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cross_entropy,
    huber_loss,
    mse_loss,
    nll_loss,
    smooth_l1_loss,
)

__all__ = [
    "BCELoss",
    "BCEWithLogitsLoss",
    "CrossEntropyLoss",
    "HuberLoss",
    "MSELoss",
    "NLLLoss",
    "SmoothL1Loss",
]


class CrossEntropyLoss(Module):
    """The cross-entropy of logits: ``lucid.nn.functional.cross_entropy``, which explains the arguments.

    Example:
        >>> import lucid
        >>> lucid.nn.CrossEntropyLoss()(lucid.tensor([[2.0, 0.0]]), lucid.tensor([0]))
        tensor(0.12692802)
    """

    weight: Tensor | None

    def __init__(
        self,
        weight: Tensor | None = None,
        *,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.ignore_index = ignore_index
        self.reduction = reduction
        self.label_smoothing = label_smoothing

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """The loss of ``input`` against ``target``."""
        return cross_entropy(
            input,
            target,
            self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )


class NLLLoss(Module):
    """The negative log-likelihood: ``lucid.nn.functional.nll_loss``, which explains the arguments.

    Example:
        >>> import lucid
        >>> lucid.nn.NLLLoss()(lucid.tensor([[-0.5, -2.0]]), lucid.tensor([0]))
        tensor(0.5)
    """

    weight: Tensor | None

    def __init__(self, weight: Tensor | None = None, *, ignore_index: int = -100, reduction: str = "mean") -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.ignore_index = ignore_index
        self.reduction = reduction

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """The loss of ``input`` against ``target``."""
        return nll_loss(input, target, self.weight, ignore_index=self.ignore_index, reduction=self.reduction)


class MSELoss(Module):
    """The squared error: ``lucid.nn.functional.mse_loss``.

    Example:
        >>> import lucid
        >>> lucid.nn.MSELoss()(lucid.tensor([1.0, 2.0]), lucid.zeros(2))
        tensor(2.5)
    """

    def __init__(self, *, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = reduction

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """The loss of ``input`` against ``target``."""
        return mse_loss(input, target, reduction=self.reduction)


class BCELoss(Module):
    """The cross-entropy of probabilities: ``lucid.nn.functional.binary_cross_entropy``, which explains the arguments.

    Example:
        >>> import lucid
        >>> lucid.nn.BCELoss()(lucid.tensor([0.5, 1.0]), lucid.tensor([1.0, 1.0]))
        tensor(0.3465736)
    """

    weight: Tensor | None

    def __init__(self, weight: Tensor | None = None, *, reduction: str = "mean") -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.reduction = reduction

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """The loss of ``input`` against ``target``."""
        return binary_cross_entropy(input, target, self.weight, reduction=self.reduction)


class BCEWithLogitsLoss(Module):
    """The same of logits: ``lucid.nn.functional.binary_cross_entropy_with_logits``, which explains the arguments.

    Example:
        >>> import lucid
        >>> lucid.nn.BCEWithLogitsLoss()(lucid.zeros(2), lucid.ones(2))
        tensor(0.6931472)
    """

    weight: Tensor | None
    pos_weight: Tensor | None

    def __init__(
        self, weight: Tensor | None = None, *, reduction: str = "mean", pos_weight: Tensor | None = None
    ) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("pos_weight", pos_weight)
        self.reduction = reduction

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """The loss of ``input`` against ``target``."""
        return binary_cross_entropy_with_logits(
            input, target, self.weight, reduction=self.reduction, pos_weight=self.pos_weight
        )


class HuberLoss(Module):
    """Squared near 0, absolute beyond ``delta``: ``lucid.nn.functional.huber_loss``, which explains the arguments.

    Example:
        >>> import lucid
        >>> lucid.nn.HuberLoss(delta=2.0)(lucid.tensor([1.0, 3.0]), lucid.zeros(2))
        tensor(2.25)
    """

    def __init__(self, *, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__()
        self.reduction = reduction
        self.delta = delta

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """The loss of ``input`` against ``target``."""
        return huber_loss(input, target, reduction=self.reduction, delta=self.delta)


class SmoothL1Loss(Module):
    """``HuberLoss`` divided by its width: ``lucid.nn.functional.smooth_l1_loss``, which explains the arguments.

    Example:
        >>> import lucid
        >>> lucid.nn.SmoothL1Loss(beta=2.0)(lucid.tensor([1.0, 3.0]), lucid.zeros(2))
        tensor(1.125)
    """

    def __init__(self, *, reduction: str = "mean", beta: float = 1.0) -> None:
        super().__init__()
        self.reduction = reduction
        self.beta = beta

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """The loss of ``input`` against ``target``."""
        return smooth_l1_loss(input, target, reduction=self.reduction, beta=self.beta)
