"""Differentiable operations, one family a file, forward beside backward.

The public functions are re-exported here; those that belong to neural networks are public in ``lucid.nn.functional``.
"""

# ruff: noqa: F401, F403 (the public names, each listed by its own module)

from __future__ import annotations

from lucid.ops import methods  # (attaches the operations to tensors)
from lucid.ops.arrange import *
from lucid.ops.comparison import *
from lucid.ops.contraction import *
from lucid.ops.convolution import *
from lucid.ops.creation import *
from lucid.ops.elementwise import *
from lucid.ops.indexing import *
from lucid.ops.loss import *
from lucid.ops.normalization import *
from lucid.ops.order import *
from lucid.ops.pooling import *
from lucid.ops.product import *
from lucid.ops.reduction import *
from lucid.ops.resize import *
from lucid.ops.shape import *
