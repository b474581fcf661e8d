"""The table of forms in Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Row = dict[str, Any]

_HEADINGS = {"tflite-int8": "`tflite-int8`", "onnx-int8": "`onnx-int8`", "openvino-int8": "`openvino-int8`"}
_SLACK_DB = 1.0  # below its converter by more than that is worse


def written(rows: dict[str, Row]) -> str:
    """Return the table, and lists of what is refused and of what is worse than its converter."""
    made = {name: row for name, row in rows.items() if "parity" in row}
    title = "| Form | Parity | " + " | ".join(f"{one} | converter" for one in _HEADINGS.values()) + " |"
    lines = [title, "|---" * (2 + 2 * len(_HEADINGS)) + "|"]
    lines += [_line(name, row) for name, row in made.items()]
    refused = {name: row["refused"] for name, row in rows.items() if "refused" in row}
    if refused:
        lines += ["", "Refused when it is loaded, before anything is converted:", ""]
        lines += ["| Form | What is said |", "|---|---|"]
        lines += [f"| {name} | {_plain(why)} |" for name, why in refused.items()]
    lines += _listed("Refused by one runtime:", _refusals(made))
    lines += _listed("More than 1 dB below the converter:", _worse(made))
    return "\n".join(lines) + "\n"


def _line(name: str, row: Row) -> str:
    cells = [name, f"{row['parity']:.1e}"]
    for target in _HEADINGS:
        found = row[target]
        cells += [_cell(found), _cell(found.get("converter", {}))]
    return "| " + " | ".join(cells) + " |"


def _cell(found: Row) -> str:
    if "db" not in found:
        return "refused" if found else ""
    stays = "" if found["agreement"] is None else f", {100 * found['agreement']:.0f} %"
    return f"{found['db']:.1f} dB{stays}"


def _refusals(rows: dict[str, Row]) -> Iterator[str]:
    for name, row in rows.items():
        for target in _HEADINGS:
            if "refused" in row[target]:
                yield f"{name}, `{target}`: {_plain(row[target]['refused'])}"


def _worse(rows: dict[str, Row]) -> Iterator[str]:
    for name, row in rows.items():
        for target in _HEADINGS:
            ours, theirs = row[target], row[target].get("converter", {})
            if "db" in ours and "db" in theirs and ours["db"] < theirs["db"] - _SLACK_DB:
                yield f"{name}, `{target}`: {ours['db']:.1f} dB, where the converter has {theirs['db']:.1f}"


def _listed(title: str, lines: Iterator[str]) -> list[str]:
    found = [f"- {line}" for line in lines]
    return ["", title, "", *found] if found else []


def _plain(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
