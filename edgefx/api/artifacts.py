"""Examine what exists: artifacts, models and finished runs."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from edgefx.api import values
from edgefx.api.values import EffortName, ResizeName, StrPath, Targets, TaskName
from edgefx.errors import UsageError
from edgefx.protocols import SILENT, Progress
from edgefx.vocabulary import LAUNCHES, MIN_SECONDS, MOST_LAUNCHES, Effort, Resize

if TYPE_CHECKING:
    from edgefx.analysis.diagnosis import DebugReport
    from edgefx.benchmarking.throughput import Load
    from edgefx.provenance.comparison import RunDiff
    from edgefx.views import ArtifactInspection, Benchmark, Evaluation, ModelInspection


def evaluate(
    artifact: StrPath,
    images: StrPath,
    *,
    baseline: StrPath | None = None,
    weights: StrPath | None = None,
    task: TaskName | None = None,
    head: str | None = None,
    pixels: str | None = None,
    custom_objects: StrPath | None = None,
    threshold: float | None = None,
    background: bool | None = None,
    resize: ResizeName = "stretch",
    limit: int | None = None,
    seed: int = 0,
    skip_bad_images: bool = False,
    threads: int | None = None,
    allow_unsafe: bool = False,
    cache: bool = True,
    device: str = "host",
    device_python: str | None = None,
    device_dir: str | None = None,
    explain: int = 0,
    progress: Progress = SILENT,
) -> Evaluation:
    """Measure how well an artifact answers images.

    Args:
        artifact: A .tflite, .onnx or OpenVINO .xml file.
        images: A folder with a sub-folder per class, a folder with labels.csv (file,label), or, with
            `baseline`, a folder of unlabelled images.
        baseline: Compare image by image with this Keras model, by path or zoo name, or with the best classes
            of the float model that a run has kept, by its output folder.
        weights: The weights of a zoo baseline: "imagenet", "random" or a path.
        task: What the artifact answers; by default as it says itself, else a class.
        head: Of the baseline, as for `compile`.
        pixels: Of the baseline, as for `compile`, and of an artifact that edgefx did not make.
        custom_objects: Of the baseline, as for `compile`.
        threshold: As for `compile`.
        background: Whether class 0 of an artifact that edgefx did not make is one that no image has; by
            default an error where it seems so.
        resize: How an image of any shape becomes the input.
        limit: Measure on a sample of this many images.
        seed: The seed of the sample.
        skip_bad_images: Leave corrupt images out, and say how many.
        threads: Runtime threads; by default all cores.
        allow_unsafe: Load a model file that would be refused because code in it could run; see SECURITY.md.
        cache: Use the baseline's scores of earlier runs, such as `compile`, and keep this one's.
        device: Where to run the artifact: "host", which is this machine, or "ssh://user@host".
        device_python: The device's Python; by default python3.
        device_dir: Where files are kept on the device; by default ~/.cache/edgefx.
        explain: Of how many images that change their class, at most 12, to find out which parts the artifact
            and the baseline, which must be a model, go by.
        progress: Where long work and warnings are reported.

    Raises:
        EdgefxError: The artifact, the images or the baseline cannot be used, or do not fit each other.

    Example:
        >>> found = edgefx.evaluate("build/b0-int8.tflite", "test/", baseline="b0.keras")
        >>> print(found.top1, found.comparison.drop_pp, found.comparison.drop_ci95_pp)
    """
    from edgefx.benchmarking.devices.connect import DeviceChoice
    from edgefx.cache.settings import OFF
    from edgefx.pipeline import evaluate as use_case
    from edgefx.system.quiet import quiet

    values.check(1, limit=limit)
    values.explained(explain)
    with quiet():
        return use_case.run(
            Path(artifact),
            Path(images),
            progress,
            baseline=values.text(baseline),
            weights=values.text(weights),
            resize=values.choice(Resize, resize, "resize"),
            limit=limit,
            seed=seed,
            skip_bad=skip_bad_images,
            threads=values.threads(threads) if threads is not None else None,
            allow_unsafe=allow_unsafe,
            cache=None if cache else OFF,
            device=DeviceChoice(device=device, python=device_python, folder=device_dir),
            hints=values.hints(task, head, pixels, custom_objects, threshold),
            background=background,
            explain=explain,
        )


def benchmark(
    artifacts: StrPath | Iterable[StrPath],
    *,
    rounds: int = 100,
    min_seconds: float = MIN_SECONDS,
    launches: int = LAUNCHES,
    price_per_hour: float | None = None,
    warmup: int = 5,
    seconds: float = 30.0,
    threads: int | Sequence[int] | None = None,
    device: str = "host",
    device_python: str | None = None,
    device_dir: str | None = None,
    benchmark_model: StrPath | None = None,
    batch: int | Sequence[int] = (),
    streams: int | Sequence[int] = (),
    energy: bool = False,
    energy_csv: StrPath | None = None,
    profile: bool = False,
    progress: Progress = SILENT,
) -> Benchmark:
    """Measure the batch-1 latency of artifacts on one machine, interleaved so that they compare.

    Each artifact runs in a process of its own. Artifacts of one runtime are compared with its float32
    artifact when that one, named *-float32 as `compile` names it, is given too.

    Args:
        artifacts: One or more .tflite, .onnx or OpenVINO .xml files.
        rounds: Least number of timed inferences per artifact.
        min_seconds: Least time that those of each artifact take together: fast ones get more.
        launches: Processes that are started for each artifact, one after the other, and share its inferences.
        price_per_hour: What an hour of the machine costs, in any currency, for the cost of 1000 inferences.
        warmup: Least number of inferences before the timed ones; more follow while an artifact gets faster.
        seconds: Time limit of all timed inferences together; slow artifacts then get fewer rounds.
        threads: Runtime threads; by default all cores. With several numbers, each artifact is measured with
            each of them.
        device: Where to measure: "host", which is this machine, "ssh://user@host", "adb://serial", or a name
            of devices.yaml.
        device_python: The device's Python; by default python3.
        device_dir: Where files are kept on the device; by default ~/.cache/edgefx.
        benchmark_model: LiteRT's benchmark_model for Android, to measure .tflite files on a phone without
            Python; by default that of the installed LiteRT, which is fetched.
        batch: Also measure the throughput with so many images at once, where the artifact leaves its batch
            free. With several numbers, each of them.
        streams: Also measure the throughput of so many inferences at the same time, each by a session and a
            thread of its own; likewise. They share the cores, where `threads` does not say how many each has.
        energy: Also measure the energy of an inference, where the machine has a counter that can be read.
        energy_csv: The same by an external meter, which writes times and watts to this file meanwhile.
        profile: Also ask the runtimes' profilers what is executed, how long and in which precision.
        progress: Where timed inferences and artifacts that cannot be measured are reported.

    Returns:
        The latencies; what could not be measured is in `Benchmark.failures`.

    Raises:
        UsageError: A file does not exist, or no runtime opens it.
        MissingDependencyError: No artifact could be measured, for want of a runtime.
        BenchmarkError: No artifact could be measured, for other reasons.
        DeviceError: The device cannot be reached, or is no longer there.

    Example:
        >>> found = edgefx.benchmark(["build/b0-int8.tflite", "build/b0-float32.tflite"], threads=1)
        >>> print(found.latencies["build/b0-int8.tflite"].ratio_to_float)
    """
    from edgefx.benchmarking.asked import Timing
    from edgefx.benchmarking.devices.connect import DeviceChoice
    from edgefx.benchmarking.power_log import PowerLog
    from edgefx.pipeline import benchmark as use_case
    from edgefx.system.quiet import quiet

    values.check(1, rounds=rounds, launches=launches)
    values.check(0, warmup=warmup, seconds=seconds, min_seconds=min_seconds)
    if launches > MOST_LAUNCHES:
        raise UsageError(f"launches {launches} are too many", hint=f"give {MOST_LAUNCHES} at most")
    counts = [] if threads is None else [threads] if isinstance(threads, int) else list(threads)
    given = [artifacts] if isinstance(artifacts, (str, os.PathLike)) else artifacts
    if price_per_hour is not None and not 0 <= price_per_hour < math.inf:
        raise UsageError(f"price_per_hour {price_per_hour} is no price", hint="for example 0.34")
    tool = None if benchmark_model is None else Path(benchmark_model)
    with quiet():
        found = use_case.run(
            [Path(path) for path in given],
            progress,
            threads=[values.threads(number) for number in dict.fromkeys(counts)],
            timing=Timing(
                rounds=rounds, least_s=min_seconds, launches=launches, warmup=warmup, budget_s=seconds
            ),
            device=DeviceChoice(device=device, python=device_python, folder=device_dir, benchmark_model=tool),
            besides=use_case.Besides(
                loads=_loads(batch, streams),
                energy=energy if energy_csv is None else PowerLog(Path(energy_csv)),
                profile=profile,
            ),
        )
    priced = {name: replace(one, price_per_hour=price_per_hour) for name, one in found.latencies.items()}
    return replace(found, latencies=priced)


def _loads(batch: int | Sequence[int], streams: int | Sequence[int]) -> list[Load]:
    """Combine batches and streams; none where neither is asked for."""
    from edgefx.benchmarking.throughput import Load

    batches, counts = (
        [one] if isinstance(one, int) else list(dict.fromkeys(one)) for one in (batch, streams)
    )
    for number in batches:
        values.check(1, batch=number)
    for number in counts:
        values.check(1, streams=number)
    if not batches and not counts:
        return []
    return [Load(batch=one, streams=other) for one in batches or [1] for other in counts or [1]]


def inspect(
    subject: StrPath,
    *,
    weights: StrPath | None = None,
    classes: int | None = None,
    input_size: int | str | None = None,
    task: TaskName | None = None,
    head: str | None = None,
    pixels: str | None = None,
    custom_objects: StrPath | None = None,
    threshold: float | None = None,
    allow_unsafe: bool = False,
    progress: Progress = SILENT,
) -> ModelInspection | ArtifactInspection:
    """Show what a model or an artifact is made of.

    Args:
        subject: A .tflite, .onnx or OpenVINO .xml file; everything else is a model, as for `compile`.
        weights: The weights of a zoo model; by default random ones, as the structure is the same.
        classes: The number of classes of a zoo model.
        input_size: Input height and width in pixels: 224, or "224x320".
        task: As for `compile`.
        head: As for `compile`.
        pixels: As for `compile`.
        custom_objects: As for `compile`.
        threshold: As for `compile`.
        allow_unsafe: Load a model file that would be refused because code in it could run; see SECURITY.md.
        progress: Where long work is reported.

    Raises:
        EdgefxError: The file does not exist, is damaged, or is no model that edgefx can compile.

    Example:
        >>> artifact = edgefx.inspect("build/b0-int8.tflite").artifact
        >>> print(artifact.compute_int8, artifact.compute_float)
    """
    from edgefx.pipeline import inspect as use_case
    from edgefx.system.quiet import quiet

    values.check(2, classes=classes)
    values.input_size(input_size)
    with quiet():
        return use_case.run(
            os.fspath(subject),
            progress,
            weights=values.text(weights),
            classes=classes,
            input_size=input_size,
            hints=values.hints(task, head, pixels, custom_objects, threshold),
            allow_unsafe=allow_unsafe,
        )


def debug(
    model: StrPath,
    *,
    targets: Targets,
    calibration: StrPath | None = None,
    evaluation: StrPath | None = None,
    samples: int | None = None,
    images: int = 50,
    artifact: StrPath | None = None,
    effort: EffortName = "balanced",
    weights: StrPath | None = None,
    classes: int | None = None,
    input_size: int | str | None = None,
    task: TaskName | None = None,
    head: str | None = None,
    pixels: str | None = None,
    custom_objects: StrPath | None = None,
    threshold: float | None = None,
    resize: ResizeName = "stretch",
    skip_bad_images: bool = False,
    threads: int | None = None,
    seed: int = 0,
    explain: int = 0,
    allow_unsafe: bool = False,
    cache: bool = True,
    progress: Progress = SILENT,
    command: str = "edgefx.debug",
) -> DebugReport:
    """Find the stage and the layers that cost a model accuracy.

    The model is converted, and the loaded model, its deployable graph, the float artifact, a simulation of
    the quantization and the artifact itself are compared on the same images, each with the one before. Then
    every layer is examined, under the same name for every runtime.

    Args:
        model: As for `compile`.
        targets: What to examine: names, comma lists or globs.
        calibration: A folder of images that set the INT8 ranges.
        evaluation: A folder of images to measure on; by default the calibration images, which lose less.
        samples: Calibrate on this many of the calibration images; by default 100.
        images: Measure on this many images.
        artifact: Examine this file instead of converting the model; with one target.
        effort: As for `compile`.
        weights: As for `compile`.
        classes: As for `compile`.
        input_size: As for `compile`.
        task: As for `compile`.
        head: As for `compile`.
        pixels: As for `compile`.
        custom_objects: As for `compile`.
        threshold: As for `compile`.
        resize: As for `compile`.
        skip_bad_images: As for `compile`.
        threads: Runtime threads; by default all cores.
        seed: The seed of everything that is sampled.
        explain: Of how many images that change their class, at most 12, to find out which parts the model and
            the artifacts go by.
        allow_unsafe: Load a model file that would be refused because code in it could run; see SECURITY.md.
        cache: Use results of earlier runs, such as the artifacts that `compile` made, and keep this one's.
        progress: Where long work and warnings are reported.
        command: What the report records as the command that made it.

    Returns:
        The findings; a target that could not be examined is in `DebugReport.failures`.

    Raises:
        EdgefxError: Nothing can be examined as asked for.

    Example:
        >>> found = edgefx.debug("b0.keras", targets="tflite-int8", calibration="photos/")
        >>> print(found.targets[0].verdict)
    """
    from edgefx import targets as table
    from edgefx.cache.settings import OFF
    from edgefx.pipeline import debug as use_case
    from edgefx.system.quiet import quiet

    values.check(1, samples=samples, images=images)
    values.explained(explain)
    values.check(2, classes=classes)
    values.input_size(input_size)
    settings = use_case.Settings(
        model=os.fspath(model),
        rows=table.select(values.patterns(targets)),
        calib=values.path(calibration),
        evaluation=values.path(evaluation),
        samples=samples,
        images=images,
        artifact=values.path(artifact),
        effort=values.choice(Effort, effort, "effort"),
        resize=values.choice(Resize, resize, "resize"),
        skip_bad_images=skip_bad_images,
        seed=seed,
        threads=values.threads(threads),
        weights=values.text(weights),
        classes=classes,
        input_size=input_size,
        hints=values.hints(task, head, pixels, custom_objects, threshold),
        allow_unsafe=allow_unsafe,
        explain=explain,
    )
    with quiet():
        return use_case.run(settings, progress, command=command, cache=None if cache else OFF)


def diff(
    before: StrPath,
    after: StrPath,
    *,
    fail_on: Sequence[str] = (),
    on_inconclusive: Literal["fail", "warn"] = "fail",
) -> RunDiff:
    """Compare two runs: inputs, size, accuracy image by image, latency.

    Args:
        before: A run's output folder, or its edgefx.lock.json or report.json; or the folder of a matrix; or a
            result card, or a folder of cards.
        after: Another run, or another matrix, whose runs of the same name are compared.
        fail_on: How much worse what may get, each as ``METRIC=CHANGE``, such as "drop_pp=0.5pp" or
            "size_bytes=5%"; the result's `exit_code` is 1 where a target of the first run got worse by more.
        on_inconclusive: What it is where that cannot be told: "fail" for 1, "warn" for 0.

    Raises:
        UsageError: There is no run, or a limit that cannot be read.
        DataError: The predictions that a run has kept are damaged.

    Example:
        >>> for target in edgefx.diff("build-main/", "build-branch/").targets:
        ...     print(target.target, target.identical, target.flips)
    """
    from edgefx.provenance import differences, regressions

    limits = [regressions.parse(text) for text in fail_on]
    found = differences.diff(Path(before), Path(after))
    judged = regressions.judge(found, limits, tolerated=on_inconclusive == "warn")
    return replace(found, regressions=judged)
