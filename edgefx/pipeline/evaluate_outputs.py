"""The accuracy of each output of an artifact with several: `edgefx evaluate`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from edgefx.benchmarking.devices.connect import DeviceChoice, connected
from edgefx.benchmarking.devices.phone import Phone
from edgefx.data import calibration, labels
from edgefx.errors import ArtifactError, UsageError
from edgefx.measured import OutputEvaluation
from edgefx.models.hints import Hints
from edgefx.pipeline import evaluated, likeness
from edgefx.pipeline.execute import computing
from edgefx.pipeline.inputs import Inputs
from edgefx.protocols import Progress
from edgefx.recipe.schema import DataSection, ModelSection
from edgefx.runtimes.session import ends_of_images
from edgefx.system import host
from edgefx.types import (
    Artifact,
    ArtifactMetadata,
    Dataset,
    ModelSpec,
    ModelTask,
    OutputKind,
    OutputSpec,
    Resize,
)
from edgefx.views import Evaluation

if TYPE_CHECKING:
    from edgefx.cache.settings import CacheSettings
    from edgefx.evaluation.inference import Inferred
    from edgefx.pipeline.memo import Memo
    from edgefx.protocols import Session
    from edgefx.results import Accuracy
    from edgefx.runtimes.protocol import Runtime
    from edgefx.types import ImageSet, Scores


def run(
    artifact: Path,
    data: Path,
    progress: Progress,
    *,
    described: Artifact,
    metadata: ArtifactMetadata,
    target: Runtime,
    baseline: str | None,
    weights: str | None,
    resize: Resize,
    sample: tuple[int | None, int],
    skip_bad: bool,
    threads: int | None,
    allow_unsafe: bool,
    cache: CacheSettings | None,
    device: DeviceChoice,
    hints: Hints,
) -> Evaluation:
    """Measure how well an artifact answers images, output by output; see `evaluate.run`.

    Args:
        artifact: Its main file.
        data: A folder of images; what is right for each output stands in a column of its labels.csv.
        progress: Where long work is reported.
        described: What the file's graph holds.
        metadata: What edgefx wrote into it: its outputs.
        target: Its runtime.
        baseline: A Keras model to compare with, by path or zoo name.
        weights: The weights of a zoo baseline.
        resize: How an image of any shape becomes the input.
        sample: How many images to take, None for all, and the seed of the sample.
        skip_bad: Leave corrupt images out.
        threads: Intra-op threads of the runtime; None for all cores.
        allow_unsafe: Load a baseline that would be refused as unsafe.
        cache: Where the baseline's scores are kept.
        device: Where to run the artifact.
        hints: What the baseline's file does not tell.

    Raises:
        UsageError: Images without labels and no baseline, or a baseline that the artifact was not made from.
        DataError: The images cannot be used, or a column does not fit its output.
        ArtifactError: The file is damaged.
        DeviceError: The device cannot be reached, or is no longer there.
        BenchmarkError: The artifact cannot be run there.
    """
    spec = spec_of(artifact, described, metadata)
    dataset, note = _listed(data, spec, sample)
    if not dataset.known and baseline is None:
        raise UsageError(
            f"{data} has no labels, so there is no accuracy to measure",
            hint="give labels.csv with a column for each output, or compare with a model: --baseline MODEL",
        )
    settings = DataSection(resize=resize, skip_bad_images=skip_bad)
    with connected(device, progress) as there, computing(cache, progress) as (memo, hashes):
        if isinstance(there, Phone):
            there.refuse(artifact)
        used = threads or (host.cores() if there is None else there.threads)
        opened = partial((target if there is None else there).open_session, artifact, threads=used)
        notes = evaluated.misfit(described, there, progress)
        if baseline is None:
            ran = _alone(opened, dataset, memo, spec, settings)
        else:
            section = ModelSection(source=baseline, weights=weights, **hints.section)
            plan = evaluated.planned(artifact, dataset, section, settings, allow_unsafe=allow_unsafe)
            ran = _against(opened, Inputs(plan, memo, hashes), spec, progress)
    decoded = ran.images
    found = _compared(ran, spec, described)
    here = partial(target.open_session, artifact, threads=host.cores())
    few = ran.answers.scores[likeness.few(len(decoded))]
    return Evaluation(
        artifact=artifact,
        data=evaluated.data_info(decoded, data, seed=sample[1] if sample[0] else None, note=note),
        threads=used,
        precision_ran=ran.precision_ran,
        images=len(decoded),
        top1=found.top1,
        top5=found.top5,
        images_per_s=ran.images_per_s,
        baseline=baseline,
        device=None if there is None else evaluated.as_here(decoded, few, there, here, spec),
        notes=(*notes, *filter(None, [evaluated.told(ran.answers, decoded, dataset.root)])),
        error_rate=found.error_rate,
        outputs=tuple(
            _evaluation(one.name, one.accuracy, compared=baseline is not None) for one in found.outputs
        ),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Ran:
    """What running an artifact over images gave.

    Attributes:
        images: The images that could be decoded.
        wanted: The float model's scores; without one, the artifact's own.
        answers: The artifact's.
        precision_ran: What the runtime executed in.
        images_per_s: Its throughput.
    """

    images: ImageSet
    wanted: Scores
    answers: Inferred
    precision_ran: str
    images_per_s: float


def _alone(
    opened: Callable[[], AbstractContextManager[Session]],
    dataset: Dataset,
    memo: Memo,
    spec: ModelSpec,
    settings: DataSection,
) -> _Ran:
    decoded, answers, precision_ran = evaluated.scored(
        opened,
        dataset,
        memo,
        height=spec.height,
        width=spec.width,
        resize=settings.resize,
        skip_bad=settings.skip_bad_images,
        label=f"evaluate {Path(spec.source).name}",
    )
    return _Ran(
        images=decoded,
        wanted=answers.scores,
        answers=answers,
        precision_ran=precision_ran,
        images_per_s=answers.images_per_s,
    )


def _against(
    opened: Callable[[], AbstractContextManager[Session]], inputs: Inputs, spec: ModelSpec, progress: Progress
) -> _Ran:
    """Run the float model as well, whose scores may be in the cache."""
    from edgefx.evaluation import inference

    model = inputs.source.spec
    _check_fits(model.source, model, spec)
    inputs.load()
    assert inputs.evaluation is not None
    decoded = inputs.evaluation.get()
    with opened() as session, progress.task(f"evaluate {Path(spec.source).name}", len(decoded)) as task:
        answers = inference.run(session, decoded.pixels, task=task)
        return _Ran(
            images=decoded,
            wanted=inputs.baseline,
            answers=answers,
            precision_ran=session.precision_ran,
            images_per_s=likeness.throughput(session, len(decoded), len(decoded) / answers.images_per_s),
        )


def _compared(ran: _Ran, spec: ModelSpec, described: Artifact) -> Accuracy:
    from edgefx.evaluation import outputs

    return outputs.compare(
        ran.wanted,
        ran.answers.scores,
        spec,
        known=outputs.truths(spec, ran.images.values),
        outputs=described.outputs,
        images_per_s=ran.images_per_s,
        failed=ran.answers.failed,
    )


def _evaluation(name: str, found: Accuracy, *, compared: bool) -> OutputEvaluation:
    alone = None if found.task is None else found.task.alone()
    return OutputEvaluation(
        name=name,
        top1=found.top1,
        top5=found.top5,
        comparison=found if compared else None,
        figures=found.task if compared else alone,
    )


def spec_of(artifact: Path, described: Artifact, metadata: ArtifactMetadata) -> ModelSpec:
    """Return what a file with several outputs says of the model that it was made of.

    Args:
        artifact: The file.
        described: What its graph holds.
        metadata: What edgefx wrote into it.

    Raises:
        ArtifactError: It does not say it of its own outputs.
    """
    _, tensors, layout = ends_of_images(artifact, described.inputs, described.outputs)
    words = [(one.tensor.name, one.task, one.output_kind) for one in metadata.outputs]
    are_known = all(task in set(ModelTask) and kind in set(OutputKind) for _, task, kind in words)
    if [tensor.name for tensor in tensors] != [name for name, _, _ in words] or not are_known:
        raise ArtifactError(
            f"{artifact}: its metadata of edgefx is not about its outputs", hint="convert it again"
        )
    found: Sequence[OutputSpec] = tuple(
        OutputSpec(name=name, shape=tensor.shape[1:], task=ModelTask(task), output=OutputKind(kind))
        for tensor, (name, task, kind) in zip(tensors, words, strict=True)
    )
    first = ModelSpec.first_of(found)
    return ModelSpec(
        name=metadata.model,
        source=str(artifact),
        height=layout.height,
        width=layout.width,
        classes=first.classes,
        output=first.output,
        parameters=0,
        macs=0,
        sha256=metadata.model_sha256,
        class_names=metadata.class_names,
        task=first.task,
        outputs=tuple(found),
    )


def _listed(data: Path, spec: ModelSpec, sample: tuple[int | None, int]) -> tuple[Dataset, str]:
    """List the images, or a sample of them; returns how they were chosen, too."""
    dataset = labels.fit_outputs(labels.by_name(labels.scan(data, None), spec.class_names), spec)
    which, (limit, seed) = f"all {len(dataset.items)} images of {data}", sample
    if limit is None or limit >= len(dataset.items):
        return dataset, which
    chosen, _ = calibration.split(dataset, samples=limit, seed=seed)
    return chosen, f"{limit} sampled of {which.removeprefix('all ')}, seed {seed}"


def _check_fits(model: str, spec: ModelSpec, own: ModelSpec) -> None:
    """Check that a baseline can be the model that the artifact was made from.

    Raises:
        UsageError: It cannot: it has another input size, or other outputs.
    """
    if spec.outputs and _ends(spec) == _ends(own):
        return
    raise UsageError(
        f"the baseline {model} is another model: {_ends(spec) if spec.outputs else 'it has one output'}; the"
        f" artifact: {_ends(own)}",
        hint="give the model that the artifact was made from, and what was said of it: --task OUTPUT=TASK",
    )


def _ends(spec: ModelSpec) -> str:
    each = (f"{one.name} ({one.task}, {one.columns})" for one in spec.outputs)
    return f"{spec.height}x{spec.width} pixels, {', '.join(each)}"
