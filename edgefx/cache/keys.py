"""What determines the output of each stage: all of it goes into the key, and nothing else.

canonicalize
    The model: the hash of its file or folder; or a zoo name and its weights: the hash of a file, the seed of
    random ones, or the name of published ones (Keras checks what it downloads). Classes, input size, and the
    versions of TensorFlow and Keras.
prune
    The graph by content, what channels are asked for, the calibration images, the seed, the CPU's features.
equality
    The model as above, the graph by content, the images compared on or the seed of the noise, the CPU's
    features (another CPU rounds sums otherwise).
images
    The hash of the files' bytes, order, labels, size and resize mode; their names, as messages name them;
    whether bad ones are skipped. NumPy and Pillow.
checks
    Both image sets as above, the graph by content.
copies
    Both image sets as above.
baseline
    The model and the evaluation images as above, the CPU's features.
convert
    The graph by content (with fewer channels, where that is asked for), the target's whole scheme (precision,
    ends, effort, ranges, float layers). Where
    it calibrates: the calibration images, the seed, the CPU's features (INT8 for ONNX also goes by a table of
    CPUs). The versions of the target's converters. A target that does not calibrate has none of these, so
    that another image or seed leaves it in the cache.
compile
    The integer artifact by content, the NPU and the options, the compiler's version.
footprint
    The artifact by content.
finish
    The artifact by content, and the metadata that are written into it, class names among them.
sensitivity
    The artifact and the graph by content, the calibration images, the CPU's features.
training
    The graph by content, the settings, the post-training quantization it starts from, the calibration and
    the training images, the CPU's features.
training-effect
    A post-training and a trained artifact by content, the training, the CPU's features.
evaluate
    The artifact by content, the evaluation images, the baseline's key, threads, the CPU's features (OpenVINO
    computes in bf16 where the CPU can), the runtime's version.
explain
    The key of the answers (baseline or evaluate), the images and their classes.
benchmark
    All artifacts that are measured in turn, by content: figures compare only within one measurement. Threads,
    rounds, time limit; the CPU, its features and number, the kernel; the runtimes' versions.

Gates, reports and output folders are in no key: they are not kept, but made anew from what is kept. Every key
holds edgefx's version and a hash of code: the modules that do the work and all that they import, the files of
`edgefx.pipeline` that call them, and what the result is made of. So an edited source tree never meets the
results of older code; `tests/architecture/test_code_hash.py` compares what is hashed with what is imported.
An artifact whose bytes are known does not depend on how it was made: the keys of what it answers, and how
fast, hold the code that opens and runs it, not the code that converts. These bytes are those of the
conversion, before metadata are written into them: another name of a class changes no answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from edgefx.cache.code import code
from edgefx.cache.entry import Json, Key, canonical, key
from edgefx.cache.tools import IMAGES, TENSORFLOW, cpu_features, machine, versions
from edgefx.system.packages import distribution_of
from edgefx.targets import TARGETS
from edgefx.vocabulary import TargetKind

if TYPE_CHECKING:
    from edgefx.npus import NpuOptions
    from edgefx.quantization import QatSettings, QuantScheme, WeightCompression
    from edgefx.targets import TargetRow
    from edgefx.types import Artifact, ArtifactMetadata


_VERSION = 2  # of all that is kept; raised when it changes in a way that no hash of code shows

# What is kept, and how it is written.
_KEPT = ("edgefx.pipeline.records", "edgefx.storage.serde")
# The modules that compute it, besides the runtime's own.
_MODEL = ("edgefx.models.load", "edgefx.models.graph.canonical")
_PIXELS = ("edgefx.data.images",)
_ACCURACY = ("edgefx.evaluation.outputs", "edgefx.evaluation.inference", *_PIXELS)
# The files of the pipeline that call them for what all targets share.
_INPUTS = ("inputs", "images", "model")


def digest(document: Json) -> str:
    """Hash JSON, to keep long lists out of keys."""
    return hashlib.sha256(canonical(document).encode()).hexdigest()


def graph(identity: Json) -> Key:
    """Key of the canonical graph of a model."""
    return _key(
        "canonicalize",
        model=identity,
        tools=TENSORFLOW,
        code=_code(("model",), "edgefx.storage.hashes", *_MODEL),
    )


def equality(identity: Json, graph_sha256: str, compared_on: Json) -> Key:
    """Key of the comparison of the canonical graph with the model as loaded."""
    return _key(
        "equality",
        model=identity,
        graph=graph_sha256,
        images=compared_on,
        cpu=cpu_features(),
        tools=TENSORFLOW,
        code=_code(_INPUTS, *_MODEL, *_PIXELS),
    )


def pruning(asked: WeightCompression, *, graph_sha256: str, images: Json, seed: int) -> Key:
    """Key of a canonical graph with fewer channels, which calibration images by content choose."""
    from edgefx.storage.serde import to_json

    return _key(
        "prune",
        asked=to_json(asked),
        graph=graph_sha256,
        images=images,
        seed=seed,
        cpu=cpu_features(),
        tools=(*TENSORFLOW, *IMAGES),
        code=_code(("pruning", *_INPUTS), "edgefx.pruning.prune", *_PIXELS, "edgefx.storage.hashes"),
    )


def images(sha256: str, names: Sequence[str], *, skip_bad: bool, pixel_range: tuple[float, float]) -> Key:
    """Key of what decoding a set of images tells of it: `sha256` covers files, labels, size and resize."""
    return _key(
        "images",
        images=sha256,
        names=digest(list(names)),
        skip_bad=skip_bad,
        pixel_range=list(pixel_range),
        tools=IMAGES,
        code=_code(("images",), *_PIXELS),
    )


def checks(calibration: Key, evaluation: Key | None, graph_sha256: str) -> Key:
    """Key of the checks of the calibration images, which compare them with the evaluation images."""
    return _key(
        "checks",
        calibration=calibration.digest,
        evaluation=evaluation.digest if evaluation else None,
        graph=graph_sha256,
        tools=(*TENSORFLOW, *IMAGES),
        code=_code(_INPUTS, *_PIXELS, "edgefx.data.checks", "edgefx.data.stability"),
    )


def copies(images: Key, evaluation: Key) -> Key:
    """Key of the search for pictures that are in two image sets in another form."""
    return _key(
        "copies",
        images=images.digest,
        evaluation=evaluation.digest,
        tools=IMAGES,
        code=_code(_INPUTS, *_PIXELS, "edgefx.data.twins"),
    )


def baseline(identity: Json, images_sha256: str, *, skip_bad: bool) -> Key:
    """Key of the float Keras model's scores."""
    return _key(
        "baseline",
        model=identity,
        images=images_sha256,
        skip_bad=skip_bad,
        cpu=cpu_features(),
        tools=(*TENSORFLOW, *IMAGES),
        code=_code(_INPUTS, *_MODEL, *_PIXELS),
    )


