"""How the commands end: every command with every kind of bad input is status 2 and one sentence; output that cannot be
written, a reader that leaves and a signal are no verdict and leave nothing behind."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("jinja2")
pytest.importorskip("onnxruntime")

from safetensors.numpy import save_file
from support.verdicts import a_subject, a_verdict

from lucid import models, nn
from lucid.console import IMPOSSIBLE, INTERRUPTED, visible
from lucid.files import new_directory
from lucid.onnx import cli as export_cli
from oracle import cli
from oracle.errors import UsageError
from oracle.files import write_whole
from oracle.report import write_reports
from oracle.truth.goldens import Golden

GOLDEN = "narrow_basic-train"
CHECK = ["check", "narrow_basic", "--mode", "eval", "--subject", "lucid", "-q"]


def run(*arguments: str) -> tuple[int, str, str]:
    """A command in this process; ``lucid-export`` where it is named."""
    command = export_cli.run if arguments[0] == "lucid-export" else cli.run
    given = list(arguments[1:] if arguments[0] == "lucid-export" else arguments)
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        status = command(given)
    return status, out.getvalue(), err.getvalue()


def refuses(*arguments: str, words: str = "") -> str:
    """Status 2, and one sentence that is printable."""
    status, _, err = run(*arguments)
    assert status == IMPOSSIBLE, (arguments, err)
    assert "Traceback" not in err
    assert err.count("\n") == 1, err
    assert all(each.isprintable() for each in err.rstrip("\n")), ascii(err)
    assert words in err, err
    return err


# -- every command, every kind of bad input ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of every bad kind, and a good one of each that a command takes."""
    made = tmp_path_factory.mktemp("inputs")
    (made / "empty").write_bytes(b"")
    (made / "noise").write_bytes(np.random.default_rng(0).bytes(5000))
    (made / "text").write_text("not what it should be")
    (made / "nested").write_bytes(b"[" * 100_000)
    (made / "header").write_bytes((2**63 - 1).to_bytes(8, "little") + b"{}")
    (made / "nested-header").write_bytes((100_000).to_bytes(8, "little") + b"[" * 100_000)
    for name, entry in {
        "huge": {"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 4]},
        "negative": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]},
        "offsets": {"dtype": "F32", "shape": [1], "data_offsets": [2**70, 2**70 + 4]},
        "typeless": {"dtype": {}, "shape": [1], "data_offsets": [0, 4]},
        "shapeless": {"dtype": "F32", "data_offsets": [0, 4]},
    }.items():
        header = json.dumps({"activation/fc": entry}).encode()
        (made / name).write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    (made / "zip").write_bytes(b"PK\x03\x04" + bytes(50))
    (made / "directory").mkdir()
    (made / "unreadable").symlink_to("/proc/self/mem")
    (made / "loop").symlink_to("loop")
    os.mkfifo(made / "fifo")
    (made / "device").symlink_to("/dev/zero")
    (made / "endless").mkdir()
    os.mkfifo(made / "endless" / "manifest.json")
    for bad in BAD:
        for suffix in (".onnx", ".py"):
            (made / f"{bad}{suffix}").symlink_to(bad)
    write_reports(a_verdict(a_subject()), json=made / "verdict.json")
    save_file({"activation/fc": np.zeros((2, 10), np.float32)}, made / "trace.safetensors")
    return made


BAD = [
    *("empty", "noise", "text", "nested", "header", "nested-header", "huge", "negative", "offsets", "typeless"),
    *("shapeless", "zip", "directory", "unreadable", "loop", "missing", "fifo", "device", "endless"),
]
READERS: dict[str, list[str]] = {
    "report": ["report", "{}"],
    "compare": ["compare", "{}", "--golden", GOLDEN, "-q"],
    "compare --directory": ["compare", "{good}/trace.safetensors", "--golden", GOLDEN, "--directory", "{}", "-q"],
    "check file:": ["check", "narrow_basic", "--mode", "train", "--subject", "file:{}", "-q"],
    "check onnx file": ["check", "narrow_basic", "--mode", "eval", "--subject", "onnxruntime:file={}.onnx", "-q"],
    "check own subject": ["check", "narrow_basic", "--subject", "{}.py:Mine", "-q"],
    "compare --names": ["compare", "{good}/trace.safetensors", "--golden", GOLDEN, "--names", "{}", "-q"],
    "check --names": [*CHECK, "--names", "{}", "--weights", "{good}/trace.safetensors"],
    "check --weights": [*CHECK, "--weights", "{}"],
    "check --image": [*CHECK, "--image", "{}"],
    "check --directory": [*CHECK, "--directory", "{}"],
    "certify --directory": ["certify", "--directory", "{}"],
    "golden verify": ["golden", "verify", "--directory", "{}"],
    "golden list": ["golden", "list", "--directory", "{}"],
    "golden show": ["golden", "show", GOLDEN, "--directory", "{}"],
    "lucid-export --weights": ["lucid-export", "--onnx", "resnet_18", "-o", "{good}/x.onnx", "--weights", "{}"],
}


