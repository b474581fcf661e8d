"""What `edgefx compile` and `edgefx run` do: plan one run or those of a matrix, carry them out, report.

All runs are planned before the first begins, so that what can be checked cheaply is wrong at once, not after
an hour of work.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgefx import report as reports
from edgefx.cache.settings import OFF
from edgefx.pipeline.plan import Plan, plan
from edgefx.vocabulary import REPORT_FORMATS

if TYPE_CHECKING:
    from edgefx.protocols import Progress
    from edgefx.recipe.load import NamedRecipe
    from edgefx.results import RunReport
    from edgefx.views import MatrixReport, PlanView


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """A run that has been planned and not begun.

    Attributes:
        name: Its combination in the matrix, "" without a matrix.
        plan: What to do.
    """

    name: str
    plan: Plan

    @property
    def output(self) -> Path:
        """The folder of its artifacts and reports."""
        return self.plan.recipe.output

    def carry_out(self, progress: Progress, *, command: str, cache: bool, resume: bool) -> RunReport:
        """Compile, evaluate, benchmark and judge; see `edgefx.pipeline.execute.run`.

        Args:
            progress: Where long work is reported.
            command: What to record as the command.
            cache: Whether results of earlier runs may be used, and this one's kept.
            resume: Let training go on from its checkpoint.
        """
        from edgefx.pipeline import execute

        with self.plan.wording.errors():
            return execute.run(
                self.plan, progress, command=command, cache=None if cache else OFF, resume=resume
            )

    def write(self, report: RunReport, files: Sequence[Path] = ()) -> None:
        """Write a report in the formats that the recipe names into the output folder, and to further files.

        Raises:
            OutputError: A file cannot be written.
        """
        formats = [name for name in self.plan.recipe.report.formats if name != "json"]
        in_folder = [self.output / f"report{REPORT_FORMATS[name].suffix}" for name in formats]
        for path in (*in_folder, *files):
            reports.write(report, path)


@dataclass(frozen=True, kw_only=True)
class Job:
    """All runs of a recipe.

    Attributes:
        recipe: The recipe's name, for the report on a matrix.
        runs: The runs; a recipe without a matrix has one, without a name.
        files: Further files for the report on all of it, each in the format of its suffix.
    """

    recipe: str
    runs: tuple[PlannedRun, ...]
    files: tuple[Path, ...]

    def carry_out(self, one: Callable[[PlannedRun], RunReport], *, command: str) -> RunReport | MatrixReport:
        """Carry out all runs, one after the other, and write their reports.

        Args:
            one: Carries out one run; whoever calls can put something around `PlannedRun.carry_out` here.
            command: What to record as the command of a matrix.

        Raises:
            EdgefxError: The only run failed as a whole; in a matrix, the report says which runs did.
        """
        from edgefx.pipeline import matrix
        from edgefx.report import matrix as report_matrix

        first = self.runs[0]
        if not first.name:
            report = one(first)
            first.write(report, self.files)
            return report

        def reported(run: PlannedRun) -> Callable[[], RunReport]:
            def carry_out() -> RunReport:
                report = one(run)
                run.write(report)
                return report

            return carry_out

        runs = [(run.name, run.output, reported(run)) for run in self.runs]
        result = matrix.run(runs, recipe=self.recipe, command=command)
        report_matrix.write(result, first.output.parent, self.files)
        return result


def prepare(
    runs: Sequence[NamedRecipe],
    *,
    recipe: str = "",
    files: Sequence[Path] = (),
    allow_unsafe: bool = False,
) -> Job:
    """Plan all runs of a recipe.

    Args:
        runs: From `edgefx.recipe.load.load_runs`.
        recipe: The recipe's name, for the report on a matrix.
        files: Further files for the report, besides those that the recipe names.
        allow_unsafe: Load a model that would be refused as unsafe.

    Raises:
        EdgefxError: A run cannot be carried out as asked for; see `edgefx.pipeline.plan.plan`.
    """
    everything = _report_files(runs, files)
    planned = tuple(PlannedRun(name=run.name, plan=_planned(run, allow_unsafe=allow_unsafe)) for run in runs)
    return Job(recipe=recipe, runs=planned, files=everything)


def views(
    runs: Sequence[NamedRecipe],
    *,
    files: Sequence[Path] = (),
    cache: bool = True,
    allow_unsafe: bool = False,
) -> tuple[PlanView, ...]:
    """Say what each run would do; nothing is done.

    Args:
        runs: From `edgefx.recipe.load.load_runs`.
        files: Further files for the report, besides those that the recipe names.
        cache: Whether to say what of it is in the cache.
        allow_unsafe: Load a model that would be refused as unsafe.

    Raises:
        EdgefxError: As for `prepare`; also a model that does not exist, or labels that do not fit it.
    """
    from edgefx.pipeline.forecast import forecast
    from edgefx.pipeline.stages import view

    everything = {"files": _report_files(runs, files)}
    plans = []
    for run in runs:
        recipe = run.recipe.model_copy(update={"report": run.recipe.report.model_copy(update=everything)})
        plans.append((run.name, _planned(replace(run, recipe=recipe), allow_unsafe=allow_unsafe)))
    shown = []
    for name, planned in plans:
        with planned.wording.errors():
            shown.append(view(planned, forecast(planned) if cache else (), name=name))
    return tuple(shown)


def _report_files(runs: Sequence[NamedRecipe], files: Sequence[Path]) -> tuple[Path, ...]:
    """Return the further files for the report.

    Raises:
        UsageError: One is of no format.
    """
    everything = (*runs[0].recipe.report.files, *files)
    for path in everything:
        reports.destination(path)
    return everything


def _planned(run: NamedRecipe, *, allow_unsafe: bool) -> Plan:
    with run.wording.errors():
        return plan(run.recipe, wording=run.wording, allow_unsafe=allow_unsafe)
