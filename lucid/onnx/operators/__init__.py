"""What stands for each operation in ONNX, by the families of ``lucid.ops``.

A function marked ``@exports(operation)`` emits the nodes of one operation; ``alike`` lists those that ONNX has with the
same operands and no attributes. A composed operation needs neither: it is exported as its parts.
"""

from lucid.onnx._builder import EXPORTS
from lucid.onnx.operators import (  # noqa: F401 (each enters its operations)
    attention,
    casting,
    comparison,
    composed,
    control,
    convolution,
    elementwise,
    gradient,
    image,
    indexing,
    linalg,
    loss,
    microsoft,
    ml,
    normalization,
    pooling,
    product,
    quantization,
    random,
    recurrent,
    reduction,
    resize,
    sequence,
    shape,
    signal,
    text,
    training,
)

__all__ = ["EXPORTS"]
