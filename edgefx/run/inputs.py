"""What all targets of a run start from: the canonical graph, the images, the float baseline, the checks.

Each is looked up in the cache first. What is not there is computed and kept; what only a later stage would
need (pixels, the graph's file, the baseline's scores) is made when it is asked for, so that a run whose
stages are all cached imports no framework.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgefx.cache import keys
from edgefx.data.folders import check_labels
from edgefx.errors import DataError, ModelError
from edgefx.recipe.schema import QatSection
from edgefx.results import Check
from edgefx.run.imageset import Images
from edgefx.run.source import Source
from edgefx.types import DataInfo, Dataset, ModelSpec, Progress, Stage

if TYPE_CHECKING:
    from edgefx.cache.entry import Entry, Key
    from edgefx.cache.files import FileHashes
    from edgefx.data.images import Loader
    from edgefx.plan import Plan
    from edgefx.run.ledger import Ledger, Recalled
    from edgefx.types import Pixels, Scores

CANONICAL_TOLERANCE = 1e-5  # largest |Δp| between the model as loaded and its canonical graph
_CHECK_IMAGES = 16
_CHUNK = 32  # images scored at once by the baseline
_SCORES = "scores.f32"


@dataclass(frozen=True, kw_only=True)
class BaselineRecord:
    """The float model's answers: the best class of each image; the scores are a file."""

    top1: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Equality:
    """Largest difference of a probability between the canonical graph and the model as loaded."""

    max_abs_dp: float


@dataclass(frozen=True, kw_only=True)
class CalibrationChecks:
    """What was found in the decoded calibration images."""

    checks: tuple[Check, ...]


