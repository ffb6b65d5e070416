"""``lucid-oracle kernel``: check one kernel by itself."""

from __future__ import annotations

import ast
import importlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from lucid.console import visible
from oracle.commands.options import require_writable
from oracle.errors import UsageError
from oracle.files import write_whole
from oracle.kernel.check import check_kernel
from oracle.report.json_report import shown


@click.command("kernel")
@click.argument("operation")
@click.option(
    "--with",
    "function",
    required=True,
    metavar="MODULE:FUNCTION",
    help="The kernel: a function of the operation's inputs, looked for from the current directory too.",
)
@click.option("--backward", metavar="MODULE:FUNCTION", help="What makes its gradients. [default: autograd, if any]")
@click.option(
    "--precision",
    default="float32",
    show_default=True,
    metavar="NAME[, OPTION]...",
    help="What the kernel stores and how it accumulates: float32, tf32, bfloat16, float16, float64, int8, and options "
    "such as 'float16, sums in float16'.",
)
@click.option(
    "--attribute",
    "-a",
    "attributes",
    multiple=True,
    metavar="NAME=VALUE",
    help="An attribute of the operation, such as axis=-1 or stride=2. May be repeated.",
)
@click.option("--shape", "shapes", multiple=True, metavar="SHAPE", help="Check at this shape, such as '(3, 129)'.")
@click.option("--seed", type=int, default=0, show_default=True, help="What values are drawn from.")
@click.option("--device", metavar="DEVICE", help="Where tensors are put: cuda, cuda:1, cupy.")
@click.option("--require", multiple=True, type=click.Choice(["repeatable", "batch invariant"]), help="What else holds.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), metavar="FILE", help="Write the verdict.")
def command(
    operation: str,
    function: str,
    backward: str | None,
    precision: str,
    attributes: tuple[str, ...],
    shapes: tuple[str, ...],
    seed: int,
    device: str | None,
    require: tuple[str, ...],
    json_path: Path | None,
) -> int:
    """Check a kernel that should compute OPERATION, such as softmax, matmul or conv2d.

    It is run on shapes and values that find faults, forward and backward, and every element is judged by the budget
    that is derived for this operation on these inputs. The exit status is 1 where it disagrees.
    """
    require_writable(json=json_path)
    verdict = check_kernel(
        _function("--with", function),
        operation,
        precision=precision,
        backward=None if backward is None else _function("--backward", backward),
        shapes=[_literal("--shape", each) for each in shapes] or None,
        seed=seed,
        device=device,
        require=require,
        **dict(_attribute(each) for each in attributes),
    )
    click.echo("\n".join(map(visible, verdict.sentence().splitlines())))
    if json_path is not None:
        write_whole(json_path, (json.dumps(shown(verdict.to_dict()), indent=1) + "\n").encode())
    return 0 if verdict.agrees else 1


def _function(option: str, given: str) -> Callable[..., Any]:
    """The function that ``MODULE:FUNCTION`` names.

    Raises:
        UsageError: there is none.
    """
    module, _, name = given.partition(":")
    if not module or not name:
        raise UsageError(f"{option}: got {given!r}; may be MODULE:FUNCTION, such as mykernels:softmax")
    if os.getcwd() not in sys.path:  # noqa: PTH109
        sys.path.insert(0, os.getcwd())  # noqa: PTH109
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except ImportError as error:
        raise UsageError(f"{option}: {module} cannot be imported: {error}") from None
    except AttributeError:
        raise UsageError(f"{option}: {module} has no {name}") from None
    if not callable(found):
        raise UsageError(f"{option}: {given} is {type(found).__name__}, which cannot be called")
    function: Callable[..., Any] = found
    return function


def _attribute(given: str) -> tuple[str, Any]:
    name, equals, value = given.partition("=")
    if not equals or not name:
        raise UsageError(f"--attribute: got {given!r}; may be NAME=VALUE, such as axis=-1")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def _literal(option: str, given: str) -> Any:
    try:
        return ast.literal_eval(given)
    except (ValueError, SyntaxError):
        raise UsageError(f"{option}: got {given!r}; may be a shape such as '(3, 129)'") from None
