"""Optimisers and schedules of their learning rates."""

from __future__ import annotations

from lucid.optim import lr_scheduler
from lucid.optim.adagrad import Adadelta, Adagrad, RMSprop
from lucid.optim.adam import Adam, Adamax, AdamW, NAdam, RAdam
from lucid.optim.asgd import ASGD
from lucid.optim.optimizer import Optimizer
from lucid.optim.rprop import Rprop
from lucid.optim.sgd import SGD

__all__ = [
    "ASGD",
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "NAdam",
    "Optimizer",
    "RAdam",
    "RMSprop",
    "Rprop",
    "lr_scheduler",
]
