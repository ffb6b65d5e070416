"""The goldens: every corruption is named, digests hold on every backend, the recipe needs nothing of this project."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from safetensors.numpy import load_file, save_file

from oracle import cli
from oracle.run import check, compare_trace
from oracle.subjects import find_subject
from oracle.trace import Key, Trace
from oracle.truth import goldens as golden_module
from oracle.truth.digest import digest
from oracle.truth.goldens import (
    LAW,
    MANIFEST,
    STORED,
    Golden,
    GoldenError,
    decode,
    encode,
    golden_cases,
    golden_directory,
    golden_names,
    on_grid,
    sample,
    seal,
    sketch,
    verify,
)
from oracle.truth.truth import Truth

NAME = "narrow_basic-train"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """One golden of the project's, alone with a manifest of its own."""
    stored = json.loads((golden_directory() / MANIFEST).read_bytes())
    files = [f"{NAME}.json", f"{NAME}.safetensors"]
    for file in files:
        shutil.copy(golden_directory() / file, tmp_path / file)
    manifest = {**stored, "goldens": {NAME: stored["goldens"][NAME]}, "files": {f: stored["files"][f] for f in files}}
    write_manifest(tmp_path, manifest)
    return tmp_path


def write_manifest(directory: Path, manifest: dict[str, Any]) -> None:
    (directory / MANIFEST).write_text(json.dumps({**manifest, "seal": seal(manifest)}))


def read_json(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_bytes())
    return found


def accept(directory: Path, file: str) -> None:
    """Let the manifest describe the file as it is: what is wrong in it must show by itself."""
    manifest = read_json(directory / MANIFEST)
    content = (directory / file).read_bytes()
    manifest["files"][file] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    write_manifest(directory, manifest)


# -- corruptions ------------------------------------------------------------------------------------------------------


def truncated(file: str) -> Callable[[Path], None]:
    return lambda directory: (directory / file).write_bytes((directory / file).read_bytes()[:-10]) and None


def changed_byte(file: str, place: int) -> Callable[[Path], None]:
    def corrupt(directory: Path) -> None:
        content = bytearray((directory / file).read_bytes())
        content[place] ^= 1
        (directory / file).write_bytes(content)

    return corrupt


def removed(file: str) -> Callable[[Path], None]:
    return lambda directory: (directory / file).unlink()


def empty(file: str) -> Callable[[Path], None]:
    return lambda directory: (directory / file).write_bytes(b"") and None


