"""Reports as a run makes them, for the tests of the renderers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hypothesis import strategies as st

from edgefx.latency_histogram import LatencyHistogram
from edgefx.measured import ComparedAnswers, Match
from edgefx.report import findings
from edgefx.results import (
    Accuracy,
    Check,
    DeviceResult,
    DeviceTarget,
    Environment,
    Failure,
    Latency,
    MaxDrop,
    RunReport,
    SearchResult,
    StageTiming,
    TargetResult,
    Trial,
)
from edgefx.types import (
    Artifact,
    ArtifactFile,
    DataInfo,
    Effort,
    ModelSpec,
    OpCount,
    OutputKind,
    Resize,
    StageKind,
    TensorInfo,
)
from edgefx.verdicts import Gate, GateResult, Verdict
from edgefx.vocabulary import Hardware

OUT = Path("/somewhere/build")


def artifact(target: str, *, size_bytes: int, compute_int8: int, notes: tuple[str, ...] = ()) -> Artifact:
    suffix = {"tflite": ".tflite", "onnx": ".onnx", "openvino": ".xml"}[target.partition("-")[0]]
    return Artifact(
        target=target,
        files=(ArtifactFile(path=OUT / f"b0-int8{suffix}", size_bytes=size_bytes, sha256="ab" * 32),),
        inputs=(TensorInfo(name="image", shape=(1, 224, 224, 3), dtype="uint8", scale=1.0, zero_point=0),),
        outputs=(TensorInfo(name="probabilities", shape=(1, 5), dtype="uint8", scale=1 / 256, zero_point=0),),
        ops=(
            OpCount(op="CONV_2D", dtype="int8", count=compute_int8),
            OpCount(op="SOFTMAX", dtype="float32", count=3),
        ),
        compute_int8=compute_int8,
        compute_float=3,
        notes=notes,
    )


def accuracy(*, top1: float, labelled: bool = True) -> Accuracy:
    return Accuracy(
        images=736,
        top1=top1 if labelled else None,
        top5=0.9993 if labelled else None,
        baseline_top1=0.9321 if labelled else None,
        baseline_top5=0.9996 if labelled else None,
        drop_pp=100 * (0.9321 - top1) if labelled else None,
        drop_ci95_pp=(-0.31, 2.48) if labelled else None,
        agreement=0.9756,
        mean_kl=0.00123,
        max_abs_dp=0.412,
        images_per_s=311.0,
    )


def latency(*, p50_ms: float, ratio_to_float: float, ran: str = "int8") -> Latency:
    return Latency(
        device="host",
        threads=2,
        rounds=100,
        p50_ms=p50_ms,
        p95_ms=p50_ms * 1.3,
        min_ms=p50_ms * 0.9,
        cold_start_ms=61.3,
        peak_memory_mb=142.5,
        precision_ran=ran,
        ratio_to_float=ratio_to_float,
        ratio_ci95=(0.98 * ratio_to_float, 1.02 * ratio_to_float),
        histogram=LatencyHistogram.of([p50_ms * (0.9 + 0.004 * number) for number in range(100)]),
    )


def gate(metric: str, limit: float, measured: float | None, verdict: Verdict, reason: str) -> GateResult:
    return GateResult(
        gate=Gate(metric=metric, limit=limit), measured=measured, verdict=verdict, reason=reason
    )


def report(*, labelled: bool = True) -> RunReport:
    """One target that passes, one that fails its gate and is slower than float, one that ran in bf16."""
    return findings.complete(
        RunReport(
            schema_version=1,
            created="2026-11-21T08:00:00+00:00",
            command="edgefx compile b0.keras --target '*-int8' --calib photos",
            environment=Environment(
                edgefx="0.1.0",
                python="3.11.9",
                os="Linux 6.1",
                machine="x86_64",
                cpu="Example CPU @ 2.00GHz",
                cpu_features=("AVX2", "AVX512-VNNI"),
                cores=2,
                memory_mb=8000,
                packages={"numpy": "2.4.6"},
            ),
            model=ModelSpec(
                name="b0",
                source="b0.keras",
                height=224,
                width=224,
                classes=5,
                output=OutputKind.PROBABILITIES,
                parameters=4_055_976,
                macs=385_000_000,
                sha256="cd" * 32,
            ),
            data=(
                DataInfo(
                    role="calibration",
                    root="photos",
                    images=100,
                    classes=5,
                    sha256="01" * 32,
                    resize=Resize.STRETCH,
                    interpolation="bilinear",
                    seed=0,
                    skipped=0,
                    note="100 of 836 images of photos, seed 0",
                ),
                DataInfo(
                    role="evaluation",
                    root="photos",
                    images=736,
                    classes=5 if labelled else None,
                    sha256="02" * 32,
                    resize=Resize.STRETCH,
                    interpolation="bilinear",
                    seed=0,
                    skipped=1,
                    note="the 736 images of photos that calibration left",
                ),
            ),
            seed=0,
            baseline_top1=0.9321 if labelled else None,
            baseline_top5=0.9996 if labelled else None,
            canonical_max_abs_dp=3e-7,
            targets=(
                TargetResult(
                    target="tflite-int8",
                    artifact=artifact("tflite-int8", size_bytes=4_912_345, compute_int8=412),
                    accuracy=accuracy(top1=0.9212, labelled=labelled),
                    latency=latency(p50_ms=2.48, ratio_to_float=0.61),
                    size_ratio_to_float=0.303,
                    gates=(gate("drop_pp", 1.5, 1.09, Verdict.PASS, "top-1 drop 1.09 pp, limit 1.5 pp"),),
                ),
                TargetResult(
                    target="onnx-int8",
                    artifact=artifact(
                        "onnx-int8",
                        size_bytes=5_312_345,
                        compute_int8=300,
                        notes=("the first 12 blocks stay in float: faster here",),
                    ),
                    accuracy=accuracy(top1=0.9102, labelled=labelled),
                    latency=latency(p50_ms=7.7, ratio_to_float=1.26),
                    size_ratio_to_float=0.327,
                    gates=(
                        gate(
                            "drop_pp",
                            1.5,
                            2.19,
                            Verdict.FAIL,
                            "top-1 drop 2.19 pp, limit 1.5 pp: 0.69 pp over",
                        ),
                    ),
                    warnings=("two tensors saturate on the evaluation images",),
                ),
                TargetResult(
                    target="openvino-float32",
                    artifact=artifact("openvino-float32", size_bytes=16_212_345, compute_int8=0),
                    accuracy=accuracy(top1=0.9321, labelled=labelled),
                    latency=latency(p50_ms=3.2, ratio_to_float=1.0, ran="bf16"),
                    size_ratio_to_float=1.0,
                ),
            ),
            timings=(
                StageTiming(stage=StageKind.LOAD, target="", seconds=9.1),
                StageTiming(stage=StageKind.CONVERT, target="tflite-int8", seconds=34.2),
                StageTiming(stage=StageKind.CONVERT, target="onnx-int8", seconds=30.4),
                StageTiming(stage=StageKind.EVALUATE, target="tflite-int8", seconds=3.3),
            ),
            warnings=("evaluation: skipped photos/rose/7.jpg: truncated",),
        )
    )


def with_search(base: RunReport, *, limit: MaxDrop, gap: float = 0.0) -> RunReport:
    """Give the first target a search of three candidates, of which the last was chosen and one failed."""
    found = base.targets[0].accuracy
    assert found is not None
    trials = (
        Trial(
            effort=Effort.BALANCED, accuracy=replace(found, drop_pp=2.5), integer_share=1.0, convert_s=34.2
        ),
        Trial(effort=Effort.HIGH, error="the converter refused"),
        Trial(
            effort=Effort.HIGH,
            left_out=("reconstruct",),
            keep_float=tuple(f"block{number}" for number in range(8)),
            accuracy=found,
            integer_share=0.91,
            size_bytes=5_000_000,
            convert_s=36.0,
            meets=gap == 0,
        ),
    )
    search = SearchResult(
        limit=limit, trials=trials, chosen=2, gap=gap, chosen_on_evaluation=True, ended="the end"
    )
    first = replace(base.targets[0], effort=Effort.BALANCED, convert_s=36.0, search=search)
    checks = (
        Check(name="duplicates", passed=True, measured="none"),
        Check(name="size", passed=False, measured="8 images", advice="add images"),
    )
    return replace(base, targets=(first, *base.targets[1:]), checks=checks)


def with_failure(base: RunReport) -> RunReport:
    """Add a target that has no artifact."""
    failed = TargetResult(
        target="onnx-float16",
        artifact=None,
        accuracy=None,
        latency=None,
        size_ratio_to_float=None,
        failure=Failure(
            stage=StageKind.CONVERT,
            message="the converter refused the op 'Erf'",
            hint="use onnx-float32",
        ),
    )
    return replace(base, targets=(*base.targets, failed))


def with_devices(base: RunReport) -> RunReport:
    """Add a device on which one target answers otherwise and another fails, and one that was lost."""
    first, second = base.targets[:2]
    assert first.latency is not None
    board = DeviceResult(
        device="pi5",
        environment=replace(base.environment, cpu="Raspberry Pi 5 (Cortex-A76)", cores=4),
        hardware=Hardware.ARM_DOTPROD,
        targets=(
            DeviceTarget(
                target=first.target,
                answers=ComparedAnswers(images=8, match=Match.DIFFERS, same_top1=7, max_abs_difference=0.25),
                accuracy=first.accuracy,
                latency=replace(
                    first.latency,
                    device="pi5",
                    threads=4,
                    p50_ms=31.4,
                    ratio_to_float=1.4,
                    ratio_ci95=(1.3, 1.5),
                ),
                gates=(gate("p95_ms", 20, 36.1, Verdict.FAIL, "p95 latency 36.1 ms, limit 20 ms"),),
            ),
            DeviceTarget(
                target=second.target,
                failure=Failure(stage=StageKind.EVALUATE, message="no onnxruntime there", hint="pip"),
            ),
        ),
    )
    lost = DeviceResult(
        device="ssh://pi@board",
        environment=None,
        hardware=None,
        targets=(),
        failure=Failure(stage=StageKind.DEVICE, message="ssh://pi@board: is gone", hint="ssh by hand"),
    )
    return replace(base, devices=findings.complete(replace(base, devices=(board, lost))).devices)


# Top-1, drop, size in bytes and median latency of each of a run's targets.
random_figures = st.lists(
    st.tuples(st.floats(0, 1), st.floats(-20, 20), st.integers(1, 10**9), st.floats(1e-3, 1e5)),
    min_size=1,
    max_size=12,
)


def with_figures(found: Sequence[tuple[float, float, int, float]]) -> RunReport:
    """A run with so many targets, and what was drawn of `random_figures` for each."""
    base = report()
    targets = []
    for number, (top1, drop, size, median) in enumerate(found):
        first = base.targets[number % 3]
        assert first.artifact is not None
        files = tuple(replace(file, size_bytes=size) for file in first.artifact.files)
        targets.append(
            replace(
                first,
                target=f"onnx-int8-{number}",
                artifact=replace(first.artifact, files=files),
                accuracy=replace(accuracy(top1=top1), drop_pp=drop, drop_ci95_pp=(drop - 1, drop + 1)),
                latency=latency(p50_ms=median, ratio_to_float=median),
            )
        )
    return replace(base, targets=tuple(targets))
