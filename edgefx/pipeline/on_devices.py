"""A run's artifacts on devices: whether they answer as here, their accuracy, and their latency.

Nothing of it is kept in the cache: a device is reached anew for each run, and what it says is of that moment.
Several are measured at the same time, each artifact on a device by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgefx import runtimes
from edgefx.benchmarking.devices.connect import DeviceChoice, connected
from edgefx.benchmarking.devices.phone import WITHOUT_PYTHON, Phone
from edgefx.errors import DeviceDependencyError, DeviceError, DiskFullError, EdgefxError
from edgefx.metrics import METRICS, Figures
from edgefx.pipeline import likeness
from edgefx.pipeline.latency import Subjects, measured_latencies
from edgefx.results import DeviceResult, DeviceTarget, Failure
from edgefx.runtimes import hardware
from edgefx.vocabulary import StageKind

if TYPE_CHECKING:
    from edgefx.benchmarking.devices.remote import Remote
    from edgefx.pipeline.artifacts import ArtifactBuilder
    from edgefx.pipeline.evaluator import Evaluator
    from edgefx.pipeline.plan import Plan
    from edgefx.protocols import Progress, Task
    from edgefx.recipe.machines import BenchmarkSection
    from edgefx.results import RunReport, TargetResult
    from edgefx.targets import TargetRow
    from edgefx.types import Scores
    from edgefx.verdicts import Doubt

_LOST = (DeviceError, DiskFullError)  # what ends the measurement of a device, and not of an artifact alone


@dataclass(frozen=True, kw_only=True, eq=False)
class Work:
    """What is run on each device.

    Attributes:
        subjects: The artifacts, and what each latency is compared with.
        paths: Main file by target.
        reported: Those that the run was asked for; the others are what they are compared with.
        evaluators: By what each of those is judged; none without evaluation images.
        here: This machine's scores of the few images that are compared bit by bit.
        settings: Rounds, threads and time limit.
    """

    subjects: Subjects
    paths: Mapping[str, Path]
    reported: tuple[str, ...]
    evaluators: Mapping[str, Evaluator]
    here: Mapping[str, Scores]
    settings: BenchmarkSection


def check(names: Sequence[str], rows: Sequence[TargetRow], progress: Progress) -> None:
    """Connect devices, and see which runtimes they have, before hours are spent on what is for them.

    Raises:
        EdgefxError: A device cannot be reached, or has none of the runtimes.
    """
    wanted = {row.runtime: row.run_by[-1] for row in rows}
    for name in names:
        with connected(DeviceChoice(device=name), progress) as device:
            assert device is not None, "the host is no device of a run"
            with progress.task(f"look for runtimes on {name}", len(wanted)) as task:
                lacking = {}
                for runtime in wanted:
                    if reason := device.lacks(runtime):
                        lacking[runtime] = reason
                    task.advance()
            if isinstance(device, Phone) and len(lacking) < len(wanted):
                device.find_tool()
            if not lacking:
                continue
            reasons = "; ".join(lacking.values())
            packages = " ".join(wanted[runtime] for runtime in lacking)
            install = f"run there: {device.python} -m pip install numpy {packages}"
            if isinstance(device, Phone):
                install = "compile tflite targets for it, or name a Python of it in devices.yaml"
            if len(lacking) == len(wanted):
                raise DeviceDependencyError(f"{name}: {reasons}", hint=install)
            progress.warn(f"{name} cannot run {', '.join(lacking)} artifacts: {reasons} ({install})")


def work(
    subjects: Subjects,
    settings: BenchmarkSection,
    *,
    reported: Sequence[str],
    builder: ArtifactBuilder,
    threads: int,
    progress: Progress,
) -> Work:
    """Get together what is run on each device, and run a few images here to compare with.

    Args:
        subjects: The artifacts.
        settings: How latency is measured.
        reported: The targets of the run.
        builder: Knows where the files are, and what they are judged by.
        threads: Intra-op threads here.
        progress: Shows the images.
    """
    paths = {name: builder.files(one)[0] for name, (one, _) in subjects.items()}
    evaluators: dict[str, Evaluator] = {}
    here: dict[str, Scores] = {}
    if builder.evaluates:
        with progress.task("run a few images here, to compare", len(reported)) as task:
            for name in reported:
                candidate, _ = subjects[name]
                row = candidate.target.row
                evaluators[name] = judge = builder.evaluator(candidate.target)
                pixels = judge.pixels[likeness.few(len(judge.places))]
                opened = runtimes.load(row).open_session(
                    paths[name], threads=threads, precision=row.precision
                )
                try:
                    with opened as session:
                        here[name] = session.infer(pixels)
                except EdgefxError as error:
                    progress.warn(f"{name}: no answers of this machine to compare with: {error.message}")
                task.advance()
    return Work(
        subjects=subjects,
        paths=paths,
        reported=tuple(reported),
        evaluators=evaluators,
        here=here,
        settings=settings,
    )


def measure(names: Sequence[str], todo: Work, progress: Progress) -> tuple[DeviceResult, ...]:
    """Run artifacts on devices, on all of them at the same time.

    Args:
        names: The devices.
        todo: What is run on each.
        progress: Shows images and timed inferences, each with its device.

    Returns:
        A result for each device; one that cannot be reached, or is lost, says so and fails alone.
    """
    results = {name: _Measurement(name, todo) for name in names}
    with ThreadPoolExecutor(max_workers=max(1, len(names))) as pool, ExitStack() as stack:
        running = []
        for name, one in results.items():
            try:
                device = stack.enter_context(connected(DeviceChoice(device=name), progress))
            except EdgefxError as error:
                one.lost(error)
            else:
                assert device is not None
                running.append(pool.submit(one.carry_out, device, _Named(progress, name)))
        for future in running:  # an interruption here closes the connections, which ends what waits for them
            future.result()
    for one in results.values():
        one.tell(progress)
    return tuple(one.result() for one in results.values())


def judged(results: Sequence[DeviceResult], report: RunReport, plan: Plan) -> tuple[DeviceResult, ...]:
    """Judge the gates on what devices have measured.

    Args:
        results: From `measure`.
        report: What was measured here, and why that may prove little.
        plan: Has the gates.
    """
    here = {result.target: result for result in report}
    return tuple(
        replace(
            device,
            targets=tuple(_judged(one, device, here[one.target], report, plan) for one in device.targets),
        )
        for device in results
    )


def _judged(
    one: DeviceTarget, device: DeviceResult, here: TargetResult, report: RunReport, plan: Plan
) -> DeviceTarget:
    from edgefx.evaluation import gates, trust

    limits, conditions = plan.recipe.gates, plan.device_gates
    doubts: tuple[Doubt, ...] = ()
    if one.accuracy is not None and report.model.task.classifies:
        doubts = trust.of_artifact(one.accuracy)
        if any(METRICS[gate.metric].needs_labels and device.device in gate.devices for gate in conditions):
            doubts += trust.of_images(one.accuracy.images, fewest=limits.min_images)
    figures = replace(Figures.of(here), accuracy=one.accuracy, latency=one.latency)
    results = gates.judge(conditions, figures, target=one.target, device=device.device)
    return replace(
        one,
        doubts=doubts,
        gates=trust.judged(results, (*report.doubts, *doubts), one.accuracy, policy=limits.on_inconclusive),
    )


@dataclass(eq=False)
class _Measurement:
    """What has been measured on a device so far."""

    name: str
    todo: Work
    found: dict[str, DeviceTarget] = field(default_factory=dict)
    device: Remote | Phone | None = None
    failure: Failure | None = None

    def __post_init__(self) -> None:
        self.found = {target: DeviceTarget(target=target) for target in self.todo.reported}

    def carry_out(self, device: Remote | Phone, progress: Progress) -> None:
        self.device = device
        try:
            for target in self.todo.reported:
                self._look(device, target, progress)
                if target in self.todo.evaluators:
                    self._ask(device, target, progress)
            self._time(device, progress)
        except _LOST as error:
            self.lost(error)

    def lost(self, error: EdgefxError) -> None:
        self.failure = _failure(StageKind.DEVICE, error)

    def tell(self, progress: Progress) -> None:
        """Say what failed; the report says it again."""
        if self.failure is not None:
            progress.warn(f"{self.failure.message} ({self.failure.hint})")
        for one in self.found.values():
            if one.failure is not None:
                progress.warn(
                    f"{self.name}: {one.target} failed to {one.failure.stage}: {one.failure.message}"
                )

    def result(self) -> DeviceResult:
        return DeviceResult(
            device=self.name,
            environment=self.device.environment if self.device else None,
            hardware=self.device.hardware if self.device else None,
            targets=tuple(self.found.values()),
            failure=self.failure,
        )

    def _look(self, device: Remote | Phone, target: str, progress: Progress) -> None:
        """Say before it is run that an artifact is laid out for another class of CPU."""
        candidate, _ = self.todo.subjects[target]
        if said := hardware.misfit(candidate.artifact.notes, device.hardware, device.name):
            progress.warn(f"{target}: {said}")
            self._note(target, notes=(said,))

    def _ask(self, device: Remote | Phone, target: str, progress: Progress) -> None:
        """Run the evaluation images there; compare the answers with the float model's and with those here."""
        if isinstance(device, Phone):
            self._note(target, notes=(*self.found[target].notes, f"accuracy: {WITHOUT_PYTHON}"))
            return
        candidate, _ = self.todo.subjects[target]
        judge, row = self.todo.evaluators[target], candidate.target.row
        try:
            with (
                progress.task(f"evaluate {target}", len(judge.places)) as task,
                device.open_session(
                    self.todo.paths[target],
                    threads=self.todo.settings.threads or device.threads,
                    precision=row.precision,
                ) as session,
            ):
                accuracy, found = judge.judge(session, candidate.artifact.outputs, task)
        except _LOST:
            raise
        except EdgefxError as error:
            self._note(target, failure=_failure(StageKind.EVALUATE, error))
        else:
            self._note(target, accuracy=accuracy, warnings=judge.told(found))
            if (here := self.todo.here.get(target)) is not None:
                few = likeness.few(len(found.scores))
                self._note(target, answers=likeness.compared(here, found.scores[few], judge.spec))

    def _time(self, device: Remote | Phone, progress: Progress) -> None:
        """Measure the latency of what could be run."""
        left = {
            name: subject
            for name, subject in self.todo.subjects.items()
            if name not in self.found or self.found[name].failure is None
        }

        def failed(target: str, error: EdgefxError) -> None:
            if target in self.found:
                self._note(target, failure=_failure(StageKind.BENCHMARK, error))
            else:
                progress.warn(error.message)

        latencies = measured_latencies(
            left,
            self.todo.settings,
            paths=self.todo.paths,
            threads=self.todo.settings.threads or device.threads,
            progress=progress,
            on_failure=failed,
            device=device,
        )
        for target in self.found:
            if target in latencies:
                self._note(target, latency=latencies[target])

    def _note(self, target: str, **found: object) -> None:
        self.found[target] = replace(self.found[target], **found)  # type: ignore[arg-type]


def _failure(stage: StageKind, error: EdgefxError) -> Failure:
    return Failure(stage=stage, message=error.message, hint=error.hint)


class _Named:
    """A `Progress` that says which device each piece of work is done on."""

    def __init__(self, progress: Progress, name: str) -> None:
        self._progress, self._name = progress, name

    @contextmanager
    def task(self, label: str, total: int | None = None) -> Iterator[Task]:
        """See `Progress.task`."""
        with self._progress.task(f"{self._name}: {label}", total) as task:
            yield task

    def note(self, message: str) -> None:
        """See `Progress.note`."""
        self._progress.note(f"{self._name}: {message}")

    def warn(self, message: str) -> None:
        """See `Progress.warn`."""
        self._progress.warn(f"{self._name}: {message}")
