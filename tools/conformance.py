"""Counts onnx's own suite, by lucid and by ONNX Runtime in one run, and writes the page's table.

    python tools/conformance.py [--list]

It writes ``tools/records/conformance.json`` and the part of ``docs/onnx.md`` between its two marks, and names the tests
that do not pass and are not in ``tests/onnx/not_passed.txt``, and those that are there and pass. With ``--list`` it
first takes out those that pass, and puts in the others with their error, which a reason should replace. The exit status
is 1 if there are such tests, if a result is further from the truth than it may be, or if ONNX Runtime passes as many.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "tests"))

import onnx  # noqa: E402
from onnx import defs  # noqa: E402
from support import conformance  # noqa: E402

from lucid.onnx._importer import IMPORTS, Importer  # noqa: E402
from lucid.onnx._load import OLDEST_READ  # noqa: E402
from lucid.onnx._need import need  # noqa: E402
from lucid.onnx.backend import LucidBackend  # noqa: E402

RECORD = ROOT / "tools" / "records" / "conformance.json"
PAGE = ROOT / "docs" / "onnx.md"
LIST = ROOT / "tests" / "onnx" / "not_passed.txt"
MARKS = "<!-- made by tools/conformance.py -->", "<!-- end -->"
DOMAINS = ("", "ai.onnx.ml", "ai.onnx.preview", "ai.onnx.preview.training")


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--list", action="store_true", help="bring the list of what does not pass up to date")
    if parser.parse_args().list:
        renew_list()
    wrong: list[str] = []
    record = counted(wrong)
    RECORD.write_text(_lines(record))
    PAGE.write_text(with_table(PAGE.read_text(), record))
    print("\n".join(wrong))
    for what in ("tests", "passed", "exact", "within", "onnxruntime_passed"):
        print(f"{what}: {record[what]:,}")
    return int(bool(wrong) or record["passed"] <= record["onnxruntime_passed"])


def _lines(record: dict[str, Any]) -> str:
    """One count a line."""
    text = json.dumps(record, indent=1)
    return re.sub(r"\[\s+(\d+),\s+(\d+)\s+\]", r"[\1, \2]", text) + "\n"


def renew_list() -> None:
    """Take out the listed tests that pass, and put in those that do not and are not listed."""
    known, lines = conformance.listed(LIST), []
    for group in conformance.groups():
        for case in conformance.cases(group):
            found, error = _tried(case, LucidBackend.prepare)
            if found is None:
                lines.append(f"{group} {case.name}: {known.get(group, {}).get(case.name, error)}\n")
    LIST.write_text("".join(lines))


def counted(wrong: list[str] | None = None) -> dict[str, Any]:
    """The counts; what is not as the list says, and what is over its budget, is appended to ``wrong``."""
    wrong = [] if wrong is None else wrong
    runtime = need("onnxruntime", "tools/conformance.py")
    from onnxruntime.backend.backend import OnnxRuntimeBackend

    runtime.set_default_logger_severity(4)
    total: Counter[str] = Counter()
    tests: Counter[str] = Counter()
    passed: Counter[str] = Counter()
    known = conformance.listed(LIST)
    for group in conformance.groups():
        for case in conformance.cases(group):
            names = {_name(node.domain, node.op_type) for node in case.model.graph.node}
            total["tests"] += 1
            tests.update(names)
            found, error = _tried(case, LucidBackend.prepare)
            listed = case.name in known.get(group, {})
            if (found is None) != listed:
                wrong.append(f"{group} {case.name}: {'passes and is listed' if listed else error}")
            if found is not None:
                total["passed"] += 1
                passed.update(names)
                judged = conformance.judge(case, found, LucidBackend.prepare)
                total["exact"] += judged.exact
                total["within"] += judged.within
                wrong += judged.over
            total["onnxruntime_passed"] += _tried(case, OnnxRuntimeBackend.prepare)[0] is not None
    counts = {what: total[what] for what in ("tests", "passed", "exact", "within", "onnxruntime_passed")}
    operators = {name: [passed[name], tests[name]] for name in sorted(tests)}
    return {"onnx": onnx.__version__, "onnxruntime": runtime.__version__, **counts, "operators": operators}


def _tried(case: conformance.Case, prepare: Any) -> tuple[Any, str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return conformance.run(case, prepare), ""
        except Exception as error:
            return None, f"{type(error).__name__}: {error}".replace("\n", " ")[:200]


# -- the page --------------------------------------------------------------------------------------------------------


def with_table(page: str, record: dict[str, Any]) -> str:
    """The page with what is between its marks made anew."""
    before, rest = page.split(MARKS[0])
    after = rest.split(MARKS[1])[1]
    return f"{before}{MARKS[0]}\n\n{_counts(record)}\n\n{_table(record)}\n\n{MARKS[1]}{after}"


def _counts(record: dict[str, Any]) -> str:
    number = {key: f"{value:,}" for key, value in record.items() if isinstance(value, int)}
    return (
        f"Of the {number['tests']} tests of onnx {record['onnx']} lucid passes **{number['passed']}**, and in the same "
        f"run ONNX Runtime {record['onnxruntime']} passes {number['onnxruntime_passed']}. Of lucid's outputs "
        f"{number['exact']} are exact, as they must be, and {number['within']} are within a few roundings of the "
        "float64 result."
    )


def _table(record: dict[str, Any]) -> str:
    rows = ["| operator | versions | gradient | backends | tests passed |", "|---|---|---|---|---|"]
    missing = []
    for domain in DOMAINS:
        newest = {}
        for schema in defs.get_all_schemas_with_history():
            if schema.domain == domain:
                newest.setdefault(schema.name, []).append(schema)
        for name, schemas in sorted(newest.items()):
            importer = IMPORTS.get((domain, name))
            latest = max(schemas, key=lambda schema: schema.since_version)
            if importer is None and not (latest.has_function or latest.has_context_dependent_function):
                missing.append(f"`{_name(domain, name)}`")
                continue
            versions = sorted(schema.since_version for schema in schemas)
            if not domain:
                first = max(version for version in versions if version <= max(OLDEST_READ, versions[0]))
                versions = [version for version in versions if version >= first]
            done, of = record["operators"].get(_name(domain, name), (0, 0))
            count = f"{done} of {of}" if of else "none there"
            listed = ", ".join(map(str, versions))
            rows.append(f"| {_name(domain, name)} | {listed} | {' | '.join(_how(importer))} | {count} |")
    rest = f"Not there: {', '.join(missing)}." if missing else "No operator of these domains is missing."
    others = sorted(f"`{_name(*key)}`" for key in IMPORTS if key[0] not in DOMAINS)
    return "\n".join(rows) + f"\n\n{rest}" + (f" Of other domains: {', '.join(others)}." if others else "")


def _how(importer: Importer | None) -> tuple[str, str]:
    """Whether it has a gradient, and who computes it."""
    if importer is None:
        return "of its parts", "its parts'"
    return ("yes" if importer.gradient else "no"), ("NumPy, on the host" if importer.host is None else "all")


def _name(domain: str, operator: str) -> str:
    return f"{domain}.{operator}" if domain not in ("", "ai.onnx") else operator


if __name__ == "__main__":
    sys.exit(main())
