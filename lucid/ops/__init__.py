"""Differentiable operations, one family a file, forward beside backward.

The public functions are re-exported here; those that belong to neural networks are public in ``lucid.nn.functional``.
"""

# ruff: noqa: F401, F403 (the public names, each listed by its own module)

from __future__ import annotations

from lucid.ops import methods  # (attaches the operations to tensors)
from lucid.ops.comparison import *
from lucid.ops.convolution import conv2d
from lucid.ops.creation import *
from lucid.ops.elementwise import *
from lucid.ops.loss import cross_entropy, log_softmax, mse_loss, nll_loss, softmax
from lucid.ops.normalization import batch_norm
from lucid.ops.pooling import adaptive_avg_pool2d, avg_pool2d, max_pool2d
from lucid.ops.product import dot, linear, matmul
from lucid.ops.reduction import *
from lucid.ops.shape import *
