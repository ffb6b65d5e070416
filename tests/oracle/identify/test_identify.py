"""oracle.identify: emulated arithmetics are named right; any tree is found; what cannot be seen is hidden."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.scripts import ROOT, script

import lucid
from oracle import cli
from oracle.errors import UsageError
from oracle.identify import OPERATIONS, identify, own
from oracle.identify.trees import HiddenError, reveal

Array = np.ndarray[Any, Any]
PAGE = ROOT / "docs" / "identify.md"


def test_emulated_arithmetics_are_named_right() -> None:
    if not (ROOT / "tools" / "identify_corpus.py").exists():
        pytest.skip("the tools are not beside the tests")
    sys.path.insert(0, str(ROOT / "tools"))
    records = script("tools/identify_records.py")
    every = records.emulations()
    wrong = {emulation.name: told for emulation in every if (told := records.mistakes(emulation))}
    assert len(every) > 300
    assert len({emulation.name for emulation in every}) == len(every)
    assert not wrong  # the promise is 99 %; each that is wrong is to be looked at


def random_tree(leaves: list[int], draw: random.Random, most: int) -> list[frozenset[int]]:
    """The nodes of a tree over the leaves, each of up to ``most`` children."""
    if len(leaves) == 1:
        return []
    cuts = sorted(draw.sample(range(1, len(leaves)), min(len(leaves) - 1, draw.randint(1, most - 1))))
    parts = [leaves[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(leaves)], strict=True)]
    return [frozenset(leaves), *(node for part in parts for node in random_tree(part, draw, most))]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("most", [2, 5])
def test_any_tree_is_found(seed: int, most: int) -> None:
    draw = random.Random(seed)
    leaves = draw.sample(range(33), 33)
    nodes = random_tree(leaves, draw, most)

    def sizes(pairs: Any) -> list[int]:
        return [min(len(node) for node in nodes if one in node and other in node) for one, other in pairs]

    assert reveal(sizes, 33, seed + 1).nodes == frozenset(nodes)


def test_what_is_no_tree_is_hidden() -> None:
    draw = random.Random(0)
    with pytest.raises(HiddenError):
        reveal(lambda pairs: [draw.randint(2, 16) for _ in pairs], 16)
    with pytest.raises(HiddenError):
        reveal(lambda pairs: [2 for _ in pairs], 16)


def shuffled(x: Array) -> Array:
    """Another order in every call, as atomic additions have it."""
    order = shuffled_draw.permutation(x.shape[1])
    total = np.zeros(len(x), np.float32)
    for place in order:
        total += x[:, place]
    return total


shuffled_draw = np.random.default_rng(0)


def test_an_order_that_changes_is_no_order() -> None:
    found = identify(own({"sum": shuffled}), terms=64).found["sum"]
    assert found["order"] == "of no fixed tree"
    assert found["accumulator"] == "float32"


def test_exact_sums_hide_their_order() -> None:
    def exact(x: Array) -> Array:
        return np.array([float(sum(int(each * 2.0**149) for each in map(float, row)) * 2.0**-149) for row in x])

    found = identify(own({"sum": exact}), terms=16).found["sum"]
    assert found == {"accumulator": "more than 70 bits of fraction"}


@pytest.mark.parametrize("precision", ["bfloat16", "float16", "float64"])
def test_other_precisions(precision: str) -> None:
    """float32 inside of a kernel of 16-bit numbers is seen through them; float16's terms are few exponents."""
    if precision == "bfloat16":
        pytest.importorskip("ml_dtypes")
    wide = np.float64 if precision == "float64" else np.float32

    def add_up(x: Array) -> Array:
        total = np.zeros(len(x), wide)
        for column in x.T:
            total += column.astype(wide)
        return total.astype(x.dtype)

    found = identify(own({"sum": add_up}, precision), terms=64).found["sum"]
    assert found["accumulator"] == np.dtype(wide).name
    assert found["order"] == "sequential, of 64 terms"


@pytest.mark.parametrize("backend", ["reference", "native", "emulated"])
def test_lucid_is_its_law(backend: str) -> None:
    """Section 3: runs of 32 by fma, segments of them in order; elementwise results are rounded correctly."""
    if backend not in lucid.available_backends():
        pytest.skip(f"{backend} is not here")
    found = identify(f"lucid:{backend}", ["matmul", "sum", "exp", "layer_norm"], terms=64).found
    assert found["matmul"]["order"] == "blocks of 32 (sequential), then sequential, of 64 terms"
    assert found["matmul"]["products"] == "added unrounded (fma)"
    assert found["matmul"]["accumulator"] == "float32"
    assert found["sum"]["accumulator"] == "float64"
    assert found["exp"] == {"results": "rounded correctly"}
    assert found["layer_norm"]["eps"] == "inside of the root"


