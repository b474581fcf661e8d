"""A ``.tflite`` file opened in the LiteRT interpreter."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgefx.errors import ArtifactError
from edgefx.runtimes import bounds
from edgefx.system.packages import require
from edgefx.types import TensorInfo

if TYPE_CHECKING:
    import numpy as np

    from edgefx.types import Pixels, Scores


class LiteRtSession:
    """An interpreter with its input and output tensors looked up once."""

    def __init__(self, path: Path, threads: int) -> None:
        require("ai_edge_litert", purpose="running .tflite files")
        self._path = path
        self._interpreter = _interpreter(path, threads)
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        if len(inputs) != 1 or len(outputs) != 1:
            raise ArtifactError(
                f"{path}: {len(inputs)} inputs and {len(outputs)} outputs",
                hint="edgefx runs image classifiers: one image in, one score vector out",
            )
        self._input, self._output = _tensor_info(inputs[0]), _tensor_info(outputs[0])
        if len(self._input.shape) != 4 or self._input.shape[3] != 3:
            raise ArtifactError(
                f"{path}: input shape {list(self._input.shape)} is not [N, height, width, 3]",
                hint="edgefx runs image classifiers on RGB images, channels last",
            )
        self._feed = self._interpreter.tensor(inputs[0]["index"])
        self._fetch = self._interpreter.tensor(outputs[0]["index"])

    @property
    def input_spec(self) -> TensorInfo:
        """The input tensor as stored in the file."""
        return self._input

    @property
    def precision_ran(self) -> str:
        """The numeric format that the file makes the interpreter compute in."""
        # Read when asked: a latency worker would count it as the runtime's time and memory.
        from edgefx.runtimes.tflite import artifact, flatbuffer

        return artifact.describe(flatbuffer.read(self._path)).precision

    def infer(self, batch: Pixels) -> Scores:
        """Run raw RGB uint8 [N, H, W, 3]; returns float32 [N, classes], dequantized.

        Raises:
            ValueError: The images' size is not the artifact's.
            ArtifactError: The file cannot be run.
        """
        if batch.shape[1:] != self._input.shape[1:]:
            raise ValueError(f"images {batch.shape[1:]} for an input of {self._input.shape[1:]}")
        try:
            return self._run(batch)
        except bounds.DAMAGE as error:
            raise bounds.damaged(self._path, error) from error

    def _run(self, batch: Pixels) -> Scores:
        import numpy as np

        ready = _stored(batch, self._input)
        step = self._input.shape[0]
        scores = np.empty((len(batch), int(np.prod(self._output.shape[1:]))), np.float32)
        for start in range(0, len(batch), step):
            part = ready[start : start + step]
            # The views must not outlive the statement: invoke refuses while one is held.
            self._feed()[: len(part)] = part
            self._interpreter.invoke()
            scores[start : start + step] = self._fetch().reshape(step, -1)[: len(part)]
        if self._output.scale is not None:
            scores -= self._output.zero_point or 0
            scores *= np.float32(self._output.scale)
        return scores

    def close(self) -> None:
        """Free the interpreter and its memory."""
        del self._feed, self._fetch, self._interpreter


def _interpreter(path: Path, threads: int) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    try:
        interpreter = Interpreter(str(path), num_threads=threads)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        from edgefx.runtimes.tflite import artifact, flatbuffer

        artifact.describe(flatbuffer.read(path))  # says more exactly what is wrong with a damaged file
        raise ArtifactError(
            f"{path}: LiteRT refuses the file: {error}", hint="convert it again, or run: edgefx inspect"
        ) from error
    return interpreter


def _tensor_info(details: Mapping[str, Any]) -> TensorInfo:
    """Return a tensor as the interpreter describes it."""
    import numpy as np

    scale, zero_point = details["quantization"]
    return TensorInfo(
        name=details["name"],
        shape=tuple(int(size) for size in details["shape"]),
        dtype=np.dtype(details["dtype"]).name,
        scale=float(scale) or None,
        zero_point=int(zero_point) if scale else None,
    )


def _stored(batch: Pixels, spec: TensorInfo) -> np.ndarray[Any, Any]:
    """Return the batch as the input tensor stores it; float inputs are cast while copying in."""
    import numpy as np

    if spec.scale is None or (spec.dtype == "uint8" and (spec.scale, spec.zero_point) == (1.0, 0)):
        return batch
    if spec.dtype == "int8" and (spec.scale, spec.zero_point) == (1.0, -128):
        return (batch ^ np.uint8(0x80)).view(np.int8)
    limits = np.iinfo(spec.dtype)
    stored = np.round(batch / spec.scale) + (spec.zero_point or 0)
    return np.clip(stored, limits.min, limits.max).astype(spec.dtype)
