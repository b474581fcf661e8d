"""What GitHub Actions shows of a run: Markdown for the job's summary, and annotations.

https://docs.github.com/actions/reference/workflow-commands-for-github-actions
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from edgefx.harmless import visible
from edgefx.report.judged import Row, is_bad
from edgefx.verdicts import Verdict

_MOST_BYTES = 2**20  # of the summary of a step; GitHub refuses a longer one as a whole
_CUT = "\n\n(cut: a summary holds 1 MiB)\n"


def summary_file(environment: Mapping[str, str] | None = None) -> Path | None:
    """Return the file of the job's summary; None where this is no job of GitHub Actions."""
    path = (os.environ if environment is None else environment).get("GITHUB_STEP_SUMMARY", "")
    return Path(path) if path else None


def append(path: Path, text: str) -> None:
    """Add Markdown to a summary, as much of it as GitHub takes.

    Raises:
        OSError: The file cannot be written.
    """
    before = path.stat().st_size if path.exists() else 0
    content = text.encode(errors="backslashreplace")
    room = _MOST_BYTES - before
    if len(content) > room:
        kept = content[: max(0, room - len(_CUT))].decode(errors="ignore").rpartition("\n")[0]
        content = (kept + _CUT).encode() if kept else b""
    with path.open("ab") as stream:
        stream.write(content)


def commands(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the lines that make GitHub mark gates and failures, where there are any."""
    for row in rows:
        if row.failure:
            yield _command("error", f"edgefx: {row.name}", row.failure)
        for gate in row.gates:
            if gate.verdict is not Verdict.PASS:
                kind = "error" if is_bad(gate) else "warning"
                yield _command(kind, f"edgefx: {row.name}", f"{gate.verdict} {gate.reason}")


def _command(kind: str, title: str, message: str) -> str:
    return f"::{kind} title={_property(visible(title))}::{_data(visible(message))}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
