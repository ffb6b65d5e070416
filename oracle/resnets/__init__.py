"""The residual networks: the first kind of description of models that the oracle has.

It makes their graphs (`oracle.resnets.graph`), says what else their layers are called (`oracle.resnets.layout`), and
how PyTorch (`oracle.resnets.twin`, written from the papers) and lucid (`oracle.resnets.engine`) run them. No other part
of the oracle knows what a residual network is.
"""

from oracle.resnets.architecture import ARCHITECTURES, NARROW, SMALL, Architecture, find_architecture

__all__ = ["ARCHITECTURES", "NARROW", "SMALL", "Architecture", "find_architecture"]
