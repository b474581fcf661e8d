"""The table of options: each is a flag, an argument and a key of recipes; messages name what was said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgefx.cli.compile import command
from edgefx.errors import DataError, UsageError
from edgefx.recipe.load import parse
from edgefx.recipe.options import AS_ARGUMENTS, AS_FLAGS, BY_PATH, FLAGS, document
from edgefx.recipe.schema import json_schema

VALUES: dict[str, Any] = {
    "model": "b0", "weights": "random", "classes": 7, "input_size": 64, "qat": "supervised", "train": "train",
    "epochs": 3, "batch_size": 4, "learning_rate": 0.5, "effort": "high", "integer_only": True,
    "cluster": 16, "prune": "30%",
    "max_drop": "2pp", "max_p95_ms": "9", "max_size": "3MB", "targets": ("tflite-int8",), "io_dtype": "int8",
    "ends": "logits",
    "hardware": "aarch64", "calibration": "photos", "samples": 5, "evaluate": False, "evaluation": "test",
    "min_images": 40, "on_inconclusive": "warn", "eval_limit": 6, "slow_eval_limit": 9, "resize": "crop",
    "skip_bad_images": True, "benchmark": False, "threads": 2, "rounds": 11,
    "min_seconds": 0.5, "seed": 8, "output": "there",
    "min_npu_coverage": "100%", "max_estimated_ms": "9", "max_sram": "2MB", "max_arena": "90kB",
    "max_flash": "3MB",
    "system_config": "Ethos_U55_Deep_Embedded", "memory_mode": "Sram_Only", "optimise": "Size",
    "bundle": True, "explain": 3, "price_per_hour": 0.17,
    "task": "binary", "head": "kind", "pixels": "0..1", "custom_objects": "mine.py", "labels": "names.txt",
    "threshold": 0.3, "devices": ["pi5"], "gates": ["pi5: p95_ms <= 20", "quality.mae <= 2"],
}  # fmt: skip


def schema_of(path: str) -> Any:
    """Return what the schema says of a dotted key; a KeyError where there is no such key."""
    schema = json_schema()

    def sections(one: Any) -> list[Any]:
        one = schema["$defs"][one["$ref"].rsplit("/", 1)[-1]] if "$ref" in one else one
        return [
            one,
            *(found for key in ("anyOf", "oneOf") for part in one.get(key, ()) for found in sections(part)),
        ]

    node: Any = schema
    for part in path.split("."):
        node = next(one["properties"][part] for one in sections(node) if part in one.get("properties", {}))
    return node


def at(found: Any, path: str) -> Any:
    for part in path.split("."):
        found = found[part]
    return found


def test_every_flag_is_one_of_the_command_and_every_key_one_of_the_schema() -> None:
    flags = {name for parameter in command.params for name in parameter.opts}
    for row in FLAGS:
        assert row.flag in flags | {"MODEL"}
        assert schema_of(row.path), row.path
    assert set(VALUES) == {row.option for row in FLAGS}


@pytest.mark.parametrize("row", FLAGS, ids=lambda row: row.path)
def test_each_option_reaches_its_key(row: Any) -> None:
    options = {name: VALUES[name] for name in {"model", "targets", row.option, *filter(None, (row.needs,))}}
    found = document(options)
    expected = None if row.option in ("evaluate", "benchmark") else VALUES[row.option]
    special = {
        "quantize.method": "qat",
        "gates.devices": {"pi5": ["p95_ms <= 20"]},
        "gates.conditions": ["quality.mae <= 2"],
    }
    assert at(found, row.path) == special.get(row.path, expected)
    parse(found, where="test")


def test_what_is_trained_is_judged_and_not_searched_for() -> None:
    options = {"model": "digits", "targets": "tflite-int8", "max_drop": "1pp"}
    assert document(options)["quantize"] == {"budget": "1pp"}
    trained = document({**options, "qat": "distill"})
    assert trained["quantize"] == {"method": "qat", "mode": "distill"}
    assert trained["gates"] == {"max_drop": "1pp"}


@pytest.mark.parametrize(
    ("options", "flags", "arguments"),
    [
        (
            {"evaluate": False, "evaluation": "x"},
            "--no-eval contradicts --eval",
            "evaluate=False contradicts evaluation",
        ),
        (
            {"evaluate": False, "eval_limit": 3},
            "--no-eval contradicts --eval-limit",
            "evaluate=False contradicts eval_limit",
        ),
        ({"epochs": 3}, "--epochs is for training", "epochs is for training"),
        ({"max_size": "6"}, "--max-size 6: the unit is missing", "max_size 6: the unit is missing"),
        ({"max_p95_ms": "-1"}, "--max-p95-ms '-1': not a number", "max_p95_ms '-1': not a number"),
    ],
)
def test_what_options_cannot_say_is_said_of_the_option(
    options: dict[str, Any], flags: str, arguments: str
) -> None:
    for wording, message in ((AS_FLAGS, flags), (AS_ARGUMENTS, arguments)):
        with pytest.raises(UsageError) as caught:
            document({"model": "digits", "targets": "tflite-int8", **options}, wording)
        assert caught.value.message.startswith(message)
        assert ("--" in caught.value.hint) == (wording is AS_FLAGS and "leave" not in caught.value.hint)


def test_threads_and_rounds_are_without_effect_where_nothing_is_measured() -> None:
    found = document({"model": "digits", "benchmark": False, "threads": 2, "rounds": 100})
    assert found["benchmark"] is None


def test_messages_of_other_rooms_name_what_was_said() -> None:
    text = "--samples 20: photos holds 7 images; give more with --calib DIR, or leave out --no-cache"
    assert AS_FLAGS.translated(text) == text
    assert BY_PATH.translated(text) == (
        "calibration.samples 20: photos holds 7 images; give more with calibration.images, or leave out"
        " --no-cache"
    )
    assert AS_ARGUMENTS.translated("--weights random, or --eval DIR") == "weights random, or evaluation"
    command_line = "name the architecture: edgefx compile b0 --weights x --classes N"
    assert BY_PATH.translated(command_line) == command_line
    with pytest.raises(DataError) as caught, BY_PATH.errors():
        raise DataError("corrupt", hint="leave them out with --skip-bad-images")
    assert caught.value.hint == "leave them out with data.skip_bad_images"


def test_paths_stay_what_they_are() -> None:
    assert document({"model": "m", "output": Path("o")}) == {
        "version": 1,
        "model": {"source": "m"},
        "output": Path("o"),
    }
