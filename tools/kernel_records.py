"""Measure the kernel check on kernels that are known to be healthy and on kernels with a known bug.

    python tools/kernel_records.py
    python tools/kernel_records.py --part 1/4 --json part1.json      # and so on; then
    python tools/kernel_records.py --add part1.json part2.json part3.json part4.json --json all.json

`tools/kernel_corpus` has the kernels. Each goes through `oracle.check_kernel`, which draws its own inputs; beside it
stand the verdicts of ``torch.testing.assert_close`` at its default for the dtype and, where they are installed, of
gpucheck 0.1.0 and gpuemu 0.1.0 at theirs, on the inputs of `kernel_corpus.draws`, against the float64 result rounded to
the dtype. They are given what helps them: NaN equals NaN, the length of a contraction, the name of the operation.
gpuemu compares in a daemon that PyPI does not have: here ``|a - b| <= atol + rtol |b|``, as it documents, with the
tolerance that it recommends. TF32 is known to gpucheck alone; to the others it is float32.

The records are ``tools/records/kernels.json`` and ``kernels.md``. The exit status is 1 if the kernel check flagged a
healthy kernel, or missed more than 2 % of the mutants.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from kernel_corpus import Kernel, contraction, elementwise, libraries, loss, normalization, pooling, softmax, sums
from kernel_corpus.arithmetic import base_of
from kernel_corpus.draws import Draw, Truth, draws, truth
from kernel_corpus.kernel import stored_name, tensor_of
from kernel_corpus.kinds import WORDS

import oracle
from oracle.errors import UsageError
from oracle.files import record_lines, write_whole
from oracle.run import versions

RECORDS = Path(__file__).parent / "records"
FAMILIES = (contraction, normalization, pooling, elementwise, softmax, loss, sums)
CHECK = "check_kernel"
Judge = Callable[[Kernel, Draw, Any, Any], bool]


# -- the other judges --------------------------------------------------------------------------------------------------


def assert_close(kernel: Kernel, draw: Draw, actual: Any, expected: Any) -> bool:
    """Whether PyTorch's default for the dtype passes."""
    return _raises_nothing(lambda: torch.testing.assert_close(actual, expected, equal_nan=True))


def gpucheck(kernel: Kernel, draw: Draw, actual: Any, expected: Any) -> bool:
    """Whether gpucheck's default for the dtype passes."""
    from gpucheck.assertions.close import assert_close as close
    from gpucheck.assertions.tolerances import compute_tolerance

    length = draw.terms if kernel.op in ("matmul", "linear") else None
    absolute, relative = compute_tolerance(base_of(kernel.precision), k_dim=length)
    return _raises_nothing(lambda: close(actual, expected, atol=absolute, rtol=relative, nan_equal=True))


def gpuemu(kernel: Kernel, draw: Draw, actual: Any, expected: Any) -> bool:
    """Whether the tolerance that gpuemu recommends passes."""
    from gpuemu import get_recommended_tolerance

    op = {"batch_norm": "batchnorm", "layer_norm": "layernorm"}.get(kernel.op, kernel.op)
    of = get_recommended_tolerance(stored_name(kernel.precision), "pytorch", op)
    wide = [each.to(torch.float64) for each in (actual, expected)]
    return wide[0].shape == wide[1].shape and torch.allclose(*wide, atol=of.atol, rtol=of.rtol, equal_nan=True)


def _raises_nothing(call: Callable[[], Any]) -> bool:
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):  # gpucheck prints
            call()
    except AssertionError:
        return False
    return True


def other_judges() -> dict[str, Judge]:
    """Those that are installed."""
    found: dict[str, Judge] = {"assert_close": assert_close}
    for name, judge in (("gpucheck", gpucheck), ("gpuemu", gpuemu)):
        try:
            __import__(name)
        except ImportError:
            continue
        found[name] = judge
    return found


