"""The goldens' digests at every instruction set that this processor has, as `lucid-oracle certify` reproduces them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.parametrize(("model", "options"), [("resnet_18", ()), ("resnet_50", ("--threads", "2", "--no-plan"))])
def test_every_digest_is_equal(model: str, options: tuple[str, ...], tmp_path: Path) -> None:
    """In a process of its own: what is certified is a machine, not what tests have left in this one. The larger model
    runs once an instruction set and mode: plans and one thread are in the parity matrix."""
    certificate = tmp_path / "certificate.json"
    command = [sys.executable, "-m", "oracle.cli", "certify", "-q", "--model", model, *options, "-o", str(certificate)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "all equal" in ran.stdout + ran.stderr
    assert certificate.exists()
