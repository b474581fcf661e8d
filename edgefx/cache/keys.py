"""What determines the output of each stage: all of it goes into the key, and nothing else.

canonicalize
    The model: the hash of its file or folder; or a zoo name and its weights: the hash of a file, the seed of
    random ones, or the name of published ones (Keras checks what it downloads). Classes, input size, and the
    versions of TensorFlow and Keras.
equality
    The model as above, the graph by content, the images compared on or the seed of the noise, the CPU's
    features (another CPU rounds sums otherwise).
images
    The hash of the files' bytes, order, labels, size and resize mode; their names, as messages name them;
    whether bad ones are skipped. NumPy and Pillow.
checks
    Both image sets as above, the graph by content.
baseline
    The model and the evaluation images as above, the CPU's features.
convert
    The graph by content, the target's whole scheme (precision, ends, effort, ranges, float layers). Where
    it calibrates: the calibration images, the seed, the CPU's features (INT8 for ONNX also goes by a table of
    CPUs). The versions of the runtime's converters. A target that does not calibrate has none of these, so
    that another image or seed leaves it in the cache.
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
benchmark
    All artifacts that are measured in turn, by content: figures compare only within one measurement. Threads,
    rounds, time limit; the CPU, its features and number, the kernel; the runtimes' versions.

Gates, reports and output folders are in no key: they are not kept, but made anew from what is kept. Every key
holds edgefx's version and a hash of the code that computes the stage, so that an edited source tree never
meets results of older code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgefx.cache.entry import Json, Key, canonical, key
from edgefx.cache.tools import (
    CONVERTERS,
    ENGINES,
    IMAGES,
    TENSORFLOW,
    code,
    cpu_features,
    machine,
    versions,
)
from edgefx.vocabulary import Effort, Runtime

if TYPE_CHECKING:
    from edgefx.cache.files import FileHashes
    from edgefx.recipe.schema import ModelSection
    from edgefx.targets import TargetRow
    from edgefx.types import Artifact, QatSettings, QuantScheme


def digest(document: Json) -> str:
    """Hash JSON, to keep long lists out of keys."""
    return hashlib.sha256(canonical(document).encode()).hexdigest()


def model(section: ModelSection, *, seed: int, hashes: FileHashes) -> dict[str, Json]:
    """Identify a model by content.

    Raises:
        OSError: Its file cannot be read; loading it says why.
    """
    from edgefx.models import zoo

    options: dict[str, Json] = {"classes": section.classes, "input_size": section.input_size}
    family = zoo.FAMILIES.get(section.source.lower())
    if family is None:
        path = Path(section.source)
        return {**options, "suffix": path.suffix, "content": hashes.content(path)}
    weights = section.weights or family.weights[0]
    if weights == zoo.RANDOM:
        content = f"seed {seed}"
    elif weights == zoo.PACKAGED:
        content = hashes.sha256(zoo.DIGITS_WEIGHTS)
    elif weights == zoo.IMAGENET:
        content = "as published: Keras checks the hash of what it downloads"
    else:
        weights, content = "file", hashes.content(Path(weights))
    return {**options, "family": family.name, "weights": weights, "content": content}


def graph(identity: Json) -> Key:
    """Key of the canonical graph of a model."""
    return key("canonicalize", version=1, model=identity, tools=versions(TENSORFLOW), code=code("models"))


def equality(identity: Json, graph_sha256: str, compared_on: Json) -> Key:
    """Key of the comparison of the canonical graph with the model as loaded."""
    return key(
        "equality",
        version=1,
        model=identity,
        graph=graph_sha256,
        images=compared_on,
        cpu=cpu_features(),
        tools=versions(TENSORFLOW),
        code=code("models", "data"),
    )


def images(sha256: str, names: Sequence[str], *, skip_bad: bool, pixel_range: tuple[float, float]) -> Key:
    """Key of what decoding a set of images tells of it: `sha256` covers files, labels, size and resize."""
    return key(
        "images",
        version=1,
        images=sha256,
        names=digest(list(names)),
        skip_bad=skip_bad,
        pixel_range=list(pixel_range),
        tools=versions(IMAGES),
        code=code("data"),
    )


def checks(calibration: Key, evaluation: Key | None, graph_sha256: str) -> Key:
    """Key of the checks of the calibration images, which compare them with the evaluation images."""
    return key(
        "checks",
        version=1,
        calibration=calibration.digest,
        evaluation=evaluation.digest if evaluation else None,
        graph=graph_sha256,
        tools=versions((*TENSORFLOW, *IMAGES)),
        code=code("data"),
    )


def baseline(identity: Json, images_sha256: str, *, skip_bad: bool) -> Key:
    """Key of the float Keras model's scores."""
    return key(
        "baseline",
        version=1,
        model=identity,
        images=images_sha256,
        skip_bad=skip_bad,
        cpu=cpu_features(),
        tools=versions((*TENSORFLOW, *IMAGES)),
        code=code("models", "data"),
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
    from edgefx.report.json import to_json

    if not row.needs_calibration:  # nothing is sampled
        scheme = replace(scheme, seed=0)
    optimizes = row.name == "tflite-int8" and scheme.effort is Effort.HIGH  # by training
    return key(
        "convert",
        version=1,
        target=row.name,
        scheme=to_json(scheme),
        name=name,
        graph=graph_sha256,
        images=images,
        training=training.digest if training else None,
        cpu=cpu_features() if row.needs_calibration else None,
        tools=versions(
            (
                *CONVERTERS[row.runtime],
                *(IMAGES if row.needs_calibration else ()),
                *(TENSORFLOW if optimizes else ()),
            )
        ),
        code=code(
            f"targets/{row.runtime}",
            "quantize",
            *(("data",) if row.needs_calibration else ()),
            # Writes the trained weights into the graph, or makes a model of it that can be trained.
            *(("models",) if training or optimizes else ()),
        ),
    )


def training(
    settings: QatSettings, start: QuantScheme, *, graph_sha256: str, calibration: Json, images: Json
) -> Key:
    """Key of quantization-aware training, which serves all INT8 targets.

    Args:
        settings: How it trains.
        start: The post-training quantization that it starts from.
        graph_sha256: The canonical graph by content.
        calibration: The calibration images by content.
        images: The training images by content.
    """
    from edgefx.report.json import to_json

    return key(
        "training",
        version=1,
        settings=to_json(settings),
        start=to_json(start),
        graph=graph_sha256,
        calibration=calibration,
        images=images,
        cpu=cpu_features(),
        tools=versions((*CONVERTERS[Runtime.TFLITE], *TENSORFLOW, *IMAGES)),
        code=code("targets/tflite", "quantize", "models", "data"),
    )


def training_effect(row: TargetRow, before: Artifact, after: Artifact, *, training: Key) -> Key:
    """Key of the comparison of a post-training and a trained artifact on the training's own images."""
    return key(
        "training-effect",
        version=1,
        target=row.name,
        before=_content(before),
        after=_content(after),
        training=training.digest,
        cpu=cpu_features(),
        tools=versions((*ENGINES[row.runtime], *TENSORFLOW, *IMAGES)),
        code=code(f"targets/{row.runtime}", "quantize", "evaluate", "models", "data"),
    )


def sensitivity(row: TargetRow, artifact: Artifact, *, graph_sha256: str, images: Json) -> Key:
    """Key of the layers ranked by what quantizing each alone does."""
    return key(
        "sensitivity",
        version=1,
        target=row.name,
        artifact=_content(artifact),
        graph=graph_sha256,
        images=images,
        cpu=cpu_features(),
        tools=versions((*CONVERTERS[row.runtime], *IMAGES)),
        code=code(f"targets/{row.runtime}", "quantize", "evaluate", "data"),
    )


def evaluation(
    row: TargetRow, artifact: Artifact, *, images_sha256: str, skip_bad: bool, baseline: Key, threads: int
) -> Key:
    """Key of an artifact's accuracy."""
    return key(
        "evaluate",
        version=1,
        target=row.name,
        artifact=_content(artifact),
        images=images_sha256,
        skip_bad=skip_bad,
        baseline=baseline.digest,
        threads=threads,
        cpu=cpu_features(),
        tools=versions((*ENGINES[row.runtime], *IMAGES)),
        code=code(f"targets/{row.runtime}", "evaluate", "data"),
    )


def benchmark(
    subjects: Sequence[tuple[TargetRow, Artifact, str | None]],
    *,
    threads: int,
    rounds: int,
    seconds: float,
    warmup: int,
) -> Key:
    """Key of the latencies of artifacts that are measured in turn, and compare only within one measurement.

    Args:
        subjects: Target, artifact, and the target of the float artifact that its latency is compared with.
        threads: Intra-op threads.
        rounds: Timed inferences of each.
        seconds: Time limit for all.
        warmup: Untimed inferences before.
    """
    runtimes = sorted({row.runtime for row, _, _ in subjects})
    return key(
        "benchmark",
        version=1,
        subjects=[[row.name, _content(artifact), compared] for row, artifact, compared in subjects],
        threads=threads,
        rounds=rounds,
        seconds=seconds,
        warmup=warmup,
        machine=machine(),
        tools=versions(
            dict.fromkeys(("numpy", *(name for runtime in runtimes for name in ENGINES[runtime])))
        ),
        code=code("benchmark", *(f"targets/{runtime}" for runtime in runtimes)),
    )


def _content(artifact: Artifact) -> list[Json]:
    return [file.sha256 for file in artifact.files]
