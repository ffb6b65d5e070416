"""Define-by-run differentiation: its modes, gradients of chosen tensors, and tools that test, explain and thin it out.

``lucid.core`` holds the modes, the nodes and the walk; this package stands above the layers, whose names its reports
give.
"""

from __future__ import annotations

from lucid.autograd._anomaly import AnomalyError, detect_anomaly
from lucid.autograd._grad import grad
from lucid.autograd._gradcheck import GradcheckError, gradcheck
from lucid.autograd._recompute import checkpoint
from lucid.core.grad_mode import enable_grad, grad_enabled, is_grad_enabled, no_grad, set_grad_enabled
from lucid.core.node import HookHandle

__all__ = [
    "AnomalyError",
    "GradcheckError",
    "HookHandle",
    "checkpoint",
    "detect_anomaly",
    "enable_grad",
    "grad",
    "grad_enabled",
    "gradcheck",
    "is_grad_enabled",
    "no_grad",
    "set_grad_enabled",
]
