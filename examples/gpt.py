"""A small GPT: 6 layers, 384 wide, sequences of 256, written with lucid alone; trains on numbers that it draws itself.

    python examples/gpt.py --steps 5

Learned positions, normalisation before each part, GELU by its tanh form, a head that shares the embedding's weight.
With a seed, the same losses on every machine, bit for bit.
"""

from __future__ import annotations

import argparse
import time

import lucid
import lucid.nn.functional as F
from lucid import nn


class Block(nn.Module):
    """Attention to what came before, and two fully connected layers, each beside a shortcut."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.wide = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)

    def forward(self, x: lucid.Tensor) -> lucid.Tensor:
        batch, length, width = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(batch, length, 3, self.heads, width // self.heads)
        q, k, v = (qkv[:, :, i].transpose(0, 2, 1, 3) for i in range(3))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(0, 2, 1, 3).reshape(batch, length, width))
        return x + self.narrow(F.gelu(self.wide(self.norm2(x)), approximate="tanh"))


class GPT(nn.Module):
    """Tokens ``(N, T)`` to the logits of the next ones, ``(N, T, tokens)``."""

    def __init__(self, tokens: int = 512, length: int = 256, width: int = 384, heads: int = 6, layers: int = 6) -> None:
        super().__init__()
        self.token = nn.Embedding(tokens, width)
        self.position = nn.Embedding(length, width)
        self.blocks = nn.ModuleList([Block(width, heads) for _ in range(layers)])
        self.norm = nn.LayerNorm(width)
        for name, parameter in self.named_parameters():
            if parameter.ndim > 1:
                nn.init.normal(parameter, 0.0, 0.02)
            elif name.endswith("bias"):
                nn.init.constant(parameter, 0.0)

    def forward(self, tokens: lucid.Tensor) -> lucid.Tensor:
        x = self.token(tokens) + self.position.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        return F.linear(self.norm(x), self.token.weight)


def train_step(model: GPT, optimizer: lucid.optim.Optimizer, tokens: lucid.Tensor) -> lucid.Tensor:
    """One step on sequences ``(N, T + 1)``; returns the loss."""
    optimizer.zero_grad()
    logits = model(tokens[:, :-1])
    loss = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), tokens[:, 1:].reshape(-1))
    loss.backward()
    optimizer.step()
    return loss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=5)
    arguments = parser.parse_args()
    lucid.random.seed(0)
    model = GPT()
    optimizer = lucid.optim.AdamW(model.parameters(), lr=3e-4)
    for step in range(arguments.steps):
        start = lucid.random.randint(0, 512, (8, 1))
        tokens = (start + lucid.arange(257) * 7) % 512  # sequences that can be learned
        begin = time.perf_counter()
        loss = train_step(model, optimizer, tokens)
        print(f"step {step}: loss {loss.item():.4f}, {time.perf_counter() - begin:.2f} s")


if __name__ == "__main__":
    main()
