"""Define-by-run differentiation, under its public path: ``lucid.core`` holds the modes, the nodes and the walk."""

from __future__ import annotations

from lucid.core.grad_mode import enable_grad, grad_enabled, is_grad_enabled, no_grad, set_grad_enabled

__all__ = ["enable_grad", "grad_enabled", "is_grad_enabled", "no_grad", "set_grad_enabled"]
