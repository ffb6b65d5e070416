"""Reports: each says what the verdict says, no more and no less, in a form that its reader takes."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

pytest.importorskip("jinja2")
pytest.importorskip("rich")

from rich.console import Console
from support.verdicts import ABSENT, FORWARD, KEYS, LAYERS, NOT_FINITE, OVER, a_subject, a_verdict

from oracle import cli
from oracle.errors import UsageError
from oracle.judge.summary import number, verdict_to_dict
from oracle.judge.verdicts import LayerVerdict, SubjectVerdict
from oracle.report import write_reports
from oracle.report.chart import BOTTOM, HEIGHT, LEFT, TOP, WIDTH, draw
from oracle.report.html_report import to_html
from oracle.report.json_report import read_json, value, write_json
from oracle.report.junit_report import to_junit
from oracle.report.terminal import print_verdict
from oracle.run import Verdict

STEM, CONV = ("activation", "stem.1"), ("activation", "layer1.0.conv1")
HEALTHY = a_verdict(a_subject())
FAULTY = a_verdict(
    a_subject(view="exact", label="lucid"),
    a_subject(changes={CONV: OVER, ("activation_gradient", "stem.0"): NOT_FINITE, STEM: ABSENT}),
)
NOTHING = Verdict([], {})
MISSING = {**ABSENT, "status": "missing"}
UNJUDGED = {"status": "not judged", "budget": 0.9}


def printed(verdict: Any, *, encoding: str = "utf-8", **options: Any) -> str:
    raw = io.BytesIO()
    with io.TextIOWrapper(raw, encoding=encoding, write_through=True) as stream:
        print_verdict(verdict, Console(file=stream, width=100, highlight=False), **options)
        return raw.getvalue().decode(encoding)


# -- JSON -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verdict", [HEALTHY, FAULTY, NOTHING])
def test_json_is_strict_and_read_again(verdict: Verdict, tmp_path: Path) -> None:
    document = verdict_to_dict(verdict)
    write_json(document, tmp_path / "verdict.json")
    text = (tmp_path / "verdict.json").read_text()
    json.loads(text, parse_constant=lambda constant: pytest.fail(f"{constant} is no strict JSON"))
    assert read_json(tmp_path / "verdict.json") == document


def test_json_says_what_the_verdict_says() -> None:
    document = verdict_to_dict(FAULTY)
    assert document["agrees"] is False
    exact, free = document["cases"][0]["subjects"]
    assert exact["agrees"] is True
    assert exact["counts"] == {"exact": 12}
    assert free["counts"] == {"within": 9, "not observed": 1, "over": 1, "not finite": 1}
    assert free["layers"][free["first"]]["name"] == "layer1.0.conv1"
    assert free["first"] == free["first_forward"]
    assert free["layers"][free["first_backward"]]["status"] == "not finite"
    layer = free["layers"][free["first"]]
    assert (layer["error"], layer["channel"], layer["difference"]) == (3e-5, 3, "one channel (3)")
    assert layer["used"] == 90.0


@pytest.mark.parametrize("each", [0.0, 1.5, math.nan, math.inf, -math.inf])
def test_numbers_come_back(each: float) -> None:
    assert value(number(each)) == each or math.isnan(each)
    assert math.isnan(value(number(each))) == math.isnan(each)


def broken(change: Any) -> bytes:
    document = json.loads(json.dumps(verdict_to_dict(FAULTY)))
    change(document)
    return json.dumps(document).encode()


LAYER = "document['cases'][0]['subjects'][0]['layers'][0]"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.pop("format"), "the format of .* is None"),
        (lambda d: d.update(format="lucid-oracle verdict 1"), "may be 'lucid-oracle verdict 2'"),
        (lambda d: d.update(cases={}), "'cases' of a verdict is {}"),
        (lambda d: d["cases"].append(3), "a case is int, not an object"),
        (lambda d: d["cases"][0].pop("truth"), "a case has no 'truth'"),
        (lambda d: d["cases"][0]["subjects"][0].update(first=99), "'first' of a subject is 99, and it has 12 layers"),
        (lambda d: d["cases"][0]["subjects"][0]["layers"][0].pop("error"), "a layer has no 'error'"),
        (lambda d: d["cases"][0]["subjects"][0]["layers"][0].update(error="big"), "'error' of a layer is 'big'"),
        (lambda d: d["cases"][0]["subjects"][0]["layers"][0].update(agrees="yes"), "'agrees' of a layer is 'yes'"),
    ],
)
def test_a_damaged_verdict_is_named(change: Any, words: str, tmp_path: Path) -> None:
    path = tmp_path / "verdict.json"
    path.write_bytes(broken(change))
    with pytest.raises(UsageError, match=words):
        read_json(path)


@pytest.mark.parametrize(("content", "words"), [(b"", "is not JSON"), (b"[]", "format"), (b"\xff\xfe", "is not JSON")])
def test_what_is_no_verdict_is_named(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "verdict.json").write_bytes(content)
    with pytest.raises(UsageError, match=words):
        read_json(tmp_path / "verdict.json")
    with pytest.raises(UsageError, match="cannot read"):
        read_json(tmp_path / "missing.json")


# -- JUnit XML --------------------------------------------------------------------------------------------------------

# What the usual schema (junit-10.xsd of Jenkins' xUnit plugin) allows: attributes, those required, children.
SCHEMA: dict[str, tuple[set[str], set[str], set[str]]] = {
    "testsuites": ({"name", "time", "tests", "failures", "errors"}, set(), {"testsuite"}),
    "testsuite": (
        {"name", "tests", "failures", "errors", "skipped", "time", "timestamp", "hostname", "id", "package", "file"},
        {"name", "tests", "failures", "errors"},
        {"properties", "testcase", "system-out", "system-err"},
    ),
    "properties": (set(), set(), {"property"}),
    "property": ({"name", "value"}, {"name", "value"}, set()),
    "testcase": ({"name", "time", "classname", "group"}, {"name"}, {"skipped", "failure", "system-out", "system-err"}),
    "failure": ({"type", "message"}, set(), set()),
    "skipped": ({"type", "message"}, set(), set()),
}
_TIME = re.compile(r"(([0-9]{0,3},)*[0-9]{3}|[0-9]{0,3})*(\.[0-9]{0,3})?")


def assert_valid(element: ElementTree.Element) -> None:
    allowed, required, children = SCHEMA[element.tag]
    assert set(element.keys()) <= allowed, element.tag
    assert required <= set(element.keys()), element.tag
    assert _TIME.fullmatch(element.get("time", "0"))
    for child in element:
        assert child.tag in children, f"{child.tag} in {element.tag}"
        assert_valid(child)


@pytest.mark.parametrize(
    "verdict",
    [HEALTHY, FAULTY, NOTHING, a_verdict(), a_verdict(a_subject(failure="OSError: \x00\x1b[31m <&>\ud800"))],
)
def test_junit_keeps_to_the_schema(verdict: Verdict) -> None:
    root = ElementTree.fromstring(to_junit(verdict_to_dict(verdict)))
    assert_valid(root)
    for suite in root:
        tests = suite.findall("testcase")
        assert int(suite.get("tests", "")) == len(tests) > 0
        for outcome, count in (("failure", "failures"), ("skipped", "skipped")):
            assert int(suite.get(count, "")) == sum(test.find(outcome) is not None for test in tests)
    assert int(root.get("failures", "")) == sum(int(suite.get("failures", "")) for suite in root)


def test_junit_has_a_test_for_every_tensor() -> None:
    root = ElementTree.fromstring(to_junit(verdict_to_dict(FAULTY)))
    exact, free = root
    assert [test.get("name") for test in free.iter("testcase")] == [f"{kind} {name}" for kind, name in KEYS["train"]]
    assert {test.get("classname") for test in free.iter("testcase")} == {"narrow-train.torch:no-onednn.free"}
    failed = {test.get("name"): test.find("failure") for test in free.iter("testcase")}
    found = failed["activation layer1.0.conv1"]
    assert found is not None
    assert "error 3.000e-05 (budget 2.000e-06)" in found.get("message", "")
    assert "one channel (3)" in found.get("message", "")
    assert (exact.get("failures"), free.get("failures"), free.get("skipped")) == ("0", "2", "1")


@pytest.mark.parametrize(
    "verdict",
    [
        NOTHING,
        a_verdict(),
        a_verdict(a_subject(changes=dict.fromkeys(KEYS["train"], ABSENT))),
        a_verdict(a_subject(failure="dead")),
    ],
)
def test_junit_is_never_green_where_nothing_was_compared(verdict: Verdict) -> None:
    assert int(ElementTree.fromstring(to_junit(verdict_to_dict(verdict))).get("failures", "")) > 0


# -- the terminal -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_the_table_fits_and_holds_every_tensor(count: int) -> None:
    subjects = (a_subject(changes={CONV: OVER}, label=f"torch:threads={n}") for n in range(count))
    text = printed(a_verdict(*subjects), every=True)
    assert max(map(len, text.splitlines())) <= 100
    for name in LAYERS:
        assert re.search(rf"^  {re.escape(name)} .*✓|✗", text, re.MULTILINE)
    row = next(line for line in text.splitlines() if line.startswith("  layer1.0.conv1"))
    assert row.count("✗") == row.count("9000%") == count


def test_the_bar_is_as_long_as_the_share() -> None:
    def bar(used: float) -> str:
        text = printed(a_verdict(a_subject(changes={CONV: {"error": used, "budget": 1.0}})), every=True)
        return next(line for line in text.splitlines() if line.startswith("  layer1.0.conv1"))

    assert "████████████ " in bar(1.0)
    assert "██████       " in bar(0.5)
    assert "███▏" in bar(0.26)
    assert "50%" in bar(0.5)
    assert "█" not in bar(0.0)


def test_a_terminal_without_unicode_gets_ascii() -> None:
    text = printed(FAULTY, encoding="ascii", every=True)
    assert "?" not in text
    assert re.search(r"stem\.0 .* same bits ok .*##\.\.\.\.\.\..*ok", text)
    assert re.search(r"layer1\.0\.conv1 .*######## 9000% X", text)


def test_what_is_out_of_line_is_said() -> None:
    text = printed(FAULTY, every=True)
    assert "not observed" in text
    assert "not finite ✗" in text
    assert "first out of line: the output of layer1.0.conv1" in " ".join(text.split())
    assert text.rstrip().endswith("disagrees")
    assert printed(HEALTHY).rstrip().endswith("\nagrees")
    assert printed(NOTHING).rstrip().endswith("could not be done")
    assert printed(a_verdict(a_subject(failure="dead"))).rstrip().endswith("could not be done")


def test_other_bits_are_said() -> None:
    text = printed(a_verdict(a_subject(view="exact", changes={CONV: {"status": "over"}})), every=True)
    assert re.search(r"layer1\.0\.conv1 .*other bits ✗", text)
    assert re.search(r"stem\.0 .*same bits ✓", text)


def rows(text: str) -> list[str]:
    """The tensors that a table lists, in order; a gap between them as three dots."""
    _, _, table = text.partition("\nforward")
    found = [line.split() for line in table.splitlines()[1:] if line.startswith("  ")]
    return ["..." if words == ["⋯"] else words[0] for words in found]


def numbered(count: int, changes: dict[int, dict[str, Any]], view: Any = "free") -> Any:
    """A subject of so many outputs, some of them changed."""
    usual = {"status": "within", "error": 1e-9, "budget": 1e-6}
    if view == "exact":
        usual = {"status": "exact"}
    layers = [
        LayerVerdict("activation", f"l{place}", view, **(usual | changes.get(place, {}))) for place in range(count)
    ]
    return SubjectVerdict("torch", view, "float32", layers)


def test_where_all_is_well_the_ten_closest_to_their_budgets_are_listed_in_order() -> None:
    shares = {place: {"error": 1e-7 * (1 + place % 7)} for place in range(3, 200, 12)}
    text = printed(a_verdict(numbered(400, shares)))
    ten = sorted(sorted(shares, key=lambda place: -shares[place]["error"])[:10])
    assert rows(text) == [f"l{place}" for place in ten]
    assert "closest to their budgets" in text
    assert "--all lists every tensor" in text
    assert (
        rows(printed(a_verdict(numbered(400, shares)), worst=3)) == [f"l{place}" for place in ten if place % 7 == 6][:3]
    )
    assert len(rows(printed(a_verdict(numbered(400, shares)), every=True))) == 400
    assert rows(printed(a_verdict(numbered(400, shares)), tables=False)) == []
    assert rows(printed(a_verdict(numbered(400, {}, "exact")))) == []  # same bits are no closer to anything than others


def test_what_is_out_of_line_is_listed_with_its_neighbours() -> None:
    text = printed(a_verdict(numbered(400, {0: OVER, 50: OVER, 52: OVER, 399: NOT_FINITE})))
    assert rows(text) == ["l0", "l1", "...", "l49", "l50", "l51", "l52", "l53", "...", "l398", "l399"]
    assert "more out of line" not in text


@pytest.mark.parametrize(("bad", "rest"), [(20, 0), (21, 1), (300, 280)])
def test_of_many_that_are_out_of_line_the_first_are_listed_and_the_rest_counted(bad: int, rest: int) -> None:
    text = printed(a_verdict(numbered(900, {3 * place: OVER for place in range(bad)})))
    assert sum("9000%" in line for line in text.splitlines()) == 20
    assert (f"and {rest} more out of line; --all lists every tensor" in text) == bool(rest)


def test_what_is_out_of_line_in_one_view_is_listed_beside_the_others() -> None:
    text = printed(a_verdict(numbered(90, {40: {"status": "over"}}, "exact"), numbered(90, {})))
    assert rows(text) == ["...", "l39", "l40", "l41"]
    assert re.search(r"l40 .*other bits ✗ .*0% ✓", text)


@pytest.mark.parametrize("width", [60, 80, 100, 120])
@pytest.mark.parametrize("count", [1, 3, 5])
def test_the_table_fits_the_terminal(width: int, count: int) -> None:
    long = [("activation", "layer3.35.downsample.1"), ("parameter_gradient", "layer3.35.downsample.1.weight")]
    layers = [LayerVerdict(kind, name, "free", "within", 1e-7, 2e-7) for kind, name in long]  # type: ignore[arg-type]
    verdict = a_verdict(*(SubjectVerdict(f"s{n}", "free", "float32", layers) for n in range(count)))
    raw = io.StringIO()
    print_verdict(verdict, Console(file=raw, width=width, highlight=False))
    lines = raw.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    row = next(line for line in lines if line.startswith("  layer3.35"))
    assert row.count("50% ✓") == count
    assert ("█" in row) == (32 + count * 14 <= width)  # a bar where it takes nothing from the name


# -- what is neither in line nor out of it, and what is to be said beside --------------------------------------------

UNJUDGED: dict[str, Any] = {"status": "not judged", "error": 0.2, "budget": 0.5, "note": "its budget is half of it"}


def test_what_is_not_judged_is_neutral_in_every_report() -> None:
    verdict = a_verdict(a_subject(changes={CONV: UNJUDGED, STEM: ABSENT}))
    document = verdict_to_dict(verdict)
    assert document["cases"][0]["subjects"][0]["counts"]["not judged"] == 1
    [suite] = ElementTree.fromstring(to_junit(document))
    assert (suite.get("skipped"), suite.get("failures")) == ("2", "0")
    skipped = [
        test.find("skipped") for test in suite.iter("testcase") if test.get("name") == "activation layer1.0.conv1"
    ]
    assert skipped[0] is not None
    assert (skipped[0].get("type"), skipped[0].get("message")) == ("not judged", "its budget is half of it")
    text = printed(verdict, every=True)
    assert re.search(r"layer1\.0\.conv1 +not judged", text)
    assert "not judged ✗" not in text
    found = page(verdict)
    assert len([each for each in found.all("circle") if each.get("class") == "unjudged" and "data-row" in each]) == 1
    assert not [each for each in found.all("path") if each.get("class") == "over" and "data-row" in each]


def test_a_status_that_nobody_knows_is_out_of_line() -> None:
    verdict = a_verdict(a_subject(changes={CONV: {"status": "something new"}}))
    assert re.search(r"layer1\.0\.conv1 +something new ✗", printed(verdict))
    assert ElementTree.fromstring(to_junit(verdict_to_dict(verdict))).get("failures") == "1"


NOTED = replace(a_subject(), notes=("names read as <torchvision>'s [b]",), differing=("fc.bias",))


def test_notes_and_differing_parameters_are_in_every_report(tmp_path: Path) -> None:
    verdict = a_verdict(NOTED)
    assert not verdict.agrees
    text = " ".join(printed(verdict).split())
    assert "disagrees. its own fc.bias differs from the case's." in text
    assert "note: names read as <torchvision>'s [b]" in text
    assert "Note: names read as <torchvision>'s [b]." in page(verdict).text
    [suite] = ElementTree.fromstring(to_junit(verdict_to_dict(verdict)))
    assert suite.get("failures") == "1"
    assert "not the case's: fc.bias" in ElementTree.tostring(suite).decode()
    write_json(verdict_to_dict(verdict), tmp_path / "v.json")
    assert read_json(tmp_path / "v.json") == verdict_to_dict(verdict)


def test_a_verdict_of_an_earlier_version_has_no_notes(tmp_path: Path) -> None:
    document = json.loads(json.dumps(verdict_to_dict(HEALTHY)))
    for part in (document["cases"][0], *document["cases"][0]["subjects"]):
        part.pop("notes")
        part.pop("differing", None)
    (tmp_path / "v.json").write_text(json.dumps(document))
    assert read_json(tmp_path / "v.json") == verdict_to_dict(HEALTHY)
    document["cases"][0]["notes"] = [3]
    (tmp_path / "v.json").write_text(json.dumps(document))
    with pytest.raises(UsageError, match="'notes' of a case is"):
        read_json(tmp_path / "v.json")


def test_names_are_no_markup() -> None:
    assert "[bold]" in printed(a_verdict(a_subject(label="[bold]mine[/bold]", failure="[red]x")))


# -- HTML -------------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """What is in a page: every tag with its attributes, all text; and that each tag is closed."""

    VOID = frozenset({"meta", "link", "input", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str, **attributes: str) -> list[dict[str, str | None]]:
        return [
            found
            for name, found in self.tags
            if name == tag and all(wanted in (found.get(key) or "").split() for key, wanted in attributes.items())
        ]


def page(verdict: Verdict) -> Page:
    return Page(to_html(verdict_to_dict(verdict)))


@pytest.mark.parametrize("verdict", [HEALTHY, FAULTY, NOTHING, a_verdict(), a_verdict(a_subject(failure="dead"))])
def test_the_page_needs_nothing_else(verdict: Verdict) -> None:
    text = to_html(verdict_to_dict(verdict))
    found = Page(text)
    for _, attributes in found.tags:
        for name in ("src", "href", "action", "srcset", "data"):
            assert (attributes.get(name) or "#").startswith(("#", "data:"))
    assert "url(" not in text
    assert "@import" not in text
    assert "http:" not in text
    assert "https:" not in text
    [policy] = [each for each in found.all("meta") if each.get("http-equiv") == "Content-Security-Policy"]
    assert (policy["content"] or "").startswith("default-src 'none'")


def test_every_link_leads_somewhere() -> None:
    found = page(FAULTY)
    ids = [attributes["id"] for _, attributes in found.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [(each["href"] or "")[1:] for each in found.all("a")]
    assert links
    assert set(links) <= set(ids)
    rows = {attributes["data-row"] for _, attributes in found.tags if "data-row" in attributes}
    assert {f"r{row}" for row in rows} <= set(ids)
    text = to_html(verdict_to_dict(FAULTY))
    [first] = re.findall(r'<a href="#(r\d+)">output layer1\.0\.conv1</a>', text)
    assert re.search(rf'<tr id="{first}" class="bad printed">.*<td class="name">layer1\.0\.conv1</td>', text)
    assert re.search(rf'class="over" data-row="{first[1:]}"[^>]*><title>activation layer1\.0\.conv1: over', text)


def test_the_table_holds_every_tensor_of_every_subject() -> None:
    found = page(FAULTY)
    rows = [each for each in found.all("tr") if (each.get("id") or "").startswith("r")]
    assert len(rows) == 2 * len(KEYS["train"])
    states = [(each["class"] or "").split()[0] for each in rows]
    assert (states.count("bad"), states.count("neutral")) == (2, 1)
    printed_rows = [each for each in rows if "printed" in (each["class"] or "").split()]
    assert sum("bad" in (each["class"] or "") for each in printed_rows) == 2  # paper gets all that is out of line


def test_the_charts_mark_what_is_out_of_line() -> None:
    found = page(FAULTY)
    assert len(found.all("svg", role="img")) == 2  # forward and backward of the one subject that has errors
    assert len([each for each in found.all("path") if each.get("class") == "over" and "data-row" in each]) == 2
    assert len([each for each in found.all("path") if each.get("class") == "gone" and "data-row" in each]) == 1
    assert found.text.count("first out of line: layer1.0.conv1") == 1
    assert found.text.count("first out of line: stem.0") == 1
    assert "first out of line:" not in page(HEALTHY).text.replace("forward, first out of line:", "")


def test_nothing_compared_is_said() -> None:
    assert "Nothing was compared" in page(NOTHING).text


def test_names_are_no_html() -> None:
    found = page(a_verdict(a_subject(label="<script>alert(1)</script>", failure='"><img src=x>')))
    assert len(found.all("script")) == 1
    assert not found.all("img")
    assert "<script>alert(1)</script>" in found.text


# -- geometry ---------------------------------------------------------------------------------------------------------


def layers(*errors: float, budget: float = 1e-6) -> list[tuple[int, dict[str, Any]]]:
    changes: dict[Any, Any] = {
        key: {"error": error, "budget": budget, "status": "within" if error <= budget else "over"}
        for key, error in zip(FORWARD, errors, strict=False)
    }
    subject = a_subject("eval", changes=changes)
    document = verdict_to_dict(a_verdict(subject, mode="eval"))
    return list(enumerate(document["cases"][0]["subjects"][0]["layers"]))[: len(errors)]


def test_the_chart_is_logarithmic() -> None:
    chart = draw("Forward", layers(1e-8, 1e-7, 1e-6, 1e-5), 3)
    assert chart is not None
    ys = [mark.y for mark in chart.marks]
    steps = [above - below for above, below in zip(ys[1:], ys[:-1], strict=True)]
    assert max(steps) - min(steps) < 0.3  # drawn to a tenth
    assert steps[0] < 0  # larger errors stand higher
    assert [mark.state for mark in chart.marks] == ["within", "within", "within", "over"]
    assert chart.first is chart.marks[3]
    assert chart.first_label == LAYERS[3]
    assert all(LEFT < mark.x < WIDTH and TOP <= mark.y <= HEIGHT - BOTTOM for mark in chart.marks)
    assert f"{chart.marks[2].y:.1f}" in chart.budget  # an error that is the budget stands on its line
    assert {tick.label for tick in chart.decades} == {"10⁻⁸", "10⁻⁷", "10⁻⁶", "10⁻⁵"}


def test_zero_and_not_finite_have_rows_of_their_own() -> None:
    chart = draw("Forward", layers(0.0, 1e-7, math.nan, math.inf), None)
    assert chart is not None
    assert chart.marks[0].y == chart.zero
    assert chart.marks[2].y == chart.marks[3].y == chart.beyond
    assert chart.beyond is not None
    assert chart.zero is not None
    assert chart.beyond < chart.marks[1].y < chart.zero


def test_a_chart_without_numbers_is_none() -> None:
    assert draw("Forward", layers(math.nan, math.nan, budget=math.nan), None) is None


@pytest.mark.parametrize("error", [5e-324, 1.7e308, 0.0, math.inf])
def test_numbers_of_any_size_are_drawn(error: float, tmp_path: Path) -> None:
    document = json.loads(json.dumps(verdict_to_dict(FAULTY)))
    each_layer(document, error=number(error), budget=number(error), status="over")
    (tmp_path / "verdict.json").write_text(json.dumps(document))
    options = [part for kind in ("html", "junit") for part in (f"--{kind}", str(tmp_path / kind))]
    assert cli.run(["report", str(tmp_path / "verdict.json"), *options]) == cli.DISAGREES


@pytest.mark.parametrize("high", [1e-6, 1.0, 1e300])
def test_decades_are_few_and_inside(high: float) -> None:
    chart = draw("Forward", layers(1e-7, high), None)
    assert chart is not None
    assert 2 <= len(chart.decades) <= 10
    assert all(TOP <= tick.at <= HEIGHT - BOTTOM for tick in chart.decades)


# -- files and the command --------------------------------------------------------------------------------------------


def test_reports_are_made_again_from_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = {name: tmp_path / f"first.{name}" for name in ("json", "junit", "html")}
    write_reports(FAULTY, **first)
    again = {name: tmp_path / f"again.{name}" for name in ("json", "junit", "html")}
    options = [part for name, path in again.items() for part in (f"--{name}", str(path))]
    assert cli.run(["report", str(first["json"]), *options, "-q"]) == cli.DISAGREES
    for name, path in first.items():
        assert path.read_bytes() == again[name].read_bytes(), name
    assert "layer1.0.conv1" in capsys.readouterr().out
    write_reports(HEALTHY, json=tmp_path / "healthy.json")
    assert cli.run(["report", str(tmp_path / "healthy.json")]) == cli.AGREES


@pytest.mark.parametrize("option", ["--json", "--junit", "--html"])
def test_a_report_that_cannot_be_written_is_wrong_usage(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_reports(HEALTHY, json=tmp_path / "verdict.json")
    for target, words in ((tmp_path, "is a directory"), (tmp_path / "no" / "x", "there is no directory")):
        assert cli.run(["report", str(tmp_path / "verdict.json"), option, str(target)]) == cli.WRONG_USAGE
        assert words in capsys.readouterr().err


def test_two_reports_in_one_file_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_reports(HEALTHY, json=tmp_path / "verdict.json")
    same = str(tmp_path / "x")
    assert cli.run(["report", str(tmp_path / "verdict.json"), "--html", same, "--junit", same]) == cli.WRONG_USAGE
    assert "a file of its own" in capsys.readouterr().err


# -- what a document says in sum is found again from its layers -------------------------------------------------------


def each_layer(document: dict[str, Any], **changes: Any) -> None:
    for case in document["cases"]:
        for subject in case["subjects"]:
            for layer in subject["layers"]:
                layer.update(changes)


def claim_agreement(document: dict[str, Any]) -> None:
    """What a forger writes over: everything that says so in sum."""
    document["agrees"] = True
    for case in document["cases"]:
        case["agrees"] = True
        for subject in case["subjects"]:
            nowhere = dict.fromkeys(("first", "first_forward", "first_backward"))
            subject.update(nowhere, agrees=True, failure=None, sentence="it agrees in all 12 tensors")
            for layer in subject["layers"]:
                layer["agrees"] = True


SUBJECT = a_subject(changes={CONV: OVER})
CLAIMS: dict[str, tuple[Verdict, Callable[[dict[str, Any]], object], int]] = {
    "healthy": (HEALTHY, lambda d: None, cli.AGREES),
    "a layer over": (a_verdict(SUBJECT), claim_agreement, cli.DISAGREES),
    "a layer within whose error is not": (
        HEALTHY,
        lambda d: d["cases"][0]["subjects"][0]["layers"][3].update(error=1.0),
        cli.DISAGREES,
    ),
    "layers within without a number": (
        HEALTHY,
        lambda d: each_layer(d, error="NaN", largest="NaN", used=0.1),
        cli.DISAGREES,
    ),
    "exact with an error": (HEALTHY, lambda d: each_layer(d, status="exact"), cli.DISAGREES),
    "a layer missing": (
        a_verdict(a_subject(changes={CONV: MISSING})),
        claim_agreement,
        cli.DISAGREES,
    ),
    "no case": (NOTHING, claim_agreement, cli.WRONG_USAGE),
    "no subject": (a_verdict(), claim_agreement, cli.WRONG_USAGE),
    "no layer": (HEALTHY, lambda d: d["cases"][0]["subjects"][0].update(layers=[]), cli.WRONG_USAGE),
    "nothing observed": (
        a_verdict(a_subject(changes=dict.fromkeys(KEYS["train"], ABSENT))),
        claim_agreement,
        cli.WRONG_USAGE,
    ),
    "one case of two without subjects": (
        Verdict([*HEALTHY.cases, *a_verdict().cases], {}),
        claim_agreement,
        cli.WRONG_USAGE,
    ),
    "could not finish": (a_verdict(a_subject(failure="dead")), lambda d: None, cli.WRONG_USAGE),
    "could not finish, and owes the rest": (
        a_verdict(
            a_subject(changes=dict.fromkeys(KEYS["train"][4:], MISSING), failure="dead"),
            a_subject(label="lucid"),
        ),
        lambda d: None,
        cli.WRONG_USAGE,
    ),
    "could not finish, and was wrong before": (
        a_verdict(a_subject(changes={CONV: OVER}, failure="dead")),
        lambda d: None,
        cli.DISAGREES,
    ),
    "weights that are not the case's": (a_verdict(NOTED), lambda d: None, cli.DISAGREES),
    "nothing judged": (
        a_verdict(a_subject(changes=dict.fromkeys(KEYS["train"], UNJUDGED))),
        claim_agreement,
        cli.WRONG_USAGE,
    ),
    "nothing judged in one view of two": (
        a_verdict(a_subject(changes=dict.fromkeys(KEYS["train"], UNJUDGED)), a_subject(view="own")),
        lambda d: None,
        cli.AGREES,
    ),
    "nothing observed in one view of two": (
        a_verdict(a_subject(changes=dict.fromkeys(KEYS["train"], ABSENT)), a_subject(view="own")),
        lambda d: None,
        cli.WRONG_USAGE,
    ),
    "nothing judged of one subject of two": (
        a_verdict(a_subject(changes=dict.fromkeys(KEYS["train"], UNJUDGED)), a_subject(label="lucid")),
        lambda d: None,
        cli.WRONG_USAGE,
    ),
    "a sentence alone that says otherwise": (
        a_verdict(SUBJECT),
        lambda d: d["cases"][0]["subjects"][0].update(sentence="it agrees in all 12 tensors"),
        cli.DISAGREES,
    ),
    "healthy, and called faulty": (
        HEALTHY,
        lambda d: d["cases"][0]["subjects"][0].update(agrees=False, sentence="it disagrees"),
        cli.AGREES,
    ),
    "one subject wrong, another dead": (
        a_verdict(a_subject(failure="dead"), a_subject(label="lucid", changes={CONV: OVER})),
        lambda d: None,
        cli.DISAGREES,
    ),
}


@pytest.mark.parametrize(("verdict", "change", "status"), CLAIMS.values(), ids=list(CLAIMS))
def test_every_report_says_what_the_layers_say(
    verdict: Verdict, change: Any, status: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = json.loads(json.dumps(verdict_to_dict(verdict)))
    change(document)
    (tmp_path / "verdict.json").write_text(json.dumps(document))
    made = {name: tmp_path / f"made.{name}" for name in ("json", "junit", "html")}
    options = [part for name, path in made.items() for part in (f"--{name}", str(path))]
    assert cli.run(["report", str(tmp_path / "verdict.json"), *options]) == status
    green = status == cli.AGREES
    out = capsys.readouterr().out
    assert out.rstrip().splitlines()[-1] == {0: "agrees", 1: "disagrees", 2: "could not be done"}[status]
    again = json.loads(made["json"].read_text())
    assert again["agrees"] is green
    assert (int(ElementTree.parse(made["junit"]).getroot().get("failures", "")) == 0) is green
    assert (f"<title>{'agrees' if green else ''}" in made["html"].read_text()) is green or not green
    assert ('<span class="verdict good">' in made["html"].read_text()) is green
    for case in again["cases"]:
        for subject in case["subjects"]:
            assert ("agrees in all" in subject["sentence"]) is subject["agrees"] or subject["failure"]


def test_a_sentence_that_its_layers_bear_out_is_kept(tmp_path: Path) -> None:
    """A document does not hold all that a sentence was made of (who takes a layer's output, say)."""
    document = json.loads(json.dumps(verdict_to_dict(FAULTY)))
    told = [f"{subject['sentence']}; more" for subject in document["cases"][0]["subjects"]]
    for subject, sentence in zip(document["cases"][0]["subjects"], told, strict=True):
        subject["sentence"] = sentence
    write_json(document, tmp_path / "v.json")
    assert [subject["sentence"] for subject in read_json(tmp_path / "v.json")["cases"][0]["subjects"]] == told


DEEP = 100_000


HOSTILE: dict[str, tuple[Callable[[dict[str, Any]], object] | bytes, str]] = {
    "nested lists": (b"[" * DEEP + b"]" * DEEP, "nested too deeply"),
    "nested objects": (b'{"a":' * DEEP + b"1" + b"}" * DEEP, "nested too deeply"),
    "a list": (b"[]", "the format of .* is None"),
    "a number of a million digits": (b"9" * 1_000_000, "is not JSON"),
    "no text": (b"\xff\xfe\x00", "is not JSON"),
    "null": (b"null", "the format of .* is None"),
    "a strange format": (lambda d: d.update(format=["x"] * 999), "the format of"),
    "an unknown status": (lambda d: each_layer(d, status="fine"), "'status' of a layer is 'fine'"),
    "an unknown kind": (
        lambda d: d["cases"][0]["subjects"][0]["layers"][0].update(kind="weight"),
        "'kind' of a layer is 'weight'",
    ),
    "a huge integer": (lambda d: each_layer(d, error=10**400), "'error' of a layer is 1000"),
    "a truth value for a number": (lambda d: each_layer(d, error=True), "'error' of a layer is True"),
    "a negative error": (lambda d: each_layer(d, error=-1.0), "'error' of a layer is -1.0"),
    "minus infinity": (lambda d: each_layer(d, budget="-Infinity"), "'budget' of a layer is '-Infinity'"),
    "a huge channel": (lambda d: each_layer(d, channel=10**30), "'channel' of a layer is 1000"),
    "a view of its own": (lambda d: d["cases"][0]["subjects"][0].update(view="any"), "'view' of a subject is 'any'"),
    "a precision of its own": (
        lambda d: d["cases"][0]["subjects"][0].update(precision="int4"),
        "'precision' of a subject is 'int4'",
    ),
    "seconds without end": (lambda d: d["cases"][0].update(seconds="Infinity"), "'seconds' of a case is 'Infinity'"),
    "a shape of text": (lambda d: d["cases"][0].update(shape=["\x1b[2J"]), "'shape' of a case"),
    "a version that is none": (lambda d: d["versions"].update(numpy=[[]]), "the version of 'numpy' is no text"),
    "a place outside": (lambda d: d["cases"][0]["subjects"][0].update(first=-1), "'first' of a subject is -1"),
    "layers that are text": (lambda d: d["cases"][0]["subjects"][0].update(layers=["x"]), "a layer is str"),
    "a layer twice": (
        lambda d: d["cases"][0]["subjects"][0]["layers"].append(d["cases"][0]["subjects"][0]["layers"][0]),
        "a layer of a subject is there twice",
    ),
}


@pytest.mark.parametrize(("made", "words"), HOSTILE.values(), ids=list(HOSTILE))
def test_a_hostile_document_is_one_sentence(
    made: Any, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = json.loads(json.dumps(verdict_to_dict(HEALTHY)))
    if not isinstance(made, bytes):
        made(document)
    path = tmp_path / "verdict.json"
    path.write_bytes(made if isinstance(made, bytes) else json.dumps(document).encode())
    assert cli.run(["report", str(path)]) == cli.WRONG_USAGE
    told = capsys.readouterr()
    assert re.search(words, told.err)
    assert told.err.count("\n") == 1
    assert "Traceback" not in told.err


@pytest.mark.parametrize("depth", [100, 400, 700, 950])
def test_what_is_nested_in_a_field_that_nobody_knows_is_no_traceback(
    depth: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = json.dumps(verdict_to_dict(HEALTHY))
    (tmp_path / "verdict.json").write_text(f'{{"more": {"[" * depth}{"]" * depth}, {text[1:]}')
    options = ["--json", str(tmp_path / "again.json"), "--html", str(tmp_path / "page.html")]
    status = cli.run(["report", str(tmp_path / "verdict.json"), *options])
    told = capsys.readouterr().err
    assert (status, told) == (cli.AGREES, "") or (status, "nested too deeply" in told) == (cli.WRONG_USAGE, True)


NAMES = [
    "\x1b[31mred",
    "a\u202eb",
    "\x07\x00",
    "two\nlines",
    "zero\u200bwidth",
    "\ud800",
    "]]>&<\"'",
    "[/bold]",
    "\x9b2J",
]


@pytest.mark.parametrize("name", NAMES)
def test_no_report_obeys_a_name(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads(json.dumps(verdict_to_dict(FAULTY)))
    for case in document["cases"]:
        case.update(name=name, truth=name, input=name)
        for subject in case["subjects"]:
            subject.update(subject=name, sentence=name, failure=name)
            for place, layer in enumerate(subject["layers"]):
                layer.update(name=f"{name}{place}", note=name, difference=name)
    (tmp_path / "verdict.json").write_text(json.dumps({**document, "versions": {name: name}}))
    options = [part for kind in ("html", "junit") for part in (f"--{kind}", str(tmp_path / kind))]
    assert cli.run(["report", str(tmp_path / "verdict.json"), *options]) == cli.DISAGREES
    texts = [capsys.readouterr().out, (tmp_path / "html").read_text(), (tmp_path / "junit").read_text()]
    ElementTree.parse(tmp_path / "junit")
    for text in texts:
        assert all(each.isprintable() or each == "\n" for each in text)
