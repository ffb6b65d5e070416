"""Comparing results bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def bits(x: Array) -> bytes:
    """The bytes of ``x`` in C order, with one NaN for all NaNs: the law leaves their sign and payload open."""
    x = np.ascontiguousarray(x)
    if x.dtype.kind == "f":
        x = np.where(np.isnan(x), np.array(np.nan, x.dtype), x)
    return x.tobytes()


def assert_same_bits(got: Mapping[str, Array | None], expected: Mapping[str, Array | None], where: str = "") -> None:
    """Raise unless both hold the same names with the same dtypes, shapes and bits; says where they differ first."""
    assert list(got) == list(expected), where
    for key, g in got.items():
        name, e = f"{where}: {key}", expected[key]
        if g is None or e is None:
            assert g is e, f"{name}: only one of the two is there"
            continue
        assert (g.dtype, g.shape) == (e.dtype, e.shape), name
        if bits(g) != bits(e):
            different = ~((g == e) & (np.signbit(g) == np.signbit(e)) | (np.isnan(g) & np.isnan(e)))
            at = tuple(np.argwhere(different)[0].tolist())
            raise AssertionError(
                f"{name}: {different.sum()} of {g.size} elements differ, first at {at}: {g[at]!r} is not {e[at]!r}"
            )
