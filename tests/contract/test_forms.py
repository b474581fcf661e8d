"""Some of the forms of model that users bring, small: what they compile to, or by what they are refused."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgefx import runtimes
from edgefx.data import digits, folders, images
from edgefx.errors import ConversionError, EdgefxError
from edgefx.models.graph.canonical import canonicalize, compare
from edgefx.models.load import load
from edgefx.protocols import SILENT
from edgefx.quantization import QuantScheme
from edgefx.runtimes.protocol import ConversionRequest
from edgefx.targets import TARGETS
from edgefx.types import Effort, FrozenGraph, ImageSet, Resize
from tests.forms import build
from tests.forms.table import FORMS

from .conftest import NATIVE

if TYPE_CHECKING:
    from edgefx.types import Scores

_BY_NAME = {form.name: form for form in FORMS}


@cache
def _images(height: int, width: int) -> ImageSet:
    listed = folders.scan(digits.calibration_folder())
    return images.decode(
        replace(listed, items=listed.items[::3]),
        height=height,
        width=width,
        resize=Resize.STRETCH,
        skip_bad=False,
        progress=SILENT,
        role="calibration",
    )


@cache
def _canonical(name: str, base: Path) -> tuple[FrozenGraph, Scores]:
    """Return a form's graph and the Keras model's answers to the images, once for all tests."""
    form, folder = _BY_NAME[name], base / name.replace(" ", "-").replace(":", "")
    folder.mkdir(exist_ok=True)
    loaded = load(str(build.save(form, folder, _images)), hints=build.hints_of(form))
    graph = canonicalize(loaded, folder / "work")
    seen = _images(graph.spec.height, graph.spec.width)
    want = loaded.predict(seen.pixels)
    assert compare(want[:4], graph, seen.pixels[:4]).max_abs_dp <= 1e-5
    return graph, want


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the graphs of forms lie."""
    return tmp_path_factory.mktemp("forms")


def _compiled(name: str, target: str, graphs: Path, folder: Path, *, least_db: float = 8.0) -> None:
    """Compile a form, and hold its answers against the Keras model's."""
    row = TARGETS[target]
    graph, want = _canonical(name, graphs)
    seen = _images(graph.spec.height, graph.spec.width)
    scheme = QuantScheme(
        precision=row.precision, io_dtype=row.io_dtypes[0], effort=Effort.FAST, hardware=NATIVE
    )
    request = ConversionRequest(graph=graph, scheme=scheme, calibration=seen)
    runtime = runtimes.load(row)
    path = runtime.convert(request, folder / f"int8{row.suffix}", SILENT)[0]
    with runtime.open_session(path, threads=1, precision=row.precision) as session:
        got = session.infer(seen.pixels)
    noise = np.square(want.astype(np.float64) - got).mean()
    signal = np.square(want.astype(np.float64) - want.mean(0)).mean()
    assert 10 * np.log10(signal / noise) >= least_db


@pytest.mark.parametrize(
    "name",
    [
        "net of: hard-swish",
        "net of: GELU",
        "net of: ELU",
        "net of: PReLU",
        "net of: LeakyReLU",
        "net of: channel shuffle",
        "net of: SE, of maxima",
        "class and embedding in one file",
        "mask of a segmenter",
        "CBAM and a clip in the head",
        "GRU over positions, unrolled",
    ],
)
def test_the_tflite_of_a_net_computes_on_integers_alone(name: str, graphs: Path, tmp_path: Path) -> None:
    _compiled(name, "tflite-int8", graphs, tmp_path)
    found = runtimes.load(TARGETS["tflite-int8"]).describe(tmp_path / "int8.tflite")
    assert found.compute_float == 0


@pytest.mark.parametrize("name", ["net of: GELU", "net of: grouped convolutions"])
@pytest.mark.parametrize("target", ["onnx-int8", "openvino-int8"])
def test_nets_in_the_other_runtimes(name: str, target: str, graphs: Path, tmp_path: Path) -> None:
    _compiled(name, target, graphs, tmp_path)


def test_what_has_no_form_on_integers_is_named_with_its_layer(graphs: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ConversionError, match=r"which these operations do not: EXP, LOG \(layers activation(_\d+)?, "
    ) as caught:
        _compiled("net of: mish", "tflite-int8", graphs, tmp_path)
    assert "quantize.keep_float" in caught.value.hint
    assert "tflite-weight-int8" in caught.value.hint


@pytest.mark.parametrize("name", [form.name for form in FORMS if form.refused])
def test_forms_that_are_refused_say_what_helps(name: str, tmp_path: Path) -> None:
    form = _BY_NAME[name]
    path = build.save(form, tmp_path, _images)
    with pytest.raises(EdgefxError) as caught:
        load(str(path), hints=build.hints_of(form), input_size=form.input_size)
    assert form.refused in f"{caught.value.message} {caught.value.hint}"


def test_erfc_of_a_graph_without_layers_is_written_for_onnx(tmp_path: Path) -> None:
    """TensorFlow's own GELU has it; ONNX does not."""
    form = replace(_BY_NAME["net of: GELU"], saved="export")
    graph = canonicalize(load(str(build.save(form, tmp_path, _images))), tmp_path / "work")
    assert any(node == "Erfc" for node in _operations(graph))
    scheme = QuantScheme(
        precision=TARGETS["onnx-float32"].precision, io_dtype=TARGETS["onnx-float32"].io_dtypes[0]
    )
    request = ConversionRequest(graph=graph, scheme=scheme, calibration=None)
    assert runtimes.load(TARGETS["onnx-float32"]).convert(request, tmp_path / "m.onnx", SILENT)


def _operations(graph: FrozenGraph) -> list[str]:
    from edgefx.models.graph import freeze

    return [node.op for node in freeze.read(graph.path).node]
