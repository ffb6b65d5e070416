"""Kernels that are known to be healthy, and kernels with a known bug: what the kernel check is measured on.

Nothing here is shared with the check: the arithmetic is NumPy's and PyTorch's, the orders of summation, algorithms and
bugs are written here. A family of operations is a file; each has `healthy` and `mutants`, which yield `Kernel`s.

- ``arithmetic``: storage formats, orders of summation, and `Arithmetic`, which says how a kernel rounds.
- ``kernel``: what a kernel is, and how one is made of a body and an arithmetic.
- ``contraction normalization pooling elementwise softmax loss sums``: the families.
- ``libraries``: the same operations by PyTorch and ONNX Runtime.
- ``alterations``: bugs that any operation can have; ``kinds``: the words that each kind of bug may be told by.
- ``draws``: inputs, the float64 result and a bound that no healthy kernel passes. The other judges see these inputs.

To add a kernel, write its body in its family's file, ``body(how, *arrays, **attributes)`` on float32 arrays, and yield
a `Recipe` of it in ``healthy``. To add a bug, write a `Bug` that changes a recipe, put it into the family's table, and
the words that may tell its kind into ``kinds``. `tests/tools/test_kernel_corpus.py` holds both to the float64 result.
"""

from kernel_corpus.kernel import Kernel

__all__ = ["Kernel"]
