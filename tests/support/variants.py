"""Everything that has to give the reference's bits: every backend, the native one on every instruction set."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator

import pytest

import lucid
from support.backends import BACKENDS


def isa_names() -> list[str]:
    """The instruction sets of the native backend that this processor has."""
    return list(pytest.importorskip("_lucid_native").isa_names())


def variants() -> list[tuple[str, str | None]]:
    """Every backend but the reference, and the native one on every instruction set of this processor."""
    names = [name for name in BACKENDS if name != "reference"]
    return [(name, isa) for name in names for isa in (isa_names() if name == "native" else [None])]


@contextlib.contextmanager
def running(isa: str | None, threads: int) -> Iterator[None]:
    """Inside, kernels use that instruction set and so many threads."""
    before = lucid.get_num_threads()
    native = importlib.import_module("_lucid_native") if isa else None
    usual = native.isa() if native else None
    try:
        lucid.set_num_threads(threads)
        if native:
            native.set_isa(isa)
        yield
    finally:
        lucid.set_num_threads(before)
        if native:
            native.set_isa(usual)
