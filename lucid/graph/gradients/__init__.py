"""Gradients as graphs: ``trace_gradients``, and one table of rules, a family a file.

A rule is a few lines of lucid's operations; ``_rules.py`` says what it gets and returns. What a rule needs and lucid's
users do not stands in ``functions.py``.
"""

from __future__ import annotations

from lucid.graph.gradients import elementwise, moving, network, reduction  # noqa: F401 (each enters its rules)
from lucid.graph.gradients._rules import LOWERED, RULES
from lucid.graph.gradients._trace import trace_gradients

__all__ = ["LOWERED", "RULES", "trace_gradients"]
