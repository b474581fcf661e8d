"""An artifact's accuracy on a folder of images: `edgefx evaluate`.

What it is compared with comes from the stages of a compilation, hence from the same cache: after `compile`,
the float model is not run on the same images again.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from edgefx import harmless, runtimes
from edgefx.benchmarking.devices.connect import ON_HOST, DeviceChoice, connected
from edgefx.benchmarking.devices.phone import Phone
from edgefx.data import calibration, labels
from edgefx.errors import UsageError
from edgefx.measured import Explanation
from edgefx.models.heads import threshold_of
from edgefx.models.hints import NO_HINTS, Hints
from edgefx.pipeline import answers, evaluate_outputs, evaluated, foreign
from edgefx.pipeline.changed import Explainer
from edgefx.pipeline.demands import check_explained
from edgefx.pipeline.execute import computing
from edgefx.pipeline.foreign import Reading
from edgefx.pipeline.inputs import Inputs
from edgefx.pipeline.inspect import existing
from edgefx.pipeline.likeness import few, throughput
from edgefx.protocols import Progress
from edgefx.recipe.schema import DataSection, ModelSection
from edgefx.scores import chosen, confidences, kind_of
from edgefx.system import host
from edgefx.types import ModelTask, OutputKind, Resize
from edgefx.views import Evaluation

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgefx.cache.settings import CacheSettings
    from edgefx.pipeline.answers import Answers
    from edgefx.pipeline.memo import Memo
    from edgefx.protocols import Session
    from edgefx.results import Accuracy, ClassComparison
    from edgefx.types import ArtifactMetadata, Dataset, ImageSet, ModelSpec, Scores, TensorInfo
    from edgefx.verdicts import Doubt


def run(
    artifact: Path,
    data: Path,
    progress: Progress,
    *,
    baseline: str | None = None,
    weights: str | None = None,
    resize: Resize = Resize.STRETCH,
    limit: int | None = None,
    seed: int = 0,
    skip_bad: bool = False,
    threads: int | None,
    allow_unsafe: bool = False,
    cache: CacheSettings | None = None,
    device: DeviceChoice = ON_HOST,
    hints: Hints = NO_HINTS,
    background: bool | None = None,
    explain: int = 0,
) -> Evaluation:
    """Measure how well an artifact answers images.

    Args:
        artifact: Its main file.
        data: A folder of images.
        progress: Where long work and images that are left out are reported.
        baseline: What to compare with image by image: a Keras model, by path or zoo name, or the output
            folder of a run, whose float model's best classes are taken.
        weights: The weights of a zoo baseline.
        resize: How an image of any shape becomes the input.
        limit: Measure on a sample of this many images.
        seed: The seed of the sample.
        skip_bad: Leave corrupt images out.
        threads: Intra-op threads of the runtime; None for all cores.
        allow_unsafe: Load a baseline that would be refused as unsafe.
        cache: Where the baseline's scores are kept; by default as the environment says.
        device: Where to run the artifact. A few images are run here, too, and their scores compared.
        hints: What the artifact does not say of its task, and what the baseline's file does not tell. Its
            pixels are also those of an artifact of other origin, which nothing was put in front of.
        background: Whether the artifact's class 0 is one that no image has; None asks where it seems so.
        explain: Of how many images that change their class to find out what artifact and baseline go by.

    Raises:
        UsageError: No such artifact, images without labels and no baseline, or a baseline that cannot be the
            model that the artifact was made from, or a run without answers of its float model; or something
            to explain without a float model that can be asked.
        DataError: The images cannot be used, or their classes are not those of the artifact.
        ArtifactError: The file is damaged, or not an image classifier.
        DeviceError: The device cannot be reached, or is no longer there.
        BenchmarkError: The artifact cannot be run there.
    """
    existing(artifact)
    if weights is not None and baseline is None:
        raise UsageError("--weights belongs to --baseline", hint="give --baseline MODEL")
    kept = answers.of_run(baseline) if baseline is not None and answers.is_run(baseline) else None
    if kept is not None:
        _check_prepared_alike(kept, weights=weights, resize=resize, threshold=hints.threshold or 0.5)
    if explain and (baseline is None or kept is not None):
        raise UsageError(
            "--explain asks the float model, too, and none is given" + (", but a run" if kept else ""),
            hint="compare with it: --baseline MODEL",
        )
    target = runtimes.for_artifact(artifact)
    described, metadata = target.describe(artifact), target.read_metadata(artifact)
    if metadata is not None and metadata.resize not in ("", resize):
        progress.warn(
            f"{artifact} was made with images resized with {harmless.line(metadata.resize)}, and is evaluated"
            f" with {resize}: give --resize to change that"
        )
    if metadata is not None and metadata.outputs:
        if kept is not None or background is not None or explain:
            raise UsageError(
                f"{artifact} has {len(metadata.outputs)} outputs: it is compared with a model, not with a"
                " run, none of its classes is taken for the background, and none of its answers is explained",
                hint="give a model as --baseline, and leave out --background and --explain",
            )
        return evaluate_outputs.run(
            artifact,
            data,
            progress,
            described=described,
            metadata=metadata,
            target=target,
            baseline=baseline,
            weights=weights,
            resize=resize,
            sample=(limit, seed),
            skip_bad=skip_bad,
            threads=threads,
            allow_unsafe=allow_unsafe,
            cache=cache,
            device=device,
            hints=hints,
        )
    task = task_of(artifact, described.outputs[0], metadata, hints)
    reading = foreign.read(
        artifact, described, target, metadata, task=task, hints=hints, background=background
    )
    height, width, classes = reading.height, reading.width, reading.classes
    threshold = threshold_of(task, hints.threshold)
    unsaid = metadata is None and hints.task is None
    dataset, note = _listed(data, kept, task, reading, limit=limit, seed=seed, unsaid=unsaid)
    if not dataset.known and baseline is None:
        raise UsageError(
            f"{data} has no labels, so there is no accuracy to measure",
            hint="give sub-folders per class or labels.csv, or compare with a model: --baseline MODEL",
        )

    label = f"evaluate {artifact.name}"
    with connected(device, progress) as there, computing(cache, progress) as (memo, hashes):
        if isinstance(there, Phone):
            there.refuse(artifact)
        used = threads or (host.cores() if there is None else there.threads)
        here = partial(target.open_session, artifact, threads=host.cores())
        if metadata is None and task.classifies and dataset.known:
            foreign.check(artifact, reading, here, dataset, resize=resize, memo=memo)
        opened = partial((target if there is None else there).open_session, artifact, threads=used)
        session: Callable[[], AbstractContextManager[Session]] = partial(reading.open, opened)
        notes = (*reading.notes, *evaluated.misfit(described, there, progress))
        if baseline is None or kept is not None:
            found = _alone(
                session,
                dataset,
                memo,
                task=task,
                threshold=threshold,
                reading=reading,
                resize=resize,
                skip_bad=skip_bad,
                label=label,
            )
        else:
            plan = evaluated.planned(
                artifact,
                dataset,
                ModelSection(
                    source=baseline,
                    weights=weights,
                    **replace(hints, task=_said(task, hints, described.outputs[0])).section,
                ),
                DataSection(resize=resize, skip_bad_images=skip_bad),
                allow_unsafe=allow_unsafe,
            )
            inputs = Inputs(plan, memo, hashes)
            _check_fits(baseline, inputs.source.spec, height=height, width=width, classes=classes)
            found = _against(session, described.outputs[0], inputs, memo, name=artifact.name, explain=explain)
    accuracy = found.accuracy
    against = (
        accuracy
        if found.baseline
        else _against_answers(kept, found, dataset.root)
        if kept is not None
        else None
    )
    names = dataset.class_names or reading.class_names
    return Evaluation(
        artifact=artifact,
        data=evaluated.data_info(found.images, data, seed=seed if limit else None, note=note),
        threads=used,
        precision_ran=found.precision_ran,
        images=len(found.images),
        top1=accuracy.top1,
        top5=accuracy.top5,
        images_per_s=accuracy.images_per_s,
        baseline=str(kept.folder) if kept is not None else found.baseline,
        comparison=against,
        figures=accuracy.task if accuracy.task is None or found.baseline else accuracy.task.alone(),
        doubts=_doubts(found, names) if task.classifies else (),
        device=None
        if there is None
        else evaluated.as_here(found.images, found.few, there, partial(reading.open, here)),
        notes=(*notes, *filter(None, [found.told])),
        error_rate=accuracy.error_rate,
        explanations=found.explanations,
        model=found.model,
    )


@dataclass(frozen=True, kw_only=True)
class _Found:
    """What running an artifact over images gave.

    Attributes:
        images: The images that could be decoded.
        accuracy: The artifact against the baseline; without one, against itself.
        top1: The best class of each image: the baseline's; without one, the artifact's.
        precision_ran: What the runtime executed in.
        best: The artifact's best class of each image, int64 [N].
        few: The artifact's scores of the images that `likeness.few` chooses.
        baseline: Where the baseline was loaded from; None without one.
        told: Which images got no answer, and what to try; "" where all did.
        explanations: What changed images are told by, where that was asked for.
        model: The baseline, likewise.
    """

    images: ImageSet
    accuracy: Accuracy
    top1: tuple[int, ...]
    precision_ran: str
    best: NDArray[np.int64]
    few: Scores
    baseline: str | None = None
    told: str = ""
    explanations: tuple[Explanation, ...] = ()
    model: ModelSpec | None = None


def _alone(
    opened: Callable[[], AbstractContextManager[Session]],
    dataset: Dataset,
    memo: Memo,
    *,
    task: ModelTask,
    threshold: float,
    reading: Reading,
    resize: Resize,
    skip_bad: bool,
    label: str,
) -> _Found:
    """Run the artifact over images while they are being decoded."""
    from edgefx.evaluation import tasks

    decoded, ran, precision_ran = evaluated.scored(
        opened,
        dataset,
        memo,
        height=reading.height,
        width=reading.width,
        resize=resize,
        skip_bad=skip_bad,
        label=label,
    )
    scores = ran.scores
    judged = tasks.compare(
        scores,
        scores,
        task=task,
        output=reading.output,
        labels=decoded.labels,
        targets=decoded.values,
        images_per_s=ran.images_per_s,
        threshold=threshold,
        failed=ran.failed,
    )
    best = chosen(scores, reading.output, threshold)
    return _Found(
        images=decoded,
        accuracy=judged,
        top1=tuple(best.tolist()),
        precision_ran=precision_ran,
        best=best,
        few=scores[few(len(scores))],
        told=evaluated.told(ran, decoded, dataset.root),
    )


def _against(
    opened: Callable[[], AbstractContextManager[Session]],
    output: TensorInfo,
    inputs: Inputs,
    memo: Memo,
    *,
    name: str,
    explain: int,
) -> _Found:
    """Run the artifact over images, and compare it with the float model, whose scores may be in the cache."""
    from edgefx.evaluation import accuracy, inference, tasks

    spec = inputs.source.spec
    if explain:
        check_explained(spec, "--explain")
    inputs.load()
    assert inputs.evaluation is not None
    decoded = inputs.evaluation.get()
    with opened() as session, memo.progress.task(f"evaluate {name}", len(decoded)) as task:
        ran = inference.run(session, decoded.pixels, task=task)
        precision_ran = session.precision_ran
        images_per_s = throughput(session, len(decoded), len(decoded) / ran.images_per_s)
    scores = ran.scores
    judged = tasks.compare(
        inputs.baseline,
        scores,
        task=spec.task,
        output=spec.output,
        labels=decoded.labels,
        targets=decoded.values,
        images_per_s=images_per_s,
        stored=accuracy.stored_as(output, scores),
        threshold=spec.threshold,
        failed=ran.failed,
    )
    best = chosen(scores, spec.output, spec.threshold)
    explanations: tuple[Explanation, ...] = ()
    if explain:
        sure = confidences(scores, spec.output, best)
        answered = [
            (None if bad else one, p)
            for one, p, bad in zip(best.tolist(), sure, ran.failed.tolist(), strict=True)
        ]
        explanations = Explainer.of(inputs, memo, most=explain).explain_one(name, opened, answered)
    return _Found(
        images=decoded,
        accuracy=judged,
        top1=inputs.baseline_top1,
        precision_ran=precision_ran,
        best=best,
        few=scores[few(len(scores))],
        baseline=spec.source,
        told=evaluated.told(ran, decoded, inputs.evaluation.dataset.root),
        explanations=explanations,
        model=inputs.named_spec if explain else None,
    )


def _against_answers(kept: Answers, found: _Found, root: Path) -> ClassComparison:
    """Compare best classes with those that a run has kept of its float model."""
    import numpy as np

    from edgefx.evaluation import accuracy

    expected = np.array([kept.best[name] for name in answers.names(found.images.paths, root)], np.int64)
    return accuracy.compare_classes(expected, found.best, found.images.labels)


def _check_prepared_alike(kept: Answers, *, weights: str | None, resize: Resize, threshold: float) -> None:
    """Check that options do not contradict the run whose answers are the baseline.

    Raises:
        UsageError: They do.
    """
    if weights is not None:
        raise UsageError(f"--weights is for a model, and {kept.folder} is a run", hint="leave it out")
    if kept.resize not in ("", resize):
        raise UsageError(
            f"{kept.folder} was measured on images made to fit with --resize {kept.resize}",
            hint=f"evaluate with --resize {kept.resize}, too",
        )
    if kept.threshold != threshold:
        raise UsageError(
            f"{kept.folder} was measured with a threshold of {kept.threshold:g}",
            hint=f"evaluate with --threshold {kept.threshold:g}, too",
        )


def _doubts(found: _Found, class_names: tuple[str, ...]) -> tuple[Doubt, ...]:
    """Return why the accuracies may not mean what they seem to."""
    from edgefx.evaluation import trust

    if found.images.labels is None:
        return ()
    who = "the float model" if found.baseline else "the artifact"
    of_model = trust.of_model(found.top1, found.images.labels.tolist(), class_names=class_names, who=who)
    return of_model + (trust.of_artifact(found.accuracy) if found.baseline else ())


def task_of(artifact: Path, output: TensorInfo, metadata: ArtifactMetadata | None, hints: Hints) -> ModelTask:
    """Return what an artifact answers: as the user says, as the file says, or a class.

    Raises:
        UsageError: It gives values, and nobody says of what; or tasks of several outputs are said.
    """
    if hints.task is not None and hints.only_task is None:
        raise UsageError(f"{artifact} has one output", hint="say its task alone: --task regression")
    said = hints.only_task or (metadata.task if metadata is not None else "")
    if said in set(ModelTask):
        return ModelTask(said)
    if kind_of(output.name) is OutputKind.VALUES:
        raise UsageError(
            f"{artifact} gives values, and does not say of what", hint="say: --task regression, or embedding"
        )
    return ModelTask.CLASSIFICATION


def _said(task: ModelTask, hints: Hints, output: TensorInfo) -> ModelTask | None:
    """Return what must be said of the baseline, as when it was compiled: its scores are kept by that."""
    if hints.task is not None or task in (ModelTask.REGRESSION, ModelTask.EMBEDDING, ModelTask.MULTILABEL):
        return task
    is_logit = task is ModelTask.BINARY and kind_of(output.name) is OutputKind.LOGITS
    return task if is_logit else None


def _listed(
    data: Path,
    kept: Answers | None,
    task: ModelTask,
    reading: Reading,
    *,
    limit: int | None,
    seed: int,
    unsaid: bool,
) -> tuple[Dataset, str]:
    """List the images (those that a run knows), or a sample of them; returns how they were chosen, too."""
    dataset = labels.scan(data, task)
    if task.classifies:
        dataset = labels.by_name(dataset, reading.class_names)
        foreign.check_count(reading, dataset)
    dataset = labels.fit(dataset, task, reading.classes, guessed=unsaid)
    which = f"all {len(dataset.items)} images of {data}"
    if kept is not None:
        known = answers.shared(kept, dataset, classes=reading.classes)
        if len(known.items) < len(dataset.items):
            which = (
                f"the {len(known.items)} of {len(dataset.items)} images of {data} that {kept.folder} knows"
            )
        dataset = known
    total = len(dataset.items)
    if limit is None or limit >= total:
        return dataset, which
    sampled, _ = calibration.split(dataset, samples=limit, seed=seed)
    return sampled, f"{limit} sampled of {which.removeprefix('all ')}, seed {seed}"


def _check_fits(model: str, spec: ModelSpec, *, height: int, width: int, classes: int) -> None:
    """Check that a baseline can be the model that the artifact was made from.

    Raises:
        UsageError: It cannot: the artifact has another input size, or other classes.
    """
    if (spec.height, spec.width, spec.classes) != (height, width, classes):
        raise UsageError(
            f"the baseline {model} takes {spec.height}x{spec.width} pixels and has {spec.classes} classes;"
            f" the artifact takes {height}x{width} and has {classes}",
            hint="give the model that the artifact was made from",
        )
