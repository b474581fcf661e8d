"""One typed result, many renderers.

To add a format: one row here and one module with `dumps(report, ...) -> str`. Listing imports nothing.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class FormatRow:
    """A report format.

    Attributes:
        module: Where its `dumps(report)` is.
        suffix: Of the file it makes.
        summary: What it is for.
    """

    module: str
    suffix: str
    summary: str


FORMATS: dict[str, FormatRow] = {
    "terminal": FormatRow(module="edgefx.report.terminal", suffix=".txt", summary="the table on stdout"),
    "json": FormatRow(module="edgefx.report.json", suffix=".json", summary="everything, for programs"),
    "markdown": FormatRow(
        module="edgefx.report.markdown", suffix=".md", summary="the table, for CI summaries and pull requests"
    ),
}
