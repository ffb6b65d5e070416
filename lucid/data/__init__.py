"""Datasets, and batches of them, the same bits whatever the number of workers."""

from __future__ import annotations

from lucid.data.collating import default_collate
from lucid.data.datasets import ConcatDataset, Dataset, IterableDataset, Subset, TensorDataset, random_split
from lucid.data.loading import DataLoader
from lucid.data.samplers import (
    BatchSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

__all__ = [
    "BatchSampler",
    "ConcatDataset",
    "DataLoader",
    "Dataset",
    "IterableDataset",
    "RandomSampler",
    "Sampler",
    "SequentialSampler",
    "Subset",
    "SubsetRandomSampler",
    "TensorDataset",
    "WeightedRandomSampler",
    "default_collate",
    "random_split",
]
