"""The tensor under its public path; ``lucid.core.tensor`` is where it is written."""

from __future__ import annotations

from lucid.core.tensor import (
    Operand,
    Tensor,
    _fresh,  # by which older pickles name what tensors share
    _Version,
    as_tensor,
    from_dlpack,
    tensor,
    to_tensor,
    wrap,
)

__all__ = ["Operand", "Tensor", "_Version", "_fresh", "as_tensor", "from_dlpack", "tensor", "to_tensor", "wrap"]