def conversion(
    row: TargetRow,
    scheme: QuantScheme,
    *,
    name: str,
    graph_sha256: str,
    images: Json,
    training: Key | None = None,
) -> Key:
    """Key of an artifact.

    Args:
        row: The target.
        scheme: How it is converted.
        name: The model's name: files are called by it, and an OpenVINO file holds its own name.
        graph_sha256: The canonical graph by content.
        images: The calibration images by content; None where the target needs none.
        training: Where its weights and ranges were trained.
    """
    from edgefx.storage.serde import to_json

    if not row.needs_calibration:  # nothing is sampled
        scheme = replace(scheme, seed=0)
    return _key(
        "convert",
        target=row.source,
        scheme=to_json(scheme),
        name=name,
        graph=graph_sha256,
        images=images,
        training=training.digest if training else None,
        cpu=cpu_features() if row.needs_calibration else None,
        tools=(*row.converted_by, *(IMAGES if row.needs_calibration else ())),
        code=_code(
            ("artifacts", "images", "training"),
            f"{row.module}.runtime",
            *(_PIXELS if row.needs_calibration else ()),
            *(("edgefx.qat.transfer",) if training else ()),  # writes the trained weights into the graph
            "edgefx.models.graph.cut",
            "edgefx.system.blas",
        ),
    )


