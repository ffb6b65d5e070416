"""The verdict as JUnit XML, as Jenkins, GitLab and others read it: a suite a case, subject and view, a test a tensor.

The usual schema (Jenkins' ``junit-10.xsd``) has ``failure`` and ``skipped`` inside a test and no more. A tensor that
was not observed or not judged is skipped. A subject that could not finish, one of which nothing was compared, and one
whose own parameters are not the case's, is one failed test more, so that no suite is green that verified nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from lucid.console import visible
from oracle.files import write_whole
from oracle.report.json_report import Document, state, value

_NEUTRAL_MEANS = {
    "not observed": "the subject did not hand it over",
    "not judged": "its budget is too large a share of it to tell anything",
}


def to_junit(document: Document) -> bytes:
    """The XML of a verdict's JSON form, UTF-8."""
    root = ElementTree.Element("testsuites", name="lucid-oracle")
    for case in document["cases"]:
        for subject in case["subjects"]:
            root.append(_suite(case, subject))
        if not case["subjects"]:
            root.append(_empty_suite(case["name"]))
    if not len(root):
        root.append(_empty_suite("nothing"))
    for total in ("tests", "failures", "errors"):
        root.set(total, str(sum(int(suite.get(total, "0")) for suite in root)))
    root.set("time", f"{sum(float(suite.get('time', '0')) for suite in root):.3f}")
    ElementTree.indent(root)
    text: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return text + b"\n"


def write_junit(document: Document, path: Path) -> None:
    """Write a verdict's JSON form as JUnit XML.

    Raises:
        UsageError: the file cannot be written.
    """
    write_whole(path, to_junit(document))


def _suite(case: dict[str, Any], subject: dict[str, Any]) -> ElementTree.Element:
    parts = (case["name"], subject["subject"], subject["view"])
    suite = ElementTree.Element("testsuite", name=_text(" ".join(parts)))
    properties = ElementTree.SubElement(suite, "properties")
    for name, words in (
        ("precision", subject["precision"]),
        ("truth", case["truth"]),
        ("sentence", subject["sentence"]),
        *(("note", note) for note in (*case["notes"], *subject["notes"])),
    ):
        ElementTree.SubElement(properties, "property", name=name, value=_text(words))
    where = _text(".".join(part.replace(".", "_") for part in parts))
    for layer in subject["layers"]:
        test = ElementTree.SubElement(suite, "testcase", name=_text(f"{layer['kind']} {layer['name']}"))
        test.set("classname", where)
        if state(layer) == "neutral":
            _outcome(test, "skipped", layer["status"], layer["note"] or _NEUTRAL_MEANS[layer["status"]])
        elif not layer["agrees"]:
            _outcome(test, "failure", layer["status"], _why(layer))
    left_out = not subject["failure"] and _left_out(case, subject)
    whole = subject["failure"] or (None if _compared(subject) else "nothing was compared, which is no agreement")
    if subject["differing"]:
        test = ElementTree.SubElement(suite, "testcase", name="its own parameters", classname=where)
        _outcome(test, "failure", "differing", f"not the case's: {', '.join(subject['differing'])}")
    if left_out:
        test = ElementTree.SubElement(suite, "testcase", name="the whole run", classname=where)
        _outcome(test, "skipped", "not judged", "nothing could be judged in this view; another view of it agrees")
    elif whole:
        test = ElementTree.SubElement(suite, "testcase", name="the whole run", classname=where)
        _outcome(test, "failure", "failure" if subject["failure"] else "nothing compared", whole)
    _count(suite, value(subject["seconds"]))
    return suite


def _empty_suite(name: str) -> ElementTree.Element:
    suite = ElementTree.Element("testsuite", name=_text(name))
    test = ElementTree.SubElement(suite, "testcase", name="the whole run", classname=_text(name))
    _outcome(test, "failure", "nothing compared", "nothing was compared, which is no agreement")
    _count(suite, 0.0)
    return suite


def _compared(subject: dict[str, Any]) -> bool:
    return any(state(layer) != "neutral" for layer in subject["layers"])


def _left_out(case: dict[str, Any], subject: dict[str, Any]) -> bool:
    """Whether nothing could be judged of what the subject handed over, and another view of it agrees: then the case may
    agree without this view."""
    handed = any(layer["status"] == "not judged" for layer in subject["layers"])
    agreeing = {other["subject"] for other in case["subjects"] if other["agrees"]}
    return handed and not _compared(subject) and subject["subject"] in agreeing


def _count(suite: ElementTree.Element, seconds: float) -> None:
    tests = suite.findall("testcase")
    suite.set("tests", str(len(tests)))
    suite.set("failures", str(sum(test.find("failure") is not None for test in tests)))
    suite.set("skipped", str(sum(test.find("skipped") is not None for test in tests)))
    suite.set("errors", "0")
    suite.set("time", f"{seconds:.3f}")


def _outcome(test: ElementTree.Element, tag: str, kind: str, message: str) -> None:
    ElementTree.SubElement(test, tag, type=_text(kind), message=_text(message)).text = _text(message)


def _why(layer: dict[str, Any]) -> str:
    words = [layer["status"]]
    for name, allowed in (("error", "budget"), ("largest", "largest_budget")):
        if layer[name] != "NaN":
            words.append(f"{name} {value(layer[name]):.3e} (budget {value(layer[allowed]):.3e})")
    if layer["channel"] is not None and layer["channel_share"] != "NaN":
        words.append(f"channel {layer['channel']} used {value(layer['channel_share']):.0%} of its budget")
    return "; ".join([*words, *filter(None, (layer["difference"], layer["note"]))])


def _text(text: str) -> str:
    """What is printed of a name. (XML 1.0 cannot hold most control characters at all, not even escaped.)"""
    return visible(text)
