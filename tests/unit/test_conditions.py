"""Gates that are written as conditions, and where a message points when one cannot be read."""

from __future__ import annotations

import pytest

from edgefx.errors import UsageError
from edgefx.metrics import METRICS
from edgefx.recipe.conditions import EXAMPLE, of_device, on_devices, parse
from edgefx.verdicts import Gate


@pytest.mark.parametrize(
    ("text", "gate"),
    [
        (EXAMPLE, Gate(metric="drop_pp", limit=0.5, targets=("tflite-*",))),
        ("drop_pp<=0.5pp", Gate(metric="drop_pp", limit=0.5)),
        ("drop_pp <= -.25 PP", Gate(metric="drop_pp", limit=-0.25)),
        ("drop_percent <= 1 %", Gate(metric="drop_percent", limit=1.0)),
        ("size_bytes <= 6MB", Gate(metric="size_bytes", limit=6e6)),
        ("size_bytes <= 1.5MiB", Gate(metric="size_bytes", limit=1.5 * 2**20)),
        ("size_bytes<=5e3", Gate(metric="size_bytes", limit=5000.0)),
        ("a, b-* : top1 >= 90%", Gate(metric="top1", limit=0.9, targets=("a", "b-*"))),
        ("agreement >= 0.99", Gate(metric="agreement", limit=0.99)),
        ("p95_ms <= 20ms", Gate(metric="p95_ms", limit=20.0)),
        ("cold_start_ms <= 1.5s", Gate(metric="cold_start_ms", limit=1500.0)),
        ("peak_memory_mb <= 200", Gate(metric="peak_memory_mb", limit=200.0)),
        ("ratio_to_float <= 1x", Gate(metric="ratio_to_float", limit=1.0)),
        ("mean_kl <= 0.01", Gate(metric="mean_kl", limit=0.01)),
        ("images >= 500", Gate(metric="images", limit=500.0)),
        (
            "tflite-*@pi5: p95_ms <= 20",
            Gate(metric="p95_ms", limit=20, targets=("tflite-*",), devices=("pi5",)),
        ),
        ("@pi5 , @pi4: p95_ms<=20", Gate(metric="p95_ms", limit=20, devices=("pi5", "pi4"))),
        ("*@host: p95_ms <= 20", Gate(metric="p95_ms", limit=20)),
        (
            "ssh://pi@board:22: p95_ms <= 20",
            Gate(metric="p95_ms", limit=20, devices=("ssh://pi@board:22",)),
        ),
        (
            "a@ssh://pi@board: p95_ms <= 20",
            Gate(metric="p95_ms", limit=20, targets=("a",), devices=("ssh://pi@board",)),
        ),
    ],
)
def test_a_condition(text: str, gate: Gate) -> None:
    assert parse(text) == gate


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_can_be_limited(name: str) -> None:
    sign = "<=" if METRICS[name].better == "less" else ">="
    assert parse(f"{name} {sign} 1").metric == name


@pytest.mark.parametrize(
    ("text", "what", "pointed", "hint"),
    [
        ("drop_p <= 1", "unknown metric 'drop_p'", "drop_p", "did you mean drop_pp"),
        ("x: max_size <= 1", "unknown metric 'max_size'", "max_size", "did you mean size_bytes?"),
        ("zzz <= 1", "unknown metric 'zzz'", "zzz", "known: size_bytes"),
        ("<= 1", "no metric", "<", EXAMPLE),
        ("", "no metric", "", EXAMPLE),
        ("a@x, b@y: drop_pp <= 1", "not the same targets", "a@x, b@y", "a gate for each device"),
        (" , : drop_pp <= 1", "no target before the colon", " , ", EXAMPLE),
        ("drop_pp < 1", "'<' instead of <=", "<", "less of drop_pp is better"),
        ("top1 <= 1", "'<=' instead of >=", "<=", "more of top1 is better"),
        ("drop_pp 1", "no <= after the metric", "1", "a limit is <="),
        ("drop_pp <=", "no limit", "", "for example 'drop_pp <= 1pp'"),
        ("drop_pp <= much", "no number", "much", "for example"),
        ("drop_pp <= 1 2", "no number", "1 2", "for example"),
        ("size_bytes <= 1e308 MiB", "too large a number", "1e308 MiB", "for example"),
        ("drop_pp <= nan", "no number", "nan", "for example"),
        ("drop_pp <= 1e999", "no number", "1e999", "for example"),
        ("drop_pp <= 1kB", "'kB' is no unit of drop_pp", "kB", "give pp"),
        ("images >= 1pp", "'pp' is no unit of images", "pp", "a number alone"),
        ("top1 >= 90", "a share is between 0 and 1", "90", "'top1 >= 98%'"),
        ("size_bytes <= -1", "never below 0", "-1", "'size_bytes <= 6MB'"),
    ],
)
def test_a_message_points_at_what_is_wrong(text: str, what: str, pointed: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert what in caught.value.message
    assert hint in caught.value.hint
    (block,) = caught.value.details
    shown, pointer = block.split("\n")
    at = pointer.removeprefix("  ").index("^")
    assert shown == text
    assert shown[at : at + len(pointed)] == pointed
    assert len(pointer.strip()) == max(1, len(pointed)) or pointed in "<1"


def test_what_hides_in_a_condition_is_shown_in_its_place() -> None:
    with pytest.raises(UsageError) as caught:
        parse("\x1b[31mdrop\n <= 1")
    (block,) = caught.value.details
    assert block.count("\n") == 1
    assert "\x1b" not in block


def test_a_long_text_is_refused_at_once() -> None:
    with pytest.raises(UsageError):
        parse(" " * 100_000 + "x" + " " * 100_000)


def test_a_name_alone_is_a_device_where_no_target_is_called_so() -> None:
    gate = parse("pi5, pi4: p95_ms <= 20")
    assert gate.targets == ("pi5", "pi4")
    assert on_devices(gate, ("pi5", "pi4")) == Gate(metric="p95_ms", limit=20, devices=("pi5", "pi4"))
    assert on_devices(gate, ()) is gate
    with pytest.raises(UsageError, match="pi5 is a device, the others are targets") as caught:
        on_devices(gate, ("pi5",))
    assert "tflite-*@pi5" in caught.value.hint


def test_a_limit_for_a_device_must_name_one() -> None:
    assert of_device("pi5", "p95_ms <= 20").devices == ("pi5",)
    assert of_device("tflite-*@pi5", "top1 >= 90%").targets == ("tflite-*",)
    with pytest.raises(UsageError, match="'host' is no device"):
        of_device("host", "p95_ms <= 20")