def of_description(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def corrupt(directory: Path) -> None:
        path = directory / f"{NAME}.json"
        read = read_json(path)
        change(read)
        path.write_text(json.dumps(read))
        accept(directory, path.name)

    return corrupt


def of_tables(change: Callable[[dict[str, np.ndarray]], None]) -> Callable[[Path], None]:
    def corrupt(directory: Path) -> None:
        path = directory / f"{NAME}.safetensors"
        tables = load_file(path)
        change(tables)
        save_file(tables, path)
        accept(directory, path.name)

    return corrupt


def of_manifest(change: Callable[[dict[str, Any]], object], sealed: bool = True) -> Callable[[Path], None]:
    def corrupt(directory: Path) -> None:
        manifest = read_json(directory / MANIFEST)
        change(manifest)
        if sealed:
            write_manifest(directory, manifest)
        else:
            (directory / MANIFEST).write_text(json.dumps(manifest))

    return corrupt


def of_case(**changes: Any) -> Callable[[Path], None]:
    return of_description(lambda read: read["case"].update(changes))


def of_rows(table: str, place: Any, value: float) -> Callable[[Path], None]:
    return of_tables(lambda tables: tables[table].__setitem__(place, value))


def of_whole(read: dict[str, np.ndarray]) -> None:
    read["full/activation/fc"][0, 0] *= 1.5


def finer(tables: dict[str, np.ndarray]) -> None:
    tables["budget"][2, STORED.index("float32")] = 2.0**-12
    tables["budget"][2, STORED.index("bfloat16")] = 2.0**-11


def nothing_but_projections(tables: dict[str, np.ndarray]) -> None:
    tables["norm"][0] = 0.0
    tables["samples"][0] = 0.0


LOSS = Golden.load(NAME).keys().index(("loss", "loss"))


def two_losses(tables: dict[str, np.ndarray]) -> None:
    tables["samples"][LOSS, 1] *= 0.999


def another_loss(tables: dict[str, np.ndarray]) -> None:
    tables["samples"][LOSS] *= 0.999


def amplified(read: dict[str, Any]) -> float:
    return float(read["amplification"]["activation"]["median"])


def nested(directory: Path) -> None:
    (directory / f"{NAME}.json").write_bytes(b"[" * 100_000)
    accept(directory, f"{NAME}.json")


def rename_stem(read: dict[str, Any]) -> None:
    read["tensors"][0]["name"] = "stem.9"


CORRUPTIONS: dict[str, tuple[Callable[[Path], None], str]] = {
    "description truncated": (truncated(f"{NAME}.json"), rf"{NAME}\.json: is \d+ bytes"),
    "tables truncated": (truncated(f"{NAME}.safetensors"), rf"{NAME}\.safetensors: is \d+ bytes"),
    "manifest truncated": (truncated(MANIFEST), r"manifest\.json: not a sound manifest"),
    "description empty": (empty(f"{NAME}.json"), rf"{NAME}\.json: is 0 bytes"),
    "tables empty": (empty(f"{NAME}.safetensors"), rf"{NAME}\.safetensors: is 0 bytes"),
    "manifest empty": (empty(MANIFEST), r"manifest\.json: not a sound manifest"),
    "description missing": (removed(f"{NAME}.json"), rf"cannot read .*{NAME}\.json"),
    "tables missing": (removed(f"{NAME}.safetensors"), rf"cannot read .*{NAME}\.safetensors"),
    "manifest missing": (removed(MANIFEST), r"cannot read .*manifest\.json"),
    "a byte of the description": (changed_byte(f"{NAME}.json", 500), rf"{NAME}\.json: its SHA-256"),
    "the first byte of the tables": (changed_byte(f"{NAME}.safetensors", 0), rf"{NAME}\.safetensors: its SHA-256"),
    "the last byte of the tables": (changed_byte(f"{NAME}.safetensors", -1), rf"{NAME}\.safetensors: its SHA-256"),
    "a digit in the manifest": (
        of_manifest(lambda m: m["goldens"][NAME].update(tensors=1), sealed=False),
        r"manifest\.json: its seal is broken",
    ),
    "an entry missing": (of_manifest(lambda m: m["files"].pop(f"{NAME}.json")), rf"no entry for {NAME}\.json"),
    "another law in the manifest": (of_manifest(lambda m: m.update(law=LAW + 1)), "version 2 of the law"),
    "another format": (of_manifest(lambda m: m.update(format="other")), "its format is 'other'"),
    "no list of files": (of_manifest(lambda m: m.pop("format")), r"manifest\.json: not a sound manifest"),
    "another law in the description": (of_description(lambda r: r.update(law=LAW + 1)), "version 2 of the law"),
    "no digest of the weights": (of_description(lambda r: r.update(weights="00")), "its weights have no digest"),
    "channels of one sign": (
        of_description(lambda r: r["two_sided"].update(share=0.2)),
        r"at the ReLU of \S+, in one image, 20% of the channels hold both signs",
    ),
    "a tensor renamed": (of_description(rename_stem), "holds 'stem.9', which the model has not"),
    "a tensor twice": (of_description(lambda r: r["tensors"].append(r["tensors"][0])), "a tensor is there twice"),
    "a tensor dropped": (of_description(lambda r: r["tensors"].pop()), r"lacks the|where the description needs"),
    "a digest shortened": (of_description(lambda r: r["tensors"][0].update(float32="00")), "'stem.0' has no digest"),
    "another case": (
        of_description(lambda r: r["case"].update(mode="eval")),
        "the case's mode is 'eval' where narrow_basic-train runs with 'train'",
    ),
    "no case": (of_description(lambda r: r.pop("case")), "not a sound golden"),
    "a table missing": (of_tables(lambda t: t.pop("samples")), "samples is nothing"),
    "a table renamed": (of_tables(lambda t: t.update(sample=t.pop("samples"))), "samples is nothing"),
    "a table cut": (of_tables(lambda t: t.update(norm=t["norm"][:-1])), "norm is"),
    # What is forged so that every hash holds: the meaning is wrong.
    "another seed": (of_case(seed=1), "the case's seed is 1 where narrow_basic-train runs with 0"),
    "another size": (of_case(size=65), "the case's size is 65"),
    "another batch": (of_case(batch=64), "the case's batch is 64"),
    "another source": (of_case(source="photo"), "the case's source is 'photo'"),
    "a size that is text": (of_case(size="64"), "the case's size is '64'"),
    "another architecture": (
        of_description(lambda r: r["case"]["architecture"].update(stem_width=8)),
        "the case's architecture is",
    ),
    "an architecture without end": (
        of_description(lambda r: r["case"]["architecture"].update(layers=[10**9] * 4)),
        "the case's architecture is",
    ),
    "another shape": (of_description(lambda r: r["tensors"][3].update(shape=[2, 4, 8, 16])), "is of shape"),
    "another order": (
        of_description(lambda r: r["tensors"].insert(0, r["tensors"].pop(1))),
        "not in the order of execution",
    ),
    "a parameter dropped": (
        of_description(
            lambda r: r.update(tensors=[each for each in r["tensors"] if each["name"] != "layer1.0.conv1.weight"])
        ),
        "lacks the parameter_gradient 'layer1.0.conv1.weight'",
    ),
    "a digest of other letters": (of_description(lambda r: r["tensors"][0].update(float64="g" * 64)), "has no digest"),
    "a digest in capitals": (of_description(lambda r: r["tensors"][0].update(float32="A" * 64)), "has no digest"),
    "a kind of its own": (of_description(lambda r: r["tensors"][0].update(kind="weight")), "no known kind"),
    "a budget that is no number": (of_rows("budget", (2, 0, 0), np.nan), "a budget is not a finite number"),
    "a budget without end": (of_rows("budget", (2, 1, 1), np.inf), "a budget is not a finite number"),
    "a negative budget": (of_rows("budget", (2, 2, 0), -1.0), "a budget is not a finite number"),
    "a budget of nothing": (of_rows("budget", (2, 3, 1), 0.0), "a budget is 0"),
    "a budget below one rounding": (of_rows("budget", (2, 0, 0), 1e-12), "a budget is less than one rounding"),
    "budgets that make everything right": (of_rows("budget", (slice(None), 0), 0.9), "not that of its budgets|lower"),
    "a largest deviation below the mean": (of_rows("budget", (2, 1, 1), 1e-9), "a largest deviation is below"),
    "bfloat16 finer than float32": (of_tables(finer), "a lower precision is far below"),
    "channels that may be anything": (of_rows("channel", slice(None), 255), "its channels are far above"),
    "a norm that is no number": (of_rows("norm", 0, np.nan), "its norm is not a finite number"),
    "a negative norm": (of_rows("norm", 0, -1.0), "its norm is not a finite number"),
    "a large norm": (of_rows("norm", 0, 1e6), "its projections do not fit its norm"),
    "a small norm": (of_rows("norm", 0, 1e-6), "a sample is larger than its norm allows"),
    "a sample without end": (of_rows("samples", (0, 0), np.inf), "a sample is not finite"),
    "a large sample": (of_rows("samples", (0, 0), 1e9), "a sample is larger"),
    "a projection that is no number": (of_rows("projections", (0, 0), np.nan), "a projection is not finite"),
    "projections of nothing": (of_rows("projections", 0, 0.0), "its projections do not fit its norm"),
    "projections too large": (of_rows("projections", (0, 0), 1e6), "its projections do not fit its norm"),
    "nothing but projections": (of_tables(nothing_but_projections), "its projections do not fit its norm"),
    "bfloat16 below one rounding": (
        of_rows("budget", (2, STORED.index("bfloat16"), 0), 2.0**-12),
        "a budget is less than one rounding",
    ),
    "two samples of the one number": (of_tables(two_losses), "its samples contradict each other"),
    "another loss than its norm": (of_tables(another_loss), "its samples contradict each other, or its norm"),
    "an amplification a tenth off": (
        of_description(lambda r: r["amplification"]["activation"].update(median=amplified(r) * 1.1)),
        "the amplification that its description states",
    ),
    "an amplification of no kind": (
        of_description(lambda r: r["amplification"].update(weight={"median": 1.0})),
        "the amplification that its description states",
    ),
    "more than all channels": (of_description(lambda r: r["two_sided"].update(share=1.5)), "150% of the channels"),
    "a share that is no number": (of_description(lambda r: r["two_sided"].update(share=math.nan)), "nan% of the"),
    "the amplification": (
        of_description(lambda r: r["amplification"]["activation"].update(largest=1.0)),
        "the amplification that its description states",
    ),
    "no amplification": (of_description(lambda r: r.update(amplification=[])), "the amplification that"),
    "a table of another type": (
        of_tables(lambda t: t.update(norm=t["norm"].astype(np.float32))),
        "norm is stored as float32",
    ),
    "nested too deeply": (nested, "not a sound golden"),
    "a manifest nested too deeply": (
        lambda directory: (directory / MANIFEST).write_bytes(b"[" * 100_000) and None,
        "not a sound manifest",
    ),
    "a path for a file": (
        of_manifest(lambda m: m["files"].update({"../x": m["files"][f"{NAME}.json"]})),
        "its entry of the file '../x' is not sound",
    ),
    **{
        f"{field} {value!r} of an entry": (
            of_manifest(lambda m, p=part, n=file, f=field, v=value: m[p][n].update({f: v})),  # type: ignore[misc]
            rf"its entry of the \w+ '{file}' is not sound",
        )
        for part, file, field, value in (
            ("files", f"{NAME}.json", "size", -1),
            ("files", f"{NAME}.json", "size", True),
            ("files", f"{NAME}.json", "sha256", "0" * 63),
            ("goldens", NAME, "tensors", 0),
            ("goldens", NAME, "tensors", 1.0),
            ("goldens", NAME, "largest_error", 1.0),
            ("goldens", NAME, "largest_error", -0.1),
            ("goldens", NAME, "largest_error", "0"),
        )
    },
    "an entry that is text": (of_manifest(lambda m: m["goldens"].update({NAME: "x"})), "not a sound manifest"),
    "an entry of the other kind": (of_manifest(lambda m: m.update(goldens=[NAME])), "not a sound manifest"),
    "budgets cut": (of_tables(lambda t: t.update(channel=t["channel"][:-1])), "channel is"),
}


@pytest.mark.parametrize(("corrupt", "words"), CORRUPTIONS.values(), ids=list(CORRUPTIONS))
def test_every_corruption_is_named_and_never_passes(
    corrupt: Callable[[Path], None], words: str, directory: Path
) -> None:
    corrupt(directory)
    with pytest.raises(GoldenError, match=words):
        Truth(Golden.load(NAME, directory).case, Golden.load(NAME, directory)).recompute()
    case = golden_cases()[NAME]
    with pytest.raises(GoldenError):
        check(case.architecture, ["lucid"], mode="train", golden=directory)
    problems = verify(directory)
    assert any(re.search(words, problem) for problem in problems), problems


@pytest.mark.parametrize(
    ("corrupt", "words"),
    [
        (of_manifest(lambda m: m["goldens"][NAME].update(tensors=1)), "says 1 tensors of"),
        (of_tables(of_whole), "'fc' has another digest than the description's"),
        (of_tables(lambda t: t["samples"].__setitem__((5, 0), t["samples"][5, 0] * 1.01)), "samples|contradict"),
        (of_tables(lambda t: t["norm"].__setitem__(3, t["norm"][3] * 1.01)), "the norm, samples or projections of"),
        (of_tables(lambda t: t.update(strange=t["norm"])), "holds 'strange', which is no table of a golden"),
        (of_tables(lambda t: t.pop("full/activation/fc")), "is not there whole"),
    ],
)
def test_verify_makes_again_what_the_whole_tensors_tell(
    corrupt: Callable[[Path], None], words: str, directory: Path
) -> None:
    corrupt(directory)
    problems = verify(directory)
    assert any(re.search(words, problem) for problem in problems), problems


def test_goldens_that_were_asked_for_have_to_be_there(
    tmp_path: Path, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = Trace()
    trace.record("activation", "fc", np.zeros((2, 10), np.float32))
    trace.save(tmp_path / "trace.safetensors")
    nowhere, empty = str(tmp_path / "nowhere"), str(tmp_path / "empty")
    (tmp_path / "empty").mkdir()
    quick = ["--subject", "lucid", "-q"]
    for given in (nowhere, empty):
        for arguments in (
            ["check", "narrow_basic", *quick, "--directory", given],
            ["check", "narrow_basic", *quick, "--seed", "1", "--directory", given],
            ["compare", str(tmp_path / "trace.safetensors"), "--golden", NAME, "--directory", given],
            ["certify", "-q", "--directory", given],
            ["certify", "--list", "--directory", given],
            ["golden", "list", "--directory", given],
            ["golden", "verify", "--directory", given],
        ):
            status, out = command(*arguments)
            assert status == cli.WRONG_USAGE, (arguments, out)
            assert "there are no goldens" in out
    status, out = command("check", "narrow_basic", *quick, "--mode", "eval", "--directory", str(directory))
    assert (status, "got 'narrow_basic-eval'; there are narrow_basic-train" in out) == (cli.WRONG_USAGE, True)
    monkeypatch.setattr(golden_module, "golden_directory", lambda: tmp_path / "empty")  # an install without them
    status, out = command("check", "narrow_basic", *quick)
    assert (status, "there are no goldens" in out) == (cli.WRONG_USAGE, True)
    status, out = command("check", "narrow_basic", *quick, "--mode", "eval", "--seed", "1", "--view", "free")
    assert status == cli.AGREES, out  # no standard case: its truth is made on the spot


def test_other_weights_are_named_before_the_arithmetic(directory: Path) -> None:
    """A faulty generator of weights: the first tensor's digest is another, and the sentence says why."""
    golden = Golden.load(NAME, directory)
    case = golden.case
    state = {name: value.copy() for name, value in case.state.items()}
    state["layer1.0.conv1.weight"].flat[0] += np.float32(0.5)
    case.__dict__["state"] = state
    with pytest.raises(GoldenError, match="the weights made here are not the golden's"):
        Truth(case, golden).recompute()


@pytest.mark.parametrize("corruption", ["tables truncated", "a byte of the description", "another law in the manifest"])
def test_corruption_ends_commands_with_status_2(corruption: str, directory: Path, tmp_path: Path) -> None:
    CORRUPTIONS[corruption][0](directory)
    trace = Trace()
    trace.record("activation", "fc", np.zeros((2, 10), np.float32))
    trace.save(tmp_path / "trace.safetensors")
    for arguments in (
        ["golden", "verify", "--directory", str(directory)],
        ["golden", "show", NAME, "--directory", str(directory)],
        ["compare", str(tmp_path / "trace.safetensors"), "--golden", NAME, "--directory", str(directory)],
    ):
        status, out = command(*arguments)
        assert status == cli.WRONG_USAGE, out
        assert "golden" in out or "manifest" in out or NAME in out


def test_a_stranger_in_the_directory_is_a_problem(directory: Path) -> None:
    assert verify(directory) == []
    (directory / "other.safetensors").write_bytes(b"")
    assert [problem.split(": ")[1] for problem in verify(directory)] == ["is not in the manifest"]


def command(*arguments: str) -> tuple[int, str]:
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
        status = cli.run(list(arguments))
    return status, out.getvalue()


def test_the_project_goldens_are_whole() -> None:
    assert verify() == []
    status, out = command("golden", "list")
    assert status == 0
    assert all(name in out for name in golden_names())
    status, out = command("golden", "show", NAME)
    assert status == 0
    assert "activation/layer1.0.conv1" in out
    status, out = command("golden", "verify")
    assert (status, "every byte as it was made" in out) == (0, True)
    assert command("golden", "show", "resnet_19-eval")[0] == cli.WRONG_USAGE


def test_all_goldens_take_less_than_30_megabytes() -> None:
    assert sum(path.stat().st_size for path in golden_directory().iterdir()) < 30e6


# -- digests ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in golden_cases() if name.startswith("narrow_")])
def test_a_digest_holds_on_every_backend(name: str, backend: str) -> None:
    golden = Golden.load(name)
    for precision in ("float32", "float64"):
        trace = find_subject(f"lucid:{precision}").trace(golden.case)
        assert {key: digest(trace[key]) for key in trace} == {key: golden.digest(key, precision) for key in golden}


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.float16])
def test_a_digest_does_not_depend_on_memory(dtype: Any) -> None:
    array = (np.random.default_rng(0).standard_normal((3, 40, 70, 90)) * 100).astype(dtype)
    layouts = [
        np.asfortranarray(array),
        np.ascontiguousarray(array.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2),
        np.ascontiguousarray(array[::-1])[::-1],
        array.astype(array.dtype.newbyteorder(">")),
    ]
    expected = hashlib.sha256(f"{array.dtype.name} 3x40x70x90\n".encode() + array.tobytes()).hexdigest()
    assert {digest(each) for each in (array, *layouts)} == {expected}


