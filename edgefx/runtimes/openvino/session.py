"""An OpenVINO model opened on the CPU."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgefx.errors import ArtifactError
from edgefx.runtimes.openvino import artifact, profile
from edgefx.runtimes.openvino.core import core
from edgefx.runtimes.session import AnySession, BatchSession, batched, ends_of_images
from edgefx.system import cpu
from edgefx.types import Precision

if TYPE_CHECKING:
    from numpy.typing import NDArray


class OpenVinoSession(BatchSession):
    """A compiled model with its input and output buffers bound once."""

    def __init__(self, path: Path, threads: int, precision: Precision | None) -> None:
        import numpy as np
        import openvino as ov

        model = artifact.read(path)
        super().__init__(path, *ends_of_images(path, *artifact.ends(model)))
        if model.inputs[0].get_partial_shape().is_dynamic:
            model.reshape(list(self._layout.shape))
        work = artifact.macs_by_name(model)
        try:
            compiled = core().compile_model(model, "CPU", _config(threads, precision))
            self._request = compiled.create_infer_request()
            shape, dtype = tuple(compiled.inputs[0].shape), compiled.inputs[0].element_type.to_dtype()
            self._buffer: NDArray[Any] = np.zeros(shape, dtype)
            self._tensor = ov.Tensor(self._buffer, shared_memory=True)
            self._request.set_input_tensor(self._tensor)
        except RuntimeError as error:
            raise ArtifactError(
                f"{path}: OpenVINO refuses the model: {error}", hint=profile.hint(cpu.detect())
            ) from error
        self._precision = _precision_ran(compiled, work)
        self._compiled = compiled

    @property
    def precision_ran(self) -> str:
        """What the convolutions and matrix products were compiled to, e.g. "int8" or "int8+bf16"."""
        return self._precision

    def _put(self, part: NDArray[Any]) -> None:
        self._buffer[: len(part)] = part

    def _invoke(self) -> None:
        self._request.infer(share_outputs=True)  # else it copies them, and they are taken from its tensor

    def _take(self) -> Sequence[NDArray[Any]]:
        return [self._request.get_output_tensor(place).data for place in range(len(self._outputs))]


class AnyOpenVinoSession(AnySession):
    """A compiled model whose inputs and outputs may be anything."""

    def __init__(
        self, path: Path, threads: int, precision: Precision | None, *, batch: int | None = None
    ) -> None:
        import openvino as ov

        model = artifact.read(path)
        inputs = artifact.ends(model)[0]
        shapes = [port.get_partial_shape() for port in model.inputs]
        free = [bool(len(shape)) and shape[0].is_dynamic for shape in shapes]
        super().__init__(path, batched(path, inputs, free, batch))
        if any(shape.is_dynamic for shape in shapes):
            model.reshape(
                {port: list(feed.shape) for port, feed in zip(model.inputs, self._feeds, strict=True)}
            )
        work = artifact.macs_by_name(model)
        try:
            compiled = core().compile_model(model, "CPU", _config(threads, precision))
        except RuntimeError as error:
            raise ArtifactError(
                f"{path}: OpenVINO refuses the model: {error}", hint=profile.hint(cpu.detect())
            ) from error
        self._precision = _precision_ran(compiled, work)
        self._compiled, self._request = compiled, compiled.create_infer_request()
        for number, feed in enumerate(self._feeds):
            self._request.set_input_tensor(number, ov.Tensor(feed))

    @property
    def precision_ran(self) -> str:
        """What the convolutions and matrix products were compiled to."""
        return self._precision

    def run(self) -> None:
        """See `AnySession.run`."""
        self._request.infer(share_outputs=True)


def _config(threads: int, precision: Precision | None) -> dict[str, Any]:
    config: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    if precision is Precision.FLOAT32:
        config["INFERENCE_PRECISION_HINT"] = "f32"
    return config


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
