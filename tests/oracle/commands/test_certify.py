"""Certificates: every digest compared, every flip noticed, and nothing said of machines that did not run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")  # a case's names and shapes come from the twin

from support.verdicts import NARROW

import lucid
from oracle.case.case import Case
from oracle.commands.certify import status_of
from oracle.errors import UsageError
from oracle.subjects import find_subject
from oracle.trace import Key
from oracle.truth import certificate as certify_module
from oracle.truth.certificate import (
    Configuration,
    Run,
    certificate,
    certify,
    configurations,
    identity,
    instruction_sets,
    processor,
    read_certificates,
    table,
    write_certificate,
)
from oracle.truth.digest import digest

REFERENCE = Configuration("reference")
native = pytest.mark.skipif(not instruction_sets(), reason="the native kernels are not built")


def a_golden(mode: Any = "eval") -> Any:
    """A golden of a narrow network, made here by the reference backend."""
    case = Case(NARROW, mode, source="seeded", size=32, batch=2)
    digests = {key: digest(array) for key, array in _items(find_subject("lucid:reference").trace(case))}
    return SimpleNamespace(case=case, keys=lambda: list(digests), digest=digests.__getitem__, digests=digests)


def _items(trace: Any) -> Iterator[tuple[Key, np.ndarray]]:
    return ((key, trace[key]) for key in trace)


@pytest.fixture(scope="module")
def goldens() -> list[Any]:
    return [a_golden("eval"), a_golden("train")]


@native
def test_every_instruction_set_and_thread_count_agrees(goldens: list[Any]) -> None:
    chosen = configurations("native", threads=[1, 3])
    runs = certify(goldens, chosen)
    assert len(chosen) == 4 * len(instruction_sets())
    assert len(runs) == 6 * len(instruction_sets())  # plans run eval alone
    for run in runs:
        assert run.agrees, run.sentence()
        known = next(g for g in goldens if g.case.name == run.golden).digests
        if run.configuration.how == "eager":
            assert len(run.digests) == len(known)
        else:  # of a plan, what is not folded into something else
            assert {("activation", name) for name in ("maxpool", "layer1.0.relu2", "fc")} <= run.digests.keys()
            assert run.digests.keys() <= known.keys()
            assert any("packed weight" in name for kind, name in run.held if kind == "memory")
    held = {(run.golden, run.configuration.isa, run.configuration.how): run.held for run in runs}
    assert len(held) == 3 * len(instruction_sets())
    for run in runs:  # the threads change nothing of that
        assert run.held == held[run.golden, run.configuration.isa, run.configuration.how]
    assert sum(run.configuration.how == "plan" for run in runs) == 2 * len(instruction_sets())


@native
def test_settings_are_used_and_put_back(goldens: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    import _lucid_native

    seen = []
    original = certify_module._Hashing.record

    def spy(self: Any, *arguments: Any) -> None:
        seen.append((_lucid_native.isa(), lucid.get_num_threads()))
        original(self, *arguments)

    monkeypatch.setattr(certify_module._Hashing, "record", spy)
    before = (_lucid_native.isa(), lucid.get_num_threads())
    other = next(isa for isa in instruction_sets() if isa != before[0])
    certify(goldens[:1], [Configuration("native", other, 3)])
    assert set(seen) == {(other, 3)}
    assert (_lucid_native.isa(), lucid.get_num_threads()) == before


def test_one_other_digest_is_named(goldens: list[Any]) -> None:
    digests = dict(goldens[0].digests)
    digests["activation", "layer2.0.conv1"] = "0" * 64
    wrong = SimpleNamespace(case=goldens[0].case, keys=lambda: list(digests), digest=digests.__getitem__)
    [run] = certify([wrong], [REFERENCE])
    assert not run.agrees
    assert list(run.different) == [("activation", "layer2.0.conv1")]
    assert f"1 of {len(digests)} digests differ, first that of activation/layer2.0.conv1" in run.sentence()


def test_a_tensor_too_few_and_one_too_many(goldens: list[Any]) -> None:
    digests = {("activation", "nowhere"): "0" * 64, **goldens[0].digests}
    del digests["activation", "fc"]
    wrong = SimpleNamespace(case=goldens[0].case, keys=lambda: list(digests), digest=digests.__getitem__)
    [run] = certify([wrong], [REFERENCE])
    assert list(run.different) == [("activation", "nowhere"), ("activation", "fc")]
    assert not run.agrees


def test_a_flip_in_a_later_round_is_noticed(goldens: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = {"now": 0}
    original = certify_module._Hashing.record

    def flaky(self: Any, kind: Any, name: str, array: np.ndarray) -> None:
        rounds["now"] += name == "stem.0"
        if name == "layer1.0.conv2" and rounds["now"] == 3:
            array = array.copy()
            array.view(np.uint32).reshape(-1)[5] ^= 1
        original(self, kind, name, array)

    monkeypatch.setattr(certify_module._Hashing, "record", flaky)
    [run] = certify(goldens[:1], [REFERENCE], repeat=4)
    assert run.rounds == 4
    assert run.changed == {("activation", "layer1.0.conv2"): 3}
    assert not run.agrees
    assert "in round 3: the machine does not compute the same every time" in run.sentence()
    document = certificate("flaky", goldens[:1], [run], 1.0)
    assert document["agrees"] is False
    assert document["runs"][0]["changed"] == {"activation/layer1.0.conv2": 3}


def weight_of(engine: Any, name: str) -> np.ndarray:
    return engine._model.state_dict()[name].numpy()


def constant_of(engine: Any, name: str) -> np.ndarray:
    return engine._plan.constants()[name]


FLIPS: dict[str, tuple[str, Any, str]] = {
    "a parameter": ("eager", lambda e: weight_of(e, "layer1.0.conv1.weight"), "weights/layer1.0.conv1.weight"),
    "a statistic": ("eager", lambda e: weight_of(e, "stem.1.running_var"), "weights/stem.1.running_var"),
    "the input": ("eager", lambda e: e._image.numpy(), "input"),
    "a packed weight": ("plan", lambda e: constant_of(e, "layer1.0.relu1: packed weight"), "plan/layer1.0.relu1: pack"),
    "a coefficient": ("plan", lambda e: constant_of(e, "layer1.0.relu1: shift"), "plan/layer1.0.relu1: shift"),
    "a bias": ("plan", lambda e: constant_of(e, "fc: bias"), "plan/fc: bias"),
    "a plan's input": ("plan", lambda e: e._image.numpy(), "input"),
}


@native
@pytest.mark.parametrize("bit", [0, 31])
@pytest.mark.parametrize("name", FLIPS)
def test_a_bit_that_flips_in_memory_is_named(
    goldens: list[Any], name: str, bit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between rounds, in the last value, which perhaps no result shows."""
    how, find, words = FLIPS[name]
    made: list[Any] = []
    original = certify_module._Engine

    def kept(*arguments: Any) -> Any:
        made.append(original(*arguments))
        return made[-1]

    def flip(message: str) -> None:
        if message.startswith("round 3"):
            array = find(made[0])
            last = array[(slice(-1, None),) * array.ndim].view(np.uint32)
            last ^= np.uint32(1 << bit)

    monkeypatch.setattr(certify_module, "_Engine", kept)
    [run] = certify(goldens[:1], [Configuration("native", None, 1, how)], repeat=4, progress=flip)
    assert len(made) == 1
    assert not run.agrees
    assert next(key for key, when in run.changed.items() if when == 3 and key[0] == "memory")[1].startswith(words)
    assert set(run.changed.values()) == {3}
    assert f"first that of memory/{words}" in run.sentence()
    assert "in round 3: memory does not keep what was written to it" in run.sentence()
    document = certificate("flipped", goldens[:1], [run], 1.0)
    assert document["agrees"] is False
    assert any(key.startswith("memory/") for key in document["runs"][0]["changed"])


