"""A layer that rearranges axes by a pattern."""

from __future__ import annotations

from lucid.core.tensor import Tensor
from lucid.nn.module import Module
from lucid.ops.patterns import check_pattern, rearrange

__all__ = ["Rearrange"]


class Rearrange(Module):
    """``lucid.einops.rearrange`` as a layer.

    Args:
        pattern: as there.
        lengths: as there.

    Raises:
        ValueError: a pattern that cannot be read.

    Source: einops 0.8.

    Example:
        >>> import lucid
        >>> lucid.nn.Rearrange("b c h w -> b (h w) c")(lucid.zeros(2, 3, 4, 5)).shape
        (2, 20, 3)
    """

    def __init__(self, pattern: str, **lengths: int) -> None:
        super().__init__()
        check_pattern(pattern)
        self.pattern = pattern
        self.lengths = lengths

    def forward(self, x: Tensor) -> Tensor:
        return rearrange(x, self.pattern, **self.lengths)

    def extra_repr(self) -> str:
        return ", ".join([repr(self.pattern), *[f"{name}={n}" for name, n in self.lengths.items()]])
