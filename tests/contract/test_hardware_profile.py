"""INT8 artifacts placed by what was measured, down to weights alone; and the forms that are measured."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgefx import runtimes
from edgefx.benchmarking import forms
from edgefx.benchmarking.devices.remote import Remote
from edgefx.hardware import Form, FormTime, HardwareProfile, Role, RuntimeProfile
from edgefx.protocols import SILENT
from edgefx.quantization import QuantScheme
from edgefx.runtimes.hardware import WEIGHTS_ONLY
from edgefx.runtimes.protocol import ConversionRequest
from edgefx.targets import TARGETS
from edgefx.types import Artifact, Effort, FrozenGraph, ImageSet, IoDtype, Precision
from edgefx.vocabulary import Hardware, Runtime

from .conftest import RecordedProgress

if TYPE_CHECKING:
    from edgefx.types import Scores

RUNTIMES = (Runtime.ONNX, Runtime.OPENVINO)
_EFFORTS = (Effort.FAST, Effort.BALANCED)


def profile(*, swish: float, gated: float, hardware: Hardware = Hardware.X86) -> HardwareProfile:
    """Return a profile by which all forms of a role gain alike."""
    measured = RuntimeProfile(
        package="of a test",
        times=tuple(
            FormTime(
                form=Form(role=role, kernel=1, stride=1, inputs=8, outputs=8, height=8, width=8),
                threads=1,
                float_us=100.0,
                int8_us=100.0 * ratio,
            )
            for role, ratio in ((Role.SWISH, swish), (Role.GATED, gated))
        ),
    )
    return HardwareProfile(
        hardware=hardware,
        cpu="a CPU",
        cores=1,
        measured="2026-11-28",
        edgefx="0.1.0",
        onnx=measured,
        openvino=measured,
    )


NO_GAIN = profile(swish=1.3, gated=1.3)


def made(
    runtime: Runtime,
    graph: FrozenGraph,
    calibration: ImageSet,
    folder: Path,
    measured: HardwareProfile | None,
    *,
    effort: Effort = Effort.FAST,
    io_dtype: IoDtype = IoDtype.FLOAT32,
) -> tuple[Path, Artifact]:
    row = TARGETS[f"{runtime}-int8"]
    scheme = QuantScheme(
        hardware=Hardware.X86,
        profile=measured,
        precision=Precision.INT8,
        io_dtype=io_dtype,
        effort=effort,
    )
    request = ConversionRequest(graph=graph, scheme=scheme, calibration=calibration)
    path = runtimes.load(row).convert(request, folder / f"digits{row.suffix}", RecordedProgress())[0]
    return path, runtimes.load(row).describe(path)


@pytest.fixture(
    scope="module", params=[(one, effort) for one in RUNTIMES for effort in _EFFORTS], ids="-".join
)
def weights_alone(
    request: pytest.FixtureRequest,
    tiny_graph: FrozenGraph,
    tiny_calibration: ImageSet,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, Artifact]:
    """An INT8 artifact for a CPU on which nothing is faster in INT8."""
    runtime, effort = request.param
    folder = tmp_path_factory.mktemp("weights")
    return made(runtime, tiny_graph, tiny_calibration, folder, NO_GAIN, effort=effort)


def test_where_nothing_gains_only_the_weights_are_int8(
    weights_alone: tuple[Path, Artifact], tiny_graph: FrozenGraph
) -> None:
    _, found = weights_alone
    assert found.compute_int8 == 0
    assert found.int8_macs_share == 0
    assert WEIGHTS_ONLY in found.notes
    assert "laid out for x86-64, as measured on a CPU" in found.notes
    assert found.size_bytes < 0.6 * 4 * tiny_graph.spec.parameters


def test_weights_alone_answer_as_the_float_model_does(
    weights_alone: tuple[Path, Artifact], tiny_images: ImageSet, tiny_scores: Scores
) -> None:
    path, _ = weights_alone
    with runtimes.for_artifact(path).open_session(path, threads=1, precision=Precision.INT8) as session:
        scores = session.infer(tiny_images.pixels)
        assert "int8" not in session.precision_ran
    assert float((scores.argmax(1) == tiny_scores.argmax(1)).mean()) >= 0.98
    assert float(np.abs(scores - tiny_scores).max()) < 0.1


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_what_gains_is_int8_and_nothing_else(
    runtime: Runtime, tiny_graph: FrozenGraph, tiny_calibration: ImageSet, tmp_path: Path
) -> None:
    names = {}
    for role, chosen in (("gated", profile(swish=1.3, gated=0.7)), ("swish", profile(swish=0.7, gated=1.3))):
        folder = tmp_path / role
        folder.mkdir()
        path, found = made(runtime, tiny_graph, tiny_calibration, folder, chosen)
        assert found.compute_int8
        assert WEIGHTS_ONLY not in found.notes
        names[role] = integers(path)
    assert names["gated"]
    assert all("project" in name for name in names["gated"])
    assert names["swish"]
    assert not any("project" in name for name in names["swish"])


def integers(path: Path) -> set[str]:
    """Return the convolutions that a file computes in INT8."""
    if path.suffix == ".onnx":
        import onnx

        nodes = onnx.load(path).graph.node
        stored = {node.output[0] for node in nodes if node.op_type == "DequantizeLinear"}
        return {
            node.name
            for node in nodes
            if node.op_type == "QLinearConv" or (node.op_type == "Conv" and node.input[1] in stored)
        }
    from edgefx.runtimes.openvino import artifact, placement

    return {
        operation.get_friendly_name()
        for operation in placement.weighted(artifact.read(path))
        if operation.input_value(0).get_node().get_type_name() == "FakeQuantize"
    }


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_weights_alone_keep_integer_ends(
    runtime: Runtime, tiny_graph: FrozenGraph, tiny_calibration: ImageSet, tmp_path: Path
) -> None:
    path, found = made(runtime, tiny_graph, tiny_calibration, tmp_path, NO_GAIN, io_dtype=IoDtype.UINT8)
    assert [end.dtype for end in (*found.inputs, *found.outputs)] == ["uint8", "uint8"]
    assert path.is_file()


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_without_a_profile_bytes_do_not_depend_on_profiles_that_there_are(
    runtime: Runtime, tiny_graph: FrozenGraph, tiny_calibration: ImageSet, tmp_path: Path
) -> None:
    _, found = made(runtime, tiny_graph, tiny_calibration, tmp_path, None)
    assert found.compute_int8, "what is known of classes counts where nothing was measured"


def test_openvino_unpacks_weights_of_float_layers_once(
    tiny_graph: FrozenGraph, tiny_calibration: ImageSet, tmp_path: Path
) -> None:
    """Convert and Multiply on INT8 weights would be computed in every inference."""
    import openvino as ov

    path, _ = made(Runtime.OPENVINO, tiny_graph, tiny_calibration, tmp_path, NO_GAIN)
    compiled = ov.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    kinds = {
        operation.get_rt_info()["layerType"].value for operation in compiled.get_runtime_model().get_ops()
    }
    assert "Convert" not in kinds


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_form_is_a_classifier_in_float_and_in_int8(runtime: Runtime, role: Role, tmp_path: Path) -> None:
    outputs = 8 if role in (Role.DEPTHWISE, Role.CONVERSION) else 12
    kernel = 3 if role is Role.DEPTHWISE else 1
    form = Form(role=role, kernel=kernel, stride=1, inputs=8, outputs=outputs, height=6, width=6)
    paths = import_module(f"edgefx.runtimes.{runtime}.forms").write(form, tmp_path, Hardware.X86)
    image = np.zeros((1, 6, 6, 3), np.uint8)
    scores = []
    for path in paths:
        with runtimes.for_artifact(path).open_session(
            path, threads=1, precision=Precision.FLOAT32
        ) as session:
            scores.append(session.infer(image))
    assert scores[0].shape == (1, outputs)
    assert np.abs(scores[0] - scores[1]).max() < 0.5, "INT8 is no other model"
    if role not in (Role.CONVERSION, Role.DEPTHWISE):
        kinds = [runtimes.for_artifact(path).describe(path).compute_int8 for path in paths]
        assert kinds[0] == 0
        assert kinds[1] >= 1


def test_the_forms_of_a_network_are_the_same_in_both_runtimes(tiny_graph: FrozenGraph) -> None:
    from edgefx.runtimes.onnx import convert, placement
    from edgefx.runtimes.onnx.graph import OnnxGraph
    from edgefx.runtimes.openvino import convert as openvino_convert
    from edgefx.runtimes.openvino import placement as openvino_placement

    graph = OnnxGraph(convert.float_model(tiny_graph, SILENT))
    shapes, readers = graph.shapes(), graph.consumers()
    ours = {
        placement.form_of(node, graph, shapes, readers)
        for node in graph.nodes
        if node.op_type == "Conv" and placement._work(node, graph, shapes)
    }
    model = openvino_convert.float_model(tiny_graph, SILENT)
    others = {
        openvino_placement.form_of(operation)
        for operation in openvino_placement.weighted(model)
        if operation.get_type_name() == "Convolution"
    }
    assert ours <= others
    assert {form.role for form in ours} >= {Role.SWISH, Role.GATED}
    assert all(form.height == form.width == 1 for form in others - ours), "squeeze-and-excitation"


def test_forms_are_measured_on_another_machine(device: Remote) -> None:
    times = forms.measure(
        device,
        hardware=device.hardware,
        runtimes=[Runtime.ONNX],
        threads=[1],
        seconds=0.1,
        progress=SILENT,
    )
    found = times[Runtime.ONNX]
    assert [time.form for time in found] == list(forms.FORMS[: forms.FEWEST]), "the first ones, in any case"
    assert all(time.float_us > 0 and time.int8_us > 0 and time.threads == 1 for time in found)
