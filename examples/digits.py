"""Handwritten digits, learnt by a small vision transformer or by convolutions in one dimension.

    python examples/digits.py --model vit
    python examples/digits.py --model conv1d --workers 4

prints, for scikit-learn's 1,797 images of 8x8 pixels, how many of a fifth that was held out are read rightly, and a
digest of the weights: the same on every run, with any number of workers, threads and on every backend.
"""

from __future__ import annotations

import argparse
import hashlib
from typing import Any

import numpy as np

import lucid
from lucid import nn, optim, transforms
from lucid.data import DataLoader, Dataset, random_split

SEED = 0
MOVED = transforms.Compose(
    [transforms.RandomCrop(8, padding=1), transforms.ToTensor(), transforms.Normalize([0.3], [0.35])]
)
AS_IS = transforms.Compose([transforms.ToTensor(), transforms.Normalize([0.3], [0.35])])


class Digits(Dataset):
    """Images as ``(1, 8, 8)`` tensors, moved by up to a pixel where they are to be learnt from."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, transform: Any) -> None:
        self.images, self.labels, self.transform = images, labels, transform

    def __getitem__(self, index: int) -> tuple[lucid.Tensor, int]:
        return self.transform(self.images[index]), int(self.labels[index])

    def __len__(self) -> int:
        return len(self.labels)


class Attention(nn.Module):
    """Every token looks at all others, in several heads."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.into, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: lucid.Tensor) -> lucid.Tensor:
        n, tokens, width = x.shape
        size = width // self.heads
        parts = self.into(x).reshape(n, tokens, 3, self.heads, size).transpose(2, 0, 3, 1, 4)
        query, key, value = parts[0], parts[1], parts[2]
        scores = query @ key.transpose(0, 1, 3, 2) * size**-0.5
        mixed = nn.functional.softmax(scores, axis=-1) @ value
        return self.out(mixed.transpose(0, 2, 1, 3).reshape(n, tokens, width))


class Block(nn.Module):
    """A layer of a transformer, normalised before its parts."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: lucid.Tensor) -> lucid.Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Module):
    """Eight patches of 2x4 pixels, two layers, the mean of what they end as (Dosovitskiy et al., 2021)."""

    def __init__(self, width: int = 48, heads: int = 4, depth: int = 2) -> None:
        super().__init__()
        self.embedding = nn.Linear(8, width)
        self.positions = nn.Parameter(lucid.randn(1, 8, width) * 0.1)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x: lucid.Tensor) -> lucid.Tensor:
        patches = x.reshape(-1, 4, 2, 2, 4).transpose(0, 1, 3, 2, 4).reshape(-1, 8, 8)
        return self.head(self.norm(self.blocks(self.embedding(patches) + self.positions)).mean(axis=1))


class Rows(nn.Module):
    """Convolutions along the rows of an image; its eight rows are the channels they begin with."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv1d(8, 48, 3, padding=1), nn.BatchNorm1d(48), nn.ReLU()),
            *(nn.Conv1d(48, 96, 3, padding=1), nn.BatchNorm1d(96), nn.ReLU(), nn.MaxPool1d(2)),
            *(nn.Conv1d(96, 96, 3, padding=1), nn.BatchNorm1d(96), nn.ReLU(), nn.Flatten()),
            nn.Linear(4 * 96, 10),
        )

    def forward(self, x: lucid.Tensor) -> lucid.Tensor:
        return self.layers(x.reshape(-1, 8, 8))


MODELS = {"vit": VisionTransformer, "conv1d": Rows}


def digits() -> tuple[Digits, Digits]:
    """What is learnt from, and the fifth that is held out."""
    from sklearn.datasets import load_digits

    data = load_digits()
    images, labels = (data.images * 15).astype(np.uint8), data.target
    parts = random_split(range(len(labels)), [0.8, 0.2], lucid.random.Generator(SEED))
    train, test = (np.array(part.indices) for part in parts)
    return Digits(images[train], labels[train], MOVED), Digits(images[test], labels[test], AS_IS)


def train(model: nn.Module, loader: DataLoader, epochs: int) -> None:
    """Train by AdamW, whose learning rate rises for a hundred steps and then falls to 0 along a line."""
    optimizer = optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.02)
    steps = epochs * len(loader)
    schedule = optim.lr_scheduler.LambdaLR(optimizer, lambda step: min((step + 1) / 100, 1 - step / steps))
    model.train()
    for _ in range(epochs):
        for images, labels in loader:
            loss = nn.functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()


def accuracy(model: nn.Module, data: Digits) -> float:
    """The share of ``data`` that the model reads rightly."""
    model.eval()
    with lucid.no_grad():
        right = sum(int((model(x).numpy().argmax(1) == y.numpy()).sum()) for x, y in DataLoader(data, 256, seed=SEED))
    return right / len(data)


def digest(model: nn.Module) -> str:
    """Of the weights' bits, 16 hexadecimal digits."""
    state = model.state_dict()
    return hashlib.sha256(b"".join(state[name].numpy().tobytes() for name in sorted(state))).hexdigest()[:16]


def run(name: str, epochs: int, workers: int) -> tuple[float, str]:
    """The accuracy and the digest after ``epochs``."""
    learnt, held_out = digits()
    lucid.manual_seed(SEED)
    model = MODELS[name]()
    loader = DataLoader(
        learnt, 32, shuffle=True, num_workers=workers, drop_last=True, seed=SEED, persistent_workers=workers > 0
    )
    train(model, loader, epochs)
    return accuracy(model, held_out), digest(model)


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--model", choices=sorted(MODELS), default="vit")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--workers", type=int, default=0)
    arguments = parser.parse_args()
    right, bits = run(arguments.model, arguments.epochs, arguments.workers)
    print(f"{arguments.model}: {100 * right:.1f} % of the images that were held out are read rightly; weights {bits}")


if __name__ == "__main__":
    main()