@pytest.mark.parametrize(("subject", "package"), [("torch", "torch"), ("onnxruntime", "onnxruntime")])
def test_libraries_can_be_asked(subject: str, package: str) -> None:
    """Every operation runs; what it computes depends on the processor."""
    pytest.importorskip(package)
    identity = identify(subject, terms=16)
    assert not identity.refused
    assert set(identity.found) <= set(OPERATIONS)
    assert all(identity.found.values())


def test_convolutions() -> None:
    def conv2d(x: Array, w: Array) -> Array:
        total = np.zeros((len(x), len(w)), np.float32)
        for block in range(0, x.shape[1], 8):
            for at in np.ndindex(2, 2):
                for channel in range(block, block + 8):
                    total += np.outer(x[:, channel, *at], w[:, channel, *at])
        return total[:, :, None, None]

    found = identify(own({"conv2d": conv2d}), terms=64).found["conv2d"]
    assert found["order"] == "sequential (channels innermost, in blocks of 8), of 64 terms"
    assert found["products"] == "rounded, then added"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["troch"], "got 'troch'"),
        (["lucid:nowhere"], "nowhere"),
        (["torch:float17"], "float17"),
        (["onnxruntime:Nowhere"], "no provider Nowhere"),
        (["lucid", "--terms", "7"], "terms: got 7"),
        (["lucid", "-o", "rsqrt"], "has no rsqrt"),
        (["no.such.module:table"], "cannot be imported"),
        (["math:pi"], "may be a dictionary"),
        (["math:sqrt", "-o", "sum"], "no operation could be run"),
    ],
)
def test_what_cannot_be_done(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    if "torch" in arguments[0]:
        pytest.importorskip("torch")
    if "onnx" in arguments[0]:
        pytest.importorskip("onnxruntime")
    assert cli.run(["identify", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_functions_that_are_none() -> None:
    with pytest.raises(UsageError, match="operation: got 'som'"):
        own({"som": np.sum})
    with pytest.raises(UsageError, match=r"sum returned an array of shape \(16, 16\); may be \(16,\)"):
        identify(own({"sum": lambda x: x}), terms=16)
    identity = identify(own({"exp": np.exp, "tanh": lambda x: x[:3]}), terms=16)
    assert list(identity.found) == ["exp"]
    assert "returned an array of shape (3,)" in identity.sentence()


def test_functions_of_nothing_but_nan() -> None:
    """Whatever comes back, the answer is words."""
    nothing = {
        "sum": lambda x: np.full(len(x), np.nan),
        "matmul": lambda a, b: np.full((len(a), b.shape[1]), np.nan),
        "exp": lambda x: x * np.nan,
        "layer_norm": lambda x, eps: x * 0,
        "batch_norm": lambda x, eps: x * np.nan,
        "cast_float16": lambda x: x * np.nan,
        "multiply": lambda a, b: a * 0,
    }
    identity = identify(own(nothing), terms=16)
    assert set(identity.found) == set(nothing)
    assert identity.found["sum"] == {"accumulator": "none: what comes back is no sum"}
    assert identity.found["exp"] == {"results": "not finite where they should be"}
    assert identity.found["batch_norm"]["eps"] == "in another place"
    assert identity.found["cast_float16"]["rounding"] == "not finite"


def test_what_is_expected(tmp_path: Path) -> None:
    written = tmp_path / "found.json"
    given = ["identify", "lucid", "-o", "exp"]
    assert cli.run([*given, "--json", str(written)]) == 0
    assert cli.run([*given, "--expect", str(written)]) == 0
    document = json.loads(written.read_text())
    document["found"]["exp"]["results"] = "approximate: 11 of 24 bits"
    written.write_text(json.dumps(document))
    assert cli.run([*given, "--expect", str(written)]) == 1
    written.write_text("[]")
    assert cli.run([*given, "--expect", str(written)]) == 2


def test_the_page_works_as_printed(tmp_path: Path) -> None:
    ran = 0
    for kind, block in re.findall(r"```(python|console)\n(.*?)```", PAGE.read_text(), re.DOTALL):
        if kind == "python":
            file = tmp_path / block.splitlines()[0].removeprefix("# ")
            file.write_text(block)
            if "assert" in block:
                subprocess.run([sys.executable, file.name], cwd=tmp_path, check=True)
            continue
        for command, printed in re.findall(r"\$ (.*)\n((?:(?!\$ ).*\n)*)", block):
            program, *arguments = command.split()
            assert program == "lucid-oracle"
            run = [sys.executable, "-m", "oracle.cli", *arguments]
            found = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=False)
            wanted = [re.escape(part) for part in printed.strip().split("...")]
            assert re.fullmatch(r"[\s\S]*".join(wanted), found.stdout.strip()), f"{found.stdout}{found.stderr}"
            assert found.returncode == ("changed" in printed)
            ran += 1
    assert ran == 4
