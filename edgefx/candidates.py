"""From a target to its artifact: one conversion or, for INT8 with an accuracy budget, the best of several.

Candidates are converted in folders of their own inside the output's staging folder; only the chosen one is
published. A search that ends early, by an error or by Ctrl-C, publishes the best candidate so far.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgefx import budget, targets
from edgefx.errors import ConversionError, EdgefxError
from edgefx.output import OutputFolder, is_disk_full
from edgefx.plan import PlannedTarget
from edgefx.quantize.selection import select
from edgefx.results import Accuracy, LayerSensitivity, MaxDrop, SearchResult, Trial
from edgefx.targets import TargetRow
from edgefx.types import (
    Artifact,
    Effort,
    FrozenGraph,
    ImageSet,
    Precision,
    Progress,
    QuantScheme,
    Stage,
)

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from edgefx.types import Scores

# Calibration images that rank the layers. On B0, 32 of 100 images name 7 or 8 of the same 8 worst layers, in
# a third of the time.
_RANKED_ON = 32
_CONVERSIONS = ("QUANTIZE", "DEQUANTIZE")  # of types: no computation


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What artifacts are measured on: the images, and the float model's scores for them."""

    images: ImageSet
    baseline: Scores


@dataclass(frozen=True, kw_only=True)
class Made:
    """A published artifact.

    Attributes:
        artifact: Described, with its final paths.
        convert_s: Wall time of its conversion.
        effort: Of an INT8 artifact.
        accuracy: Where it was measured already, to choose it.
        search: What was tried, where there was a budget.
    """

    artifact: Artifact
    convert_s: float
    effort: Effort | None = None
    accuracy: Accuracy | None = None
    search: SearchResult | None = None


