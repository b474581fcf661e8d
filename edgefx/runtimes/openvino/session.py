"""An OpenVINO model opened on the CPU."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgefx.errors import ArtifactError
from edgefx.runtimes import bounds
from edgefx.runtimes.openvino import artifact
from edgefx.types import Precision, TensorInfo

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgefx.types import Pixels, Scores


@dataclass(frozen=True)
class _Layout:
    """How the file's input tensor lies."""

    batch: int
    height: int
    width: int
    nchw: bool


class OpenVinoSession:
    """A compiled model with its input and output buffers bound once."""

    def __init__(self, path: Path, threads: int, precision: Precision | None) -> None:
        import numpy as np
        import openvino as ov

        self._path = path
        model = artifact.read(path)
        self._spec = artifact.input_info(model)
        self._layout = _layout(path, model)
        if model.inputs[0].get_partial_shape().is_dynamic:
            here = self._layout
            image = [3, here.height, here.width] if here.nchw else [here.height, here.width, 3]
            model.reshape([here.batch, *image])
        self._output = artifact.output_info(model)
        work = artifact.macs_by_name(model)
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
            ArtifactError: The file cannot be run.
        """
        here = self._layout
        if batch.shape[1:] != (here.height, here.width, 3):
            raise ValueError(f"images {batch.shape[1:]} for an input of {(here.height, here.width, 3)}")
        try:
            return self._run(batch)
        except bounds.DAMAGE as error:
            raise bounds.damaged(self._path, error) from error

    def _run(self, batch: Pixels) -> Scores:
        import numpy as np

        here = self._layout
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
    shape = artifact.input_info(model).shape
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


_PRECISION_NAMES = {"f32": "float32", "f16": "float16", "i8": "int8", "u8": "int8"}