def test_a_digest_knows_shape_dtype_zeros_and_any_nan() -> None:
    x = np.array([0.0, 1.0], np.float32)
    different = [x, x.astype(np.float64), x.reshape(1, 2), x.reshape(2, 1), np.array([-0.0, 1.0], np.float32), x[:1]]
    assert len({digest(each) for each in different}) == len(different)
    nans = np.array([0x7FC00000, 0xFFC00000, 0x7FC00001, 0x7F800001], np.uint32).view(np.float32)
    assert len({digest(nans[i : i + 1]) for i in range(4)}) == 1
    assert digest(np.array(2.0)) != digest(np.array([2.0]))


# -- the recipe, written again from golden/README.md ------------------------------------------------------------------


def words(text: str, count: int) -> np.ndarray:
    key = int.from_bytes(hashlib.sha256(f"0/golden/{text}".encode()).digest()[:16], "little")
    return np.random.Philox(key=key).random_raw(count)


def test_samples_and_projections_can_be_made_without_this_project() -> None:
    golden = Golden.load(NAME)
    for key in golden:
        whole = golden.full(key)
        assert whole is not None
        text, flat = f"{NAME}/{key[0]}/{key[1]}", whole.reshape(-1)
        positions, values = golden.samples(key)
        assert positions.tolist() == [int(word) % flat.size for word in words(f"{text}/samples", 8)]
        assert values.tolist() == flat[positions].tolist()
        sums = [0.0] * 16
        stream = words(f"{text}/sketch", -(-flat.size // 8)).astype("<u8").tobytes()
        for value, byte in zip(flat.tolist(), stream, strict=False):
            sums[byte % 16] += -value if byte & 16 else value
        assert golden.projections(key) == pytest.approx(sums, rel=1e-12, abs=1e-12 * float(np.abs(flat).sum()))
        assert golden.norm(key) == pytest.approx(float(np.sqrt(np.mean(flat**2))))


def test_a_sketch_estimates_the_norm_of_any_error() -> None:
    rng = np.random.default_rng(1)
    key: Key = ("activation", "fc")
    for error in (rng.standard_normal(5000), np.eye(1, 5000, 77)[0], np.full(5000, 0.1)):
        estimates = [float(np.square(sketch(f"case {n}", key, error)).sum()) for n in range(200)]
        whole = float(np.square(error).sum())
        assert np.mean(estimates) == pytest.approx(whole, rel=0.2)
        assert all(each > 0 for each in estimates)


def test_samples_of_an_array_in_any_order() -> None:
    array = np.arange(24.0).reshape(2, 3, 2, 2)
    key: Key = ("activation", "x")
    assert sample("c", key, np.asfortranarray(array)).tolist() == sample("c", key, array).tolist()


def test_the_grid_rounds_up_and_by_less_than_a_tenth() -> None:
    values = np.exp(np.random.default_rng(0).uniform(-8, 8, 1000))
    assert bool(np.all((decode(encode(values)) >= values * (1 - 1e-9)) & (decode(encode(values)) < values * 1.0906)))
    assert on_grid(on_grid(0.3)) == on_grid(0.3)


# -- made again -------------------------------------------------------------------------------------------------------


def test_make_golden_makes_the_same_bytes(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3] / "tools"))
    sys.modules.pop("make_golden", None)
    import make_golden

    assert make_golden.main([NAME, "--check", "-o", str(directory)]) == 0
    changed_byte(f"{NAME}.safetensors", -1)(directory)
    assert make_golden.main([NAME, "--check", "-o", str(directory)]) == 1


# -- judging by a golden ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stored", [False, True])
def test_a_trace_is_judged_by_a_golden(stored: bool) -> None:
    golden = Golden.load(NAME)
    healthy = find_subject("torch:no-onednn").trace(golden.case)
    assert compare_trace(healthy, golden, stored=stored).agrees
    for key in (("activation", "layer2.0.conv1"), ("parameter_gradient", "layer3.0.bn1.weight")):
        wrong = Trace()
        for each in healthy:
            wrong.record(*each, healthy[each] * (1.01 if each == key else 1))
        verdict = compare_trace(wrong, golden, stored=stored).cases[0].subjects[0]
        first = verdict.first
        assert first is not None
        assert (first.kind, first.name) == key
        assert first.view == ("stored" if stored else "free")


@pytest.mark.parametrize("precision", STORED)
def test_budgets_are_positive_and_grow_with_the_roundoff(precision: Any) -> None:
    golden = Golden.load(NAME)
    for key in golden:
        budget = golden.budget(key, precision)
        assert 0 < budget.rms < np.inf
        assert budget.largest > 0
        assert budget.rms >= golden.budget(key, "float64").rms
