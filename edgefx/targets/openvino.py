"""OpenVINO IR: float32, float16 weights, and INT8.

The float IR is made once per run and kept in the graph's workdir. A float32 artifact computes in float32 on
every CPU, also on those where OpenVINO would otherwise use bf16 (`edgefx.targets.openvino_ir.write`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgefx.errors import ArtifactError, ConversionError, UsageError
from edgefx.packages import require
from edgefx.targets import (
    TARGETS,
    openvino_ir,
    openvino_offline,  # noqa: F401 - before anything that imports OpenVINO
)
from edgefx.types import (
    Artifact,
    FrozenGraph,
    ImageSet,
    IoDtype,
    OutputKind,
    Precision,
    Progress,
    QuantScheme,
    Session,
    Spans,
    TensorInfo,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgefx.types import Pixels, Scores

_SHARED_FLOAT = "openvino-float32.xml"
_PRECISION_NAMES = {"f32": "float32", "f16": "float16", "i8": "int8", "u8": "int8"}


def check() -> None:
    """Raise `MissingDependencyError` when TensorFlow or OpenVINO is absent."""
    require(*TARGETS["openvino-int8"].packages, purpose="the openvino targets")


def convert(
    graph: FrozenGraph,
    scheme: QuantScheme,
    calibration: ImageSet | None,
    out: Path,
    progress: Progress,
    *,
    spans: Spans | None = None,
) -> tuple[Path, ...]:
    """Write the IR for `scheme` as `out` and its ``.bin``.

    Args:
        graph: The canonical graph.
        scheme: Precision and type of the ends; integer ends exist for INT8 only.
        calibration: Images for the activation ranges; needed by INT8.
        out: The ``.xml``; the pair appears when it is complete and checked, or not at all.
        progress: Told of each conversion and of each calibration image.
        spans: INT8: the ranges that a training found.

    Returns:
        `out` and its ``.bin``.

    Raises:
        UsageError: INT8 without calibration images, or integer ends asked of a float target.
        ConversionError: OpenVINO refused the graph, or the file is not what was asked for.
        OutputError: `out` cannot be written.
        DiskFullError: No space left.
    """
    check()
    if scheme.precision not in (Precision.FLOAT32, Precision.FLOAT16, Precision.INT8):
        raise UsageError(f"there is no target openvino-{scheme.precision}")
    unknown = scheme.keep_float - {layer.name for layer in graph.layers} if graph.layers else frozenset()
    if unknown:
        raise UsageError(
            f"no such layer to keep in float: {', '.join(sorted(unknown))}",
            hint="give names as `edgefx inspect --layers` lists them",
        )
    if scheme.precision is not Precision.INT8 and scheme.io_dtype is not IoDtype.FLOAT32:
        raise UsageError(
            f"openvino-{scheme.precision} has float32 input and output, {scheme.io_dtype} was asked for",
            hint="use --io-dtype with openvino-int8",
        )
    model = _float_model(graph, progress)
    if scheme.precision is Precision.INT8:
        if calibration is None or not len(calibration):
            raise UsageError("openvino-int8 needs calibration images", hint="give a folder with --calib")
        model = _quantized(model, graph, scheme, calibration, progress, spans=spans)
    elif scheme.precision is Precision.FLOAT32:
        _products_to_convolutions(model)
    _finish(model, graph)
    return openvino_ir.write(
        model,
        out,
        half=scheme.precision is Precision.FLOAT16,
        exact=scheme.precision is Precision.FLOAT32,
        check=lambda path: _verify(path, graph, scheme),
    )


def describe(path: Path) -> Artifact:
    """Read an artifact's inputs, outputs and operations back from its files.

    Raises:
        ArtifactError: A file of the pair is missing, damaged, or no OpenVINO IR.
    """
    require("openvino", purpose="OpenVINO .xml files")
    return openvino_ir.describe(path)


@contextmanager
def open(  # noqa: A001 - the Target protocol's word
    path: Path, threads: int, precision: Precision | None = None
) -> Iterator[Session]:
    """Open an artifact on the CPU with `threads` threads, compiled for latency.

    Args:
        path: The ``.xml`` file.
        threads: Threads of inference.
        precision: What the target asked for. ``FLOAT32`` makes OpenVINO compute in float32 whatever the CPU
            offers; otherwise OpenVINO decides, as it would in a deployment.

    Raises:
        ArtifactError: A file is missing, damaged, not an image classifier, or OpenVINO refuses it.
    """
    require("openvino", purpose="OpenVINO .xml files")
    yield _OpenVinoSession(path, threads, precision)


# ---------------------------------------------------------------------------------------------- inference


@dataclass(frozen=True)
class _Layout:
    """How the file's input tensor lies."""

    batch: int
    height: int
    width: int
    nchw: bool


