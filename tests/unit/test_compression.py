"""Few or zero weights: how they are asked for, what goes with them, and what a report says of them."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from edgefx.compression import ChannelRemoval, Compressed, CompressionEffect, Footprint, NarrowedBlock
from edgefx.errors import UsageError
from edgefx.pipeline.plan import resolve
from edgefx.pipeline.stages import steps
from edgefx.quantization import UNCOMPRESSED, WeightCompression
from edgefx.recipe.load import check, parse
from edgefx.recipe.options import document
from edgefx.recipe.schema import Recipe
from edgefx.report import markdown, terminal
from edgefx.results import RunReport
from edgefx.storage.serde import from_json, to_json
from edgefx.units import parse_cluster, parse_prune
from tests.unit.report_samples import report


def recipe(*targets: object, **quantize: object) -> Recipe:
    return parse(
        {"version": 1, "model": "digits", "targets": list(targets), "quantize": quantize}, where="test"
    )


def asked(*targets: object, **quantize: object) -> list[WeightCompression]:
    return [target.compression for target in resolve(recipe(*targets, **quantize))]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30%", WeightCompression(zeros=0.3)),
        ("0.3", WeightCompression(zeros=0.3)),
        ("2:4", WeightCompression(two_of_four=True)),
        ("2 : 4", WeightCompression(two_of_four=True)),
        ("channels:25%", WeightCompression(channels=0.25, multiple=16)),
        ("channels: 0.25 / 8", WeightCompression(channels=0.25, multiple=8)),
    ],
)
def test_what_goes_is_a_share_two_of_four_or_channels(text: str, expected: WeightCompression) -> None:
    assert parse_prune(text) == expected
    assert parse_prune(str(expected).removeprefix("--prune ")) == expected


@pytest.mark.parametrize(
    "text",
    [
        *(
            "0",
            "100%",
            "1",
            "1:4",
            "30pp",
            "-3%",
            "half",
            "2:4:6",
            "130%",
            "",
            "30%/8",
            "channels",
            "channels:",
        ),
        *("channels:0", "channels:100%", "channels:25%/7", "channels:25%/", "channels:/8", "channel:25%"),
    ],
)
def test_no_other_zeros(text: str) -> None:
    with pytest.raises(UsageError, match="--prune"):
        parse_prune(text)
    with pytest.raises(UsageError, match="--prune"):
        document({"model": "digits", "targets": "tflite-int8", "prune": text})


@pytest.mark.parametrize(
    ("text", "expected"), [("16", (16, 0.0)), ("2", (2, 0.0)), ("128", (128, 0.0)), ("35 %", (None, 0.35))]
)
def test_values_are_a_number_or_follow_from_what_is_to_be_saved(
    text: str, expected: tuple[int | None, float]
) -> None:
    assert parse_cluster(text) == expected
    assert asked("tflite-int8", cluster=text) == [WeightCompression(values=expected[0], saved=expected[1])]


@pytest.mark.parametrize("text", ["0", "1", "129", "2.5", "16pp", "0%", "100%", "-3%", "few", ""])
def test_no_other_values(text: str) -> None:
    with pytest.raises(UsageError, match="--cluster"):
        parse_cluster(text)
    with pytest.raises(UsageError, match="--cluster"):
        document({"model": "digits", "targets": "tflite-int8", "cluster": text})


def test_a_target_may_have_its_own() -> None:
    both = WeightCompression(values=16, zeros=0.3)
    assert asked("tflite-int8", cluster=16, prune="30%") == [both]
    own = {"target": "tflm-int8", "cluster": 8, "prune": None}
    assert asked("tflite-int8", own, cluster=16, prune="2:4") == [
        WeightCompression(values=16, two_of_four=True),
        WeightCompression(values=8),
    ]
    assert asked("tflite-int8") == [UNCOMPRESSED]
    assert not UNCOMPRESSED
    assert str(both) == "--cluster 16 --prune 0.3"
    assert asked("tflite-int8", {"target": "tflm-int8", "cluster": "35%"}, cluster=16) == [
        WeightCompression(values=16),
        WeightCompression(saved=0.35),
    ]
    assert str(WeightCompression(saved=0.35)) == "--cluster 35%"
    own = {"target": "tflm-int8", "prune": "channels:10%/8"}
    assert asked("tflite-int8", own, cluster=16, prune="20%") == [
        WeightCompression(values=16, zeros=0.2),
        WeightCompression(values=16, channels=0.1, multiple=8),
    ]
    assert str(WeightCompression(channels=0.1, multiple=8)) == "--prune channels:10%/8"


def test_channels_are_removed_for_any_target() -> None:
    made = resolve(recipe("tflite-int8", "onnx-int8", "openvino-float32", cluster=None, prune="channels:25%"))
    assert {str(target.applied) for target in made} == {"--prune channels:25%"}
    mixed = resolve(recipe("tflite-int8", "tflite-float32", cluster=16, prune="channels:25%"))
    found = {target.name: str(target.applied) for target in mixed}
    assert found == {
        "tflite-int8": "--cluster 16 --prune channels:25%",
        "tflite-float32": "--prune channels:25%",
    }


def test_options_say_the_same_as_a_recipe() -> None:
    options = {"model": "digits", "targets": "tflite-int8", "cluster": 16, "prune": "2:4"}
    made = parse(document(options), where="test")
    assert resolve(made) == resolve(recipe("tflite-int8", cluster=16, prune="2:4"))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("targets: [onnx-int8]\nquantize: {cluster: 16}", "cluster is not possible for onnx-int8"),
        ("targets: [tflite-int16x8]\nquantize: {prune: 30%}", "prune is not possible for tflite-int16x8"),
        ("targets: [onnx-int8]\nquantize: {cluster: 8, prune: 'channels:25%'}", "cluster is not possible"),
        ("targets: [tflite-int8]\nquantize: {cluster: 1}", "2 or more"),
        ("targets: [tflite-int8]\nquantize: {cluster: 256}", "128 or less"),
        ("targets: [tflite-int8]\nquantize: {prune: 100%}", "neither nothing nor all"),
        ("targets: [{target: tflite-int8, prune: 3:4}]", "3:4"),
        ("targets: [tflite-int8]\nquantize: {prune: 'channels:25%/9'}", "'9' is no multiple"),
        (
            "targets: [tflite-int8, {target: onnx-int8, prune: 'channels:9%'}]\nquantize: {method: qat}",
            "channels are removed differently for tflite-int8, onnx-int8",
        ),
    ],
)
def test_what_does_not_go_together_is_shown_where_it_stands(body: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(f"version: 1\nmodel: digits\n{body}\n")
    with pytest.raises(UsageError) as caught:
        check(path)
    assert said in "\n".join([caught.value.message, *caught.value.details])


def effect(*, zipped: int, flash: int | None = None) -> CompressionEffect:
    before = Footprint(size_bytes=8_500_000, zipped_bytes=7_000_000, lookup_bytes=8_400_000, zeros=0.02)
    after = Footprint(size_bytes=8_500_000, zipped_bytes=zipped, lookup_bytes=5_200_000, zeros=0.3)
    one = Compressed(footprint=before, drop_pp=0.0, drop_ci95_pp=(-1.0, 1.0), mean_kl=0.01)
    other = replace(one, footprint=after, drop_pp=0.4, drop_ci95_pp=(-0.8, 1.6))
    if flash is not None:
        one = replace(one, flash_bytes=8_000_000, npu_cycles=10_000_000)
        other = replace(other, flash_bytes=flash, npu_cycles=10_100_000)
    return CompressionEffect(asked="--cluster 16", before=one, after=other, images=450)


def compressed(found: CompressionEffect) -> RunReport:
    made = report()
    return replace(made, targets=(replace(made.targets[0], compression=found), *made.targets[1:]))


def words(found: CompressionEffect) -> str:
    stream = StringIO()
    terminal.render(compressed(found), Console(file=stream, width=400))
    return " ".join(stream.getvalue().split())


def test_a_report_says_what_was_saved_and_lost() -> None:
    text = words(effect(zipped=4_000_000))
    assert "zipped 7.00 MB -> 4.00 MB (-42.9 %)" in text
    assert "as lookup tables of TFLM 8.40 MB -> 5.20 MB (-38.1 %)" in text
    assert "zero weights 2% -> 30%" in text
    assert "drop 0.00 pp (-1.00 to +1.00) without, +0.40 pp (-0.80 to +1.60) with it on 450 images" in text
    assert "does not pay" not in text
    assert "flash" not in text
    assert "zipped 7.00 MB -> 4.00 MB" in markdown.dumps(compressed(effect(zipped=4_000_000)))


def test_a_report_says_where_it_does_not_pay() -> None:
    text = words(effect(zipped=6_950_000, flash=6_000_000))
    assert "flash (estimate) 8.00 MB -> 6.00 MB (-25.0 %)" in text
    assert "it does not pay in the download or the NPU's cycles" in text


def test_an_accuracy_that_was_not_measured_is_called_so() -> None:
    found = effect(zipped=4_000_000)
    assert "was not measured" in words(replace(found, images=0))
    unlabelled = replace(found, before=replace(found.before, drop_pp=None, drop_ci95_pp=None))
    assert "drop mean KL 0.01 without" in words(unlabelled)


def without_channels(*, ratio: tuple[float, float, float], drop: float | None = 0.8) -> CompressionEffect:
    blocks = (
        NarrowedBlock(layer="block2a_expand_conv", before=96, after=80, loss=0.01),
        NarrowedBlock(layer="block6d_expand_conv", before=1152, after=480, loss=0.02),
    )
    found = effect(zipped=5_000_000)
    return replace(
        found,
        asked="--prune channels:25%",
        before=replace(found.before, p50_ms=12.0),
        after=replace(found.after, p50_ms=9.6),
        latency_ratio=ratio[0],
        latency_ci95=ratio[1:],
        removal=ChannelRemoval(
            blocks=blocks,
            parameters_before=4_000_000,
            parameters_after=3_000_000,
            macs_before=400_000_000,
            macs_after=340_000_000,
            drop_pp=drop,
            drop_ci95_pp=None if drop is None else (-0.4, 2.0),
            mean_kl=0.03,
        ),
    )


def test_a_report_says_which_channels_went_and_what_that_alone_cost() -> None:
    text = words(without_channels(ratio=(0.8, 0.78, 0.82)))
    assert "688 channels of 2 blocks removed, most: block6d_expand_conv 1152 -> 480" in text
    assert "weights 4.00 M -> 3.00 M (-25.0 %); multiply-accumulates 400 M -> 340 M (-15.0 %)" in text
    assert "in float, before anything is quantized, a drop of +0.80 pp (-0.40 to +2.00)" in text
    assert "latency here 12.0 -> 9.60 ms, 0.80x (0.78 to 0.82)" in text
    assert "does not pay" not in text
    assert "a mean KL of 0.03" in words(without_channels(ratio=(0.8, 0.78, 0.82), drop=None))


def test_a_report_says_where_fewer_channels_are_no_faster() -> None:
    assert "it does not pay in latency here" in words(without_channels(ratio=(1.0, 0.99, 1.01)))
    noisy = words(without_channels(ratio=(0.95, 0.6, 1.5)))
    assert "whether it is faster here, this measurement does not tell" in noisy
    assert "does not pay" not in noisy


def test_the_effect_survives_its_json() -> None:
    channels = without_channels(ratio=(0.8, 0.78, 0.82))
    assert from_json(CompressionEffect, to_json(channels)) == channels
    found = effect(zipped=4_000_000, flash=6_000_000)
    assert from_json(CompressionEffect, to_json(found)) == found


def test_a_plan_says_what_is_asked_for() -> None:
    from edgefx.pipeline.plan import plan

    made = plan(recipe("tflite-int8", "tflite-float32", cluster=16, prune="2:4"))
    (what,) = (one.what for one in steps(made) if one.stage == "convert" and one.target == "tflite-int8")
    assert "--cluster 16 --prune 2:4" in what
