"""Judge stored reports: `edgefx gate`. Nothing is run, and nothing but the standard library is imported.

With a baseline, another run, drop and agreement are those between the two runs' artifacts, image by image,
as `edgefx diff` compares them; a change of the code is then judged, and not the quantization.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from edgefx.errors import ExitCode, UnknownNameError, UsageError
from edgefx.evaluation import expected, gates, joint, trust
from edgefx.evaluation.expected import Expectation
from edgefx.evaluation.statistics import wilson_ci
from edgefx.measured import Accuracy
from edgefx.metrics import METRICS, Figures, Origin
from edgefx.notebook import Shown
from edgefx.provenance import stored
from edgefx.provenance.stored import StoredReport, StoredTarget
from edgefx.recipe.conditions import on_devices
from edgefx.recipe.expected_failures import ExpectedFailure, excused
from edgefx.verdicts import Gate, GateResult, JointVerdict, Verdict, on_device
from edgefx.vocabulary import HOST, MIN_IMAGES, OnInconclusive

if TYPE_CHECKING:
    from edgefx.provenance.comparison import Flips, Regression, RunDiff

SCHEMA_VERSION = 1
_PAIRED = ("drop_pp", "agreement")  # what the best classes of two artifacts tell
_FEW = "few images"  # the doubt that depends on how many a gate needs


@dataclass(frozen=True, kw_only=True)
class JudgedTarget:
    """One target of a stored report, judged.

    Attributes:
        report: The report, as it was given.
        target: The target's name; in a matrix ``run/target``.
        gates: What became of each gate that applies to it.
        expectations: With ``--calibrate``, what each of them would say on other images; None where chance has
            no part in it.
        failure: Why there is no artifact; "" where there is one.
        figures: What the report says was measured.
    """

    report: Path
    target: str
    gates: tuple[GateResult, ...]
    expectations: tuple[Expectation | None, ...] = ()
    failure: str = ""
    figures: Figures = field(default_factory=Figures)

    @property
    def verdict(self) -> Verdict | None:
        """The worst gate, or None without gates."""
        seen = {result.verdict for result in self.gates}
        return next((one for one in (Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.PASS) if one in seen), None)


@dataclass(frozen=True, kw_only=True)
class GateReport(Shown):
    """What `edgefx gate` found.

    Attributes:
        schema_version: Changes when a field changes its meaning or goes away.
        against: The run that drop and agreement are measured against; None for the float model.
        targets: Every target, report by report.
        regressions: With ``--fail-on``, what got worse than in the baseline.
        notes: What else is to be known.
        joint: All gates on accuracy judged together; None with fewer than two.
    """

    schema_version: int
    against: Path | None
    targets: tuple[JudgedTarget, ...]
    regressions: tuple[Regression, ...] = ()
    notes: tuple[str, ...] = ()
    joint: JointVerdict | None = None

    @property
    def exit_code(self) -> ExitCode:
        """GATE_FAILED where a gate failed, or could not be judged and is not tolerated."""
        judged = [gate for target in self.targets for gate in target.gates]
        is_bad = any(gate.verdict is not Verdict.PASS and not gate.tolerated for gate in judged)
        is_worse = any(one.failed for one in self.regressions)
        return ExitCode.GATE_FAILED if is_bad or is_worse else ExitCode.OK

    def __iter__(self) -> Iterator[JudgedTarget]:
        """Iterate over the targets."""
        return iter(self.targets)


def judge(
    paths: Sequence[Path],
    conditions: Sequence[Gate] = (),
    *,
    policy: OnInconclusive = OnInconclusive.FAIL_IF_DOUBTFUL,
    min_images: int = MIN_IMAGES,
    against: Path | None = None,
    fail_on: Sequence[str] = (),
    calibrate: bool = False,
    expected_failures: Sequence[ExpectedFailure] = (),
) -> GateReport:
    """Judge reports.

    Args:
        paths: Reports, or the output folders of runs or of matrices.
        conditions: The gates; without any, those that the reports themselves hold.
        policy: Which gates that are INCONCLUSIVE count as failed.
        min_images: Evaluation images below which gates that need labels are INCONCLUSIVE.
        against: A run whose artifacts drop and agreement are measured against, instead of the float model.
        fail_on: By how much what may be worse than in `against`; see `regressions.parse`.
        calibrate: Whether to say how often each gate would fail on other images.
        expected_failures: Gates that need not pass for some time.

    Raises:
        UsageError: No report, no gate, a gate that no target or no stored figure matches, or a failure that
            is expected of no gate.
        DataError: Predictions that are damaged.
    """
    reports = [stored.read(path) for path in paths]
    known = [target for report in reports for target in report.targets]
    names = {target.target for target in known}
    devices = {*(target.device for target in known if target.device), HOST} - names
    conditions = [on_devices(gate, devices) for gate in conditions]
    _check(conditions, reports, against)
    excuses = [on_devices(one, devices) for one in expected_failures]
    today = datetime.now(tz=UTC).date().isoformat()
    from_runs = {report.path: _diff(against, report.path) for report in reports} if against else {}
    targets = tuple(
        _judged(
            report,
            target,
            conditions or target.gates,
            policy=policy,
            min_images=min_images,
            paired=_flips(from_runs[report.path], target) if against else None,
            against=against,
            calibrate=calibrate,
            excused=partial(excused, expected=excuses, today=today),
        )
        for report in reports
        for target in report.targets
    ) + tuple(
        _without_result(report, run, conditions, why, policy)
        for report in reports
        for run, why in report.failed_runs.items()
    )
    _check_expected(excuses, known, conditions)
    if not any(target.gates for target in targets) and not fail_on:
        raise UsageError(
            f"no gate: {', '.join(str(path) for path in paths)} {'hold' if len(paths) > 1 else 'holds'} none",
            hint="give one, for example --gate 'drop_pp <= 0.5'",
        )
    return GateReport(
        schema_version=SCHEMA_VERSION,
        against=against,
        targets=targets,
        regressions=_regressions(from_runs, fail_on, against, policy),
        notes=(*_notes(reports), *_elsewhere(reports, conditions)),
        joint=joint.judge([(target.target, target.gates) for target in targets]),
    )


def _check(conditions: Sequence[Gate], reports: Sequence[StoredReport], against: Path | None) -> None:
    """Refuse gates that could never be judged.

    Raises:
        UsageError: A glob that matches no target, or a metric that predictions do not tell.
    """
    known = [target for report in reports for target in report.targets]
    names = list(dict.fromkeys(target.target for target in known))
    devices = list(dict.fromkeys(target.device for target in known if target.device))
    for gate in conditions:
        for pattern in gate.targets:
            if not any(fnmatch.fnmatchcase(name, pattern) for name in names):
                kind = "target or device" if devices else "target"
                raise UnknownNameError(kind, pattern, [*names, *devices], hint="(in these reports)")
        for device in gate.devices:
            if device not in devices:
                raise UnknownNameError("device", device, devices or [HOST], hint="(in these reports)")
        _check_output(gate, known)
        row = METRICS[gate.metric]
        compares = gate.metric.startswith("drop") or row.on_scores
        if against is not None and compares and gate.metric not in _PAIRED:
            raise UsageError(
                f"--gate {gate.metric}: with --against it is not known, since a run keeps each image's best"
                " class, and no scores",
                hint=f"give {' or '.join(_PAIRED)}, or leave --against out",
            )


def _check_output(gate: Gate, known: Sequence[StoredTarget]) -> None:
    measured = [target.figures.accuracy for target in known if target.figures.accuracy is not None]
    names = list(dict.fromkeys(one.name for accuracy in measured for one in accuracy.outputs))
    if not gate.output or not measured or gate.output in names:
        return
    if names:
        raise UnknownNameError("output", gate.output, names, hint="(in these reports)")
    raise UsageError(
        f"--gate {gate.name}: these reports are of models with one output",
        hint=f"leave '{gate.output}.' out",
    )


def _check_expected(
    expected: Sequence[ExpectedFailure], known: Sequence[StoredTarget], conditions: Sequence[Gate]
) -> None:
    """Refuse failures that are expected of no gate: a name that is not spelt so excuses nothing.

    Raises:
        UsageError: There is one.
    """
    for one in expected:
        if not any(
            one.concerns(gate, target=target.target, device=target.device)
            for target in known
            for gate in conditions or target.gates
        ):
            name = f"{one.output}.{one.metric}" if one.output else one.metric
            raise UsageError(
                f"--expect-failure: no gate limits {name} of {', '.join(one.targets)}",
                hint="leave it out, or name the metric and the targets of a gate",
            )


def _judged(
    report: StoredReport,
    target: StoredTarget,
    conditions: Sequence[Gate],
    *,
    policy: OnInconclusive,
    min_images: int,
    paired: Flips | None,
    against: Path | None,
    calibrate: bool,
    excused: Callable[..., tuple[GateResult, ...]],
) -> JudgedTarget:
    results: list[GateResult] = []
    expectations: list[Expectation | None] = []
    compared = replace(target.figures, accuracy=_between(paired))
    for gate in conditions:
        is_paired = against is not None and gate.metric in _PAIRED and not gate.output
        figures = compared if is_paired else target.figures
        judged = gates.judge((gate,), figures, target=target.target, device=target.device)
        if is_paired:
            judged = tuple(_worded(result, against, known=paired is not None) for result in judged)
        doubts = [doubt for doubt in target.doubts if doubt.name != _FEW]
        if METRICS[gate.metric].needs_labels and figures.accuracy is not None:
            doubts += trust.of_images(figures.accuracy.images, fewest=min_images)
        results += trust.judged(judged, doubts, figures.accuracy, policy=policy)
        expectations += [expected.of(gate, figures, unchanged=is_paired) for _ in judged]
    return JudgedTarget(
        report=report.path,
        target=target.name,
        gates=excused(results, target=target.target, device=target.device),
        expectations=tuple(expectations) if calibrate else (),
        failure=target.failure,
        figures=target.figures,
    )


def _without_result(
    report: StoredReport, run: str, conditions: Sequence[Gate], why: str, policy: OnInconclusive
) -> JudgedTarget:
    """Judge a run of a matrix that has no result, by the gates of the others where none are given."""
    found = conditions or dict.fromkeys(gate for target in report.targets for gate in target.gates)
    return JudgedTarget(
        report=report.path,
        target=run,
        gates=tuple(
            GateResult(
                gate=gate,
                measured=None,
                verdict=Verdict.INCONCLUSIVE,
                reason=f"{gates.called(gate)}: the run failed",
                tolerated=policy is OnInconclusive.WARN,
            )
            for gate in found
        ),
        failure=why,
    )


def _between(flips: Flips | None) -> Accuracy | None:
    """Return what predictions tell of two artifacts, one taken for the float model of the other."""
    if flips is None:
        return None
    same = flips.images - len(flips.flipped)
    return Accuracy(
        images=flips.images,
        top1=None,
        top5=None,
        baseline_top1=None,
        baseline_top5=None,
        drop_pp=flips.drop_pp,
        drop_ci95_pp=flips.drop_ci95_pp,
        agreement=same / flips.images,
        mean_kl=math.nan,  # scores are not kept
        max_abs_dp=math.nan,
        images_per_s=math.nan,
        lost=flips.lost,
        gained=flips.gained,
        agreement_ci95=wilson_ci(same, flips.images),
    )


def _worded(result: GateResult, against: Path | None, *, known: bool) -> GateResult:
    """Say what a drop is against, where that is not the float model."""
    if not known:
        return replace(result, reason=f"no image is known that both it and {against} answered")
    name = METRICS[result.gate.metric].name
    return replace(result, reason=result.reason.replace(name, f"{name} against {against}", 1))


# ---------------------------------------------------------------------------------------------- a baseline


def _diff(against: Path, path: Path) -> RunDiff:
    from edgefx.provenance import differences

    return differences.diff(against, path)


def _flips(diff: RunDiff, target: StoredTarget) -> Flips | None:
    return next((one.flips for one in diff.targets if one.target == target.name), None)


def _regressions(
    diffs: Mapping[Path, RunDiff], fail_on: Sequence[str], against: Path | None, policy: OnInconclusive
) -> tuple[Regression, ...]:
    if not fail_on:
        return ()
    if against is None:
        raise UsageError("--fail-on needs a run to compare with", hint="give it with --against OUT")
    from edgefx.provenance import regressions

    limits = [regressions.parse(text) for text in fail_on]
    return tuple(
        one
        for diff in diffs.values()
        for one in regressions.judge(diff, limits, tolerated=policy is OnInconclusive.WARN)
    )


def _notes(reports: Sequence[StoredReport]) -> Iterator[str]:
    for report in reports:
        yield from (f"{report.path}: {name} failed: {why}" for name, why in report.failed_runs.items())
        for target in report.targets:
            if target.failure:
                yield f"{report.path}: {on_device(target.target, target.device)} failed in {target.failure}"


def _elsewhere(reports: Sequence[StoredReport], conditions: Sequence[Gate]) -> Iterator[str]:
    """Say where latency was measured that a gate limits on the machine that compiled, where it was not."""
    here = [gate for gate in conditions if not gate.devices]
    asked = [gate for gate in here if METRICS[gate.metric].origin is Origin.LATENCY]
    for report in reports if asked else ():
        timed = dict.fromkeys(one.device for one in report.targets if one.figures.latency is not None)
        if timed and "" not in timed:
            sign = "<=" if METRICS[asked[0].metric].better == "less" else ">="
            limit = f"{next(iter(timed))}: {asked[0].name} {sign} {asked[0].limit:g}"
            yield f"{report.path}: latency was measured on {', '.join(timed)} alone: try --gate '{limit}'"