class _OpenVinoSession:
    """A compiled model with its input and output buffers bound once."""

    def __init__(self, path: Path, threads: int, precision: Precision | None) -> None:
        import numpy as np
        import openvino as ov

        model = openvino_ir.read(path)
        self._spec = openvino_ir.input_info(model)
        self._layout = _layout(path, model)
        if model.inputs[0].get_partial_shape().is_dynamic:
            here = self._layout
            image = [3, here.height, here.width] if here.nchw else [here.height, here.width, 3]
            model.reshape([here.batch, *image])
        self._output = openvino_ir.output_info(model)
        work = openvino_ir.macs_by_name(model)
        config: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
        if precision is Precision.FLOAT32:
            config["INFERENCE_PRECISION_HINT"] = "f32"
        try:
            compiled = ov.Core().compile_model(model, "CPU", config)
            self._request = compiled.create_infer_request()
            buffer = np.zeros(tuple(compiled.inputs[0].shape), compiled.inputs[0].element_type.to_dtype())
            self._tensor = ov.Tensor(buffer, shared_memory=True)
            self._request.set_input_tensor(self._tensor)
        except RuntimeError as error:
            raise ArtifactError(
                f"{path}: OpenVINO refuses the model: {error}",
                hint="convert it again, or run: edgefx inspect",
            ) from error
        self._buffer: NDArray[Any] = buffer.transpose(0, 2, 3, 1) if self._layout.nchw else buffer
        self._precision = _precision_ran(compiled, work)
        self._compiled = compiled

    @property
    def input_spec(self) -> TensorInfo:
        """The input tensor as stored in the file."""
        return self._spec

    @property
    def precision_ran(self) -> str:
        """What the convolutions and matrix products were compiled to, e.g. "int8" or "int8+bf16"."""
        return self._precision

    def infer(self, batch: Pixels) -> Scores:
        """Run raw RGB uint8 [N, H, W, 3]; returns float32 [N, classes], dequantized.

        Raises:
            ValueError: The images' size is not the artifact's.
        """
        import numpy as np

        here = self._layout
        if batch.shape[1:] != (here.height, here.width, 3):
            raise ValueError(f"images {batch.shape[1:]} for an input of {(here.height, here.width, 3)}")
        if self._spec.dtype == "int8":
            batch = (batch ^ np.uint8(0x80)).view(np.int8)  # pixel - 128
        scores: Scores | None = None
        for start in range(0, len(batch), here.batch):
            part = batch[start : start + here.batch]
            self._buffer[: len(part)] = part
            self._request.infer()
            found = self._request.get_output_tensor(0).data.reshape(here.batch, -1)
            if scores is None:
                scores = np.empty((len(batch), found.shape[1]), np.float32)
            scores[start : start + here.batch] = found[: len(part)]
        if scores is None:
            return np.empty((0, self._output.shape[-1]), np.float32)
        if self._output.scale is not None:
            scores -= self._output.zero_point or 0
            scores *= np.float32(self._output.scale)
        return scores


def _layout(path: Path, model: Any) -> _Layout:
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ArtifactError(
            f"{path}: {len(model.inputs)} inputs and {len(model.outputs)} outputs",
            hint="edgefx runs image classifiers: one image in, one score vector out",
        )
    shape = openvino_ir.input_info(model).shape
    if len(shape) == 4 and min(shape[1:]) > 0:
        batch = max(1, shape[0])
        if shape[3] == 3:
            return _Layout(batch=batch, height=shape[1], width=shape[2], nchw=False)
        if shape[1] == 3:
            return _Layout(batch=batch, height=shape[2], width=shape[3], nchw=True)
    raise ArtifactError(
        f"{path}: input shape {list(shape)} is not [N, height, width, 3] or [N, 3, height, width]",
        hint="edgefx runs image classifiers on RGB images of a fixed size",
    )


def _precision_ran(compiled: Any, macs: Mapping[str, int]) -> str:
    """Ask the compiled model what its convolutions and matrix products run in, the most MACs first."""
    work: Counter[str] = Counter()
    for operation in compiled.get_runtime_model().get_ops():
        info = operation.get_rt_info()
        if info["layerType"].value in ("Convolution", "FullyConnected", "MatMul", "GroupConvolution"):
            kind = str(info["runtimePrecision"].value)
            # A name that the runtime made up still counts, so that no precision goes unmentioned.
            work[_PRECISION_NAMES.get(kind, kind)] += max(1, macs.get(operation.get_friendly_name(), 0))
    return "+".join(name for name, _ in work.most_common()) or "unknown"


# --------------------------------------------------------------------------------------------- conversion


