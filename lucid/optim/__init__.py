"""Optimisers and schedules of their learning rates."""

from __future__ import annotations

from lucid.optim import lr_scheduler
from lucid.optim.optimizer import Optimizer
from lucid.optim.sgd import SGD

__all__ = ["SGD", "Optimizer", "lr_scheduler"]
