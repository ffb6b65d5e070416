"""What pytest learns of the oracle. It imports nothing of it until a test has used it.

- ``--oracle-require=N``: the run fails unless its passing tests compared at least N tensors. A parity run of which
  everything was skipped, or deselected, or that compared nothing, has verified nothing and is never green.
- ``--oracle-report=DIR``: for each test that fails on a verdict, a page of HTML and the JSON in ``DIR``.
- the fixture ``assert_kernel``, which is `oracle.testing.assert_kernel`, and the marker
  ``kernel(operation, **attributes)``, which says for a test what its kernels should compute::

      @pytest.mark.kernel("softmax", precision="bfloat16", axis=-1)
      def test_softmax(assert_kernel):
          assert_kernel(my_softmax)

With xdist, each worker counts for its own tests and the controller adds up.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

_PROPERTY = "oracle_tensors_compared"
_LONGEST = 180  # characters of a report's name
_TOTALS = pytest.StashKey[list[int]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("oracle", "comparisons with goldens")
    group.addoption(
        "--oracle-require",
        type=int,
        default=0,
        metavar="N",
        help="fail unless the passing tests compared at least N tensors with goldens or the truth",
    )
    group.addoption("--oracle-report", metavar="DIR", help="write a page and JSON there for each test that disagrees")


def pytest_configure(config: pytest.Config) -> None:
    """Start counting: tensors, and the tests that compared them."""
    config.stash[_TOTALS] = [0, 0]
    config.addinivalue_line(
        "markers", "kernel(operation, **attributes): what the fixture assert_kernel holds this test's kernels to"
    )
    given = config.getoption("--oracle-report")
    if given is not None:
        _require_directory(given)


@pytest.fixture
def assert_kernel(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """`oracle.testing.assert_kernel`, with the operation and attributes of the test's marker ``kernel``, if it has one.

    What a call gives goes ahead of what the marker says.
    """
    from oracle import testing

    marker = request.node.get_closest_marker("kernel")

    def check(fn: Callable[..., Any], *operation: str, **given: Any) -> Any:
        __tracebackhide__ = True
        named = {} if marker is None else dict(marker.kwargs)
        return testing.assert_kernel(fn, *(operation or (() if marker is None else marker.args)), **(named | given))

    return check


def _require_directory(given: str) -> None:
    """Say before the first test that reports cannot be written where they are to go.

    Raises:
        pytest.UsageError: they cannot.
    """
    path = Path(given)
    try:
        at = next(each for each in (path, *path.absolute().parents) if each.exists() or each.is_symlink())
        why = "is no directory" if not at.is_dir() else "may not be written" if not os.access(at, os.W_OK) else ""
    except OSError as error:
        at, why = path, str(error.strerror)
    if not given or why:
        text = f", and {at} {why}" if given else ""
        raise pytest.UsageError(f"--oracle-report: got {given!r}{text}; may be a directory, or the name of a new one")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Note on each test how many tensors it compared; the note travels with its report."""
    before = _compared()
    try:
        return (yield)
    finally:
        count = _compared() - before
        if count:
            item.user_properties.append((_PROPERTY, count))


def _compared() -> int:
    testing = sys.modules.get("oracle.testing")
    return 0 if testing is None else testing.tensors_compared()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """Write the verdict of a test that failed on it."""
    report = yield
    directory = item.config.getoption("--oracle-report")
    verdict = getattr(call.excinfo.value, "verdict", None) if call.excinfo is not None else None
    if directory and verdict is not None and report.failed:
        report.sections.append(("oracle report", _write(verdict, Path(directory), item.nodeid)))
    return report


def _write(verdict: Any, folder: Path, name: str) -> str:
    """Write the page and the JSON; returns where the page is, or why there is none."""
    from oracle.report import write_reports

    stem = re.sub(r"[^\w.-]+", "_", name).strip("_")
    if len(stem) > _LONGEST:  # a test may have long parameters; a file's name may not
        stem = f"{stem[:_LONGEST]}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if hasattr(verdict, "operation"):
            from oracle.report.kernel_report import write_kernel_report

            return str(write_kernel_report(verdict, folder / stem))
        write_reports(verdict, json=folder / f"{stem}.json", html=folder / f"{stem}.html")
    except Exception as error:  # a full disk, a package that is missing: the test's own failure is what matters
        return f"could not be written: {error}"
    return str(folder / f"{stem}.html")


class _Counter:
    """Adds up what the reports say; in a worker of xdist there is none, for the controller sees every report."""

    def __init__(self, totals: list[int]) -> None:
        self._totals = totals

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.passed:
            count = sum(value for name, value in report.user_properties if name == _PROPERTY and isinstance(value, int))
            self._totals[0] += count
            self._totals[1] += count > 0


def pytest_sessionstart(session: pytest.Session) -> None:
    """Count in the process that sees all reports."""
    if not hasattr(session.config, "workerinput"):
        session.config.pluginmanager.register(_Counter(session.config.stash[_TOTALS]))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Turn a run red that compared too little."""
    if _falls_short(session.config) and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _falls_short(config: pytest.Config) -> bool:
    if hasattr(config, "workerinput") or config.option.collectonly:
        return False
    required: int = config.getoption("--oracle-require")
    return config.stash[_TOTALS][0] < required


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say how much was compared, and whether that is enough."""
    tensors, tests = config.stash[_TOTALS]
    required = config.getoption("--oracle-require")
    if _falls_short(config):
        text = (
            f"oracle: {tensors} tensors were compared, at least {required} are required: this run verified too little"
        )
        terminalreporter.write_line(text, red=True, bold=True)
    elif tensors:
        terminalreporter.write_line(f"oracle: {tensors} tensors in line, in {tests} tests")
