"""The examples of docs/from-the-original.md."""

from __future__ import annotations

import doctest
from pathlib import Path


def test_the_examples_run() -> None:
    page = Path(__file__).parents[1] / "docs" / "from-the-original.md"
    found = doctest.testfile(str(page), module_relative=False, optionflags=doctest.ELLIPSIS)
    assert found.attempted >= 7
    assert found.failed == 0
