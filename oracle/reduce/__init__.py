"""From a model that disagrees to the few of its nodes that do: `reduce_model`, and ``lucid-oracle reduce``.

``cutting`` cuts sub-graphs out of an ONNX model, ``bounds`` says what one should make and how far a healthy runtime may
be from that, ``search`` looks for the smallest that disagrees, ``subjects`` runs them, ``files`` writes what was found.
"""

from oracle.reduce.search import Reduction, reduce_model

__all__ = ["Reduction", "reduce_model"]
