"""Gates as JUnit XML: a test suite for each target, a test case for each gate, and one for the artifact."""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree import ElementTree as ET

from edgefx.evaluation.gates import limit_text
from edgefx.harmless import visible
from edgefx.report.judged import Row, is_bad
from edgefx.verdicts import GateResult, Verdict

_NO_XML = re.compile("[\ufffe\uffff]")  # all else that XML forbids is made visible


def dumps(rows: Sequence[Row]) -> str:
    """Return XML that ends in a newline.

    A gate that fails the run is a failure, one that is INCONCLUSIVE and does not is skipped; an artifact that
    could not be made is an error.
    """
    root = ET.Element("testsuites", name="edgefx")
    for row in rows:
        suite = ET.SubElement(root, "testsuite", name=_text(row.name))
        _artifact(suite, row)
        for gate in row.gates:
            _gate(suite, row, gate)
        _count(suite, [suite])
    _count(root, list(root))
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _artifact(suite: ET.Element, row: Row) -> None:
    case = ET.SubElement(suite, "testcase", classname=_text(row.name), name="artifact")
    if row.failure:
        ET.SubElement(case, "error", type="FAILED", message=_text(row.failure))


def _gate(suite: ET.Element, row: Row, gate: GateResult) -> None:
    case = ET.SubElement(suite, "testcase", classname=_text(row.name), name=_text(limit_text(gate.gate)))
    reason = _text(gate.reason)
    if is_bad(gate):
        ET.SubElement(case, "failure", type=gate.verdict.value, message=reason)
    elif gate.verdict is not Verdict.PASS:
        ET.SubElement(case, "skipped", message=f"{gate.verdict}: {reason}")
    else:
        ET.SubElement(case, "system-out").text = reason


def _count(element: ET.Element, suites: Sequence[ET.Element]) -> None:
    cases = [case for suite in suites for case in suite.iter("testcase")]
    element.set("tests", str(len(cases)))
    for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        element.set(attribute, str(sum(case.find(tag) is not None for case in cases)))


def _text(text: str) -> str:
    return _NO_XML.sub("\ufffd", visible(text))