@pytest.mark.parametrize("reader", READERS)
def test_an_input_that_cannot_be_read(reader: str, folder: Path) -> None:
    for bad in BAD:
        refuses(*(part.replace("{good}", str(folder)).replace("{}", str(folder / bad)) for part in READERS[reader]))


WRITERS: dict[str, list[str]] = {
    "report --json": ["report", "{good}/verdict.json", "-q", "--json", "{}"],
    "report --junit": ["report", "{good}/verdict.json", "-q", "--junit", "{}"],
    "report --html": ["report", "{good}/verdict.json", "-q", "--html", "{}"],
    "check --json": [*CHECK, "--json", "{}"],
    "compare --html": ["compare", "{good}/trace.safetensors", "--golden", GOLDEN, "-q", "--html", "{}"],
    "certify -o": ["certify", "--model", "narrow_basic", "-q", "-o", "{}"],
    "faults --json": ["faults", "--list", "--json", "{}"],
    "faults --markdown": ["faults", "--list", "--markdown", "{}"],
    "vectors -o": ["vectors", "narrow_basic", "--mode", "train", "-q", "-o", "{}"],
    "lucid-export -o": ["lucid-export", "--onnx", "line", "--image-size", "4", "-o", "{}"],
}


@pytest.mark.parametrize("writer", WRITERS)
def test_an_output_that_cannot_be_written(
    writer: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = lambda: nn.Sequential(nn.Conv2d(3, 4, 1))  # noqa: E731 (a model that exports in a moment)
    monkeypatch.setitem(models.registry._factories, "line", line)
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "directory").mkdir()
    (tmp_path / "directory" / "mine").write_text("mine")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").write_text("mine")
    os.link(tmp_path / "file", tmp_path / "mine")
    before = {path.name: path.lstat().st_mode for path in tmp_path.iterdir()}
    for name in ("/dev/null", "/dev/full", "fifo", "directory", "loop", "no/such/file", "file/below"):
        target = name if name.startswith("/") else str(tmp_path / name)
        refuses(*(part.replace("{good}", str(folder)).replace("{}", target) for part in WRITERS[writer]))
    assert {path.name: path.lstat().st_mode for path in tmp_path.iterdir()} == before
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)  # noqa: PTH116 (no path is at hand)


USAGE: list[list[str]] = [
    ["check"],
    ["check", "resnet51"],
    ["check", "narrow_basic", "--subject", "torch:float8"],
    ["check", "narrow_basic", "--subject", "\x1b[31m\u202e"],
    ["check", "narrow_basic", "--subject", "/no/such.py:Mine"],
    ["check", "narrow_basic", "--image-size", "x"],
    ["check", "narrow_basic", "--image-size", "1000000000", "--seed", "1"],
    ["check", "narrow_basic", "--batch", "1000000000000"],
    ["check", "narrow_basic", "--mode", "\x1b[2J"],
    ["check", "narrow_basic", "--json", "a\0b"],
    ["report", "a\0b"],
    ["lucid-export", "--onnx", "resnet_18", "-o", "a\0b"],
    ["compare", "x"],
    ["compare", "x", "--golden", "\x1b[2J", "--precision", "float64"],
    ["report"],
    ["golden", "show", "../../etc/passwd"],
    ["certify", "--isa", "avx1024"],
    ["certify", "--threads", "x"],
    ["certify", "--model", "\x1b[31m"],
    ["faults", "no-such-fault"],
    ["vectors", "\x1b[31m"],
    ["\x1b[31m"],
    ["check", "narrow_basic", "--\u202e"],
    ["lucid-export", "--onnx", "\x1b[31m"],
    ["lucid-export", "--onnx", "resnet_18", "--\x1b[31m"],
]


