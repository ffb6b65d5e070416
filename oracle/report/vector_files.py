"""Test vectors: everything that somebody needs who runs a case on a runtime that the oracle cannot drive.

A directory with the weights, the inputs, the ONNX model, ONNX's own test-data layout, and a page that says which
tensors to dump under which names, so that ``lucid-oracle compare`` can judge them. All of it follows from the model's
name.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import lucid
from lucid.files import new_directory
from lucid.onnx import export
from oracle.case.case import Case
from oracle.case.shapes import shapes_of
from oracle.errors import UsageError
from oracle.files import read_json, write_whole
from oracle.operations import describe_nodes
from oracle.subjects import find_subject
from oracle.subjects.file import file_name
from oracle.subjects.lucid_engine import make_model
from oracle.trace import Key, Kind

FORMAT = "lucid-oracle vectors 1"
INDEX = "tensors.json"
PAGE = "README.md"
MODEL = "model.onnx"
WEIGHTS = "weights.safetensors"
TEST_DATA = "test_data_set_0"
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Wanted:
    """One tensor that a trace of a case may hold: its shape, and the layer that it belongs to."""

    key: Key
    shape: tuple[int, ...]
    layer: str


def wanted(case: Case) -> list[Wanted]:
    """Every tensor of the case in the order of execution, found without computing one.

    Example:
        >>> from oracle.case.zoo import find_model
        >>> first = wanted(Case(find_model("resnet_18"), "eval", source="seeded", size=64))[0]
        >>> first.key, first.shape
        (('activation', 'stem.0'), (1, 64, 32, 32))
    """
    words, owner = describe_nodes(case.graph), case.graph.owner
    kept = "what is kept for eval: 0.9 of it and 0.1 of the batch's (the variance unbiased)"

    def described(kind: Kind, name: str) -> str:
        return kept if kind == "statistic" else words[owner[name].name if kind == "parameter_gradient" else name]

    return [Wanted(key, shape, described(*key)) for key, shape in shapes_of(case).items()]


def write_vectors(
    cases: Sequence[Case], directory: Path, *, force: bool = False, progress: Progress = lambda message: None
) -> None:
    """Write the vectors of cases of one model, which share their weights.

    The directory is made beside ``directory`` and renamed: it is there complete or not at all.

    Args:
        cases: an eval case, a train case, or both.
        directory: what to make.
        force: replace a directory that an earlier call made, and that holds nothing else.
        progress: called with a sentence before each step.

    Raises:
        UsageError: the directory exists and is not empty (with ``force``: and holds more than vectors), or it cannot
            be written.
    """
    target = Path(os.path.realpath(directory))
    _check_target(target, directory, force)
    try:
        with new_directory(target) as temporary:
            _write(cases, temporary, progress)
            _replace(temporary, target)
    except OSError as error:
        raise UsageError(f"cannot write {directory}: {error.strerror or error}") from None


def _check_target(target: Path, given: Path, force: bool) -> None:
    if target.is_symlink():
        raise UsageError(f"-o: {given} is a symbolic link that leads in a circle")
    if target.exists() and not target.is_dir():
        raise UsageError(f"-o: {given} exists and is no directory")
    if target == Path.cwd():
        raise UsageError(f"-o: {given} is the current directory; give the name of a directory to make")
    if not target.parent.is_dir():
        raise UsageError(f"-o: there is no directory {target.parent}")
    if target.is_dir() and any(target.iterdir()):
        if not force:
            raise UsageError(f"-o: {given} exists and is not empty; --force replaces it if it holds vectors")
        written = _written(target)
        if not written:
            raise UsageError(f"-o: {given} does not hold vectors ({INDEX} is missing or another's): it stays as it is")
        others = sorted(set(_files(target)) - set(written))
        if others:
            raise UsageError(f"-o: {given} also holds {others[0]}, which --force would delete: move it away first")


def _files(directory: Path) -> list[str]:
    return sorted(str(file.relative_to(directory)) for file in directory.rglob("*") if not file.is_dir())


def _written(directory: Path) -> list[str]:
    """What an earlier call wrote into the directory, by its index; nothing if there is no such index."""
    try:
        found = read_json(directory / INDEX, "index")
    except UsageError:
        return []
    files = found.get("files") if isinstance(found, dict) and found.get("format") == FORMAT else None
    return files if isinstance(files, list) and all(isinstance(file, str) for file in files) else []


def _replace(temporary: Path, target: Path) -> None:
    """Put the new directory where the old one is, if there is one; the old one goes when the new one stands."""
    if not target.exists() or not any(target.iterdir()):
        temporary.rename(target)  # takes an empty directory's place
        return
    with new_directory(target) as old:
        try:
            target.rename(old)
            temporary.rename(target)
        except BaseException:  # an interruption too: the old one goes back
            if not target.exists():
                with contextlib.suppress(OSError):
                    old.rename(target)
            raise


def _write(cases: Sequence[Case], directory: Path, progress: Progress) -> None:
    model = cases[0].model.name
    progress(f"{model}: weights")
    _save({name: np.asarray(value, order="C") for name, value in cases[0].state.items()}, directory / WEIGHTS)
    lists = {}
    for case in cases:
        progress(f"{case.name}: input and names")
        tensors = {"input": case.input} | ({"labels": case.labels} if case.mode == "train" else {})
        _save(tensors, directory / f"{case.name}.safetensors")
        lists[case] = wanted(case)
        if case.mode == "eval":
            _write_onnx(case, directory, progress)
    write_whole(directory / PAGE, page(lists).encode())
    index = {
        "format": FORMAT,
        "files": sorted([*_files(directory), INDEX]),
        "cases": {
            case.name: {file_name(each.key): list(each.shape) for each in tensors} for case, tensors in lists.items()
        },
    }
    write_whole(directory / INDEX, (json.dumps(index, indent=1) + "\n").encode())


def _save(tensors: dict[str, np.ndarray], path: Path) -> None:
    from safetensors.numpy import save

    write_whole(path, save(tensors))


def _write_onnx(case: Case, directory: Path, progress: Progress) -> None:
    """The model, and one test of it as ``onnx.backend.test`` lays it out.

    Source: https://github.com/onnx/onnx/blob/main/docs/OnnxBackendTest.md
    """
    import onnx
    from onnx import numpy_helper

    progress(f"{case.name}: the ONNX model")
    export(make_model(case).eval(), lucid.tensor(case.input), directory / MODEL)
    proto = onnx.load(directory / MODEL)
    progress(f"{case.name}: the output, in float64")
    data = directory / TEST_DATA
    data.mkdir()
    given, returned = proto.graph.input[0].name, proto.graph.output[0].name
    for file, name, array in (("input_0.pb", given, case.input), ("output_0.pb", returned, _output(case))):
        write_whole(data / file, numpy_helper.from_array(array, name).SerializeToString())


class _Last:
    """A recorder that keeps only the newest activation."""

    array: np.ndarray

    def record(self, kind: Kind, name: str, array: np.ndarray) -> None:
        """Keep ``array`` if it is an activation."""
        if kind == "activation":
            self.array = array


def _output(case: Case) -> np.ndarray:
    """The network's output as float64 has it, rounded once to float32."""
    last = _Last()
    find_subject("lucid:float64").run(case, last)
    return last.array.astype(np.float32)