def compilation(
    row: TargetRow,
    source: Artifact,
    options: NpuOptions,
    *,
    by_default: Sequence[str],
    name: str,
) -> Key:
    """Key of an artifact that a compiler made of another one.

    Args:
        row: The target.
        source: The artifact that is compiled.
        options: Of the compiler.
        by_default: Which of them nobody chose.
        name: The model's name: the file is called by it.
    """
    from edgefx.storage.serde import to_json

    return _key(
        "compile",
        target=row.name,
        artifact=_content(source),
        options=to_json(options),
        by_default=list(by_default),
        name=name,
        tools=(*filter(None, (distribution_of(row.compiled_by),)), *row.run_by),
        code=_code(("compiled",), row.compiler, f"{row.module}.runtime"),
    )


def footprint(row: TargetRow, artifact: Artifact) -> Key:
    """Key of what an artifact takes when it is packed."""
    packing = (f"{row.module}.footprint",) if row.compresses_weights else ()
    return _key(
        "footprint",
        target=row.source,
        artifact=_content(artifact),
        tools=("numpy",),
        code=_code(("compression",), *packing),
    )


def finished(row: TargetRow, content: Sequence[str], metadata: ArtifactMetadata) -> Key:
    """Key of an artifact's files with its metadata in them.

    Args:
        row: The target.
        content: SHA-256 of each file as converted.
        metadata: What is written into them.
    """
    from edgefx.storage.serde import to_json

    return _key(
        "finish",
        target=row.name,
        artifact=list(content),
        metadata=digest(to_json(metadata)),
        tools=(),
        code=_code(("finish",), f"{row.module}.metadata", "edgefx.storage.hashes", "edgefx.version"),
    )


def training(
    settings: QatSettings,
    start: QuantScheme,
    *,
    graph_sha256: str,
    teacher_sha256: str,
    calibration: Json,
    images: Json,
) -> Key:
    """Key of quantization-aware training, which serves all INT8 targets.

    Args:
        settings: How it trains.
        start: The post-training quantization that it starts from.
        graph_sha256: The graph that is trained, by content.
        teacher_sha256: The canonical graph by content, which it learns from.
        calibration: The calibration images by content.
        images: The training images by content.
    """
    from edgefx.storage.serde import to_json

    return _key(
        "training",
        settings=to_json(settings),
        start=to_json(start),
        graph=graph_sha256,
        teacher=teacher_sha256,
        calibration=calibration,
        images=images,
        cpu=cpu_features(),
        tools=(*TARGETS["tflite-int8"].converted_by, *TENSORFLOW, *IMAGES),
        code=_code(
            ("training", "images"),
            "edgefx.qat.train",
            f"{TARGETS['tflite-int8'].module}.runtime",
            "edgefx.system.blas",
            *_PIXELS,
        ),
    )


def training_effect(row: TargetRow, before: Artifact, after: Artifact, *, training: Key) -> Key:
    """Key of the comparison of a post-training and a trained artifact on the training's own images."""
    return _key(
        "training-effect",
        target=row.source,
        before=_content(before),
        after=_content(after),
        training=training.digest,
        cpu=cpu_features(),
        tools=(*row.run_by, *TENSORFLOW, *IMAGES),
        code=_code(
            ("artifacts", "training", "images"),
            *_session(row),
            "edgefx.models.graph.freeze",
            "edgefx.qat.schedule",
            *_ACCURACY,
        ),
    )


def sensitivity(row: TargetRow, artifact: Artifact, *, graph_sha256: str, images: Json) -> Key:
    """Key of the layers ranked by what quantizing each alone does."""
    return _key(
        "sensitivity",
        target=row.source,
        artifact=_content(artifact),
        graph=graph_sha256,
        images=images,
        cpu=cpu_features(),
        tools=(*row.converted_by, *IMAGES),
        code=_code(
            ("artifacts", "images"), f"{row.module}.readback", "edgefx.analysis.sensitivity", *_PIXELS
        ),
    )