@pytest.mark.parametrize("arguments", USAGE, ids=ascii)
def test_wrong_usage(arguments: list[str]) -> None:
    refuses(*arguments)


# -- subjects and packages --------------------------------------------------------------------------------------------


OWN = """
import numpy as np
from oracle import Subject
from oracle.subjects import Brought

class Wordless(Exception):
    def __str__(self):
        raise ValueError

class Mine(Subject):
    kinds = ("activation",)

    def __init__(self, how):
        self.label = "mine"
        self.how = how
        if how == "unmade":
            raise RuntimeError("no device")
        for name, value in {"label": 7, "precision": 3, "modes": "eval", "kinds": ("weights",)}.items():
            if how == f"junk for {name}":
                setattr(self, name, value)

    def brings(self, case):
        if self.how == "brings an error":
            raise KeyError("fc")
        if self.how == "brings junk":
            return 3
        if self.how == "brings junk for weights":
            return Brought({"fc.weight": None})

    def run(self, case, recorder):
        if self.how == "wrong first":
            recorder.record("activation", "stem.0", np.zeros((1, 4, 16, 16), np.float32))
        if self.how == "exit":
            raise SystemExit(0)
        if self.how == "nothing":
            return
        if self.how == "an error without words":
            raise Wordless
        raise RuntimeError("it broke \\x1b[31m")
"""