def page(lists: Mapping[Case, Sequence[Wanted]]) -> str:
    """The page (Markdown) that says what is in the directory, what to run, and what to dump under which name."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    template = Environment(
        loader=PackageLoader("oracle"), undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False
    ).get_template("vectors.md.j2")
    names = {case.mode: case.name for case in lists}
    return template.render(
        model=next(iter(lists)).model.name,
        cases=[_page_case(case, tensors) for case, tensors in lists.items()],
        eval_name=names.get("eval"),
        train_name=names.get("train"),
        train="train" in names,
        onnx=MODEL if "eval" in names else None,
        weights=WEIGHTS,
        index=INDEX,
        test_data=TEST_DATA,
    )


def _page_case(case: Case, tensors: Sequence[Wanted]) -> dict[str, Any]:
    def rows(*kinds: Kind) -> list[dict[str, Any]]:
        return [
            {"name": file_name(each.key), "shape": each.shape, "layer": each.layer}
            for each in tensors
            if each.key[0] in kinds
        ]

    return {
        "name": case.name,
        "mode": case.mode,
        "shape": case.input.shape,
        "labels": case.labels.shape if case.mode == "train" else None,
        "forward": rows("activation", "loss", "statistic"),
        "parameters": rows("parameter_gradient"),
    }
