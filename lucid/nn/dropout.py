"""Dropout of channels, blocks and paths; ``Dropout`` itself stands with the activations."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from lucid.core.tensor import Tensor
from lucid.nn.functional import alpha_dropout, drop_block, drop_path, dropout1d, dropout2d, dropout3d
from lucid.nn.module import Module

__all__ = ["AlphaDropout", "DropBlock", "DropPath", "Dropout1d", "Dropout2d", "Dropout3d"]


class _Dropout(Module):
    drop: ClassVar[Callable[..., Tensor]]

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0.0 <= p <= 1.0:
            raise ValueError(f"p: got {p}; may be 0 to 1")
        self.p = p

    def forward(self, input: Tensor) -> Tensor:
        """A tensor of the input's shape."""
        return self.drop(input, self.p, self.training)

    def extra_repr(self) -> str:
        """The probability."""
        return f"p={self.p}"


class Dropout1d(_Dropout):
    """Zeroes whole channels: ``lucid.nn.functional.dropout1d``, which explains the arguments.

    Example:
        >>> import lucid
        >>> lucid.nn.Dropout1d(0.5)(lucid.ones(1, 2, 4)).shape
        (1, 2, 4)
    """

    drop = staticmethod(dropout1d)


class Dropout2d(_Dropout):
    """Zeroes whole channels: ``lucid.nn.functional.dropout2d``, which explains the arguments.

    Example:
        >>> import lucid
        >>> lucid.nn.Dropout2d(0.5)(lucid.ones(1, 2, 4, 4)).shape
        (1, 2, 4, 4)
    """

    drop = staticmethod(dropout2d)


class Dropout3d(_Dropout):
    """Zeroes whole channels: ``lucid.nn.functional.dropout3d``, which explains the arguments.

    Example:
        >>> import lucid
        >>> lucid.nn.Dropout3d(0.5)(lucid.ones(1, 2, 4, 4, 4)).shape
        (1, 2, 4, 4, 4)
    """

    drop = staticmethod(dropout3d)


class AlphaDropout(_Dropout):
    """Dropout for networks with SELU: ``lucid.nn.functional.alpha_dropout``, which explains the arguments.

    Example:
        >>> import lucid
        >>> lucid.nn.AlphaDropout(0.5)(lucid.ones(2, 3)).shape
        (2, 3)
    """

    drop = staticmethod(alpha_dropout)


class DropPath(_Dropout):
    """Zeroes whole samples: ``lucid.nn.functional.drop_path``, which explains the arguments.

    Example:
        >>> import lucid
        >>> lucid.nn.DropPath(0.1).eval()(lucid.ones(2))
        tensor([1., 1.])
    """

    def __init__(self, p: float = 0.1, scale_by_keep: bool = True) -> None:
        super().__init__(p)
        self.scale_by_keep = scale_by_keep

    def forward(self, input: Tensor) -> Tensor:
        """A tensor of the input's shape."""
        return drop_path(input, self.p, self.scale_by_keep, self.training)


class DropBlock(_Dropout):
    """Zeroes squares of pixels: ``lucid.nn.functional.drop_block``, which explains the arguments.

    Example:
        >>> import lucid
        >>> lucid.nn.DropBlock(3, 0.1)(lucid.ones(1, 2, 8, 8)).shape
        (1, 2, 8, 8)
    """

    def __init__(self, block_size: int, p: float = 0.1, eps: float = 1e-7) -> None:
        super().__init__(p)
        if block_size < 1:
            raise ValueError(f"block_size: got {block_size}; may be 1 or more")
        self.block_size = block_size
        self.eps = eps

    def forward(self, input: Tensor) -> Tensor:
        """``(N, C, H, W) -> (N, C, H, W)``."""
        return drop_block(input, self.block_size, self.p, self.eps, self.training)

    def extra_repr(self) -> str:
        """The block and the probability."""
        return f"block_size={self.block_size}, p={self.p}"