@pytest.mark.parametrize(
    ("how", "status", "words"),
    [
        ("raise", cli.WRONG_USAGE, "could not finish: RuntimeError: it broke \\x1b[31m"),
        ("wrong first", cli.DISAGREES, "before that, out of line: the output of stem.0"),
        ("nothing", cli.DISAGREES, "first out of line"),
        ("exit", cli.WRONG_USAGE, "ended the process with 0"),
        ("unmade", cli.WRONG_USAGE, "cannot be made"),
        ("an error without words", cli.WRONG_USAGE, "could not finish: Wordless"),
        ("junk for label", cli.WRONG_USAGE, "its label is 7; may be text"),
        ("junk for precision", cli.WRONG_USAGE, "the precision of mine is 3; may be text"),
        ("junk for modes", cli.WRONG_USAGE, "the modes of mine are 'eval'; may be of eval, train"),
        ("junk for kinds", cli.WRONG_USAGE, "the kinds of mine are ('weights',); may be of activation, loss"),
        ("brings an error", cli.WRONG_USAGE, "could not say what weights it has: KeyError"),
        ("brings junk", cli.WRONG_USAGE, "could not say what weights it has: "),
        ("brings junk for weights", cli.WRONG_USAGE, "could not say what weights it has: "),
    ],
)
def test_a_subject_that_could_not_run_made_no_wrong_number(how: str, status: int, words: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    subject = f"{tmp_path}/mine.py:Mine:{how}"
    found = run("check", "narrow_basic", "--mode", "eval", "--view", "free", "--subject", subject, "-q")
    assert found[0] == status, found
    assert words in " ".join((found[1] + found[2]).split())


JUNK = """
import numpy as np
import torch
from oracle import Subject
from oracle.subjects.layerwise import Layerwise, LayerRun
from oracle.subjects import find_subject

JUNK = {
    "objects": lambda array: np.array([None, "x"]),
    "None": lambda array: None,
    "text": lambda array: "1.0",
    "texts": lambda array: array.astype(str),
    "complex": lambda array: array.astype(np.complex64),
    "dates": lambda array: array.astype("datetime64[s]"),
    "records": lambda array: np.zeros(array.shape, [("a", "f4")]),
    "ragged": lambda array: [[1.0], [1.0, 2.0]],
    "dict": lambda array: {"fc": array},
    "sparse": lambda array: torch.from_numpy(np.array(array)).to_sparse(),
    "integers": lambda array: array.astype(np.int64),
    "truths": lambda array: array > 0,
    "number": lambda array: 0.5,
    "list": lambda array: array.tolist(),
    "torch": lambda array: torch.from_numpy(np.array(array)).requires_grad_(),
    "wide": lambda array: array.astype(np.float64),
}

class Mine(Subject):
    layered = True

    def __init__(self, junk):
        self.label = "mine"
        self.healthy = find_subject("torch")
        self.junk = junk

    def spoil(self, array):
        return JUNK[self.junk](np.asarray(array))

    def run(self, case, recorder):
        trace = self.healthy.trace(case)
        for kind, name in trace:
            array = trace[kind, name]
            if name == "fc" and kind == "activation":
                if self.junk in ("kind", "name"):
                    kind, name = (kind, 7) if self.junk == "name" else ("weights", name)
                else:
                    array = self.spoil(array)
            recorder.record(kind, name, array)

    def layerwise(self, case):
        return Parts(self, self.healthy.layerwise(case))

class Parts(Layerwise):
    def __init__(self, subject, healthy):
        self.subject, self.healthy = subject, healthy

    def run(self, layer, inputs, gradient):
        made = self.healthy.run(layer, inputs, gradient)
        if layer.name != "fc" or self.subject.junk in ("kind", "name"):
            return made
        return LayerRun(self.subject.spoil(made.output), made.input_gradients, made.parameter_gradients)

    def run_code(self, *arguments):
        return self.healthy.run_code(*arguments)
"""
NONE = "the output of fc (no numbers: it is "
WHOLE = ("free", "own", "stored")  # the views of a whole run


@pytest.mark.parametrize(
    ("junk", "views", "status", "words"),
    [
        ("objects", (*WHOLE, "local"), cli.DISAGREES, NONE + "an array of object)"),
        ("None", WHOLE, cli.DISAGREES, NONE + "None)"),
        ("None", ("local",), cli.DISAGREES, "the output of fc (the subject made no such tensor)"),
        ("text", (*WHOLE, "local"), cli.DISAGREES, NONE + "of the type str)"),
        ("texts", WHOLE, cli.DISAGREES, NONE + "an array of str"),
        ("complex", (*WHOLE, "local"), cli.DISAGREES, NONE + "an array of complex64)"),
        ("dates", WHOLE, cli.DISAGREES, NONE + "an array of datetime64[s])"),
        ("records", WHOLE, cli.DISAGREES, NONE + "an array of void"),
        ("ragged", (*WHOLE, "local"), cli.DISAGREES, NONE + "of the type list (ValueError"),
        ("dict", WHOLE, cli.DISAGREES, NONE + "of the type dict)"),
        ("sparse", WHOLE, cli.DISAGREES, NONE + "of the type Tensor ("),
        ("integers", (*WHOLE, "local"), cli.DISAGREES, "the output of fc (error"),
        ("truths", (*WHOLE, "local"), cli.DISAGREES, "the output of fc (error"),
        ("number", (*WHOLE, "local"), cli.DISAGREES, "the output of fc (shape () where the truth has (3, 10)"),
        ("list", (*WHOLE, "local"), cli.AGREES, "agrees in"),
        ("torch", (*WHOLE, "local"), cli.AGREES, "agrees in"),
        ("wide", (*WHOLE, "local"), cli.AGREES, "agrees in"),
        ("kind", WHOLE, cli.WRONG_USAGE, "ValueError: kind: got 'weights'; may be one of activation"),
        (
            "name",
            WHOLE,
            cli.WRONG_USAGE,
            "ValueError: name: got 7, the name of a tensor (activation)",
        ),
    ],
)
def test_what_a_subject_hands_over_as_a_tensor(
    junk: str, views: tuple[str, ...], status: int, words: str, tmp_path: Path
) -> None:
    """Whoever hands over no numbers is out of line there, in every view; what is like an array is one. (One view is
    enough for the reports, which do not ask which it is.)"""
    (tmp_path / "mine.py").write_text(JUNK)
    given = ["check", "narrow_basic", "--mode", "train", "--subject", f"{tmp_path}/mine.py:Mine:{junk}", "--all"]
    for view in views:
        kinds = ("json", "junit", "html") if view == views[0] else ("json",)
        reports = [part for kind in kinds for part in (f"--{kind}", str(tmp_path / kind))]
        found = run(*given, "--view", view, *reports)
        assert found[0] == status, found
        assert words in " ".join((found[1] + found[2]).split()), view
        assert run("report", str(tmp_path / "json"), "-q")[0] == status


@pytest.mark.parametrize(
    ("shape", "dynamic", "given", "status", "words"),
    [
        ((1, 3, 64, 64), True, [], 2, "takes an input of Nx3x64x64, and that of narrow_basic-eval is 2x3x72x72: "
         "check it with --image-size 64, or export it with --image-size 72 --batch dynamic"),
        ((1, 3, 64, 64), True, ["--image-size", "64"], 0, "agrees in"),
        ((1, 3, 72, 72), False, [], 2, "check it with --batch 1, or export it"),
        ((1, 3, 72, 72), False, ["--batch", "1"], 0, "agrees in"),
        ((3, 3, 64, 64), False, [], 2, "check it with --image-size 64 --batch 3, or export it"),
        ((1, 3, 64, 72), True, [], 2, "input of Nx3x64x72, and that of narrow_basic-eval is 2x3x72x72: export it"),
    ],
)  # fmt: skip
def test_a_file_for_another_size_says_with_which_options_it_can_be_judged(
    shape: tuple[int, ...], dynamic: bool, given: list[str], status: int, words: str, tmp_path: Path
) -> None:
    import lucid
    from lucid.onnx import export
    from oracle.case.case import standard_case
    from oracle.resnets import find_architecture
    from oracle.subjects.lucid_engine import make_model

    model = make_model(standard_case(find_architecture("narrow_basic"), "eval")).eval()
    export(model, lucid.tensor(np.zeros(shape, np.float32)), tmp_path / "m.onnx", dynamic_batch=dynamic)
    subject = f"onnxruntime:file={tmp_path}/m.onnx"
    command = ["check", "narrow_basic", "--mode", "eval", "--view", "free", "--subject", subject, "-q", *given]
    found = run(*command)
    assert found[0] == status, found
    assert words in " ".join((found[1] + found[2]).split())
    assert status == 0 or refuses(*command)


@pytest.mark.parametrize("options", [[], ["--stored"]], ids=str)
def test_a_trace_of_which_nothing_can_be_judged_is_no_wrong_number(options: list[str], tmp_path: Path) -> None:
    """Of a bfloat16 run, tensors whose budget exceeds what they hold: whatever is in them, nothing was shown."""
    golden = Golden.load(GOLDEN)
    vague = [key for key in golden if golden.budget(key, "bfloat16").rms > 10]
    # A statistic is judged from the image, over a piece whose budget more runs make sharper than the golden's.
    vague = [key for key in vague if key[0] != "statistic"]
    assert vague
    save_file({"/".join(key): np.zeros(golden.shape(key), np.float32) for key in vague}, tmp_path / "x.safetensors")
    given = ["compare", str(tmp_path / "x.safetensors"), "--golden", GOLDEN, "--precision", "bfloat16", *options, "-q"]
    status, out, _ = run(*given, "--json", str(tmp_path / "json"))
    assert (status, run("report", str(tmp_path / "json"), "-q")[0]) == (cli.WRONG_USAGE, cli.WRONG_USAGE), out
    assert f"nothing was judged ({len(vague)} not judged" in " ".join(out.split())


@pytest.mark.parametrize(
    ("package", "arguments"),
    [
        ("torch", ["check", "narrow_basic", "--subject", "torch"]),
        ("onnx", ["vectors", "narrow_basic", "--mode", "eval", "-q"]),
        ("jinja2", [*CHECK, "--html", "page.html"]),
        ("click", [*CHECK]),
        ("rich.console", ["report", "x"]),
        ("onnxruntime", ["lucid-export", "--onnx", "resnet_18", "--verify"]),
    ],
)
def test_a_missing_package(package: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, package, None)
    for name in [name for name in sys.modules if name.startswith(("oracle.commands", "oracle.subjects."))]:
        monkeypatch.delitem(sys.modules, name)
    status, _, err = run(*arguments)
    assert status == IMPOSSIBLE, err
    assert package in err
    assert "pip install" in err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_certify_needs_no_pytorch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    status, _, err = run("certify", "--model", "narrow_basic", "-q", "-o", str(tmp_path / "certificate.json"))
    assert status == 0, err


def test_a_gpu_that_is_not_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    cupy = pytest.importorskip("cupy")

    def none(number: int) -> None:
        raise RuntimeError("cudaErrorNoDevice")

    monkeypatch.setattr(cupy.cuda.runtime, "getDeviceProperties", none)
    refuses("certify", "--device", "gpu", "-q", words="no GPU here that CUDA can use: RuntimeError: cudaErrorNoDevice")


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (CHECK, "--image-size or --batch"),
        (["compare", "x", "--golden", GOLDEN], "--stored"),
        (["certify"], "--model or --mode"),
    ],
)
def test_want_of_memory_names_options_that_there_are(
    arguments: list[str], options: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_more(*_arguments: object, **_options: object) -> None:
        raise MemoryError

    for name in ("oracle.truth.goldens.Golden.load", "oracle.run.run_case"):
        monkeypatch.setattr(name, no_more)
    monkeypatch.setattr("oracle.subjects.file.FileSubject.__init__", no_more)
    assert f"not enough; {options}" in refuses(*arguments)


# -- the one writer ---------------------------------------------------------------------------------------------------


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask")
def test_the_writer_follows_links_and_keeps_modes(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    target = tmp_path / "real" / "file"
    (tmp_path / "link").symlink_to("real/file")
    write_whole(tmp_path / "link", b"one")  # where the link leads there is nothing yet
    assert ((tmp_path / "link").is_symlink(), target.read_bytes()) == (True, b"one")
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    target.chmod(0o604)
    write_whole(tmp_path / "link", b"two")
    assert ((tmp_path / "link").is_symlink(), target.read_bytes()) == (True, b"two")
    assert stat.S_IMODE(target.stat().st_mode) == 0o604
    assert [path.name for path in (tmp_path / "real").iterdir()] == ["file"]


@pytest.mark.parametrize("end", [OSError(28, "No space left on device"), KeyboardInterrupt(), SystemExit(1)])
def test_whatever_ends_the_writing_leaves_nothing(
    end: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"before")

    def stop(descriptor: int) -> None:
        raise end

    monkeypatch.setattr(os, "fsync", stop)
    with pytest.raises(UsageError if isinstance(end, OSError) else type(end)):
        write_whole(tmp_path / "file", b"after")

    def half() -> None:
        with new_directory(tmp_path / "made") as made:
            (made / "file").write_bytes(b"half")
            raise end

    with pytest.raises(type(end)):
        half()
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"before")]