class Workshop:
    """Makes artifacts of one graph and measures them.

    Args:
        graph: The canonical graph.
        calibration: Images for the ranges, where a target needs them.
        evaluation: What accuracy is measured on, if it is.
        out: Where artifacts are published.
        threads: Intra-op threads for evaluation.
        seed: Of all that is sampled.
        progress: Told of long work.
        stage: Times a stage of a target.
    """

    def __init__(
        self,
        *,
        graph: FrozenGraph,
        calibration: ImageSet | None,
        evaluation: Evaluation | None,
        out: OutputFolder,
        threads: int,
        seed: int,
        progress: Progress,
        stage: Callable[[Stage, str], AbstractContextManager[None]],
    ) -> None:
        self._graph = graph
        self._calibration = calibration
        self._evaluation = evaluation
        self._out = out
        self._threads = threads
        self._seed = seed
        self._progress = progress
        self._stage = stage

    def make(self, target: PlannedTarget) -> Made:
        """Make and publish the artifact of a target.

        Args:
            target: What to make and how; an INT8 artifact with a budget is searched for one that meets it.

        Raises:
            EdgefxError: There is no artifact. Other exceptions leave the best candidate published.
        """
        row = target.row
        scheme = QuantScheme(
            precision=row.precision,
            io_dtype=target.io_dtype,
            seed=self._seed,
            effort=target.effort,
            ranges=target.ranges,
            keep_float=select(target.keep_float, self._graph.layers),
        )
        has_choice = row.precision is Precision.INT8
        if has_choice and target.budget is not None and self._evaluation is not None:
            return self._search(target, scheme, target.budget)
        begun = time.perf_counter()
        files, artifact = self._convert(target, scheme, f"convert {row.name}", self._folder(row, 0))
        seconds = time.perf_counter() - begun
        return Made(
            artifact=self._publish(files, artifact),
            convert_s=seconds,
            effort=target.effort if has_choice else None,
        )

    def measure(self, row: TargetRow, path: Path, label: str) -> Accuracy:
        """Measure an artifact on the evaluation images."""
        from edgefx.evaluate import accuracy

        assert self._evaluation is not None
        images, baseline = self._evaluation.images, self._evaluation.baseline
        with (
            self._stage(Stage.EVALUATE, row.name),
            self._progress.task(f"evaluate {label}", len(images)) as task,
            targets.load(row).open(path, self._threads, row.precision) as session,
        ):
            scores, images_per_s = accuracy.run(session, images.pixels, task=task)
            return accuracy.compare(
                baseline,
                scores,
                images.labels,
                output=self._graph.spec.output,
                images_per_s=images_per_s,
            )

    # ---------------------------------------- the search

    def _search(self, target: PlannedTarget, scheme: QuantScheme, limit: MaxDrop) -> Made:
        row = target.row
        made: dict[int, tuple[tuple[Path, ...], Artifact]] = {}
        measured: dict[tuple[str, ...], Accuracy] = {}  # more effort may change nothing

        def attempt(number: int, effort: Effort, layers: tuple[str, ...]) -> Trial:
            for other in [other for other in made if other != search.best]:  # only the best is of use
                del made[other]
                shutil.rmtree(self._folder(row, other), ignore_errors=True)
            what = _described(effort, len(layers))
            wanted = replace(scheme, effort=effort, keep_float=scheme.keep_float | set(layers))
            with as_edgefx_errors(f"{row.name}, {what}"):
                begun = time.perf_counter()
                files, artifact = self._convert(
                    target, wanted, f"convert {row.name}, {what}", self._folder(row, number)
                )
                seconds = time.perf_counter() - begun
                content = tuple(file.sha256 for file in artifact.files)
                if layers and content in measured:
                    raise ConversionError("left in float, these layers change nothing in the artifact")
                if content not in measured:
                    measured[content] = self.measure(row, files[0], f"{row.name}, {what}")
                accuracy = measured[content]
            made[number] = files, artifact
            return Trial(
                effort=effort,
                keep_float=layers,
                accuracy=accuracy,
                integer_share=budget.integer_share(artifact),
                size_bytes=artifact.size_bytes,
                convert_s=seconds,
                meets=budget.meets(limit, accuracy),
            )

        def tell(trial: Trial) -> None:
            what = f"{row.name}, {_described(trial.effort, len(trial.keep_float))}"
            if trial.accuracy is None:
                self._progress.warn(f"{what}: {trial.error}")
                return
            self._progress.note(
                f"{what}: drop {_drop(limit, trial.accuracy)}, agreement {trial.accuracy.agreement:.1%}:"
                f" {'within' if trial.meets else 'over'} --max-drop {limit}"
            )

        def rank(number: int) -> tuple[LayerSensitivity, ...]:
            with as_edgefx_errors(f"{row.name}: sensitivity of the layers"):
                ranked = self._rank(row, made[number][0][0])
                return tuple(one for one in ranked if one.layer not in scheme.keep_float)

        search = budget.Search(
            limit=limit,
            effort=scheme.effort,
            attempt=attempt,
            tell=tell,
            rank=None if target.integer_only else rank,
        )
        try:
            search.run()
        except BaseException:
            if search.best is not None:
                path = self._publish(*made[search.best]).path
                self._progress.warn(f"{row.name}: the search was cut short; {path} is the best so far")
            raise
        result = search.result
        trial = result.trials[result.chosen]
        return Made(
            artifact=self._publish(*made[result.chosen]),
            convert_s=trial.convert_s,
            effort=trial.effort,
            accuracy=trial.accuracy,
            search=result,
        )

    def _rank(self, row: TargetRow, path: Path) -> tuple[LayerSensitivity, ...]:
        """Measure each layer alone, on the calibration images: they are not what is reported on."""
        from edgefx.quantize.sensitivity import rank

        assert self._calibration is not None, "an INT8 artifact has been made"
        images = self._calibration
        every = max(1, len(images) // _RANKED_ON)
        images = replace(
            images,
            pixels=images.pixels[::every],
            labels=None if images.labels is None else images.labels[::every],
            paths=images.paths[::every],
        )
        with self._stage(Stage.QUANTIZE, row.name):
            return rank(self._graph, row, path, images, self._progress)

    # ---------------------------------------- one artifact

    def _convert(
        self, planned: PlannedTarget, scheme: QuantScheme, label: str, folder: Path
    ) -> tuple[tuple[Path, ...], Artifact]:
        """Convert into `folder`; return the files, the main one first, and their description."""
        row = planned.row
        folder.mkdir(parents=True)
        target = targets.load(row)
        with self._stage(Stage.CONVERT, row.name), self._progress.task(label):
            files = target.convert(
                self._graph,
                scheme,
                self._calibration if row.needs_calibration else None,
                folder / f"{self._graph.spec.name}-{row.precision}{row.suffix}",
                self._progress,
            )
            artifact = replace(target.describe(files[0]), target=row.name)
        if planned.integer_only:
            _require_integer(artifact)
        return files, artifact

    def _publish(self, files: tuple[Path, ...], artifact: Artifact) -> Artifact:
        published = self._out.publish(files)
        at = {path.name: path for path in published}
        return replace(
            artifact, files=tuple(replace(file, path=at[file.path.name]) for file in artifact.files)
        )

    def _folder(self, row: TargetRow, number: int) -> Path:
        return self._out.staging / f"{row.name}-{number}"


@contextmanager
def as_edgefx_errors(what: str) -> Iterator[None]:
    """Turn what one target or candidate dies of into an `EdgefxError`, so that the others live.

    A full disk is not turned: everything shares it.
    """
    try:
        yield
    except EdgefxError:
        raise
    except MemoryError as error:
        raise EdgefxError("out of memory", hint="compile fewer targets in one run") from error
    except Exception as error:
        if is_disk_full(error):
            raise
        logging.getLogger("edgefx").exception("%s failed", what)
        raise EdgefxError(f"{type(error).__name__}: {error}", hint="the log has the traceback") from error


def _described(effort: Effort, layers: int) -> str:
    kept = f", {layers} layer{'s' if layers != 1 else ''} in float" if layers else ""
    return f"effort {effort}{kept}"


def _drop(limit: MaxDrop, accuracy: Accuracy) -> str:
    drop = limit.measured(accuracy)
    return "unknown" if drop is None else f"{drop:.4g} {limit.unit}"


def _require_integer(artifact: Artifact) -> None:
    """Refuse an artifact that computes in float.

    Raises:
        ConversionError: Names the operations.
    """
    if not artifact.compute_float:
        return
    names = [
        f"{entry.op} x {entry.count}"
        for entry in artifact.ops
        if entry.dtype.startswith(("float", "bfloat")) and entry.op.upper() not in _CONVERSIONS
    ]
    raise ConversionError(
        f"--integer-only, but {artifact.compute_float} operations of the artifact compute in float:"
        f" {', '.join(names)}",
        hint="leave --integer-only out, or change these layers of the model",
    )
