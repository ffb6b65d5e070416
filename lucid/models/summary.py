"""``summarize``: a table of the layers of a model, their output shapes, parameters and multiply-accumulates.

Nothing is computed for it: the model runs on tensors without values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from lucid import nn
from lucid.backends.shapes import abstract
from lucid.core.device import get_default_device
from lucid.core.dtypes import get_default_dtype
from lucid.core.tensor import Tensor, wrap
from lucid.nn._dry_run import dry_run
from lucid.nn.flops import macs_of
from lucid.ops._function import Composition, Function

__all__ = ["Summary", "SummaryRow", "summarize"]


@dataclass(slots=True)
class SummaryRow:
    """One layer: a module that has parameters of its own or computes something itself.

    Attributes:
        name: the module's path.
        kind: the module's class.
        output_shape: of what it returned; None if it returned no single tensor.
        parameters: of its own, without its submodules'.
        macs: multiply-accumulates of its convolutions and matrix products.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...] | None = None
    parameters: int = 0
    macs: int = 0


@dataclass(slots=True)
class Summary:
    """What ``summarize`` found. ``print`` it to read it.

    Attributes:
        rows: the layers in the order in which they returned.
        input_shape: what the model was given.
        total_parameters: of the whole model; a shared parameter counts once.
        trainable_parameters: those of them that require a gradient.
    """

    input_shape: tuple[int, ...]
    rows: list[SummaryRow] = field(default_factory=list)
    total_parameters: int = 0
    trainable_parameters: int = 0

    @property
    def total_macs(self) -> int:
        """Multiply-accumulates of one forward pass on the whole input."""
        return sum(row.macs for row in self.rows)

    def __str__(self) -> str:
        header = ("layer", "type", "output shape", "parameters", "MACs")
        cells = [
            (row.name, row.kind, _shape(row.output_shape), f"{row.parameters:,}", f"{row.macs:,}") for row in self.rows
        ]
        total = ("total", "", "", f"{self.total_parameters:,}", f"{self.total_macs:,}")
        widths = [max(map(len, column)) for column in zip(header, *cells, total, strict=True)]
        rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
        frozen = self.total_parameters - self.trainable_parameters
        return "\n".join(
            [
                _line(header, widths),
                rule,
                *(_line(row, widths) for row in cells),
                rule,
                _line(total, widths),
                f"input {_shape(self.input_shape)}; "
                f"{self.trainable_parameters:,} parameters trainable, {frozen:,} frozen",
            ]
        )

    __repr__ = __str__


def summarize(model: nn.Module, input_shape: Sequence[int]) -> Summary:
    """A table of the layers that an input of ``input_shape`` passes through, in eval mode.

    Args:
        model: any module that takes one tensor; it is left as it was.
        input_shape: with the batch, such as ``(1, 3, 224, 224)``. The dtype is that of the model's parameters.

    Raises:
        ValueError: the model does not take such an input.

    Example:
        >>> from lucid import nn
        >>> from lucid.models import summarize
        >>> summarize(nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU()), (1, 3, 10, 10))
        layer  type    output shape     parameters    MACs
        --------------------------------------------------
        0      Conv2d  1 x 8 x 10 x 10         224  21,600
        1      ReLU    1 x 8 x 10 x 10           0       0
        --------------------------------------------------
        total                                  224  21,600
        input 1 x 3 x 10 x 10; 224 parameters trainable, 0 frozen
    """
    shape = tuple(input_shape)
    parameters = list(model.parameters())
    dtype = parameters[0].dtype if parameters else get_default_dtype()
    rows = _RowTracer(model)
    device = parameters[0].device if parameters else get_default_device()
    dry_run(model, [wrap(abstract(shape, dtype), device)], rows)
    return Summary(
        input_shape=shape,
        rows=rows.finished,
        total_parameters=sum(parameter.size for parameter in parameters),
        trainable_parameters=sum(parameter.size for parameter in parameters if parameter.requires_grad),
    )


class _RowTracer:
    """Books every operation to the module whose forward calls it, every parameter to its module's first call."""

    def __init__(self, model: nn.Module) -> None:
        self.finished: list[SummaryRow] = []
        self._paths = {id(module): path for path, module in model.named_modules()}
        self._open: list[tuple[SummaryRow, bool]] = []
        self._counted: set[int] = set()

    def enter(self, module: Any) -> None:
        row = SummaryRow(self._paths.get(id(module), ""), type(module).__name__)
        for parameter in module.parameters(recurse=False):
            if id(parameter) not in self._counted:
                self._counted.add(id(parameter))
                row.parameters += parameter.size
        self._open.append((row, row.parameters > 0))

    def record(self, function: Function, inputs: tuple[Tensor | None, ...], output: Tensor) -> None:
        row, _ = self._open[-1]
        self._open[-1] = (row, True)
        row.macs += macs_of(function, inputs, output)

    def compose(self, whole: Composition, inputs: tuple[Tensor | None, ...], run: Callable[[], Tensor]) -> Tensor:
        """Books what it consists of."""
        return run()

    def update(self, tensor: Tensor, result: Tensor) -> None:
        """Nothing: the operation has been booked."""

    def exit(self, module: Any, output: Any) -> None:
        row, shown = self._open.pop()
        if shown:
            row.output_shape = output.shape if isinstance(output, Tensor) else None
            self.finished.append(row)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Three columns to the left, the numbers to the right."""
    aligned = [
        cell.ljust(width) if index < 3 else cell.rjust(width)
        for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join(aligned).rstrip()


def _shape(shape: tuple[int, ...] | None) -> str:
    return " x ".join(map(str, shape)) if shape is not None else "-"
