"""Compile with options or as a recipe says, or say what that would do."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack

from edgefx.api import values
from edgefx.api.values import (
    EffortName,
    EndingName,
    IoDtypeName,
    OnInconclusiveName,
    OptimiseName,
    QatName,
    ResizeName,
    StrPath,
    Targets,
    TaskName,
)
from edgefx.errors import UsageError
from edgefx.protocols import SILENT, Progress
from edgefx.vocabulary import MIN_SECONDS

if TYPE_CHECKING:
    from edgefx.pipeline.runs import Job, PlannedRun
    from edgefx.recipe.load import NamedRecipe
    from edgefx.recipe.schema import Recipe
    from edgefx.results import RunReport
    from edgefx.views import MatrixReport, PlanView


class CompileOptions(TypedDict, total=False):
    """The options of `compile` that say what to make; `compile` explains them."""

    targets: Targets
    calibration: StrPath | None
    samples: int | None
    evaluate: bool
    evaluation: StrPath | None
    eval_limit: int | None
    slow_eval_limit: int | Literal["all"] | None
    benchmark: bool
    output: StrPath
    weights: StrPath | None
    classes: int | None
    input_size: int | str | None
    task: TaskName | None
    head: str | None
    pixels: str | None
    custom_objects: StrPath | None
    labels: StrPath | None
    threshold: float | None
    io_dtype: IoDtypeName | None
    ends: EndingName | None
    effort: EffortName
    hardware: str
    qat: QatName | None
    train: StrPath | None
    epochs: int | None
    batch_size: int | None
    learning_rate: float | None
    cluster: int | str | None
    prune: str | float | None
    integer_only: bool
    resize: ResizeName
    skip_bad_images: bool
    threads: int | None
    rounds: int
    min_seconds: float
    price_per_hour: float | None
    devices: str | Sequence[str]
    max_drop: str | None
    max_p95_ms: float | str | None
    max_size: str | None
    gates: str | Sequence[str]
    min_npu_coverage: str | float | None
    max_estimated_ms: float | str | None
    max_arena: str | None
    max_sram: str | None
    max_flash: str | None
    system_config: str | None
    memory_mode: str | None
    optimise: OptimiseName | None
    explain: int
    bundle: bool
    min_images: int | None
    on_inconclusive: OnInconclusiveName | None
    seed: int


def compile(  # noqa: A001 - the command's name
    model: StrPath,
    *,
    targets: Targets,
    calibration: StrPath | None = None,
    samples: int | None = None,
    evaluate: bool = True,
    evaluation: StrPath | None = None,
    eval_limit: int | None = None,
    slow_eval_limit: int | Literal["all"] | None = None,
    benchmark: bool = True,
    output: StrPath = "edgefx-out",
    weights: StrPath | None = None,
    classes: int | None = None,
    input_size: int | str | None = None,
    task: TaskName | None = None,
    head: str | None = None,
    pixels: str | None = None,
    custom_objects: StrPath | None = None,
    labels: StrPath | None = None,
    threshold: float | None = None,
    io_dtype: IoDtypeName | None = None,
    ends: EndingName | None = None,
    effort: EffortName = "balanced",
    hardware: str = "native",
    qat: QatName | None = None,
    train: StrPath | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    cluster: int | str | None = None,
    prune: str | float | None = None,
    integer_only: bool = False,
    resize: ResizeName = "stretch",
    skip_bad_images: bool = False,
    threads: int | None = None,
    rounds: int = 100,
    min_seconds: float = MIN_SECONDS,
    price_per_hour: float | None = None,
    devices: str | Sequence[str] = (),
    max_drop: str | None = None,
    max_p95_ms: float | str | None = None,
    max_size: str | None = None,
    gates: str | Sequence[str] = (),
    min_npu_coverage: str | float | None = None,
    max_estimated_ms: float | str | None = None,
    max_arena: str | None = None,
    max_sram: str | None = None,
    max_flash: str | None = None,
    system_config: str | None = None,
    memory_mode: str | None = None,
    optimise: OptimiseName | None = None,
    explain: int = 0,
    bundle: bool = False,
    min_images: int | None = None,
    on_inconclusive: OnInconclusiveName | None = None,
    seed: int = 0,
    resume: bool = False,
    cache: bool = True,
    allow_unsafe: bool = False,
    progress: Progress = SILENT,
    command: str = "edgefx.compile",
) -> RunReport:
    """Compile a Keras classifier for edge runtimes, and report what it lost and how fast it runs.

    Args:
        model: A zoo name such as "b0" or "digits", or the path of a .keras file, an .h5 file or a SavedModel
            folder.
        targets: What to make: names such as "tflite-int8", comma lists or globs such as "openvino-*".
        calibration: A folder of typical images that set the INT8 ranges; labels are not needed.
        samples: Calibrate on this many of them; by default 100, or half of a small folder.
        evaluate: Measure accuracy.
        evaluation: A folder of images to measure accuracy on; by default what calibration leaves of its own.
        eval_limit: Measure accuracy on a sample of this many images.
        slow_eval_limit: The same for tflite-int16x8, which LiteRT computes on slow reference kernels; "all"
            for all images, which is the default where a gate limits its accuracy; else it is 100.
        benchmark: Measure latency and memory.
        output: The folder for artifacts, report.json and edgefx.lock.json.
        weights: The weights of a zoo model: "imagenet" (the default), "random" or a path.
        classes: The number of classes of a zoo model.
        input_size: Input height and width in pixels: 224, or "224x320".
        task: What the model answers, such as "binary" or "embedding"; by default told from its last layer.
            Of several outputs by their names: "class=classification,quality=regression".
        head: The name of the one output to compile, of a model with several; by default all of them.
        pixels: What black and white were in training, such as "0..1", or "imagenet", where the model does
            not scale pixels itself; "bgr:0..1" where blue came first, "caffe" as for Keras' ResNet50.
        custom_objects: A Python file that defines the model's custom layers and functions. It is run.
        labels: A text file with the names of the classes, one a line, by index.
        threshold: The probability above which a score of its own counts as a yes; by default 0.5.
        io_dtype: Input and output type of INT8 artifacts, "uint8", "int8" or "float32", or of each alone, as
            in "input=uint8,output=float32", or of one of several outputs, as in "quality=float32"; by default
            uint8 for TFLite, else float32.
        ends: What artifacts end in: "scores" (the default), as the model; or "logits", and whoever reads them
            computes the sigmoid or softmax.
        effort: The time that INT8 accuracy is worth: at most 1, 3 or 15 times the runtime's own converter.
        hardware: The class of CPU that onnx-int8, onnx-dynamic and openvino-int8 are laid out for: "native"
            (this machine), a class such as "x86-64+vnni" or "aarch64+dotprod", or the path of a profile.
        qat: Train the INT8 targets for quantization: "distill" learns from the float model's own scores and
            needs no labels, "supervised" learns from labels.
        train: A folder of training images; they calibrate as well where `calibration` is not given.
        epochs: Most passes over the training images; by default 10.
        batch_size: Training images per gradient; by default 16.
        learning_rate: Highest training step of a weight, in units of its INT8 step; by default 0.002.
        cluster: At most so many values among a layer's or a channel's weights, such as 16, for less flash; or
            the share of the file that lookup tables of TFLM are to save, "35%". For tflite-int8 and the like.
        prune: The share of the weights that is made zero, such as "30%", or "2:4", for the same targets; or
            "channels:25%": channels of MBConv blocks with a share of all weights are removed, for any target.
        integer_only: Allow no float operation in the artifact, for NPUs and microcontrollers: only
            tflite-int8, and tflite-int16x8 between its float ends.
        resize: How an image of any shape becomes the input.
        skip_bad_images: Leave corrupt images out, and say how many.
        threads: Runtime threads; by default all cores.
        rounds: Least number of timed inferences per artifact.
        min_seconds: Least time that those of each artifact take together: fast ones get more.
        price_per_hour: What an hour of this machine costs, in any currency, for the cost of 1000 inferences.
        devices: Where latency is measured: "host", "ssh://user@host", or names of devices.yaml.
        max_drop: Gate on the top-1 lost against the float Keras model, such as "1pp" (percentage points) or
            "1%" (of the model's top-1). INT8 targets are searched for it.
        max_p95_ms: Gate on the 95th percentile of host latency in milliseconds.
        max_size: Gate on the size of the artifact's files, such as "6MB".
        gates: Limits: "mean_kl <= 0.01", "quality.mae <= 2" of one of several outputs; and on what devices
            measure: "pi5: p95_ms <= 20", "tflite-*@pi5: drop_pp <= 1".
        min_npu_coverage: Gate of NPUs on the share of the operations that the NPU computes, such as "100%".
        max_estimated_ms: Gate of NPUs on the time of one inference that the compiler estimates.
        max_arena: Gate of tflm-int8 on the tensor arena to reserve, such as "100kB".
        max_sram: Gate of NPUs on the SRAM that the compiler estimates, such as "2MB".
        max_flash: Gate of NPUs on the flash that the compiler estimates.
        system_config: For NPUs, the compiler's name for clock and memories; by default the compiler's own,
            which describe no chip in particular.
        memory_mode: For NPUs, the compiler's name for where weights and activations lie; likewise.
        optimise: For NPUs, what to make small: the time, "Performance", which is the default, or the memory,
            "Size". For "tflm-int8", "Size" means flash: weights become lookup tables.
        explain: Number of images that change their class of which the page shows what answers rest on, at
            most 12.
        bundle: Put what was made into MODEL.edgefx.zip in the output folder, as `bundle` does.
        min_images: Evaluation images below which gates on accuracy are INCONCLUSIVE; by default 100.
        on_inconclusive: Which gates that cannot be judged fail the run: all ("fail"), those whose figure
            means nothing ("fail-if-doubtful", the default), or none ("warn").
        seed: The seed of everything that is sampled or trained.
        resume: Let training go on from the checkpoint in the output folder.
        cache: Use results of earlier runs, and keep this one's.
        allow_unsafe: Load a model file that would be refused because code in it could run; see SECURITY.md.
        progress: Where long work and warnings are reported.
        command: What the report records as the command that made it.

    Returns:
        The report, which is also written to the output folder. A failed gate or a failed target is in it and
        raises nothing: see `RunReport.exit_code`.

    Raises:
        EdgefxError: The run cannot be carried out, or something that all targets share failed.

    Example:
        >>> import edgefx
        >>> run = edgefx.compile(
        ...     "model.keras", targets=["tflite-int8"], calibration="photos/", max_drop="0.5pp"
        ... )
        >>> for result in run:
        ...     print(result.target, result.accuracy.drop_pp, result.latency.p50_ms)
    """
    options = CompileOptions(
        targets=targets,
        calibration=calibration,
        samples=samples,
        evaluate=evaluate,
        evaluation=evaluation,
        eval_limit=eval_limit,
        slow_eval_limit=slow_eval_limit,
        benchmark=benchmark,
        output=output,
        weights=weights,
        classes=classes,
        input_size=input_size,
        task=task,
        head=head,
        pixels=pixels,
        custom_objects=custom_objects,
        labels=labels,
        threshold=threshold,
        io_dtype=io_dtype,
        ends=ends,
        effort=effort,
        hardware=hardware,
        qat=qat,
        train=train,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        cluster=cluster,
        prune=prune,
        integer_only=integer_only,
        resize=resize,
        skip_bad_images=skip_bad_images,
        threads=threads,
        rounds=rounds,
        min_seconds=min_seconds,
        price_per_hour=price_per_hour,
        devices=devices,
        max_drop=max_drop,
        max_p95_ms=max_p95_ms,
        max_size=max_size,
        gates=gates,
        min_npu_coverage=min_npu_coverage,
        max_estimated_ms=max_estimated_ms,
        max_arena=max_arena,
        max_sram=max_sram,
        max_flash=max_flash,
        system_config=system_config,
        memory_mode=memory_mode,
        optimise=optimise,
        explain=explain,
        bundle=bundle,
        min_images=min_images,
        on_inconclusive=on_inconclusive,
        seed=seed,
    )
    from edgefx.pipeline import runs
    from edgefx.system.quiet import quiet

    named = _named(model, options)
    with quiet():
        job = runs.prepare([named], allow_unsafe=allow_unsafe)
        return _single(_carried_out(job, progress, command=command, cache=cache, resume=resume))


def plan(
    model: StrPath, *, cache: bool = True, allow_unsafe: bool = False, **options: Unpack[CompileOptions]
) -> PlanView:
    """Say what `compile` would do, and what of it is in the cache; nothing is done.

    Args:
        model: As for `compile`.
        cache: Look results up in the cache.
        allow_unsafe: Load a model file that would be refused because code in it could run; see SECURITY.md.
        options: As for `compile`.

    Raises:
        EdgefxError: The run could not be carried out.

    Example:
        >>> edgefx.plan("digits", targets="tflite-int8").steps[0].what
        'model digits'
    """
    from edgefx.pipeline import runs

    return runs.views([_named(model, options)], cache=cache, allow_unsafe=allow_unsafe)[0]


def run(
    recipe: StrPath | Recipe,
    *,
    targets: Targets = (),
    settings: Mapping[str, object] | None = None,
    output: StrPath | None = None,
    effort: EffortName | None = None,
    report: Iterable[StrPath] = (),
    resume: bool = False,
    cache: bool = True,
    allow_unsafe: bool = False,
    progress: Progress = SILENT,
    command: str = "edgefx.run",
) -> RunReport | MatrixReport:
    """Compile as a recipe says.

    Args:
        recipe: The path of a .yaml file, the name of a recipe that comes with edgefx, or a
            `edgefx.recipe.schema.Recipe`.
        targets: Instead of the recipe's targets: names, comma lists or globs.
        settings: Other values for keys of the recipe, such as ``{"quantize.effort": "high"}``. Relative paths
            in them are relative to the working folder.
        output: Instead of the recipe's output folder.
        effort: Instead of the recipe's effort.
        report: Further files for the report, each as ``--report`` takes it: "report.md", "junit=ci/x.xml".
        resume: Let training go on from the checkpoint in the output folder.
        cache: Use results of earlier runs, and keep this one's.
        allow_unsafe: Load a model file that would be refused because code in it could run; see SECURITY.md.
        progress: Where long work and warnings are reported.
        command: What the report records as the command that made it.

    Returns:
        The report; of a recipe with a matrix, the report on all runs.

    Raises:
        RecipeError: All mistakes of the recipe, each with its place.
        EdgefxError: The run cannot be carried out, or something that all targets share failed.

    Example:
        >>> edgefx.run("digits-demo", settings={"gates.max_drop": "1pp"}, output="build/").exit_code
        <ExitCode.OK: 0>
    """
    from edgefx.pipeline import runs
    from edgefx.system.quiet import quiet

    named = _runs(recipe, targets=targets, settings=settings, output=output, effort=effort)
    name = Path(recipe).stem if isinstance(recipe, (str, os.PathLike)) else ""
    with quiet():
        job = runs.prepare(
            named, recipe=name, files=[Path(path) for path in report], allow_unsafe=allow_unsafe
        )
        return _carried_out(job, progress, command=command, cache=cache, resume=resume)


def plan_recipe(
    recipe: StrPath | Recipe,
    *,
    targets: Targets = (),
    settings: Mapping[str, object] | None = None,
    output: StrPath | None = None,
    effort: EffortName | None = None,
    cache: bool = True,
    allow_unsafe: bool = False,
) -> tuple[PlanView, ...]:
    """Say what `run` would do, and what of it is in the cache; nothing is done.

    Args:
        recipe: As for `run`.
        targets: As for `run`.
        settings: As for `run`.
        output: As for `run`.
        effort: As for `run`.
        cache: Look results up in the cache.
        allow_unsafe: Load a model file that would be refused because code in it could run; see SECURITY.md.

    Returns:
        A plan for each run of the recipe's matrix; one without a matrix.

    Raises:
        EdgefxError: A run could not be carried out.

    Example:
        >>> [step.what for step in edgefx.plan_recipe("digits-demo")[0].steps][0]
        'model digits'
    """
    from edgefx.pipeline import runs

    named = _runs(recipe, targets=targets, settings=settings, output=output, effort=effort)
    return runs.views(named, cache=cache, allow_unsafe=allow_unsafe)


def _carried_out(
    job: Job, progress: Progress, *, command: str, cache: bool, resume: bool
) -> RunReport | MatrixReport:
    def one(planned: PlannedRun) -> RunReport:
        return planned.carry_out(progress, command=command, cache=cache, resume=resume)

    return job.carry_out(one, command=command)


def _named(model: StrPath, options: CompileOptions) -> NamedRecipe:
    """Return the only run that the options of `compile` stand for; messages name them as arguments."""
    from edgefx.recipe.load import NamedRecipe
    from edgefx.recipe.options import AS_ARGUMENTS

    return NamedRecipe(name="", recipe=_recipe(model, options), wording=AS_ARGUMENTS)


def _recipe(model: StrPath, options: CompileOptions) -> Recipe:
    """Return the recipe that the options of `compile` stand for.

    Raises:
        UsageError: A value that an option cannot have, or options that contradict each other.
    """
    from edgefx.recipe.load import parse
    from edgefx.recipe.options import AS_ARGUMENTS, document

    given: dict[str, Any] = {"model": os.fspath(model), **options}
    given["targets"] = values.patterns(given.get("targets", ()))
    given["weights"] = values.text(given.get("weights"))
    return parse(document(given, AS_ARGUMENTS), where="edgefx.compile", wording=AS_ARGUMENTS)


def _runs(
    recipe: StrPath | Recipe,
    *,
    targets: Targets,
    settings: Mapping[str, object] | None,
    output: StrPath | None,
    effort: EffortName | None,
) -> tuple[NamedRecipe, ...]:
    """Read a recipe with what is changed in it: one run, or the runs of its matrix.

    Raises:
        RecipeError: All mistakes of the recipe.
        UsageError: There is no such recipe, or a `Recipe` is to be changed.
    """
    from edgefx.recipe.compose import setting
    from edgefx.recipe.load import NamedRecipe, find, load_runs

    changes = dict(settings or {})
    if effort is not None:
        changes["quantize.effort"] = effort
    if output is not None:
        changes["output"] = os.fspath(output)
    if isinstance(recipe, (str, os.PathLike)):
        given = [setting(f"{key}={json.dumps(value, default=str)}") for key, value in changes.items()]
        return load_runs(find(os.fspath(recipe)), given, targets=values.patterns(targets))
    if changes or targets:
        raise UsageError("a Recipe is carried out as it is", hint="change it with Recipe.model_copy")
    return (NamedRecipe(name="", recipe=recipe),)


def _single(result: RunReport | MatrixReport) -> RunReport:
    from edgefx.results import RunReport

    assert isinstance(result, RunReport)  # only recipe files have a matrix
    return result
