"""How a kernel is declared: once, with its section of the law, shapes and layouts, and the NumPy reference as its body.

    @kernel("8", returns=lambda x, output: {"y": (x.shape, x.dtype)}, layout={"x": IMAGES, "y": IMAGES})
    def doubled(x, output):
        return x + x

A backend's method of that name takes the same arguments. ``bind`` gives a backend the methods that it does not define:
the reference takes the bodies, a dry run the shapes (``returns``), and a backend of compiled kernels a launch, to which
arguments and results, as ``layout`` stores them, and the numbers of ``sizes`` go by name. A launch works out once what
``sizes`` and ``returns`` make of shapes, dtypes and attributes: a number that differs from call to call, and that they
do not look at, is one of ``numbers``.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

Array = Any
Sides = tuple[int, ...]
"""A number for each side of an image, of which there are 1 to 3: along the depth, vertical, horizontal."""
Returns = dict[str, tuple[tuple[int, ...], Any]]
Order = tuple[int, ...]

FAMILIES = tuple(sorted(path.parent.name for path in Path(__file__).parent.glob("*/reference.py")))
"""The folders of families beside this file."""

KERNELS: dict[str, Kernel] = {}


class Structure(dict[str, int]):
    """The fields of a structure of ``kernels.def``, for many calls; ``packed`` keeps what backends make of it."""

    def __init__(self, **fields: int) -> None:
        super().__init__(fields)
        self.packed: dict[str, Any] = {}


# -- layouts: in which order the axes of an array lie in memory --------------------------------------------------------


@dataclass(frozen=True)
class Layout:
    """The axes as they are, or in another order, or the argument ``axis`` last."""

    order: dict[int, Order] = field(default_factory=dict)
    """By their number, the axes as they are stored, from the outermost; empty: as they are."""
    axis_last: bool = False
    dtype: Any = None
    restored: dict[int, Order] = field(default_factory=dict)
    """The way back from ``order``."""


DENSE = Layout()
INDEX = Layout(dtype=np.int64)
AXIS_LAST = Layout(axis_last=True)
_AXES = (2, 3, 4, 5)  # images of up to three sides
IMAGES = Layout({n: (0, *range(2, n), 1) for n in _AXES}, restored={n: (0, n - 1, *range(1, n - 1)) for n in _AXES})
"""(N, C, D, H, W) stored channels-last; without sides, (N, C) as it is."""
WEIGHT = Layout({n: (*range(2, n), 1, 0) for n in _AXES}, restored={n: (n - 1, n - 2, *range(n - 2)) for n in _AXES})
"""(O, C / groups, KD, KH, KW) stored as (KD, KH, KW, C / groups, O)."""


@dataclass(frozen=True)
class Kernel:
    """One kernel of the law."""

    name: str
    section: str
    reference: Callable[..., Any]
    parameters: tuple[str, ...]
    returns: Callable[..., Returns]
    """The shape rule: of the arguments, shape and dtype of each result by its name in the compiled kernel."""
    layout: dict[str, Layout]
    """Of every array that crosses into the compiled kernel."""
    launch: str
    """The compiled kernel's name."""
    sizes: Callable[..., dict[str, Any]] | None
    """Of the arguments, what else the compiled kernel takes, by name; None: backends write its launch by hand."""
    numbers: tuple[str, ...]
    """Parameters that the compiled kernel takes as they are; shapes and ``sizes`` do not depend on them."""
    optional: tuple[str, ...]
    """Arrays that may be None."""
    tasks: str
    """What a GPU shares out to threads: ``elements`` of the first result, its ``rows``, or ``nothing`` (one block);
    ``host``: the CPU runs it, whatever the backend."""


def kernel(
    section: str,
    returns: Callable[..., Returns],
    layout: dict[str, Layout] | None = None,
    launch: str | None = None,
    sizes: Callable[..., dict[str, Any]] | None = None,
    numbers: tuple[str, ...] = (),
    tasks: str = "elements",
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare the function below as a kernel (see ``Kernel``). Infinities and NaN are results there, not accidents."""

    def declare(body: Callable[..., Any]) -> Callable[..., Any]:
        name, reference, parameters = body.__name__, np.errstate(all="ignore")(body), inspect.signature(body).parameters
        optional = tuple([p for p, declared in parameters.items() if declared.annotation == "Array | None"])
        KERNELS[name] = Kernel(
            name,
            section,
            reference,
            tuple(parameters),
            returns,
            layout or {},
            launch or name,
            sizes,
            numbers,
            optional,
            tasks,
        )
        return reference

    return declare


def kernels() -> Iterator[Kernel]:
    """All of them, family by family."""
    for family in FAMILIES:
        importlib.import_module(f"lucid.kernels.{family}.reference")
    return iter(KERNELS.values())


def bind(backend: type, method: Callable[[Kernel], Callable[..., Any]]) -> None:
    """Give ``backend`` what ``method`` makes of each kernel that it does not define."""
    for k in kernels():
        if not hasattr(backend, k.name):
            setattr(backend, k.name, method(k))
