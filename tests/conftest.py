"""What the tests share: every backend that runs here, and one thread each where several test processes run."""

from __future__ import annotations

import importlib.util
import os

if importlib.util.find_spec("_lucid_native") is None:  # asked for, the reference backend comes without its warning
    os.environ.setdefault("LUCID_BACKEND", "reference")
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # tests import onnxruntime by themselves, too
if "PYTEST_XDIST_WORKER" in os.environ:  # before NumPy, PyTorch and lucid start their threads
    for _name in ("LUCID_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[_name] = "1"

from collections.abc import Iterator

import pytest
from support.backends import BACKENDS, ON_GPU, on

import lucid
from lucid.backends import backend_for, use_backend

USUAL = backend_for("cpu").name, lucid.get_default_device(), lucid.is_grad_enabled(), lucid.get_num_threads()


@pytest.fixture(autouse=True)
def _as_it_was() -> None:
    """What a test or an example sets for the whole process it has to put back: another test would run with it."""
    found = backend_for("cpu").name, lucid.get_default_device(), lucid.is_grad_enabled(), lucid.get_num_threads()
    assert found == USUAL, f"something that ran before left {found} where {USUAL} was"


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of each backend in turn; it serves its device during the test, and that is the default device."""
    with on(request.param):
        yield request.param


@pytest.fixture(params=ON_GPU)
def gpu(request: pytest.FixtureRequest) -> Iterator[str]:
    """``"gpu"``, served by each backend in turn that can. The default device stays the CPU."""
    with use_backend(request.param, "gpu"):
        yield "gpu"
