"""What all targets of a run start from: the canonical graph, the images, the float baseline, the checks.

What only a later stage would need (pixels, the graph's file, the baseline's scores) is made when it is asked
for, so that a run whose stages are all cached imports no framework.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from edgefx.cache import keys
from edgefx.data import labels, names
from edgefx.errors import DataError, ModelError
from edgefx.pipeline import demands
from edgefx.pipeline.images import Images
from edgefx.pipeline.memo import Memo
from edgefx.pipeline.model import Source
from edgefx.pipeline.records import BaselineRecord, CalibrationChecks, Copies, Equality
from edgefx.pipeline.stages import Computed, KeptFiles, Stage
from edgefx.recipe.schema import QatSection
from edgefx.results import Check
from edgefx.scores import chosen, confidences, of_first
from edgefx.types import DataInfo, Dataset, ModelSpec, OutputKind
from edgefx.verdicts import Doubt
from edgefx.vocabulary import StageKind

if TYPE_CHECKING:
    from edgefx.pipeline.plan import Plan
    from edgefx.storage.hashes import FileHashes
    from edgefx.types import Pixels, Scores

_CHECK_IMAGES = 16
_ALIKE = 0.1  # share of images that look like another one of their set, above which copies cannot be told
_SHOWN = 2  # copies named
_CHUNK = 32  # images scored at once by the baseline
_SCORES = "scores.f32"


class Inputs:
    """What the targets share.

    Args:
        plan: What is wanted.
        memo: Recalls, computes and keeps.
        hashes: Hashes of the input files.

    Attributes:
        source: The model and its canonical graph.
        calibration: The images that set ranges.
        training: The images of quantization-aware training.
        evaluation: The images that accuracy is measured on.
        checks: What was found in the calibration images.
        data: The images, for the report.
        doubts: Why the accuracy on the evaluation images is flattered.
    """

    def __init__(self, plan: Plan, memo: Memo, hashes: FileHashes) -> None:
        self._plan = plan
        self._memo = memo
        self._hashes = hashes
        self.source = Source(
            plan.recipe.model,
            seed=plan.recipe.seed,
            memo=memo,
            hashes=hashes,
            allow_unsafe=plan.allow_unsafe,
        )
        self._names: tuple[str, ...] = ()
        self.calibration: Images | None = None
        self.training: Images | None = None
        self.evaluation: Images | None = None
        self.checks: list[Check] = []
        self.data: list[DataInfo] = []
        self.doubts: list[Doubt] = []

    @property
    def named_spec(self) -> ModelSpec:
        """The model, with its class names: those that were given, its own, or those of the images."""
        spec = self.source.record.spec
        if self._names:
            return replace(spec, class_names=self._names)
        if spec.class_names:
            return spec
        folders = (images.dataset.class_names for images in self.image_sets if images.dataset.known)
        found = next((one for one in folders if len(one) == spec.classes), ())
        return replace(spec, class_names=found)

    @property
    def image_sets(self) -> tuple[Images, ...]:
        """Those that there are."""
        return tuple(images for images in (self.calibration, self.training, self.evaluation) if images)

    def load(self) -> None:
        """Find out what model and images are; score the model where nothing is known of that.

        Raises:
            EdgefxError: The model cannot be loaded, the images cannot be used, or the labels do not fit.
        """
        plan = self._plan
        demands.check(plan, self.source.spec)
        if plan.recipe.model.labels is not None:
            self._names = names.read(plan.recipe.model.labels, self.source.spec)
        for note in self.source.notes:
            what, _, to_try = note.partition("; ")
            self._memo.warn(f"{self.source.spec.source}: {what}", to_try=to_try)
        if plan.calibration is not None:
            self.calibration = self._images(plan.calibration, "calibration")
        if plan.training is not None:
            self.training = self._images(self._fitting(plan.training), "training")
        if plan.evaluation is not None:
            if plan.listed is not None:
                self._fit(plan.listed)
            dataset = self._fit(plan.evaluation)
            self.evaluation = self._images(dataset, "evaluation")
        if self.calibration is not None:
            self._note(self.calibration, plan.calibration_note)
        if self.training is not None:
            self._note(self.training, f"all {len(self.training.dataset.items)} images of the folder")
        if self.evaluation is not None:
            self._memo.get(self.baseline_stage)
            self._note(self.evaluation, plan.evaluation_note)

    def compare(self) -> None:
        """Prove that the canonical graph is the model.

        Raises:
            ModelError: It is not.
        """
        found = self._memo.get(self.equality_stage)
        if not found.is_usual:
            self._memo.warn(
                f"the deployable graph of {self.source.spec.source} differs from the model as loaded by up to"
                f" {found.max_abs_dp:.2g} of a probability, the best classes are the same: float32 sums in"
                " another order",
                to_try="take smaller differences of scores for equal; edgefx debug measures each stage",
            )

    def check(self) -> None:
        """Say what is poor about the calibration images."""
        self._tell(self._plan.checks)
        if self.calibration is not None:
            self._tell(self._memo.get(self._checks_stage(self.calibration)).checks)
        if self.evaluation is not None:
            for images in filter(None, (self.calibration, self.training)):
                self._look_for_copies(images, self.evaluation)

    @property
    def canonical_max_abs_dp(self) -> float:
        """Largest difference of a probability between the canonical graph and the model as loaded."""
        return self._memo.get(self.equality_stage).max_abs_dp

    @property
    def baseline_top1(self) -> tuple[int, ...]:
        """The float Keras model's best class of each evaluation image."""
        return self._memo.get(self.baseline_stage).top1

    @property
    def baseline_confidence(self) -> tuple[float, ...]:
        """The probability that the baseline gives each of these classes; empty without classes."""
        return self._memo.get(self.baseline_stage).confidence

    @property
    def baseline(self) -> Scores:
        """The float Keras model's scores of the evaluation images, float32 [N, classes]."""
        return self._memo.open(self.baseline_stage)

    # ---------------------------------------- images

    def _images(self, dataset: Dataset, role: str) -> Images:
        return Images(
            dataset,
            self.source.spec,
            role=role,
            resize=self._plan.recipe.data.resize,
            skip_bad=self._plan.recipe.data.skip_bad_images,
            memo=self._memo,
            hashes=self._hashes,
        )

    def _fit(self, dataset: Dataset) -> Dataset:
        spec = self.source.spec
        if spec.outputs:
            return labels.fit_outputs(dataset, spec)
        if self._names:
            dataset = labels.by_name(dataset, self._names)
        guessed = spec.output is OutputKind.LOGITS and self._plan.recipe.model.task is None
        return labels.fit(dataset, spec.task, spec.classes, guessed=guessed)

    def _fitting(self, dataset: Dataset) -> Dataset:
        """Return the training images, without their labels where these are neither the model's nor needed.

        Raises:
            DataError: Supervised training with labels that do not fit the model.
        """
        quantize = self._plan.recipe.quantize
        try:
            return self._fit(dataset)
        except DataError:
            if isinstance(quantize, QatSection) and quantize.mode == "supervised":
                raise
            items = tuple(replace(item, label=None) for item in dataset.items)
            return replace(dataset, items=items, class_names=(), kind="flat")

    def _note(self, images: Images, note: str) -> None:
        """Tell what is known of a set, which is decoded for it if need be."""
        for path, reason in images.record.skipped:
            self._memo.warn(
                f"{images.role}: skipped {path}: {reason}", to_try="replace it, or take it out of the folder"
            )
        self.data.append(images.info(seed=self._plan.recipe.seed, note=note))

    # ---------------------------------------- stages

    @cached_property
    def baseline_stage(self) -> Stage[BaselineRecord, Scores]:
        """The float Keras model's answers; there must be evaluation images."""
        assert self.evaluation is not None
        return Stage(
            kind=StageKind.EVALUATE,
            key=keys.baseline(
                self.source.identity, self.evaluation.sha256, skip_bad=self.evaluation.skip_bad
            ),
            result=BaselineRecord,
            compute=self._scored,
            restore=self._restored_scores,
            what="float baseline",
            clock="baseline",
        )

    @cached_property
    def equality_stage(self) -> Stage[Equality, None]:
        """The canonical graph held against the model as loaded."""
        images = self.evaluation or self.calibration
        compared_on = images.first(_CHECK_IMAGES) if images else f"noise, seed {self._plan.recipe.seed}"
        return Stage(
            kind=StageKind.CANONICALIZE,
            key=keys.equality(self.source.identity, self.source.record.sha256, compared_on),
            result=Equality,
            compute=self._compared,
            what="comparison with the model",
        )

    def _copies_stage(self, images: Images, evaluation: Images) -> Stage[Copies, None]:
        def compute() -> Computed[Copies, None]:
            from edgefx.data import twins

            first, second = images.get(), evaluation.get()
            pairs = tuple(
                (str(first.paths[one]), str(second.paths[other]))
                for one, other in twins.find(first.pixels, second.pixels)
            )
            share = twins.alike(first.pixels) if pairs else 0.0
            return Computed(value=Copies(pairs=pairs, alike=share), opened=None)

        return Stage(
            kind=StageKind.QUANTIZE,
            key=keys.copies(images.stage.key, evaluation.stage.key),
            result=Copies,
            compute=compute,
            what=f"copies of {images.role} images",
            label=f"look for {images.role} images among the evaluation images",
        )

    def _checks_stage(self, images: Images) -> Stage[CalibrationChecks, None]:
        evaluation = self.evaluation.stage.key if self.evaluation else None
        return Stage(
            kind=StageKind.QUANTIZE,
            key=keys.checks(images.stage.key, evaluation, self.source.record.sha256),
            result=CalibrationChecks,
            compute=lambda: self._checked(images),
            what="checks of the calibration images",
        )

    def _scored(self) -> Computed[BaselineRecord, Scores]:
        """Score the float Keras model while the images are still being decoded."""
        import numpy as np

        assert self.evaluation is not None
        spec = self.source.spec
        with self.evaluation.decoding() as loader:
            _ = self.source.record  # the graph is made meanwhile, too
            loaded = self.source.loaded
            with self._memo.progress.task("evaluate float baseline", len(loader)) as task:
                scores = np.concatenate(
                    [loaded.predict(chunk, task=task) for _, chunk in loader.chunks(_CHUNK)]
                )
        deciding = of_first(scores, spec)
        best = chosen(deciding, spec.output, spec.threshold)
        return Computed(
            value=BaselineRecord(
                top1=tuple(best.tolist()),
                confidence=confidences(deciding, spec.output, best) if spec.task.classifies else (),
            ),
            opened=scores,
            files={_SCORES: scores.astype("<f4").tobytes()},
        )

    def _restored_scores(self, record: BaselineRecord, files: KeptFiles) -> Scores:
        import numpy as np

        del record
        return np.frombuffer(files.read(_SCORES), "<f4").reshape(-1, self.source.spec.columns)

    def _compared(self) -> Computed[Equality, None]:
        from edgefx.models.graph.canonical import compare
        from edgefx.models.graph.equality import ALLOWED

        images = self.evaluation or self.calibration
        graph = self.source.graph
        pixels = (
            images.get().pixels[:_CHECK_IMAGES]
            if images
            else _noise(self.source.spec, self._plan.recipe.seed)
        )
        want = self.baseline[:_CHECK_IMAGES] if self.evaluation else self.source.loaded.predict(pixels)
        found = compare(want, graph, pixels)
        if not found.is_allowed:
            raise ModelError(
                f"the deployable graph of {self.source.spec.source} differs from the model as loaded:"
                f" {found}; allowed is {ALLOWED:g}, with the same best classes",
                hint="this model uses a construct that edgefx does not preserve; please report it",
            )
        return Computed(value=Equality(max_abs_dp=found.max_abs_dp, is_usual=found.is_usual), opened=None)

    def _checked(self, images: Images) -> Computed[CalibrationChecks, None]:
        from edgefx.data import checks, stability

        calibration = images.get()
        low, high = self.source.spec.pixel_range
        seen = (
            f"{calibration.pixels.min()} to {calibration.pixels.max()}, the model takes {low:g} to {high:g}"
        )
        found = [Check(name="pixel range", passed=True, measured=seen)]  # else `check_range` had refused
        evaluation = self.evaluation.get() if self.evaluation else None
        found += checks.pixel_checks(calibration, evaluation)
        sample = checks.spread(calibration.pixels)
        graph = self.source.graph
        with self._memo.progress.task("check the calibration images", len(sample)) as task:
            observed = stability.observe(graph, sample, task=task)
        found += checks.answers_check(observed.answers, calibration, evaluation)
        found.append(checks.stability_check(observed.extremes))
        return Computed(value=CalibrationChecks(checks=tuple(found)), opened=None)

    def _look_for_copies(self, images: Images, evaluation: Images) -> None:
        """Doubt the accuracy on pictures that were seen before; the plan has seen to files of equal bytes."""
        from edgefx.evaluation import trust

        found = self._memo.get(self._copies_stage(images, evaluation))
        name = "overlap with the evaluation images"
        doubt: Doubt | None = None
        measured = "none"
        if found.alike > _ALIKE:  # a fixed camera, for example
            measured = f"unknown: {found.alike:.0%} of these images look like another one of them"
        elif found.pairs:
            examples = "; ".join(f"{other} = {one}" for one, other in found.pairs[:_SHOWN])
            more = f"; + {len(found.pairs) - _SHOWN} more" if len(found.pairs) > _SHOWN else ""
            doubt = trust.of_copies(
                len(found.pairs), len(evaluation.paths), purpose=images.role, examples=f"{examples}{more}"
            )
            self.doubts.append(doubt)
            measured = doubt.reason
        if images is self.calibration:
            advice = doubt.advice if doubt else ""
            self._tell([Check(name=name, passed=not doubt, measured=measured, advice=advice)])
        elif doubt is not None:
            self._memo.warn(doubt.reason, to_try=doubt.advice)

    def _tell(self, checks: Sequence[Check]) -> None:
        self.checks += checks
        for check in checks:
            if not check.passed:
                self._memo.warn(f"calibration images, {check.name}: {check.measured}", to_try=check.advice)


def _noise(spec: ModelSpec, seed: int) -> Pixels:
    """Seeded noise, used only to check the canonical graph when no image was given."""
    import numpy as np

    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (4, spec.height, spec.width, 3), dtype=np.uint8)
