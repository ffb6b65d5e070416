"""Proof that the oracle catches: a catalogue of faults, and what puts them into a subject.

`CATALOGUE` holds them by name; `oracle.faults.inject` makes subjects that have one; `oracle.faults.matrix` runs them
all and says which view caught which, and whether it named the layer. ``lucid-oracle faults`` prints that.
"""

from oracle.faults import data, gradients, kernels, normalisation, precision
from oracle.faults.fault import CATALOGUE, Draw, Fault, Injection, Site, find_fault

__all__ = [
    "CATALOGUE",
    "Draw",
    "Fault",
    "Injection",
    "Site",
    "data",
    "find_fault",
    "gradients",
    "kernels",
    "normalisation",
    "precision",
]
