"""Losses as modules."""

from __future__ import annotations

from lucid.core.tensor import Tensor
from lucid.nn.module import Module
from lucid.ops import cross_entropy, mse_loss, nll_loss

__all__ = ["CrossEntropyLoss", "MSELoss", "NLLLoss"]


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
