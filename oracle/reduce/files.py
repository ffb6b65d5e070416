"""``repro/``: what was found, for somebody who has NumPy and the runtime."""

from __future__ import annotations

import io
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np

import lucid
from oracle.errors import UsageError
from oracle.files import write_whole
from oracle.reduce.cutting import Array
from oracle.reduce.search import Reduction
from oracle.reduce.subjects import Function, Runtime

ORIGINAL, SUBJECT = "original.onnx", "subject.py"
EXPECTED = "expected.npz"
_TEMPLATES = Path(__file__).parents[1] / "templates"


def write_repro(found: Reduction, runner: Runtime | Function, directory: Path) -> None:
    """Write ``model.onnx``, ``inputs.npz``, ``expected.npz``, ``run.py`` and ``README.md``; and ``original.onnx``
    where the subject runs a changed model.

    Raises:
        UsageError: a file cannot be written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for name in (ORIGINAL, SUBJECT):  # of an older reduction
        (directory / name).unlink(missing_ok=True)
    ran = runner.part(found.model)
    write_whole(directory / "model.onnx", ran.SerializeToString())
    if ran is not found.model:
        write_whole(directory / ORIGINAL, found.model.SerializeToString())
    write_whole(directory / "inputs.npz", _arrays({f"input/{name}": array for name, array in found.inputs.items()}))
    exact = {f"exact/{name}": found.expected.exact[name] for name in found.verdicts}
    budget = {f"budget/{name}": found.expected.budget[name] for name in found.verdicts}
    write_whole(directory / EXPECTED, _arrays({**exact, **budget}))
    write_whole(directory / "run.py", _script(runner, directory).encode())
    write_whole(directory / "README.md", _page(found, runner).encode())


def require_own(directory: Path) -> None:
    """Refuse a directory that holds anything but an older reduction.

    Raises:
        UsageError: it does, or is none.
    """
    if directory.exists() and not directory.is_dir():
        raise UsageError(f"--output: {directory} is no directory")
    if directory.is_dir() and any(directory.iterdir()) and not (directory / EXPECTED).exists():
        raise UsageError(f"--output: {directory} holds other files; give an empty directory, or a new one")


def _arrays(arrays: Mapping[str, Array]) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **dict(arrays))  # type: ignore[arg-type]
    return file.getvalue()


def _script(runner: Runtime | Function, directory: Path) -> str:
    """The script: the part that runs the model, and the part that compares, which is the same for all."""
    compare = (_TEMPLATES / "repro_compare.py.txt").read_text()
    if isinstance(runner, Runtime):
        return (_TEMPLATES / "repro_onnxruntime.py.txt").read_text().format(**runner.subject.settings()) + compare
    where, _, name = runner.label.rpartition(":")
    module = where
    if where.endswith(".py"):
        module = Path(SUBJECT).stem
        shutil.copyfile(where, directory / SUBJECT)
    return (_TEMPLATES / "repro_function.py.txt").read_text().format(module=module, name=name) + compare


def _page(found: Reduction, runner: Runtime | Function) -> str:
    nodes = "\n".join(f"- `{node}`" for node in found.nodes)
    inputs = "\n".join(f"- `{name}`: {array.dtype} {array.shape}" for name, array in found.inputs.items())
    return f"""# {len(found.nodes)} of {found.before} nodes disagree

{runner.label}, {runner.precision}: {found.sentence()}

The nodes, in `model.onnx`:

{nodes}

They are fed, in `inputs.npz`, the truth's values at these tensors:

{inputs}

`expected.npz` holds the exact result of each output in float64, and its budget: how far each element of a healthy
result may be from that, whatever the order of its sums. `python run.py` runs the model and exits with 1 while an
element is further off.

Made by lucid-oracle {lucid.__version__}, which ran {found.tried} sub-graphs.
"""
