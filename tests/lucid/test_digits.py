"""examples/digits.py: two networks learn to read, and their weights have the same bits however they are trained."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "digits.py"


def run(*arguments: object, **settings: str) -> tuple[float, str]:
    """What it prints: the percentage, and the weights' digest."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **settings}
    command = [sys.executable, str(EXAMPLE), *map(str, arguments)]
    found = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    printed = re.search(r": ([\d.]+) % .* weights (\w{16})$", found.stdout)
    assert printed, found.stdout + found.stderr
    return float(printed[1]), printed[2]


@pytest.mark.parametrize(("model", "digest"), [("vit", "457e75918dffdb10"), ("conv1d", "84a6f10a53743112")])
def test_an_epoch_has_the_same_bits(model: str, digest: str) -> None:
    """With no worker, one and four; and those that another machine had."""
    found = [run("--model", model, "--epochs", 1, "--workers", workers) for workers in (0, 1, 4)]
    assert [bits for _, bits in found] == [digest] * 3
    assert found[0] == found[1] == found[2]


@pytest.mark.slow
@pytest.mark.parametrize(("model", "digest"), [("vit", "f7111af00c0159f3"), ("conv1d", "2dba27653c4f1789")])
def test_they_learn_to_read(model: str, digest: str) -> None:
    """By three threads and with two workers, to the weights that one thread gave without a worker."""
    right, bits = run("--model", model, "--workers", 2, LUCID_NUM_THREADS="3")
    assert right > 97
    assert bits == digest


@pytest.mark.slow
def test_every_backend_trains_to_the_same_bits() -> None:
    found = {name: run("--epochs", 1, LUCID_BACKEND=name) for name in ("native", "reference")}
    assert found["native"] == found["reference"]
