"""A narrow GPT: as lucid runs it, and mirrored in PyTorch from the paper (Radford et al., 2019)."""

from __future__ import annotations

from typing import Any

import lucid
import lucid.nn.functional as F
from lucid import nn
from oracle.networks.network import Network

TOKENS, LENGTH, WIDTH, HEADS, LAYERS = 31, 16, 32, 4, 2


class Block(nn.Module):
    """Attention to what came before, and two fully connected layers, each beside a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)
        self.norm2 = nn.LayerNorm(WIDTH)
        self.wide = nn.Linear(WIDTH, 4 * WIDTH)
        self.narrow = nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: lucid.Tensor) -> lucid.Tensor:
        """``(N, T, WIDTH)`` to the same."""
        batch, length, _ = x.shape
        heads = self.qkv(self.norm1(x)).reshape(batch, length, 3, HEADS, WIDTH // HEADS)
        q, k, v = (heads[:, :, part].transpose(0, 2, 1, 3) for part in range(3))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(0, 2, 1, 3).reshape(batch, length, WIDTH))
        return x + self.narrow(F.gelu(self.wide(self.norm2(x)), approximate="tanh"))


class GPT(nn.Module):
    """Tokens ``(N, T)`` to the logits of the next ones, ``(N, T, TOKENS)``; the head shares the embedding's weight."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Embedding(TOKENS, WIDTH)
        self.position = nn.Embedding(LENGTH, WIDTH)
        self.blocks = nn.ModuleList([Block() for _ in range(LAYERS)])
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, tokens: lucid.Tensor) -> lucid.Tensor:
        """The logits."""
        x = self.token(tokens) + self.position.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        return F.linear(self.norm(x), self.token.weight)


def mirror() -> Any:
    """The same in PyTorch; modules without parameters have the names of the values that they make."""
    import torch
    from torch.nn import functional

    class Attention(torch.nn.Module):
        def forward(self, q: Any, k: Any, v: Any) -> Any:
            scores = q @ k.transpose(-1, -2) / (WIDTH // HEADS) ** 0.5
            later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
            return scores.masked_fill(later, -torch.inf).softmax(-1) @ v

    class Sum(torch.nn.Module):
        def forward(self, a: Any, b: Any) -> Any:
            return a + b

    class MirrorBlock(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.norm2 = torch.nn.LayerNorm(WIDTH), torch.nn.LayerNorm(WIDTH)
            self.qkv, self.out = torch.nn.Linear(WIDTH, 3 * WIDTH), torch.nn.Linear(WIDTH, WIDTH)
            self.wide, self.narrow = torch.nn.Linear(WIDTH, 4 * WIDTH), torch.nn.Linear(4 * WIDTH, WIDTH)
            self.attention, self.add, self.gelu = Attention(), Sum(), torch.nn.GELU(approximate="tanh")

        def forward(self, x: Any) -> Any:
            of_heads = (*x.shape[:2], HEADS, WIDTH // HEADS)
            parts = self.qkv(self.norm1(x)).chunk(3, -1)
            y = self.attention(*(each.reshape(of_heads).transpose(1, 2) for each in parts))
            x = self.add(x, self.out(y.transpose(1, 2).flatten(2)))
            return x + self.narrow(self.gelu(self.wide(self.norm2(x))))

    class MirrorGPT(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token, self.position = torch.nn.Embedding(TOKENS, WIDTH), torch.nn.Embedding(LENGTH, WIDTH)
            self.blocks = torch.nn.ModuleList([MirrorBlock() for _ in range(LAYERS)])
            self.norm, self.add = torch.nn.LayerNorm(WIDTH), Sum()

        def forward(self, tokens: Any) -> Any:
            x = self.add(self.token(tokens), self.position.weight[: tokens.shape[1]])
            for block in self.blocks:
                x = block(x)
            return functional.linear(self.norm(x), self.token.weight)

    return MirrorGPT()


NARROW_GPT = Network(
    "narrow_gpt",
    GPT,
    mirror,
    shape=lambda batch, size: (batch, size),
    sizes={"eval": (LENGTH, 2), "train": (LENGTH - 4, 3)},
    tokens=TOKENS,
    numbers={"tokens": TOKENS, "length": LENGTH, "width": WIDTH, "heads": HEADS, "layers": LAYERS},
)
