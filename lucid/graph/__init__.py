"""Models as data: ``trace`` runs a model once, without computing anything, and returns the ``Graph`` of what it does."""

from __future__ import annotations

from lucid.graph._graph import BATCH, Graph, Node, Value
from lucid.graph._trace import trace

__all__ = ["BATCH", "Graph", "Node", "Value", "trace"]
