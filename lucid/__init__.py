"""lucid: a deep-learning engine with one written arithmetic.

Every operation computes the bits that ``ARITHMETIC.md`` prescribes, on every backend, at any number of threads.
Importing lucid loads NumPy and nothing heavier; models, data loading, transforms, the graph tools and the ONNX exporter
are loaded when first asked for.
"""

# ruff: noqa: F401, F403 (the public names, each listed by its own module)

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from lucid.autograd import enable_grad, grad_enabled, is_grad_enabled, no_grad, set_grad_enabled
from lucid.backends import available_backends, get_backend, set_backend, use_backend
from lucid.core import ARITHMETIC_VERSION
from lucid.device import empty_cache, get_default_device, get_num_threads, set_default_device, set_num_threads
from lucid.dtypes import *
from lucid.dtypes import bool_ as bool
from lucid.ops.arrange import *
from lucid.ops.comparison import *
from lucid.ops.contraction import *
from lucid.ops.creation import *
from lucid.ops.elementwise import *
from lucid.ops.indexing import *
from lucid.ops.order import *
from lucid.ops.product import dot, matmul
from lucid.ops.reduction import *
from lucid.ops.shape import *
from lucid.tensor import Tensor, from_dlpack, tensor, to_tensor

from lucid import einops, io, linalg, nn, optim, random, types  # isort: skip (they use the names above)
from lucid.io import load, save
from lucid.nn.flops import count_flops
from lucid.random import manual_seed, rand, randn

if TYPE_CHECKING:
    from lucid import data, graph, models, onnx, transforms

newaxis = None

_LAZY_MODULES = ("data", "graph", "models", "onnx", "transforms")
_LAZY_NAMES = {"__version__": "lucid._version", "compile": "lucid.graph", "register_model": "lucid.models"}


nn.ABOVE["ResNet"] = "lucid.models"


def __getattr__(name: str) -> Any:
    if name in _LAZY_MODULES:
        return importlib.import_module(f"lucid.{name}")
    if name in _LAZY_NAMES:
        return getattr(importlib.import_module(_LAZY_NAMES[name]), name)
    raise AttributeError(f"module 'lucid' has no attribute {name!r}")