# -- real processes ---------------------------------------------------------------------------------------------------

VERDICT = "import sys; from oracle.cli import main; main(sys.argv[1:])"
EXPORT = "import sys; from lucid.onnx.cli import main; main(sys.argv[1:])"


@pytest.mark.parametrize(
    "arguments",
    [
        (VERDICT, "--help"),
        (VERDICT, "check", "--help"),
        (VERDICT, "golden", "show", GOLDEN),
        (VERDICT, "report", "{good}/verdict.json"),
        (EXPORT, "--help"),
        (EXPORT, "--version"),
    ],
    ids=lambda arguments: " ".join(arguments[1:]),
)
def test_output_that_nobody_takes_is_status_2(arguments: tuple[str, ...], folder: Path) -> None:
    given = [sys.executable, "-c", *(part.replace("{good}", str(folder)) for part in arguments)]
    with open("/dev/full", "w") as full:  # noqa: PTH123 (a device)
        done = subprocess.run(given, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (IMPOSSIBLE, False), done.stderr
    assert "No space left on device" in done.stderr
    with subprocess.Popen(given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()  # as `| head` does, but before the first line
        told = process.stderr.read()
    assert (process.returncode, "Traceback" in told) == (IMPOSSIBLE, False), told
    assert "left before its end" in told


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("patch", "arguments"),
    [
        ("import oracle.report.vector_files as m; m.page = wait", ["vectors", "narrow_basic", "--mode", "train", "-q"]),
        ("import os; os.fsync = wait", ["report", "{good}/verdict.json", "-q", "--json", "x.json"]),
    ],
    ids=["vectors", "report"],
)
def test_a_signal_leaves_nothing(
    number: signal.Signals, patch: str, arguments: list[str], folder: Path, tmp_path: Path
) -> None:
    script = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it\n"
        "def wait(*arguments):\n"
        "    time.sleep(120)\n"
        f"{patch}\n{VERDICT}\n"
    )
    given = [part.replace("{good}", str(folder)) for part in arguments]
    process = subprocess.Popen([sys.executable, "-c", script, *given], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not _written(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert _written(tmp_path)
    time.sleep(0.2)  # until it waits
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (INTERRUPTED, "lucid-oracle: interrupted\n")
    assert list(tmp_path.iterdir()) == []


def _written(folder: Path) -> bool:
    """Whether the command is in the middle of its writing."""
    made = list(folder.iterdir())
    return bool(made) and (made[0].is_file() or any(made[0].glob("weights*")))


def test_onnx_runtime_writes_nothing_into_the_home(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    silent = ("ORT_DISABLE_TELEMETRY", "ORT_RUNNING_UNIT_TESTS", "CI", "GITHUB_ACTIONS", "TF_BUILD")
    environment = {name: value for name, value in os.environ.items() if name not in silent}
    environment = {name: value for name, value in environment.items() if not name.startswith("XDG_")}
    for code in (
        "import oracle.subjects.onnx_runtime",
        "from lucid.onnx._need import need; need('onnxruntime', 'this test')",
    ):
        given = [sys.executable, "-c", f"{code}; import time; time.sleep(0.5)"]
        subprocess.run(given, env={**environment, "HOME": str(home)}, cwd=home, check=True)
        assert list(home.iterdir()) == []


# -- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("fc.weight", "fc.weight"),
        ("grün ∇", "grün ∇"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("a\u202eb\u2066c\u200fd", "a\\u202eb\\u2066c\\u200fd"),
        ("\x9b2J\x7f\x00\n\t", "\\x9b2J\\x7f\\x00\\n\\t"),
        ("\ud800\ufeff\u200b\u2028\xa0", "\\ud800\\ufeff\\u200b\\u2028\\xa0"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_what_is_not_printed_as_itself_is_escaped(text: str, told: str) -> None:
    assert visible(text) == told


HOSTILE = ["\x1b[31mred", "a\u202eb", "line\nbreak", "[red]", "[bold", "\x07\x9b2J"]


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_no_command_obeys_a_name_of_a_file(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fc = {"activation/fc": np.zeros((2, 10), np.float32)}
    strange = {f"activation/{name}": np.zeros(3, np.float32), name: np.zeros(3, np.float32)}
    save_file(fc | strange, tmp_path / f"{name}.safetensors")
    save_file({name: np.zeros(3, np.float32)}, tmp_path / "weights.safetensors")
    save_file({name: np.zeros(3, np.int32)}, tmp_path / "integers.safetensors")
    save_file({f"activation/{name}": np.zeros(3, np.int32)}, tmp_path / "typed.safetensors")
    file = f"{name}.safetensors"
    commands: list[list[str]] = [
        ["compare", file, "--golden", GOLDEN, "--stored"],
        ["check", "narrow_basic", "--mode", "train", "--view", "stored", "--subject", f"file:{file}"],
        ["compare", "typed.safetensors", "--golden", GOLDEN],
        ["compare", f"{name}.npz", "--golden", name],
        [*CHECK, "--weights", "weights.safetensors"],
        [*CHECK, "--weights", "integers.safetensors"],
        ["report", f"{name}.json"],
        ["golden", "verify", "--directory", name],
        ["lucid-export", "--onnx", "resnet_18", "--weights", "weights.safetensors"],
    ]
    for arguments in commands:
        status, out, err = run(*arguments)
        assert status in (1, 2), (arguments, err)
        assert "Traceback" not in err
        for text in (out, err):
            assert all(each.isprintable() or each == "\n" for each in text), (arguments, ascii(text))


def test_any_terminal_can_be_told(tmp_path: Path) -> None:
    """A name that the terminal has no letters for."""
    save_file({"activation/∇": np.zeros(3, np.float32)}, tmp_path / "∇.safetensors")
    given = [sys.executable, "-c", VERDICT, "compare", str(tmp_path / "∇.safetensors"), "--golden", GOLDEN]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(given, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (IMPOSSIBLE, False)
    assert "\\u2207" in done.stderr
