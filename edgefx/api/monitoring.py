"""Hold new images against those of a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgefx.api import values
from edgefx.api.values import StrPath
from edgefx.errors import UsageError
from edgefx.protocols import SILENT, Progress

if TYPE_CHECKING:
    from edgefx.views import DriftReport


def drift(
    run: StrPath,
    data: StrPath,
    *,
    target: str | None = None,
    reference: StrPath | None = None,
    samples: int = 500,
    alarm_rate: float = 0.05,
    seed: int = 0,
    skip_bad_images: bool = False,
    threads: int | None = None,
    progress: Progress = SILENT,
) -> DriftReport:
    """Tell whether new images, and an artifact's answers to them, differ from those of a run.

    Args:
        run: The run's output folder.
        data: A folder of new images; labels are not looked at.
        target: Whose artifact answers; by default the first that can be run here.
        reference: Where the run's evaluation images are now, or its calibration images where it was not
            evaluated; by default where they were.
        samples: Most images that are taken of either side.
        alarm_rate: The share of samples without drift in which any test says that there is one.
        seed: The seed of the samples and of the tests.
        skip_bad_images: Leave out new images that cannot be decoded.
        threads: Intra-op threads; all cores by default.
        progress: Where long work is reported.

    Returns:
        The tests; `DriftReport.exit_code` is 1 where there is drift.

    Raises:
        EdgefxError: There is no such run or folder, or the images or the artifact are not those of the run.

    Example:
        >>> edgefx.drift("build/", "photos/today").exit_code
        <ExitCode.OK: 0>
    """
    from edgefx.pipeline import drift as use_case

    values.check(1, samples=samples)
    if not 0 < alarm_rate < 1:
        raise UsageError(f"alarm_rate {alarm_rate} is not between 0 and 1", hint="for example 0.05")
    return use_case.run(
        Path(run),
        Path(data),
        progress,
        target=target,
        reference=values.path(reference),
        samples=samples,
        alarm_rate=alarm_rate,
        seed=seed,
        skip_bad=skip_bad_images,
        threads=threads,
    )
