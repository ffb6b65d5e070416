"""Networks that are described by a module: the second kind of description of models that the oracle has.

lucid traces what the module does (`oracle.networks.graph`); a mirror in PyTorch, written independently, is the truth's
second origin (`oracle.networks.network`). The narrow ones of which there are goldens are a file each.
"""

from collections.abc import Mapping

from oracle.networks.gpt import NARROW_GPT
from oracle.networks.network import Network
from oracle.networks.unet import NARROW_UNET

__all__ = ["NARROW_NETWORKS", "Network"]

NARROW_NETWORKS: Mapping[str, Network] = {network.name: network for network in (NARROW_GPT, NARROW_UNET)}
