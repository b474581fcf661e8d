"""Gates that did not pass as GitLab's code quality report: a JSON array that merge requests show.

https://docs.gitlab.com/ci/testing/code_quality/#code-quality-report-format
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from edgefx.harmless import json_text, visible
from edgefx.report.judged import Row, is_bad
from edgefx.verdicts import Verdict


def dumps(rows: Sequence[Row]) -> str:
    """Return JSON that ends in a newline: an empty array where all is well.

    A fingerprint is the same from run to run for the same gate of the same target, so that GitLab can tell
    what is new in a merge request and what it has cured.
    """
    issues = []
    for row in rows:
        if row.failure:
            issues.append(_issue(row, "failure", "", "blocker", row.failure))
        for gate in row.gates:
            if gate.verdict is not Verdict.PASS:
                severity = "major" if is_bad(gate) else "minor"
                issues.append(
                    _issue(
                        row,
                        gate.gate.name,
                        repr(gate.gate.limit),
                        severity,
                        f"{gate.verdict} {gate.reason}",
                    )
                )
    return json_text(json.dumps(issues, indent=2, ensure_ascii=False)) + "\n"


def _issue(row: Row, check: str, limit: str, severity: str, text: str) -> dict[str, object]:
    identity = f"{row.source}\0{row.name}\0{check}\0{limit}"
    return {
        "description": visible(f"{row.name}: {text}"),
        "check_name": f"edgefx-{check}",
        "fingerprint": hashlib.sha256(identity.encode(errors="backslashreplace")).hexdigest(),
        "severity": severity,
        # GitLab wants a file of the repository; of a zoo model there is none, and it shows the name.
        "location": {"path": visible(row.source), "lines": {"begin": 1}},
    }
