"""The transformer of Vaswani et al. (NeurIPS 2017): its layers, its encoder and its decoder."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

from lucid.core.dtypes import get_default_dtype
from lucid.core.tensor import Tensor
from lucid.nn import functional, init
from lucid.nn.activation import Dropout
from lucid.nn.attention import MultiheadAttention
from lucid.nn.container import ModuleList
from lucid.nn.linear import Linear
from lucid.nn.module import Module
from lucid.nn.norm import LayerNorm
from lucid.ops import reshape, where
from lucid.ops.creation import arange, zeros

__all__ = [
    "Transformer",
    "TransformerDecoder",
    "TransformerDecoderLayer",
    "TransformerEncoder",
    "TransformerEncoderLayer",
]

Activation = str | Callable[[Tensor], Tensor]


def _activation(activation: Activation) -> Callable[[Tensor], Tensor]:
    if callable(activation):
        return activation
    found: Callable[[Tensor], Tensor] | None = getattr(functional, activation, None)
    if activation not in functional.__all__ or found is None:
        raise ValueError(
            f"activation: got {activation!r}; may name a function of lucid.nn.functional, or be one of a tensor"
        )
    return found


class _Layer(Module):
    """What both layers have: attention to oneself, and the two fully connected layers."""

    attends: bool
    """Whether there is attention to a memory, too."""

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Activation = "relu",
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        placed: dict[str, Any] = {"device": device, "dtype": dtype}
        self.self_attn = MultiheadAttention(d_model, nhead, dropout, bias, batch_first=batch_first, **placed)
        if self.attends:
            self.multihead_attn = MultiheadAttention(d_model, nhead, dropout, bias, batch_first=batch_first, **placed)
        self.linear1 = Linear(d_model, dim_feedforward, bias, **placed)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias, **placed)
        self.norm_first = norm_first
        for i in range(1, 3 + self.attends):
            self.add_module(f"norm{i}", LayerNorm(d_model, layer_norm_eps, bias=bias, **placed))
        for i in range(1, 3 + self.attends):
            self.add_module(f"dropout{i}", Dropout(dropout))
        self.activation = _activation(activation)

    def _part(self, number: int, x: Tensor, body: Callable[[Tensor], Tensor]) -> Tensor:
        """``x`` plus ``body`` of it, normalised before or after."""
        norm, dropout = getattr(self, f"norm{number}"), getattr(self, f"dropout{number}")
        if self.norm_first:
            return x + dropout(body(norm(x)))
        result: Tensor = norm(x + dropout(body(x)))
        return result

    def _attend(self, attention: Module, mask: Any, padding: Any, causal: bool, memory: Tensor | None = None) -> Any:
        def body(x: Tensor) -> Tensor:
            keys = x if memory is None else memory
            result: Tensor = attention(x, keys, keys, padding, False, mask, is_causal=causal and mask is None)[0]
            return result

        return body

    def _feed_forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.linear2(self.dropout(self.activation(self.linear1(x))))
        return result


class TransformerEncoderLayer(_Layer):
    """Attention to oneself, then two fully connected layers, each beside a shortcut with a layer normalisation.

    Args:
        d_model: E, the width.
        nhead: how many heads the attention has.
        dim_feedforward: the width between the fully connected layers.
        dropout: the share that becomes 0 in training: of weights, of what is between, and of what is added.
        activation: the name of a function of ``lucid.nn.functional``, or a function of a tensor.
        layer_norm_eps: that of the normalisations.
        batch_first: whether inputs are ``(N, L, E)``, else ``(L, N, E)``.
        norm_first: whether what goes into each part is normalised, else what comes out of the sum.
        bias: whether linear layers and normalisations have one.
        device: where the parameters lie; the default device if None.
        dtype: float32 or float64; the default dtype if None.

    Source: Vaswani et al., NeurIPS 2017; Xiong et al., ICML 2020, for ``norm_first``.

    Example:
        >>> import lucid
        >>> lucid.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)(lucid.ones(3, 5, 8)).shape
        (3, 5, 8)
    """

    attends = False

    def forward(
        self,
        src: Tensor,
        src_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """A tensor of the shape of ``src``; masks as ``MultiheadAttention`` takes them."""
        x = self._part(1, src, self._attend(self.self_attn, src_mask, src_key_padding_mask, is_causal))
        return self._part(2, x, self._feed_forward)


class TransformerDecoderLayer(_Layer):
    """Attention to oneself, attention to a memory, then two fully connected layers.

    Args: as ``TransformerEncoderLayer``.

    Source: Vaswani et al., NeurIPS 2017.

    Example:
        >>> import lucid
        >>> layer = lucid.nn.TransformerDecoderLayer(8, 2, 16, batch_first=True)
        >>> layer(lucid.ones(3, 5, 8), lucid.ones(3, 7, 8)).shape
        (3, 5, 8)
    """

    attends = True

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """A tensor of the shape of ``tgt``; masks as ``MultiheadAttention`` takes them."""
        x = self._part(1, tgt, self._attend(self.self_attn, tgt_mask, tgt_key_padding_mask, tgt_is_causal))
        beside = self._attend(self.multihead_attn, memory_mask, memory_key_padding_mask, memory_is_causal, memory)
        return self._part(3, self._part(2, x, beside), self._feed_forward)


class _Stack(Module):
    def __init__(self, layer: Module, num_layers: int, norm: Module | None) -> None:
        super().__init__()
        self.layers = ModuleList([copy.deepcopy(layer) for _ in range(num_layers)])
        self.num_layers = num_layers
        self.norm = norm

    def _run(self, x: Tensor, call: Callable[[Any, Tensor], Tensor]) -> Tensor:
        for layer in self.layers:
            x = call(layer, x)
        return x if self.norm is None else self.norm(x)


class TransformerEncoder(_Stack):
    """Layers one after the other, copies of one, and a last normalisation.

    Args:
        encoder_layer: a ``TransformerEncoderLayer``.
        num_layers: how many copies.
        norm: a module, or None.

    Example:
        >>> import lucid
        >>> encoder = lucid.nn.TransformerEncoder(lucid.nn.TransformerEncoderLayer(8, 2, 16), 2)
        >>> encoder(lucid.ones(5, 3, 8)).shape
        (5, 3, 8)
    """

    def __init__(self, encoder_layer: Module, num_layers: int, norm: Module | None = None) -> None:
        super().__init__(encoder_layer, num_layers, norm)

    def forward(
        self,
        src: Tensor,
        mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """As ``TransformerEncoderLayer``."""
        return self._run(src, lambda layer, x: layer(x, mask, src_key_padding_mask, is_causal))


class TransformerDecoder(_Stack):
    """Layers one after the other, copies of one, and a last normalisation.

    Args:
        decoder_layer: a ``TransformerDecoderLayer``.
        num_layers: how many copies.
        norm: a module, or None.

    Example:
        >>> import lucid
        >>> decoder = lucid.nn.TransformerDecoder(lucid.nn.TransformerDecoderLayer(8, 2, 16), 2)
        >>> decoder(lucid.ones(5, 3, 8), lucid.ones(7, 3, 8)).shape
        (5, 3, 8)
    """

    def __init__(self, decoder_layer: Module, num_layers: int, norm: Module | None = None) -> None:
        super().__init__(decoder_layer, num_layers, norm)

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """As ``TransformerDecoderLayer``."""
        masks = (tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask, tgt_is_causal, memory_is_causal)
        return self._run(tgt, lambda layer, x: layer(x, memory, *masks))


class Transformer(Module):
    """An encoder of sources and a decoder of targets that looks at what the encoder made.

    Args:
        d_model: E, the width.
        nhead: how many heads every attention has.
        num_encoder_layers: how many layers the encoder has.
        num_decoder_layers: likewise the decoder.
        dim_feedforward, dropout, activation: as ``TransformerEncoderLayer`` has them.
        custom_encoder: an encoder of one's own, or None.
        custom_decoder: likewise.
        layer_norm_eps, batch_first, norm_first, bias, device, dtype: as ``TransformerEncoderLayer`` has them.

    Attributes:
        encoder, decoder: each with a normalisation at its end; all weights are drawn by ``xavier_uniform``.

    Source: Vaswani et al., NeurIPS 2017.

    Example:
        >>> import lucid
        >>> model = lucid.nn.Transformer(8, 2, 1, 1, 16, batch_first=True)
        >>> model(lucid.ones(3, 7, 8), lucid.ones(3, 5, 8)).shape
        (3, 5, 8)
    """

    def __init__(
        self,
        d_model: int = 512,
        nhead: int = 8,
        num_encoder_layers: int = 6,
        num_decoder_layers: int = 6,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Activation = "relu",
        custom_encoder: Module | None = None,
        custom_decoder: Module | None = None,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.d_model, self.nhead, self.batch_first = d_model, nhead, batch_first
        placed: dict[str, Any] = {"device": device, "dtype": dtype}
        sizes = (d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps, batch_first, norm_first, bias)

        def norm() -> Module:
            return LayerNorm(d_model, layer_norm_eps, bias=bias, **placed)

        self.encoder = custom_encoder or TransformerEncoder(
            TransformerEncoderLayer(*sizes, **placed), num_encoder_layers, norm()
        )
        self.decoder = custom_decoder or TransformerDecoder(
            TransformerDecoderLayer(*sizes, **placed), num_decoder_layers, norm()
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights anew."""
        for parameter in self.parameters():
            if parameter.ndim > 1:
                init.xavier_uniform(parameter)

    def forward(
        self,
        src: Tensor,
        tgt: Tensor,
        src_mask: Tensor | None = None,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        src_is_causal: bool = False,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """What the decoder makes, of the shape of ``tgt``; masks as ``MultiheadAttention`` takes them."""
        memory = self.encoder(src, src_mask, src_key_padding_mask, src_is_causal)
        paddings = (tgt_key_padding_mask, memory_key_padding_mask)
        result: Tensor = self.decoder(tgt, memory, tgt_mask, memory_mask, *paddings, tgt_is_causal, memory_is_causal)
        return result

    @staticmethod
    def generate_square_subsequent_mask(sz: int, device: str | None = None, dtype: Any = None) -> Tensor:
        """``(sz, sz)``: 0 where a key is not later than the query, else minus infinity.

        Example:
            >>> import lucid
            >>> lucid.nn.Transformer.generate_square_subsequent_mask(2)
            tensor([[  0., -inf],
                    [  0.,   0.]])
        """
        place = arange(sz, device=device)
        later = place > reshape(place, (sz, 1))
        return where(later, -math.inf, zeros((), dtype=dtype or get_default_dtype(), device=device))
