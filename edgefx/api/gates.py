"""Judge the reports of finished runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgefx.api import values
from edgefx.api.values import OnInconclusiveName, StrPath
from edgefx.vocabulary import MIN_IMAGES, OnInconclusive

if TYPE_CHECKING:
    from edgefx.provenance.gating import GateReport


def gate(
    reports: StrPath | Sequence[StrPath],
    *,
    gates: str | Sequence[str] = (),
    on_inconclusive: OnInconclusiveName = "fail-if-doubtful",
    min_images: int = MIN_IMAGES,
    against: StrPath | None = None,
    fail_on: Sequence[str] = (),
    calibrate: bool = False,
    expected_failures: Sequence[str] = (),
) -> GateReport:
    """Judge the reports of finished runs by limits, without running anything.

    Args:
        reports: Output folders of runs or of matrices, or the report.json or matrix.json in them.
        gates: Conditions, such as "tflite-*: drop_pp <= 0.5" or "size_bytes <= 6MB"; every metric can be
            limited, and on a device those that are measured there: "pi5: p95_ms <= 20". By default those that
            the reports hold.
        on_inconclusive: As for `compile`.
        min_images: As for `compile`.
        against: Another run: drop_pp and agreement are then those between the artifacts of both runs, on the
            images that both were measured on.
        fail_on: By how much what may be worse than in `against`, as for `diff`.
        calibrate: Say how often each gate would pass or fail on other images of the same kind.
        expected_failures: What need not pass for some time: a metric, for some targets or for all, the last
            day and a reason, as "onnx-int8: drop_pp until 2026-12-31: waits for the next release".

    Returns:
        The verdicts; `GateReport.exit_code` is 1 where a gate failed.

    Raises:
        UsageError: There is no report, or a gate that cannot be read or judged.
        DataError: The predictions that a run has kept are damaged.

    Example:
        >>> edgefx.gate("build/", gates=["*-int8: drop_pp <= 1", "size_bytes <= 6MB"]).exit_code
        <ExitCode.OK: 0>
    """
    from edgefx.provenance import gating
    from edgefx.recipe.conditions import parse, parse_expected

    values.check(1, min_images=min_images)
    given = (reports,) if isinstance(reports, str) or not isinstance(reports, Sequence) else tuple(reports)
    return gating.judge(
        [Path(path) for path in given],
        [parse(text) for text in ((gates,) if isinstance(gates, str) else gates)],
        policy=values.choice(OnInconclusive, on_inconclusive, "on_inconclusive"),
        min_images=min_images,
        against=values.path(against),
        fail_on=fail_on,
        calibrate=calibrate,
        expected_failures=[parse_expected(text) for text in expected_failures],
    )
