"""What goes with what: each rule without a file, and each rule the same with one and without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from edgefx.errors import UsageError
from edgefx.pipeline.plan import plan
from edgefx.recipe.load import check, parse
from edgefx.recipe.options import AS_ARGUMENTS, AS_FLAGS, BY_PATH, IN_FILE
from edgefx.recipe.requests import Problem, Request, TargetRequest
from edgefx.recipe.rules import LIMITED, merged, problems
from edgefx.recipe.tree import RecipeError
from edgefx.targets import ALL
from edgefx.vocabulary import TargetKind


def target(name: str, **options: Any) -> TargetRequest:
    return TargetRequest(row=ALL[name], **options)


def request(*targets: TargetRequest, **options: Any) -> Request:
    return Request(model=options.pop("model", "digits"), targets=targets, **options)


INT8, DYNAMIC, INT16 = target("tflite-int8"), target("tflite-dynamic"), target("tflite-int16x8")
OF_RUNTIMES = tuple(key for key, origin in LIMITED.items() if origin.is_known_of(TargetKind.RUNTIME))


@pytest.mark.parametrize(
    "fine",
    [
        request(INT8, DYNAMIC, INT16, target("openvino-int8")),
        request(target("tflite-int8", integer_only=True), target("tflite-int16x8", integer_only=True)),
        request(target("tflite-int8", integer_only=True, io_dtype="int8")),
        request(target("onnx-int8", io_dtype="float32"), target("onnx-float32", io_dtype="float32")),
        request(INT8, model="b0", method="qat", trains=True),  # training images calibrate as well
        request(INT8, model="b0", method="qat", trains=True, samples=True),
        request(INT8, model="Digits"),  # names of the zoo are read in any case
        request(DYNAMIC, model="b0", method="none"),
        request(target("tflite-int8", ranges="percentile"), target("onnx-float32", ranges="percentile")),
        request(target("tflite-int8", limits=OF_RUNTIMES)),
        request(
            *(target(name, limits=tuple(LIMITED)) for name in ("tflite-int8", "ethos-u55-32", "tflm-int8"))
        ),
        request(target("ethos-u85-256", integer_only=True, npu_options=("npu.memory_mode",))),
        request(INT8, model="", samples=True),  # what depends on the model is not judged without one
    ],
)
def test_what_goes_together(fine: Request) -> None:
    assert list(problems(fine)) == []


@pytest.mark.parametrize(
    ("wrong", "key", "said"),
    [
        (
            request(target("tflite-float16", io_dtype="input=uint8,output=float32")),
            "io_dtype",
            "{io_dtype:uint8} is not possible for",
        ),
        (
            request(target("tflite-int8", integer_only=True, io_dtype="output=float32")),
            "io_dtype",
            "contradicts {quantize.integer_only}",
        ),
        (
            request(target("tflite-int8", ends="logits"), model="b0", method="qat", trains=True),
            "ends",
            "makes artifacts that end as the model",
        ),
        (request(INT8, method="none"), "targets", "{quantize.method:none} makes float artifacts"),
        (request(target("onnx-int8", integer_only=True)), "quantize.integer_only", "float operations remain"),
        (
            request(target("tflite-int8", integer_only=True, io_dtype="float32")),
            "io_dtype",
            "{io_dtype:float32} contradicts {quantize.integer_only}",
        ),
        (
            request(target("tflite-int8", integer_only=True, keeps_float=True)),
            "quantize.keep_float",
            "{quantize.keep_float} contradicts {quantize.integer_only}",
        ),
        (request(target("tflite-int16x8", ranges="mse")), "quantize.ranges", "{quantize.ranges:mse} is not"),
        (request(target("onnx-float32", io_dtype="uint8")), "io_dtype", "{io_dtype:uint8} is not possible"),
        (request(INT8, method="qat"), "quantize.method", "needs training images"),
        (
            request(INT8, method="qat", trains=True, smooths=True),
            "quantize.label_smoothing",
            "is for mode supervised",
        ),
        (request(DYNAMIC, method="qat", trains=True), "quantize.method", "not for tflite-dynamic"),
        (request(INT8, INT16, method="qat", trains=True), "targets", "does not make {target}"),
        (
            request(target("onnx-int8", keeps_float=True), method="qat", trains=True),
            "quantize.keep_float",
            "cannot leave layers in float",
        ),
        (
            request(target("onnx-int8", limits=("quantize.budget",)), method="qat", trains=True),
            "quantize.budget",
            "no budget to search for",
        ),
        (request(INT8, INT16, model="b0"), "targets", "tflite-int8, tflite-int16x8 need calibration images"),
        (request(INT8, model="b0"), "targets", "tflite-int8 needs calibration images"),
        (request(DYNAMIC, model="b0", samples=True), "calibration.samples", "says how many images"),
        (
            request(target("ethos-u55-32", limits=("gates.max_p95_ms",))),
            "gates.max_p95_ms",
            "is for artifacts that run here, and says nothing of {target}",
        ),
        (request(target("tflite-int8", limits=("gates.max_sram",))), "gates.max_sram", "is for NPUs"),
        (
            request(target("onnx-int8", npu_options=("npu.memory_mode",))),
            "npu.memory_mode",
            "is for NPUs, and says nothing of {target}",
        ),
        (
            request(target("ethos-u55-32", io_dtype="float32")),
            "io_dtype",
            "{io_dtype:float32} is not possible",
        ),
        (
            request(DYNAMIC, model="m.keras", for_zoo=("model.classes",)),
            "model.classes",
            "a file has its own",
        ),
    ],
)
def test_what_does_not(wrong: Request, key: str, said: str) -> None:
    (problem,) = problems(wrong)
    assert problem.key == key
    assert said in problem.message
    assert problem.hint


@pytest.mark.parametrize("key", OF_RUNTIMES)
def test_what_is_limited_must_be_measured(key: str) -> None:
    limited = target("tflite-float32", limits=(key,))
    wrong = [one.key for one in problems(request(limited, evaluates=False, benchmarks=False))]
    assert wrong == ([] if LIMITED[key].value == "artifact" else [key])
    assert bool(wrong) == any(
        True
        for options in ({"evaluates": False}, {"benchmarks": False})
        for _ in problems(request(limited, **options))
    )


@pytest.mark.parametrize(
    ("devices", "measured"), [((), True), (("host",), True), (("pi5", "host"), True), (("pi5",), False)]
)
def test_a_limit_on_latency_here_needs_latency_here(devices: tuple[str, ...], measured: bool) -> None:
    asked = request(
        target("tflite-float32", limits=("gates.max_p95_ms", "gates.max_drop")), devices=devices, prices=True
    )
    found = {one.key: one for one in problems(asked)}
    assert list(found) == ([] if measured else ["gates.max_p95_ms", "benchmark.price_per_hour"])
    for one in found.values():
        assert "where" in one.message or "limits the latency on this machine" in one.message
        assert AS_FLAGS.filled(one.hint).endswith("name host, too, in --device")


def test_the_same_of_several_targets_is_said_once() -> None:
    wrong = request(target("onnx-int8", integer_only=True), target("onnx-float32", integer_only=True))
    ((place, problem),) = merged(problems(wrong), lambda one: one.key)
    assert (place, problem.target) == ("quantize.integer_only", "onnx-int8")
    assert "for onnx-int8, onnx-float32:" in problem.message
    found = list(merged(problems(wrong), lambda one: one.target))
    assert [place for place, _ in found] == ["onnx-int8", "onnx-float32"]


@pytest.mark.parametrize(
    ("wording", "message", "hint"),
    [
        (AS_FLAGS, "--io-dtype int8 and --qat: --no-eval", "--calib photos/ or --integer-only"),
        (AS_ARGUMENTS, "io_dtype int8 and qat: evaluate=False", "calibration='photos/' or integer_only"),
        (
            BY_PATH,
            "io_dtype int8 and quantize.method qat: evaluate is null",
            "calibration.images: photos/ or quantize.integer_only",
        ),
        (
            IN_FILE,
            "io_dtype int8 and method qat: evaluate is null",
            "calibration: {images: photos/} or integer_only",
        ),
    ],
)
def test_keys_are_named_as_whoever_reads_has_said_them(wording: Any, message: str, hint: str) -> None:
    problem = Problem(
        message="{io_dtype:int8} and {quantize.method:qat}: {evaluate!}",
        key="io_dtype",
        hint="{calibration.images=photos/} or {quantize.integer_only}",
    )
    assert wording.filled(problem.message) == message
    assert wording.filled(problem.hint) == hint


BAD = Path(__file__).with_name("recipes") / "bad"
CONTRADICTIONS = (
    "gate-drop-without-evaluation", "gate-latency-without-benchmark", "gate-of-one-target-without-evaluation",
    "int8-without-calibration", "integer-only-float-ends", "integer-only-keeps-float", "integer-only-onnx",
    "io-dtype-float-target", "method-none-with-int8", "qat-keeps-float", "qat-smoothing-with-distill",
    "qat-without-int8", "qat-without-training-images", "ranges-not-for-int16x8", "samples-without-images",
)  # fmt: skip


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_a_file_and_what_is_made_of_it_are_refused_for_the_same(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(BAD)
    with pytest.raises(RecipeError) as in_file:
        check(Path(f"{name}.yaml"))
    document = yaml.safe_load((BAD / f"{name}.yaml").read_text(encoding="utf-8"))
    with pytest.raises(UsageError) as without:
        plan(parse(document, where="test"), wording=IN_FILE)
    said = {one.message for one in in_file.value.diagnostics}
    details = [detail.split("\n")[0] for detail in without.value.details]
    assert said == set(details or [without.value.message])