def evaluation(
    row: TargetRow,
    artifact: Artifact,
    *,
    images_sha256: str,
    skip_bad: bool,
    sample: Sequence[int] | None,
    baseline: Key,
    threads: int,
) -> Key:
    """Key of an artifact's accuracy, on all images or on those at the places of a sample."""
    return _key(
        "evaluate",
        target=row.measured_as,
        artifact=_content(artifact),
        images=images_sha256,
        skip_bad=skip_bad,
        sample=None if sample is None else digest(list(sample)),
        baseline=baseline.digest,
        threads=threads,
        cpu=cpu_features(),
        tools=(*row.run_by, *IMAGES, *_interpreter_tools(row)),
        code=_code(
            ("artifacts", "evaluator", "images", "parity"), *_session(row), *_interpreter(row), *_ACCURACY
        ),
    )


def explanation(answers: Key, asked: Sequence[Json]) -> Key:
    """Key of what answers rest on.

    Args:
        answers: Key of the answers: `baseline` or `evaluation`.
        asked: SHA-256 and class of each image.
    """
    return _key(
        "explain",
        answers=answers.digest,
        asked=digest(list(asked)),
        tools=(),
        code=_code(("changed",), "edgefx.analysis.occlusion"),
    )


def benchmark(
    subjects: Sequence[tuple[TargetRow, Artifact, str | None]],
    *,
    threads: int,
    settings: Mapping[str, Json],
) -> Key:
    """Key of the latencies of artifacts that are measured in turn, and compare only within one measurement.

    Args:
        subjects: Target, artifact, and the target of the float artifact that its latency is compared with.
        threads: Intra-op threads.
        settings: How much is timed, and what else is measured.
    """
    rows = {row.runtime: row for row, _, _ in subjects}.values()
    return _key(
        "benchmark",
        subjects=[[row.name, _content(artifact), compared] for row, artifact, compared in subjects],
        threads=threads,
        settings=dict(settings),
        machine=machine(),
        tools=("numpy", *(name for row in rows for name in row.run_by)),
        code=_code(
            ("latency",),
            "edgefx.benchmarking.asked",
            "edgefx.benchmarking.counters",
            "edgefx.benchmarking.devices.protocol",
            "edgefx.benchmarking.energy",
            "edgefx.benchmarking.latency",
            "edgefx.benchmarking.profiles",
            "edgefx.benchmarking.repeats",
            "edgefx.benchmarking.schedule",
            "edgefx.benchmarking.worker",
            *(f"{row.module}.{part}" for row in rows for part in ("collect", "profiler")),
            *(module for row in rows for module in _session(row)),
        ),
    )


def _key(stage: str, *, tools: Sequence[str], **parts: Json) -> Key:
    return key(stage, version=_VERSION, tools=versions(tools), **parts)


def _session(row: TargetRow) -> tuple[str, ...]:
    """Return the modules that open an artifact and run it."""
    return f"{row.module}.session", "edgefx.system.packages"


def _interpreter(row: TargetRow) -> tuple[str, ...]:
    """Return the modules that run an artifact where the runtime does not, and compare the two."""
    used = "edgefx.compilers", "edgefx.compilers.protocol"
    return (*used, row.compiler, f"{row.module}.runtime") if row.kind is TargetKind.MCU else used


def _interpreter_tools(row: TargetRow) -> tuple[str, ...]:
    return (distribution_of(row.compiled_by),) if row.kind is TargetKind.MCU else ()


def _code(callers: Sequence[str], *modules: str) -> str:
    """Hash the modules that compute a result, the files of the pipeline that call them, and the records."""
    return code(*_KEPT, *modules, alone=tuple(f"edgefx.pipeline.{name}" for name in callers))


def _content(artifact: Artifact) -> list[Json]:
    return [file.sha256 for file in artifact.files]