class Inputs:
    """What the targets share.

    Args:
        plan: What is wanted.
        ledger: Notes and cache.
        hashes: Hashes of the input files.
        workdir: A folder that lives as long as the run.
        progress: Told of long work.

    Attributes:
        source: The model and its canonical graph.
        calibration: The images that set ranges.
        training: The images of quantization-aware training.
        evaluation: The images that accuracy is measured on.
        baseline_key: Of the float model's scores; None without evaluation images.
        checks: Of the calibration images.
        canonical_max_abs_dp: The canonical graph against the model as loaded.
        data: The images, for the report.
    """

    def __init__(
        self, plan: Plan, ledger: Ledger, hashes: FileHashes, workdir: Path, progress: Progress
    ) -> None:
        self._plan = plan
        self._ledger = ledger
        self._hashes = hashes
        self._workdir = workdir
        self._progress = progress
        self.source = Source(
            plan.recipe.model,
            seed=plan.recipe.seed,
            ledger=ledger,
            hashes=hashes,
            workdir=workdir,
            progress=progress,
        )
        self._scores: Scores | None = None
        self._scores_entry: Entry | None = None
        self.calibration: Images | None = None
        self.training: Images | None = None
        self.evaluation: Images | None = None
        self.baseline_top1: tuple[int, ...] = ()
        self.baseline_key: Key | None = None
        self.checks: list[Check] = []
        self.canonical_max_abs_dp = 0.0
        self.data: list[DataInfo] = []

    @property
    def image_sets(self) -> tuple[Images, ...]:
        """Those that there are."""
        return tuple(images for images in (self.calibration, self.training, self.evaluation) if images)

    def identify(self) -> None:
        """Find out what the images are, without decoding them where the model is known already.

        Raises:
            EdgefxError: The model cannot be loaded, or the labels do not fit it.
        """
        if self._plan.calibration is not None:
            self.calibration = self._images(self._plan.calibration, "calibration")
        if self._plan.training is not None:
            self.training = self._images(self._fitting(self._plan.training), "training")
        if self._plan.evaluation is not None:
            dataset = check_labels(self._plan.evaluation, self.source.spec.classes)
            self.evaluation = self._images(dataset, "evaluation")
            self.baseline_key = keys.baseline(
                self.source.identity, self.evaluation.sha256, skip_bad=self.evaluation.skip_bad
            )

    def prepare(self) -> None:
        """Find or make what every run needs.

        Raises:
            EdgefxError: The model or the images cannot be used.
        """
        for note in self.source.notes:
            self._ledger.warn(f"{self.source.spec.source}: {note}")
        self.identify()
        if self.calibration is not None:
            self._note(self.calibration, self._plan.calibration_note)
        if self.training is not None:
            self._note(self.training, f"all {len(self.training.dataset.items)} images of the folder")
        if self.evaluation is not None:
            self._prepare_evaluation(self.evaluation)
            self._note(self.evaluation, self._plan.evaluation_note)
        self._compare()
        self._check_calibration()

    # ---------------------------------------- images and baseline

    def _images(self, dataset: Dataset, role: str) -> Images:
        return Images(
            dataset,
            self.source.spec,
            role=role,
            resize=self._plan.recipe.data.resize,
            skip_bad=self._plan.recipe.data.skip_bad_images,
            ledger=self._ledger,
            hashes=self._hashes,
            workdir=self._workdir,
            progress=self._progress,
        )

    def _fitting(self, dataset: Dataset) -> Dataset:
        """Return the training images, without their labels where these are neither the model's nor needed.

        Raises:
            DataError: Supervised training with labels that do not fit the model.
        """
        quantize = self._plan.recipe.quantize
        try:
            return check_labels(dataset, self.source.spec.classes) if dataset.labelled else dataset
        except DataError:
            if isinstance(quantize, QatSection) and quantize.mode == "supervised":
                raise
            items = tuple(replace(item, label=None) for item in dataset.items)
            return replace(dataset, items=items, class_names=(), kind="flat")

    def _note(self, images: Images, note: str) -> None:
        """Tell what is known of a set, which is decoded for it if need be."""
        for path, reason in images.record.skipped:
            self._ledger.warn(f"{images.role}: skipped {path}: {reason}")
        self.data.append(images.info(seed=self._plan.recipe.seed, note=note))

    def known_baseline(self) -> Recalled[BaselineRecord] | None:
        """Look the float model's answers up."""
        assert self.baseline_key is not None
        return self._ledger.recall(self.baseline_key, BaselineRecord, Stage.EVALUATE, what="float baseline")

    def _prepare_evaluation(self, images: Images) -> None:
        baseline = self.known_baseline()
        if baseline is not None:
            self.baseline_top1, self._scores_entry = baseline.value.top1, baseline.entry
        if baseline is not None and images.is_known:
            return
        with images.decoding() as loader:  # in the background while the graph is made and the baseline runs
            _ = self.source.record
            if baseline is None:
                self._score(loader)

    @property
    def baseline(self) -> Scores:
        """The float Keras model's scores of the evaluation images, float32 [N, classes]."""
        import numpy as np

        assert self.evaluation is not None
        if self._scores is None and self._scores_entry is not None:
            content = self._ledger.store.read(self._scores_entry, _SCORES)
            if content is not None:
                self._scores = np.frombuffer(content, "<f4").reshape(-1, self.source.spec.classes)
        if self._scores is None:
            assert self.baseline_key is not None
            self._ledger.forget(self.baseline_key)
            with self.evaluation.decoding() as loader:
                self._score(loader)
        assert self._scores is not None
        return self._scores

    def _score(self, loader: Loader) -> None:
        """Score the float Keras model while the images are still being decoded."""
        import numpy as np

        assert self.baseline_key is not None
        loaded = self.source.loaded
        with (
            self._ledger.stage(Stage.EVALUATE, "baseline"),
            self._progress.task("evaluate float baseline", len(loader)) as task,
        ):
            self._scores = np.concatenate(
                [loaded.predict(chunk, task=task) for _, chunk in loader.chunks(_CHUNK)]
            )
        self.baseline_top1 = tuple(self._scores.argmax(1).tolist())
        self._ledger.keep(
            self.baseline_key,
            BaselineRecord(top1=self.baseline_top1),
            {_SCORES: self._scores.astype("<f4").tobytes()},
        )

    # ---------------------------------------- checks

    def known_equality(self) -> Recalled[Equality] | None:
        """Look up how much the canonical graph differs from the model."""
        return self._ledger.recall(
            self._equality_key(), Equality, Stage.CANONICALIZE, what="comparison with the model"
        )

    def known_checks(self) -> Recalled[CalibrationChecks] | None:
        """Look the checks of the calibration images up."""
        return self._ledger.recall(
            self._checks_key(),
            CalibrationChecks,
            Stage.QUANTIZE,
            what="checks of the calibration images",
        )

    def _equality_key(self) -> Key:
        images = self.evaluation or self.calibration
        compared_on = images.first(_CHECK_IMAGES) if images else f"noise, seed {self._plan.recipe.seed}"
        return keys.equality(self.source.identity, self.source.record.sha256, compared_on)

    def _checks_key(self) -> Key:
        assert self.calibration is not None
        evaluation = self.evaluation.key if self.evaluation else None
        return keys.checks(self.calibration.key, evaluation, self.source.record.sha256)

    def _compare(self) -> None:
        """Prove that the canonical graph is the model.

        Raises:
            ModelError: It is not.
        """
        images = self.evaluation or self.calibration
        found = self.known_equality()
        if found is not None:
            self.canonical_max_abs_dp = found.value.max_abs_dp
            return
        from edgefx.models.canonical import max_abs_dp

        loaded, graph = self.source.loaded, self.source.graph
        pixels = (
            images.get().pixels[:_CHECK_IMAGES]
            if images
            else _noise(self.source.spec, self._plan.recipe.seed)
        )
        with self._ledger.stage(Stage.CANONICALIZE):
            difference = max_abs_dp(loaded, graph, pixels)
        if not difference <= CANONICAL_TOLERANCE:
            raise ModelError(
                f"the deployable graph of {self.source.spec.source} differs from the model as loaded:"
                f" max |Δp| = {difference:.2g}, allowed is {CANONICAL_TOLERANCE:g}",
                hint="this model uses a construct that edgefx does not preserve; please report it",
            )
        self.canonical_max_abs_dp = difference
        self._ledger.keep(self._equality_key(), Equality(max_abs_dp=difference))

    def _check_calibration(self) -> None:
        """Say what is poor about the calibration images."""
        self._tell(self._plan.checks)
        if self.calibration is None:
            return
        found = self.known_checks()
        checks = found.value.checks if found else self._computed_checks(self.calibration)
        if found is None:
            self._ledger.keep(self._checks_key(), CalibrationChecks(checks=checks))
        self._tell(checks)

    def _computed_checks(self, images: Images) -> tuple[Check, ...]:
        from edgefx.data import checks, stability

        calibration = images.get()
        low, high = self.source.spec.pixel_range
        seen = (
            f"{calibration.pixels.min()} to {calibration.pixels.max()}, the model takes {low:g} to {high:g}"
        )
        found = [Check(name="pixel range", passed=True, measured=seen)]  # else `check_range` had refused
        found += checks.pixel_checks(calibration, self.evaluation.get() if self.evaluation else None)
        if self.evaluation is not None:  # else the plan had refused, or left the copies out
            found.append(Check(name="overlap with the evaluation images", passed=True, measured="none"))
        sample = checks.spread(calibration.pixels)
        graph = self.source.graph
        with (
            self._ledger.stage(Stage.QUANTIZE),
            self._progress.task("check the calibration images", len(sample)) as task,
        ):
            found.append(checks.stability_check(stability.extremes(graph, sample, task=task)))
        return tuple(found)

    def _tell(self, checks: Sequence[Check]) -> None:
        self.checks += checks
        for check in checks:
            if not check.passed:
                self._ledger.warn(f"calibration images, {check.name}: {check.measured}; {check.advice}")


def _noise(spec: ModelSpec, seed: int) -> Pixels:
    """Seeded noise, used only to check the canonical graph when no image was given."""
    import numpy as np

    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (4, spec.height, spec.width, 3), dtype=np.uint8)
