"""A table of vectors, looked up by number."""

from __future__ import annotations

from typing import Any

from lucid.core.dtypes import get_default_dtype
from lucid.core.tensor import Tensor
from lucid.nn import init
from lucid.nn.module import Module
from lucid.nn.parameter import Parameter
from lucid.ops.creation import empty
from lucid.ops.embedding import embedding

__all__ = ["Embedding"]


class Embedding(Module):
    """The rows of ``weight`` whose numbers are the input.

    Args:
        num_embeddings: how many rows there are.
        embedding_dim: how wide they are.
        padding_idx: a row that starts as zeros and gets no gradient; a negative one counts from the end.
        device: where the table lies; the default device if None.
        dtype: float32 or float64; the default dtype if None.

    Attributes:
        weight: ``(num_embeddings, embedding_dim)``, standard normal.

    Raises:
        ValueError: a ``padding_idx`` that is no row.
        IndexError: in the call: a number that is no row's.

    Example:
        >>> import lucid
        >>> lucid.nn.Embedding(10, 3)(lucid.tensor([[1, 2], [0, 9]])).shape
        (2, 2, 3)
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if padding_idx is not None:
            if not -num_embeddings <= padding_idx < num_embeddings:
                raise ValueError(f"padding_idx: got {padding_idx}; may be {-num_embeddings} to {num_embeddings - 1}")
            padding_idx %= num_embeddings
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.padding_idx = padding_idx
        kind = dtype or get_default_dtype()
        self.weight = Parameter(empty(num_embeddings, embedding_dim, dtype=kind, device=device))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the table anew."""
        init.normal(self.weight)
        if self.padding_idx is not None:
            self.weight._array[self.padding_idx] = 0
            self.weight._changed()

    def forward(self, input: Tensor) -> Tensor:
        """Integers of any shape to ``(*shape, embedding_dim)``."""
        return embedding(input, self.weight, self.padding_idx)

    def extra_repr(self) -> str:
        """As PyTorch shows it."""
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"
