"""Run an ONNX classifier in ONNX Runtime: raw RGB in, float scores out, whatever the file's ends are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgefx.errors import ArtifactError
from edgefx.runtimes import bounds
from edgefx.runtimes.onnx import artifact
from edgefx.types import TensorInfo

if TYPE_CHECKING:
    from edgefx.types import Pixels, Scores

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
}
_SILENT = 3  # log severity "error": whatever ONNX Runtime has to say of a refusal is in the exception too


class OrtSession:
    """An ONNX Runtime session whose ends are known: raw RGB in, float scores out."""

    def __init__(self, path: Path, threads: int) -> None:
        self._path = path
        self._session = _opened(path, threads)
        self._stumbles = (*bounds.DAMAGE, *_refusals())
        ends = _ends(self._session, path)
        if len(ends.inputs) != 1 or len(ends.outputs) != 1:
            raise ArtifactError(
                f"{path}: {len(ends.inputs)} inputs and {len(ends.outputs)} outputs",
                hint="edgefx runs image classifiers: one image in, one score vector out",
            )
        self._input, self._output = ends.inputs[0], ends.outputs[0]
        shape = self._input.shape
        if len(shape) != 4 or 3 not in (shape[1], shape[3]):
            raise ArtifactError(
                f"{path}: input shape {list(shape)} is not [N, height, width, 3] or [N, 3, height, width]",
                hint="edgefx runs image classifiers on RGB images",
            )
        self._channels_first = shape[3] != 3

    @property
    def input_spec(self) -> TensorInfo:
        """The input tensor as stored in the file."""
        return self._input

    @property
    def precision_ran(self) -> str:
        """The numeric format that the CPU provider computes in, e.g. "int8+float32"."""
        return artifact.precision(artifact.load(self._path), self._path)

    def infer(self, batch: Pixels) -> Scores:
        """Run raw RGB uint8 [N, H, W, 3]; returns float32 [N, classes], dequantized.

        Raises:
            ValueError: The images' size is not the artifact's.
            ArtifactError: The file cannot be run.
        """
        shape = self._input.shape
        size = shape[2:] if self._channels_first else shape[1:3]
        if batch.shape[1:] != (*size, 3):
            raise ValueError(f"images {batch.shape[1:]} for an input of {(*size, 3)}")
        try:
            return self._run(batch)
        except self._stumbles as error:
            raise bounds.damaged(self._path, error) from error

    def _run(self, batch: Pixels) -> Scores:
        import numpy as np

        shape = self._input.shape
        if self._channels_first:
            batch = np.ascontiguousarray(batch.transpose(0, 3, 1, 2))
        step = shape[0]
        scores: Scores | None = None
        for start in range(0, len(batch), step):
            part = batch[start : start + step]
            count = len(part)
            if count < step:  # a file of a larger fixed batch: fill up with copies of the last image
                part = np.concatenate([part, np.repeat(part[-1:], step - count, axis=0)])
            result = self._session.run(None, {self._input.name: self._stored(part)})[0].reshape(step, -1)
            if scores is None:
                scores = np.empty((len(batch), result.shape[1]), np.float32)
            scores[start : start + count] = result[:count]
        if scores is None:
            return np.empty((0, int(np.prod(self._output.shape[1:]))), np.float32)
        if self._output.scale is not None:
            scores -= self._output.zero_point or 0
            scores *= np.float32(self._output.scale)
        return scores

    def _stored(self, part: Pixels) -> Any:
        """Return pixels as the input tensor stores them."""
        import numpy as np

        spec = self._input
        if spec.dtype == "uint8" and spec.scale in (None, 1.0) and not spec.zero_point:
            return part
        if spec.dtype == "int8" and spec.scale in (None, 1.0) and spec.zero_point in (None, -128):
            return (part ^ np.uint8(0x80)).view(np.int8)
        if spec.scale is None:
            return part.astype(spec.dtype)
        limits = np.iinfo(spec.dtype)
        codes = np.round(part / spec.scale) + (spec.zero_point or 0)
        return np.clip(codes, limits.min, limits.max).astype(spec.dtype)

    def close(self) -> None:
        """Free the session and its memory."""
        del self._session


def _opened(path: Path, threads: int) -> Any:
    if not path.is_file():
        raise ArtifactError(f"{path}: no such file", hint="give the path of an .onnx file")
    try:
        return open_session(path, threads)
    except ArtifactError:
        artifact.load(path)  # says more exactly what is wrong with a damaged file
        raise


def _ends(session: Any, path: Path) -> artifact.Ends:
    """Return inputs and outputs.

    ONNX Runtime tells names, types and shapes. The file is read only for the scales of integer ends: it takes
    time and memory that a latency worker would count as the runtime's.
    """

    def tensor(node: Any) -> TensorInfo:
        # A free dimension has a name, or is negative.
        shape = tuple(size if isinstance(size, int) and size >= 0 else 1 for size in node.shape)
        if 0 in shape:
            raise ArtifactError(
                f"{path}: '{node.name}' has the shape {list(shape)}, which holds nothing",
                hint="export it with a batch of 1",
            )
        return TensorInfo(name=node.name, shape=shape, dtype=_DTYPES.get(node.type, node.type))

    inputs, outputs = (tuple(map(tensor, nodes)) for nodes in (session.get_inputs(), session.get_outputs()))
    if {end.dtype for end in (*inputs, *outputs)} <= {"float32", "float16"}:
        return artifact.Ends(inputs=inputs, outputs=outputs)
    return artifact.ends(artifact.load(path), path)


def open_session(source: Path | bytes, threads: int) -> Any:
    """Open a file or a serialized model in ONNX Runtime's CPU provider.

    Raises:
        ArtifactError: ONNX Runtime refuses it.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _SILENT
    try:
        return onnxruntime.InferenceSession(
            str(source) if isinstance(source, Path) else source, options, providers=["CPUExecutionProvider"]
        )
    except _refusals() as error:
        where = source if isinstance(source, Path) else "the converted model"
        raise ArtifactError(
            f"{where}: ONNX Runtime refuses it: {error}", hint="convert it again, or run: edgefx inspect"
        ) from error


def _refusals() -> tuple[type[Exception], ...]:
    import onnxruntime

    kinds = vars(onnxruntime.capi.onnxruntime_pybind11_state).values()
    return tuple(kind for kind in kinds if _is_exception(kind))


def _is_exception(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Exception)
