"""Threads of the native kernels: how many there are, that results do not depend on them, and that fork is safe."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.bits import bits

import lucid
import lucid.nn.functional as F
from lucid.backends import _compiled, available_backends, get_backend
from lucid.kernels.declare import kernels

pytestmark = pytest.mark.skipif("native" not in available_backends(), reason="needs the compiled kernels")

CORES = len(os.sched_getaffinity(0))
IN_A_WORKER = "PYTEST_XDIST_WORKER" in os.environ
WORK = """
import hashlib, os, numpy as np, lucid
import lucid.nn.functional as F
x = lucid.tensor(np.random.default_rng(0).standard_normal((4, 16, 20, 20)).astype("float32"))
w = lucid.tensor(np.random.default_rng(1).standard_normal((32, 16, 3, 3)).astype("float32"))
def work():
    return hashlib.sha256(np.ascontiguousarray(F.conv2d(x, w, padding=1).numpy()).tobytes()).hexdigest()
def threads():
    return len(os.listdir("/proc/self/task"))
"""


@pytest.fixture(autouse=True)
def _native() -> Iterator[None]:
    before = lucid.get_num_threads()
    with lucid.use_backend("native"):
        yield
    lucid.set_num_threads(before)


def python(code: str, **environment: str) -> str:
    """What ``code`` prints in a fresh interpreter whose only settings of threads are these."""
    kept = {name: value for name, value in os.environ.items() if "THREADS" not in name and "XDIST" not in name}
    # NumPy's own threads are none of lucid's, but would be counted with them.
    kept |= {"OPENBLAS_NUM_THREADS": "1", "LUCID_BACKEND": "native", **environment}
    done = subprocess.run([sys.executable, "-c", code], env=kept, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# -- how many --------------------------------------------------------------------------------------------------------

ENVIRONMENTS: dict[str, tuple[dict[str, str], int | None]] = {
    "LUCID": ({"LUCID_NUM_THREADS": "3"}, 3),
    "OMP": ({"OMP_NUM_THREADS": "5"}, 5),
    "LUCID before OMP": ({"LUCID_NUM_THREADS": "1", "OMP_NUM_THREADS": "4"}, 1),
    "OMP, nested": ({"OMP_NUM_THREADS": "3,2"}, 3),
    "OMP, no number": ({"OMP_NUM_THREADS": "many"}, None),
    "empty": ({"LUCID_NUM_THREADS": "", "OMP_NUM_THREADS": "2"}, 2),
    "nothing": ({}, None),
}


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_environment_says_how_many(name: str) -> None:
    environment, expected = ENVIRONMENTS[name]
    got = int(python("import lucid; print(lucid.get_num_threads())", **environment))
    if expected is None:
        assert 1 <= got <= CORES  # a container's quota may be less than the cores it sees
    else:
        assert got == expected


@pytest.mark.parametrize("count", [1, 2, 4])
def test_no_more_threads_than_asked_for(count: int) -> None:
    """One is the caller's own, and none is made before it is needed."""
    code = WORK + "before = threads(); work(); print(threads() - before)"
    assert int(python(code, LUCID_NUM_THREADS=str(count))) == count - 1


@pytest.mark.skipif(not IN_A_WORKER, reason="runs inside a worker of pytest-xdist, as the next test has it run")
def test_a_worker_has_one_thread() -> None:
    assert lucid.get_num_threads() == 1


