"""All operations that kernels are checked against, by name."""

from __future__ import annotations

from oracle.errors import UsageError
from oracle.kernel.contraction import CONTRACTIONS
from oracle.kernel.elementwise import BINARY, UNARY
from oracle.kernel.normalization import NORMALIZATIONS
from oracle.kernel.operation import KernelOperation
from oracle.kernel.optimizer import OPTIMIZERS
from oracle.kernel.pooling import POOLINGS
from oracle.kernel.resize import RESIZES
from oracle.kernel.rows import ROW_OPERATIONS
from oracle.kernel.transformer import TRANSFORMERS

OPERATIONS: dict[str, KernelOperation] = {
    operation.name: operation
    for family in (
        (UNARY, BINARY, CONTRACTIONS, ROW_OPERATIONS, NORMALIZATIONS, POOLINGS, TRANSFORMERS, RESIZES, OPTIMIZERS)
    )
    for operation in family
}
_ALIASES = {
    "mul": "multiply", "sub": "subtract", "div": "divide", "neg": "negative", "pow": "power", "clamp": "clip",
    "max": "amax", "min": "amin", "mm": "matmul", "max_pool": "max_pool2d", "avg_pool": "avg_pool2d",
    "average_pool2d": "avg_pool2d", "adaptive_avg_pool": "adaptive_avg_pool2d", "swish": "silu", "conv": "conv2d",
    "conv2d_grad_input": "conv2d_input_grad", "conv2d_grad_weight": "conv2d_weight_grad", "batch_norm2d": "batch_norm",
    "asin": "arcsin", "acos": "arccos", "atan": "arctan", "atan2": "arctan2", "batch_matmul": "bmm",
    "attention": "scaled_dot_product_attention",
}  # fmt: skip


def find_operation(name: str) -> KernelOperation:
    """An operation by its name, or another name that is usual.

    Raises:
        UsageError: there is none.

    Example:
        >>> find_operation("mul").name
        'multiply'
    """
    found = OPERATIONS.get(_ALIASES.get(name, name))
    if found is None:
        raise UsageError(f"operation: got {name!r}; may be {', '.join(sorted(OPERATIONS))}")
    return found
