"""What the tests share: every backend that runs here, and one thread each where several test processes run."""

from __future__ import annotations

import importlib.util
import os

if importlib.util.find_spec("_lucid_native") is None:  # asked for, the reference backend comes without its warning
    os.environ.setdefault("LUCID_BACKEND", "reference")
if "PYTEST_XDIST_WORKER" in os.environ:  # before NumPy, PyTorch and lucid start their threads
    for _name in ("LUCID_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[_name] = "1"

from collections.abc import Iterator

import pytest

from lucid.backends import available_backends, use_backend


@pytest.fixture(params=available_backends())
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of each backend in turn; it serves the CPU during the test."""
    with use_backend(request.param):
        yield request.param