class Others:
    """What the other judges say of a kernel: whether any of its results fails. Kernels share their truths."""

    def __init__(self, seed: int) -> None:
        self.seed, self.judges = seed, other_judges()
        self.truths: dict[tuple[Any, ...], Truth] = {}

    def flags(self, kernel: Kernel) -> dict[str, bool]:
        """By judge, whether it flags the kernel."""
        flagged = dict.fromkeys(self.judges, False)
        for draw in draws(kernel, self.seed):
            backward = kernel.backward is not None and not draw.special
            key = (kernel.op, repr(kernel.attributes), kernel.precision, draw.name, backward)
            if key not in self.truths:
                self.truths[key] = truth(kernel, draw, backward)
            exact = self.truths[key]
            kind = draw.inputs[0].dtype
            made = kernel.call(draw.inputs, exact.gradient.astype(kind) if backward else None)
            wanted = [exact.result, *(each for each in exact.gradients if each is not None)]
            for actual, expected in zip(made, wanted if backward else wanted[:1], strict=True):
                with np.errstate(over="ignore"):
                    pair = torch.as_tensor(tensor_of(actual)).detach(), tensor_of(expected.astype(kind))
                for name, judge in self.judges.items():
                    flagged[name] = flagged[name] or not judge(kernel, draw, *pair)
        return flagged


# -- one kernel --------------------------------------------------------------------------------------------------------


def measure(kernel: Kernel, seed: int, others: Others) -> dict[str, Any]:
    """The record of one kernel."""
    start = time.perf_counter()
    record: dict[str, Any] = {"op": kernel.op, "kernel": kernel.name, "precision": kernel.precision, "seed": seed}
    record |= {"attributes": dict(kernel.attributes)} if kernel.attributes else {}
    record |= {"bug": kernel.kind, "subtle": kernel.subtle} if kernel.kind else {}
    flagged: dict[str, bool | None] = {}
    try:
        verdict = oracle.check_kernel(
            kernel.fn, kernel.op, precision=kernel.precision, backward=kernel.backward, seed=seed, **kernel.attributes
        )
    except UsageError as error:
        flagged[CHECK], record["refused"] = None, str(error)
    except Exception as error:  # whatever it raises is charged to it
        flagged[CHECK], record["said"] = not kernel.kind, f"raised {type(error).__name__}: {error}"
    else:
        flagged[CHECK] = not verdict.agrees
        if not verdict.agrees:
            record["said"] = verdict.sentence()
            first = verdict.first
            told = f"{first.kind}, {first.place}, {first.draw}, {first.note}"
            record |= {"named": any(word in told for word in WORDS[kernel.kind])} if kernel.kind else {}
    record["seconds"] = round(time.perf_counter() - start, 2)
    record["flagged"] = flagged | others.flags(kernel)
    return record


def kernels(mutated: bool) -> Iterator[Kernel]:
    """Those with a bug, or the healthy ones."""
    for family in FAMILIES:
        yield from family.mutants() if mutated else family.healthy()
    if not mutated:
        yield from libraries.healthy()


# -- the record --------------------------------------------------------------------------------------------------------


