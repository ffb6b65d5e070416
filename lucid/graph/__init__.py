"""Models as data: ``trace`` runs a model once, computing nothing, and returns the ``Graph`` of what it does;
``trace_gradients`` that of its loss and gradients."""

from __future__ import annotations

from lucid.graph._graph import BATCH, Graph, Node, Value
from lucid.graph._plan import InferencePlan, compile
from lucid.graph._trace import trace
from lucid.graph.gradients import trace_gradients

__all__ = ["BATCH", "Graph", "InferencePlan", "Node", "Value", "compile", "trace", "trace_gradients"]