def _float_model(graph: FrozenGraph, progress: Progress) -> Any:
    """Return the float IR as an ``openvino.Model``; converted once per workdir."""
    import openvino as ov

    from edgefx.targets import openvino_names

    shared = graph.workdir / _SHARED_FLOAT
    if not shared.exists():
        with progress.task("converting to OpenVINO"):
            image = [1, graph.spec.height, graph.spec.width, 3]
            try:
                model = ov.convert_model(str(graph.path), input=image)
            except Exception as error:
                raise ConversionError(
                    f"OpenVINO refused the graph: {error}",
                    hint="a layer may have no OpenVINO counterpart; the log file has more",
                ) from error
        openvino_names.name_operations(model, graph.path, output=graph.output_name)
        _finish(model, graph)
        openvino_ir.write(model, shared, half=False, exact=False, check=openvino_ir.read)
    return openvino_ir.read(shared)


def _quantized(
    model: Any,
    graph: FrozenGraph,
    scheme: QuantScheme,
    calibration: ImageSet,
    progress: Progress,
    *,
    spans: Spans | None,
) -> Any:
    """Quantize and give the model the ends that were asked for."""
    from edgefx.targets import openvino_quantize

    model = openvino_quantize.quantize(model, calibration, scheme, progress, spans=spans)
    if scheme.io_dtype is not IoDtype.FLOAT32:
        scores = None
        if graph.spec.output is OutputKind.LOGITS:
            scores = _scores(model, calibration)
        scale, zero_point = openvino_quantize.set_io_dtype(
            model, scheme.io_dtype, output=graph.spec.output, scores=scores
        )
        openvino_ir.set_quantization(model, scale=scale, zero_point=zero_point)
    return model


def _scores(model: Any, images: ImageSet) -> NDArray[np.float32]:
    """Float outputs [N, classes] of a model that is not yet written."""
    import numpy as np
    import openvino as ov

    compiled = ov.Core().compile_model(model, "CPU", {"PERFORMANCE_HINT": "LATENCY"})
    rows = [compiled([image[None].astype(np.float32)])[0][0].copy() for image in images.pixels]
    return np.asarray(rows, np.float32)


def _products_to_convolutions(model: Any) -> None:
    """Express matrix products with constant weights as 1 x 1 convolutions.

    OpenVINO's CPU plugin turns such products into its own fully-connected operation and forgets the
    ``precise`` mark on the way, so that they would run in bf16; convolutions keep it.
    """
    import numpy as np
    from openvino import opset13 as ops

    for product in model.get_ordered_ops():
        if product.get_type_name() != "MatMul" or product.get_attributes()["transpose_a"]:
            continue
        data, kernel = product.input_value(0), product.input_value(1).get_node()
        if len(data.get_partial_shape()) != 2 or kernel.get_type_name() != "Constant":
            continue
        weights = kernel.data if product.get_attributes()["transpose_b"] else kernel.data.T
        axes = ops.constant(np.array([2, 3], np.int64))
        convolution = ops.convolution(
            ops.unsqueeze(data, axes),
            ops.constant(np.ascontiguousarray(weights[:, :, None, None])),
            [1, 1], [0, 0], [0, 0], [1, 1],
        )  # fmt: skip
        convolution.set_friendly_name(product.get_friendly_name())
        product.output(0).replace(ops.squeeze(convolution, axes).output(0))
    model.validate_nodes_and_infer_types()


def _finish(model: Any, graph: FrozenGraph) -> None:
    """Give the model and its ends their names, and number what has no name of its own."""
    from edgefx.targets import openvino_names

    model.set_friendly_name(graph.spec.name)
    parameter, result = model.get_parameters()[0], model.get_results()[0]
    parameter.set_friendly_name(graph.input_name)
    parameter.output(0).set_names({graph.input_name})
    result.set_friendly_name(graph.output_name)
    for operation in model.get_ops():
        for port in operation.outputs():
            if operation is not parameter and port.get_names():
                port.set_names(set())  # TensorFlow's tensor names, e.g. "Identity:0"
    result.input_value(0).set_names({graph.output_name})
    openvino_names.number_unnamed(model)


def _verify(path: Path, graph: FrozenGraph, scheme: QuantScheme) -> None:
    """Read the file back and raise `ConversionError` when it is not what was asked for."""
    found = openvino_ir.describe(path)
    ends = [(end.name, end.dtype) for end in (*found.inputs, *found.outputs)]
    wanted = [(name, scheme.io_dtype.value) for name in (graph.input_name, graph.output_name)]
    problems = []
    if ends != wanted:
        problems.append(f"inputs and outputs are {ends}, asked for {wanted}")
    if scheme.precision is Precision.INT8 and not found.compute_int8:
        problems.append("no convolution runs in INT8")
    if problems:
        raise ConversionError(
            f"the openvino-{scheme.precision} file is not what was asked for: {problems[0]}",
            hint="the model holds a layer that this precision does not support",
            details=problems[1:],
        )