def document(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """As JSON can hold it."""
    return {"format": "lucid-oracle kernels 1", "versions": versions(), **counts(records), "kernels": list(records)}


def counts(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The sums, by judge."""
    healthy, mutants = split(records)
    judges = list(dict.fromkeys(name for record in records for name in record["flagged"]))
    return {
        "healthy": len(healthy),
        "healthy flagged": {name: sum(bool(each["flagged"].get(name)) for each in healthy) for name in judges},
        "mutants": len(mutants),
        "kind right": sum(bool(each.get("named")) for each in mutants),
        "mutants missed": {name: sum(not each["flagged"].get(name) for each in mutants) for name in judges},
        "seconds": round(sum(each["seconds"] for each in records), 1),
    }


def split(records: Iterable[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Healthy kernels and mutants, of those that the check did not refuse."""
    judged = [each for each in records if each["flagged"][CHECK] is not None]
    return [each for each in judged if "bug" not in each], [each for each in judged if "bug" in each]


def title(record: dict[str, Any]) -> str:
    """A kernel in one line."""
    given = ", ".join(f"{name}={value}" for name, value in record.get("attributes", {}).items())
    return f"{record['op']}({given}) in {record['precision']}: {record['kernel']}"


def table(records: Sequence[dict[str, Any]]) -> str:
    """The page: counts by operation and precision, then what each judge got wrong."""
    healthy, mutants = split(records)
    judges = list(records[0]["flagged"])
    lines = [
        f"{len(healthy)} checks of healthy kernels and {len(mutants)} mutants (`tools/kernel_records.py`).",
        "By judge: how many healthy kernels it flagged, and how many mutants it missed; nothing where it is 0.",
        "",
        "| operation | precision | healthy | " + " | ".join(judges) + " | mutants | " + " | ".join(judges) + " |",
        "|---|---|---:|" + "---:|" * len(judges) + "---:|" + "---:|" * len(judges),
    ]
    rows = sorted({(each["op"], each["precision"]) for each in (*healthy, *mutants)})
    lines += [
        row(op, precision, _of(healthy, op, precision), _of(mutants, op, precision), judges) for op, precision in rows
    ]
    lines.append(row("**all**", "", healthy, mutants, judges))
    subtle = [each for each in mutants if each["subtle"]]
    lines += ["", f"{CHECK} named the kind of bug of {sum(bool(each.get('named')) for each in mutants)} mutants."]
    lines += ["", f"Of {len(subtle)} subtle mutants, whose error is below one rounding of an element or rare:"]
    lines[-1] += (
        " "
        + ", ".join(f"{judge} missed {sum(not each['flagged'][judge] for each in subtle)}" for judge in judges)
        + "."
    )
    for judge in judges:
        lines += ["", f"## {judge}", "", "Healthy kernels that it flagged:", ""]
        lines += [f"- {title(each)}" for each in healthy if each["flagged"][judge]] or ["- none"]
        lines += ["", "Mutants that it missed:", ""]
        lines += [f"- {title(each)}" for each in mutants if not each["flagged"][judge]] or ["- none"]
    return "\n".join(lines) + "\n"


def row(op: str, precision: str, healthy: Sequence[Any], mutants: Sequence[Any], judges: Sequence[str]) -> str:
    """One row of the table."""
    flagged = [sum(bool(each["flagged"][judge]) for each in healthy) or "" for judge in judges]
    missed = [sum(not each["flagged"][judge] for each in mutants) or "" for judge in judges]
    return (
        "| " + " | ".join(map(str, (op, precision, len(healthy) or "", *flagged, len(mutants) or "", *missed))) + " |"
    )


def _of(records: Iterable[dict[str, Any]], op: str, precision: str) -> list[dict[str, Any]]:
    return [each for each in records if (each["op"], each["precision"]) == (op, precision)]


# -- the command -------------------------------------------------------------------------------------------------------


def chosen(arguments: argparse.Namespace) -> list[Kernel]:
    """The kernels that this run checks."""
    every = [
        each
        for mutated in (False, True)
        if arguments.only in (None, "mutants" if mutated else "healthy")
        for each in kernels(mutated)
    ]
    every = [each for each in every if arguments.op is None or each.op in arguments.op]
    every = [each for each in every if arguments.precision is None or each.precision in arguments.precision]
    place, parts = map(int, arguments.part.split("/"))
    return every[place - 1 :: parts * (20 if arguments.quick else 1)]


def main() -> int:
    """Check every kernel and write the records."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", default="1/1", help="I/N: every N-th kernel, from the I-th on")
    parser.add_argument("--seed", type=int, default=0, help="of all draws")
    parser.add_argument("--quick", action="store_true", help="one kernel in 20")
    parser.add_argument("--only", choices=("healthy", "mutants"), help="one of the two")
    parser.add_argument("--op", nargs="*", help="these operations alone")
    parser.add_argument("--precision", nargs="*", help="these profiles alone")
    parser.add_argument("--add", nargs="*", type=Path, default=[], help="records of other parts; alone, nothing is run")
    parser.add_argument(
        "--json", type=Path, default=RECORDS / "kernels.json", help="the record; the table stands beside it"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    records = [each for path in arguments.add for each in json.loads(path.read_text())["kernels"]]
    others = Others(arguments.seed)
    for kernel in [] if arguments.add else chosen(arguments):
        records.append(measure(kernel, arguments.seed, others))
        wrong = records[-1]["flagged"][CHECK] is not None and records[-1]["flagged"][CHECK] != bool(kernel.kind)
        if wrong:
            what = "missed" if kernel.kind else "flagged"
            print(f"{what}: {kernel.title}\n  {records[-1].get('said', '')}", flush=True)
    write_whole(arguments.json, record_lines(document(records)))
    write_whole(arguments.json.with_suffix(".md"), table(records).encode())
    found = counts(records)
    print({name: found[name] for name in found})
    wrong = found["healthy flagged"][CHECK] or found["mutants missed"][CHECK] > 0.02 * found["mutants"]
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