def test_workers_do_not_oversubscribe() -> None:
    """The suite's own conftest gives each worker of ``pytest -n`` one thread, whatever the environment says."""
    pytest.importorskip("xdist")
    kept = {name: value for name, value in os.environ.items() if "XDIST" not in name}
    test = f"{Path(__file__)}::{test_a_worker_has_one_thread.__name__}"
    command = [sys.executable, "-m", "pytest", "-q", "-n", "1", "-p", "no:cacheprovider", test]
    done = subprocess.run(
        command,
        env={**kept, "LUCID_NUM_THREADS": "4", "OMP_NUM_THREADS": "4"},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "1 passed" in done.stdout, done.stdout


@pytest.mark.parametrize("threads", [0, -1, 1.5, True, "2", None, 1025, 2**31, 2**70])
def test_bad_counts(threads: object) -> None:
    before = lucid.get_num_threads()
    with pytest.raises(ValueError, match=r"threads: got .*; may be an integer of at least 1 and at most 1024"):
        lucid.set_num_threads(threads)  # type: ignore[arg-type]
    assert lucid.get_num_threads() == before


LIMITED = (
    WORK
    + """
import resource, sys
lucid.set_num_threads(1)
first, large = work(), lucid.tensor(np.ones((8, 64, 64, 64), np.float32))
with open("/proc/self/statm") as file:
    now = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (now + (int(sys.argv[1]) << 20),) * 2)
for count in (64, 1024, 2, 1):
    lucid.set_num_threads(count)
    for _ in range(3):
        assert work() == first, count
        assert (large * 2).sum().item() == 2 * 8 * 64**3, count
    assert lucid.get_num_threads() == count
print("done")
"""
)


@pytest.mark.parametrize("mebibytes", [96, 200, 400])
def test_threads_that_cannot_be_made_are_done_without(mebibytes: int) -> None:
    """The address space ends before the stacks of so many threads have room: those that there are do the work."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(mebibytes)],
        env={**os.environ, "LUCID_BACKEND": "native", "OPENBLAS_NUM_THREADS": "1", "LUCID_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "done"


# -- the same bits ---------------------------------------------------------------------------------------------------


def training(seed: int) -> bytes:
    """The bits of a little of everything that runs in parallel, forward and backward."""
    rng = np.random.default_rng(seed)
    x, w, gamma, fc = (
        lucid.tensor(rng.standard_normal(shape).astype(np.float32), requires_grad=True)
        for shape in [(6, 5, 19, 17), (33, 5, 3, 3), (33,), (40, 33)]
    )
    y = F.batch_norm(F.conv2d(x, w, padding=1), None, None, gamma, gamma, training=True)
    y = F.max_pool2d(F.relu(y), 3, stride=2, padding=1)
    y = F.linear(F.adaptive_avg_pool2d(y, 1).reshape(6, 33), fc)
    F.cross_entropy(y, lucid.tensor(rng.integers(0, 40, 6))).backward()
    return b"".join(bits(np.asarray(t)) for t in (y, x.grad, w.grad, gamma.grad, fc.grad))


def test_the_number_of_threads_changes_nothing() -> None:
    results = set()
    for count in (1, 2, 3, 7):
        lucid.set_num_threads(count)
        assert lucid.get_num_threads() == count
        results.add(training(0))
    assert len(results) == 1


def test_several_python_threads_at_once() -> None:
    """Each with work of its own, while another one changes how many threads the kernels use."""
    seeds, rounds = range(4), 6
    lucid.set_num_threads(2)
    expected = {seed: training(seed) for seed in seeds}
    wrong: list[str] = []
    stop = threading.Event()

    def compute(seed: int) -> None:
        for number in range(rounds):
            try:
                if training(seed) != expected[seed]:
                    wrong.append(f"seed {seed}, round {number}")
            except Exception as error:
                wrong.append(f"seed {seed}, round {number}: {error!r}")

    def disturb() -> None:
        while not stop.is_set():
            for count in (1, 3, 2):
                lucid.set_num_threads(count)

    workers = [threading.Thread(target=compute, args=(seed,)) for seed in seeds]
    disturber = threading.Thread(target=disturb)
    for thread in [disturber, *workers]:
        thread.start()
    for thread in workers:
        thread.join()
    stop.set()
    disturber.join()
    assert not wrong


@pytest.mark.parametrize("count", [1, 2])
def test_fork_after_a_parallel_kernel(count: int) -> None:
    """The child has none of its parent's threads: it makes its own, and both go on with the same bits."""
    code = WORK + (
        "first = work()\n"
        "reading, writing = os.pipe()\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    os.write(writing, f'{work()} {lucid.get_num_threads()}'.encode())\n"
        "    os._exit(0)\n"
        "status = os.waitpid(child, 0)[1]\n"
        "print(status, os.read(reading, 1000).decode() == f'{first} {lucid.get_num_threads()}', work() == first)\n"
    )
    assert python(code, LUCID_NUM_THREADS=str(count)) == "0 True True"


def test_fork_while_kernels_run() -> None:
    """Locks may be held when the process forks; no child may wait for them."""
    code = WORK + (
        "import threading\n"
        "first, stop = work(), threading.Event()\n"
        "def busy():\n"
        "    while not stop.is_set(): work()\n"
        "workers = [threading.Thread(target=busy) for _ in range(2)]\n"
        "for w_ in workers: w_.start()\n"
        "codes = []\n"
        "for _ in range(15):\n"
        "    child = os.fork()\n"
        "    if child == 0: os._exit(0 if work() == first else 1)\n"
        "    codes.append(os.waitpid(child, 0)[1])\n"
        "stop.set()\n"
        "for w_ in workers: w_.join()\n"
        "print(set(codes))\n"
    )
    assert python(code, LUCID_NUM_THREADS="2") == "{0}"


class _Forgetful(dict[Any, Any]):
    """What is known of launches, while another thread clears it all the time."""

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key, value)
        self.clear()


def test_a_launch_is_worked_out_while_another_thread_forgets() -> None:
    [cumsum] = [kernel for kernel in kernels() if kernel.name == "cumsum"]
    x = np.zeros((2, 3), np.float32)
    numbers, shape, *_ = _compiled._work_out(cumsum, _Forgetful(), get_backend("native"), "key", (x, 1, False))
    assert shape == (2, 3)
    assert numbers