def test_rounds_of_a_train_step_begin_alike(goldens: list[Any]) -> None:
    """With the model that the first round made, whose statistics and gradients the step has changed."""
    [run] = certify(goldens[1:], [REFERENCE], repeat=3)
    assert run.agrees, run.sentence()
    assert run.rounds == 3


def test_what_no_golden_knows_the_kind_of_must_only_stay_the_same(
    goldens: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds: list[int] = []
    original = certify_module._Engine.run

    def more(self: Any, recorder: Any, *arguments: Any) -> None:
        rounds.append(len(rounds))
        recorder.record("statistic", "steady", np.zeros(1))
        recorder.record("statistic", "unsteady", np.full(1, max(0, len(rounds) - 2)))
        original(self, recorder, *arguments)

    monkeypatch.setattr(certify_module._Engine, "run", more)
    [run] = certify(goldens[:1], [REFERENCE], repeat=3)
    assert not run.different
    assert run.changed == {("statistic", "unsteady"): 3}


def test_certificates_that_were_made_before_are_still_read() -> None:
    directory = Path(certify_module.__file__).parents[2] / "golden" / "hardware"
    found = read_certificates(directory)
    assert len(found) >= 4
    assert table(found, {}).count("\n") > len(found) + 1


def test_a_digest_that_is_wrong_and_then_right_is_no_certificate(
    goldens: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    original = certify_module._Hashing.record

    def first_wrong(self: Any, kind: Any, name: str, array: np.ndarray) -> None:
        calls.append(name)
        original(self, kind, name, array + 1 if name == "fc" and calls.count("fc") == 1 else array)

    monkeypatch.setattr(certify_module._Hashing, "record", first_wrong)
    [run] = certify(goldens[:1], [REFERENCE], repeat=2)
    assert list(run.different) == list(run.changed) == [("activation", "fc")]


def test_a_run_that_dies_is_no_agreement(goldens: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certify_module._Hashing, "record", lambda *_arguments: 1 / 0)
    [run] = certify(goldens[:1], [REFERENCE])
    assert not run.agrees
    assert "could not finish: ZeroDivisionError" in run.sentence()


def test_nothing_to_compare_is_wrong_usage(goldens: list[Any]) -> None:
    plan = Configuration("native", None, 1, "plan")
    for which, chosen in (([], [REFERENCE]), (goldens, []), (goldens[1:], [plan])):
        with pytest.raises(UsageError, match="nothing would be compared"):
            certify(which, chosen)
    with pytest.raises(UsageError, match="repeat: got 0"):
        certify(goldens, [REFERENCE], repeat=0)
    assert not Run("x", REFERENCE).agrees


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("native", ["sse9"]), "isa: got 'sse9'; this processor has"),
        (("native", None, [0]), "threads: got 0; each must be an integer of at least 1 and at most 1024"),
        (("native", None, [1, 1025]), "threads: got 1, 1025; each must be an integer of at least 1"),
        (("native", None, []), "each must be an integer of at least 1"),
        (("reference", ["avx2"]), "isa: avx2 is the native backend's; the backend is reference"),
    ],
)
def test_configurations_that_cannot_be(arguments: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        configurations(*arguments)


def test_a_backend_that_cannot_run_here_is_one_sentence(goldens: list[Any]) -> None:
    if "cuda" in lucid.available_backends():
        pytest.skip("cuda runs here")
    with pytest.raises(UsageError, match="'cuda' backend cannot run here"):
        certify(goldens[:1], configurations("cuda"))


def test_the_certificate_tells_the_machine_and_each_run(goldens: list[Any], tmp_path: Path) -> None:
    runs = certify(goldens, [REFERENCE], repeat=2)
    document = certificate("here", goldens, runs, 12.34)
    path = tmp_path / "here.json"
    write_certificate(document, path)
    assert read_certificates(tmp_path) == [json.loads(path.read_text())] == [document]
    assert document["agrees"] is True
    assert document["machine"]["processor"] == processor()
    assert document["versions"]["arithmetic"] == lucid.ARITHMETIC_VERSION
    assert document["goldens"] == {golden.case.name: identity(golden) for golden in goldens}
    assert [run["equal"] for run in document["runs"]] == [len(golden.digests) for golden in goldens]
    assert document["digests"] == 2 * sum(run["digests"] for run in document["runs"])


def test_the_table_marks_what_differs_and_what_is_outdated(goldens: list[Any]) -> None:
    runs = certify(goldens, [REFERENCE])
    current = {golden.case.name: identity(golden) for golden in goldens}
    document = certificate("here", goldens, runs, 1.0)
    total = sum(len(golden.digests) for golden in goldens)
    row = table([document], current).splitlines()[2]
    assert f"| reference (eager) | - | 2 | {total:,} | all | 1 |" in row
    assert "of other goldens" in table([document], {**current, goldens[0].case.name: "f" * 64})
    runs[0].different["activation", "fc"] = None
    assert f"**{total - 1}**" in table([certificate("here", goldens, runs, 1.0)], current)


def test_a_broken_certificate_is_named(tmp_path: Path) -> None:
    for content, words in (("{", "is not JSON"), ("[]", "is no certificate"), ('{"format": "x"}', "is no certificate")):
        (tmp_path / "broken.json").write_text(content)
        with pytest.raises(UsageError, match=words):
            read_certificates(tmp_path)


def test_the_processor_has_a_name(tmp_path: Path) -> None:
    first = "processor\t: 0\ncpu family\t: 6\nmodel\t\t: 143\nmodel name\t: Some CPU @ 2 GHz\nstepping\t: 8\n"
    (tmp_path / "cpuinfo").write_text(first + "\nprocessor\t: 1\n")
    assert processor(tmp_path / "cpuinfo") == "Some CPU @ 2 GHz (family 6, model 143, stepping 8)"
    assert processor(tmp_path / "missing")


@pytest.mark.parametrize(
    ("digests", "different", "changed", "failure", "status"),
    [
        ({"a": "1"}, [], [], "", 0),
        ({"a": "1"}, ["a"], [], "", 1),
        ({"a": "1"}, [], ["a"], "", 1),
        ({"a": "missing"}, ["a"], [], "", 1),
        ({"a": "missing"}, ["a"], [], "RuntimeError: no device", 2),
        ({"a": "1", "b": "missing"}, ["a", "b"], [], "RuntimeError: no device", 1),
        ({}, [], [], "", 2),
    ],
)
def test_the_status_of_a_run_that_could_not_finish_is_2_unless_a_digest_was_wrong(
    digests: dict[str, str], different: list[str], changed: list[str], failure: str, status: int
) -> None:
    keys: dict[str, Key] = {name: ("activation", name) for name in digests}
    run = Run("golden", REFERENCE, {keys[name]: digest for name, digest in digests.items()}, failure=failure)
    run.different = {keys[name]: None for name in different}
    run.changed = {keys[name]: 2 for name in changed}
    assert status_of([run]) == status


@native
def test_an_option_may_come_twice(tmp_path: Path) -> None:
    """The second time adds to the first instead of taking its place unsaid."""
    from oracle import cli

    file = tmp_path / "certificate.json"
    given = ["--model", "narrow_basic", "--mode", "eval", "--isa", "baseline", "--no-plan", "-o", str(file)]
    assert cli.run(["certify", "-q", *given, "--threads", "1", "--threads", "2"]) == cli.AGREES
    assert [each["threads"] for each in json.loads(file.read_text())["runs"]] == [1, 2]
