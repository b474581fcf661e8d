"""The families table, and what is refused before Keras is imported."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from edgefx.errors import ModelError, UnknownNameError, UsageError
from edgefx.models import efficientnet_v2, scaling, zoo
from edgefx.models.efficientnet import ARCHITECTURES
from edgefx.models.load import load
from edgefx.recipe.load import check
from edgefx.recipe.schema import Model


def test_the_table_holds_every_family() -> None:
    v1 = [f"b{n}" for n in range(8)]
    v2 = ["v2-b0", "v2-b1", "v2-b2", "v2-b3", "v2-s", "v2-m", "v2-l", "v2-xl"]
    edge = [*(f"lite{n}" for n in range(5)), "edgetpu-s", "edgetpu-m", "edgetpu-l"]
    assert list(zoo.FAMILIES) == ["digits", *v1, *v2, *edge]
    for family in zoo.FAMILIES.values():
        assert family.summary
        assert family.parameters_m > 0
        assert zoo.RANDOM in family.weights
    assert zoo.FAMILIES["b4"].input_size == 380
    assert zoo.FAMILIES["v2-l"].function == "EfficientNetV2L"
    assert zoo.FAMILIES["digits"].class_names == tuple("0123456789")


def test_families_of_our_own_are_tables_that_follow_the_published_ones() -> None:
    ours = {f.function for f in zoo.FAMILIES.values() if f.module == zoo._OURS}
    assert ours | {"b0"} == set(ARCHITECTURES)
    lite4 = ARCHITECTURES["lite4"]
    assert (lite4.filters(32, end=True), lite4.filters(1280, end=True)) == (32, 1280)  # not scaled
    assert [lite4.filters(stage.filters) for stage in lite4.stages] == [24, 32, 56, 112, 160, 272, 448]
    assert [lite4.repeats(number) for number in range(7)] == [1, 4, 4, 6, 6, 8, 1]
    large = ARCHITECTURES["edgetpu-l"]
    assert [large.filters(stage.filters) for stage in large.stages] == [32, 40, 56, 112, 176, 232]
    assert [large.repeats(number) for number in range(6)] == [2, 3, 6, 7, 6, 3]


def test_phi_scales_depth_width_and_resolution() -> None:
    two = zoo.known("B0:phi=2")
    assert two is not None
    assert (two.name, two.input_size, two.weights) == ("b0-phi2", 296, ("random",))
    assert two.scaled is not None
    assert two.scaled.depth == pytest.approx(1.44)
    assert two.scaled.width == pytest.approx(1.21)
    narrow = zoo.known("lite0:width=0.5,depth=0.5")
    assert narrow is not None
    assert (narrow.name, narrow.input_size) == ("lite0-width0.5-depth0.5", 224)
    second = zoo.known("v2-b0:phi=1")
    assert second is not None
    assert (second.name, second.input_size, second.module) == ("v2-b0-phi1", 258, zoo._V2)
    half = replace(ARCHITECTURES["b0"], width=0.5, depth=0.5)
    assert [half.filters(stage.filters) for stage in half.stages] == [8, 16, 24, 40, 56, 96, 160]
    assert [half.repeats(number) for number in range(7)] == [1, 1, 1, 2, 2, 2, 1]


def test_options_become_a_part_of_the_name() -> None:
    assert scaling.named("b0", {"phi": 1.5, "width": None}) == "b0:phi=1.5"
    assert scaling.named("mine.keras", dict.fromkeys(scaling.KEYS)) == "mine.keras"
    given = scaling.named("Lite0", {"width": 0.75, "depth": 0.5, "resolution": 0.8})
    found = zoo.known(given)
    assert found is not None
    assert (found.name, found.input_size) == ("lite0-width0.75-depth0.5-resolution0.8", 180)
    assert TypeAdapter(Model).validate_python({"source": "b0", "phi": 1.0}).source == "b0:phi=1.0"


@pytest.mark.parametrize(
    ("model", "given", "said"),
    [
        ("b0", {"phi": 1.0, "depth": 2.0}, "in one"),
        ("b0:phi=1", {"phi": 1.0}, "by its name, and again by phi=1.0"),
        ("b3", {"phi": 1.0}, "counts from b0, v2-b0, lite0, edgetpu-s"),
        ("mine.keras", {"width": 2.0}, r"mine\.keras cannot be scaled \(width=2\.0\)"),
        ("b0", {"resolution": 2.0, "input_size": 64}, "both say how large"),
        ("b0", {"phi": math.nan}, "phi is a number"),
    ],
)
def test_options_that_contradict_each_other(model: str, given: dict[str, Any], said: str) -> None:
    size = given.pop("input_size", None)
    with pytest.raises(UsageError, match=said) as caught:
        scaling.named(model, given, input_size=size)
    assert caught.value.hint


def test_a_recipe_shows_where_its_coefficients_contradict_each_other(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("version: 1\nmodel:\n  source: b0\n  phi: 1\n  width: 2\ntargets: [tflite-float32]\n")
    with pytest.raises(UsageError, match=r"r\.yaml:4:8: b0:phi=1\.0,width=2\.0: phi is width, depth"):
        check(path)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("b3:phi=1", "coefficients of its own"),
        ("v2-xl:phi=1", "coefficients of its own"),
        ("digits:width=2", "coefficients of its own"),
        ("b0:", "none of phi="),
        ("b0:phi", "phi is a number"),
        ("b0:phi=nan", "phi is a number"),
        ("b0:phi=1e9", "from -4 to 7"),
        ("b0:width=0", "from 0.1 to 4"),
        ("b0:size=3", "none of phi="),
        ("b0:width=1,width=2", "once each"),
        ("b0:phi=1,width=2", "in one"),
    ],
)
def test_coefficients_that_make_no_sense_are_refused(name: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        zoo.recognized(name)
    assert "b0:phi=1.5" in caught.value.hint


def test_a_second_version_that_keras_has_no_function_for() -> None:
    narrow = zoo.build("v2-b0:width=0.25,depth=0.25", weights="random", classes=3, input_size=32)
    assert [type(layer).__name__ for layer in narrow.layers[:3]] == [
        "InputLayer",
        "Rescaling",
        "Normalization",
    ]
    assert narrow.output_shape == (None, 3)
    large = efficientnet_v2.constructor(512, None).keywords["blocks_args"]
    assert sum(stage["num_repeat"] for stage in large) == 100
    assert [stage["output_filters"] for stage in large] == [32, 64, 96, 192, 256, 512, 640]
    with pytest.raises(UsageError, match="no imagenet weights"):
        zoo.build("v2-xl", weights="imagenet")


def test_the_packaged_weights_are_there_and_small() -> None:
    assert 100_000 < zoo.DIGITS_WEIGHTS.stat().st_size <= 1_000_000


def test_listing_imports_nothing_heavy() -> None:
    heavy = ("tensorflow", "keras", "h5py", "numpy")
    code = f"import sys, edgefx.models.zoo; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="unknown model 'v2-b9'") as caught:
        load("v2-b9")
    assert "did you mean v2-b" in caught.value.hint


def test_a_missing_file_is_not_taken_for_a_name(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such model file"):
        load(str(tmp_path / "absent.keras"))
    with pytest.raises(ModelError, match="no such model file"):
        load("absent.keras")


def test_imagenet_weights_have_a_thousand_classes() -> None:
    with pytest.raises(UsageError, match="1000 classes, not 5") as caught:
        load("b0", classes=5)
    assert "--weights random" in caught.value.hint


def test_digits_has_no_imagenet_weights() -> None:
    with pytest.raises(UsageError, match="no imagenet weights") as caught:
        load("digits", weights="imagenet")
    assert "packaged" in caught.value.hint


def test_unknown_weights() -> None:
    with pytest.raises(UnknownNameError, match="unknown weights 'imagnet'") as caught:
        load("b0", weights="imagnet")
    assert "did you mean imagenet" in caught.value.hint
    with pytest.raises(ModelError, match="no such weights file"):
        load("b0", weights="absent.weights.h5")


def test_impossible_sizes() -> None:
    with pytest.raises(UsageError, match="at least 32 px"):
        load("b0", weights="random", input_size=16)
    with pytest.raises(UsageError, match="at least 2 classes"):
        load("b0", weights="random", classes=1)


def test_the_file_in_the_keras_cache_is_named_as_keras_does() -> None:
    assert zoo._imagenet_file(zoo.FAMILIES["b0"]) == "efficientnetb0.h5"
    assert zoo._imagenet_file(zoo.FAMILIES["v2-b0"]) == "efficientnetv2-b0.h5"
    assert zoo._imagenet_file(zoo.FAMILIES["v2-s"]) == "efficientnetv2-s.h5"
