"""LiteRT (TFLite): float32, float16, dynamic range, INT8 and INT16 x INT8.

The float ``.tflite`` is made once per run and kept in the graph's workdir; the quantized targets and the
latency baseline start from it. INT8 is static quantization by ai-edge-quantizer with our own activation
ranges (`edgefx.targets.tflite_ranges`), then the ends are made what was asked for, and the file is read back.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgefx.errors import (
    ArtifactError,
    ConversionError,
    DiskFullError,
    EdgefxError,
    OutputError,
    UsageError,
)
from edgefx.packages import require
from edgefx.targets import TARGETS
from edgefx.types import (
    Artifact,
    ArtifactFile,
    FrozenGraph,
    ImageSet,
    IoDtype,
    Precision,
    Progress,
    QuantScheme,
    Session,
    TensorInfo,
)

if TYPE_CHECKING:
    import numpy as np

    from edgefx.types import Pixels, Scores

_SHARED_FLOAT = "float32.tflite"
# With a fixed batch none of these is left; NPU compilers reject them.
_FORBIDDEN_IN_INT8 = ("SHAPE", "STRIDED_SLICE", "PACK")


def check() -> None:
    """Raise `MissingDependencyError` when TensorFlow, LiteRT or ai-edge-quantizer is absent."""
    require(*TARGETS["tflite-int8"].packages, purpose="the tflite targets")


def convert(
    graph: FrozenGraph,
    scheme: QuantScheme,
    calibration: ImageSet | None,
    out: Path,
    progress: Progress,
) -> tuple[Path, ...]:
    """Write the ``.tflite`` for `scheme` as `out`.

    Args:
        graph: The canonical graph.
        scheme: Precision and type of the ends; integer ends exist for INT8 only.
        calibration: Images for the activation ranges; needed by INT8 and INT16X8.
        out: The file to write; it appears when it is complete and checked, or not at all.
        progress: Told of each conversion and of each calibration image.

    Returns:
        `out`.

    Raises:
        UsageError: A precision that needs calibration images came without, or integer ends were asked of a
            float target.
        ConversionError: A converter refused the graph, or what it wrote is not what was asked for.
        OutputError: `out` cannot be written.
        DiskFullError: No space left.
    """
    check()
    if scheme.precision is not Precision.INT8 and scheme.io_dtype is not IoDtype.FLOAT32:
        raise UsageError(
            f"tflite-{scheme.precision} has float32 input and output, {scheme.io_dtype} was asked for",
            hint="use --io-dtype with tflite-int8",
        )
    if scheme.precision is Precision.FLOAT32:
        content = _float_content(graph, progress)
    elif scheme.precision in (Precision.FLOAT16, Precision.DYNAMIC):
        with progress.task(f"converting to TFLite {scheme.precision}"):
            content = _from_tensorflow(graph, scheme.precision)
    else:
        if calibration is None or not len(calibration):
            raise UsageError(
                f"tflite-{scheme.precision} needs calibration images", hint="give a folder with --calib"
            )
        content = _static(graph, scheme, calibration, progress)
    _verify(content, graph, scheme)
    _write_atomically(content, out)
    return (out,)


def describe(path: Path) -> Artifact:
    """Read an artifact's inputs, outputs and operations back from its file.

    Raises:
        ArtifactError: The file is missing, damaged or no TFLite file.
    """
    import hashlib

    from edgefx.targets import tflite_file

    require("ai_edge_litert", purpose="reading .tflite files")
    contents = tflite_file.describe(tflite_file.read(path))
    data = path.read_bytes()
    notes = (f"computes in: {contents.precision}",)
    return Artifact(
        target="",
        files=(ArtifactFile(path=path, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest()),),
        inputs=contents.inputs,
        outputs=contents.outputs,
        ops=contents.ops,
        compute_int8=contents.compute_int,
        compute_float=contents.compute_float,
        int8_macs_share=contents.int8_macs_share,
        notes=notes,
    )


@contextmanager
def open(  # noqa: A001 - the Target protocol's word
    path: Path, threads: int, precision: Precision | None = None
) -> Iterator[Session]:
    """Open an artifact in the LiteRT interpreter (CPU, XNNPACK) with `threads` threads.

    Args:
        path: The ``.tflite`` file.
        threads: Intra-op threads.
        precision: Not used; a TFLite file itself says what it computes in.

    Raises:
        ArtifactError: The file is missing, damaged, not an image classifier, or LiteRT refuses it.
    """
    del precision
    session = _LiteRtSession(path, threads)
    try:
        yield session
    finally:
        session.close()


class _LiteRtSession:
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
        from edgefx.targets import tflite_file

        return tflite_file.describe(tflite_file.read(self._path)).precision

    def infer(self, batch: Pixels) -> Scores:
        """Run raw RGB uint8 [N, H, W, 3]; returns float32 [N, classes], dequantized.

        Raises:
            ValueError: The images' size is not the artifact's.
        """
        import numpy as np

        if batch.shape[1:] != self._input.shape[1:]:
            raise ValueError(f"images {batch.shape[1:]} for an input of {self._input.shape[1:]}")
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
        from edgefx.targets import tflite_file

        tflite_file.describe(tflite_file.read(path))  # says more exactly what is wrong with a damaged file
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


# --------------------------------------------------------------------------------------------- conversion


def _float_content(graph: FrozenGraph, progress: Progress) -> bytes:
    """Return the float32 ``.tflite``, made once per workdir."""
    shared = graph.workdir / _SHARED_FLOAT
    if not shared.exists():
        with progress.task("converting to TFLite float32"):
            _write_atomically(_from_tensorflow(graph, Precision.FLOAT32), shared)
    return shared.read_bytes()


def _from_tensorflow(graph: FrozenGraph, precision: Precision) -> bytes:
    """Convert the frozen graph with TensorFlow's converter; names and signature are ours."""
    import tensorflow as tf

    from edgefx.targets import tflite_file

    definition = tf.compat.v1.GraphDef()
    try:
        definition.ParseFromString(graph.path.read_bytes())
        function = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(definition, name=""), [])
        pruned = function.prune(f"{graph.input_name}:0", f"{graph.output_name}:0")
        converter = tf.lite.TFLiteConverter.from_concrete_functions([pruned], trackable_obj=function)
        if precision is not Precision.FLOAT32:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if precision is Precision.FLOAT16:
            converter.target_spec.supported_types = [tf.float16]
        model = tflite_file.read(converter.convert())
    except Exception as error:
        raise ConversionError(
            f"TensorFlow's TFLite converter refused the graph: {error}",
            hint="a layer may have no TFLite counterpart; the log file has the converter's messages",
        ) from error
    tflite_file.rename_io(model, input_name=graph.input_name, output_name=graph.output_name)
    return tflite_file.write(model)


def _static(graph: FrozenGraph, scheme: QuantScheme, calibration: ImageSet, progress: Progress) -> bytes:
    """Quantize weights and activations with ranges from the calibration images."""
    from edgefx.targets import tflite_file, tflite_static

    model = tflite_file.read(_float_content(graph, progress))
    quantized = tflite_static.quantize(model, graph, scheme, calibration, progress)
    tflite_file.rename_io(quantized, input_name=graph.input_name, output_name=graph.output_name)
    if scheme.io_dtype is not IoDtype.INT8:
        tflite_file.convert_ends(quantized, scheme.io_dtype)
    tflite_file.rename_io(quantized, input_name=graph.input_name, output_name=graph.output_name)
    return tflite_file.write(quantized)


def _verify(content: bytes, graph: FrozenGraph, scheme: QuantScheme) -> None:
    """Read the file's bytes back and raise `ConversionError` when they are not what was asked for."""
    from edgefx.targets import tflite_file

    found = tflite_file.describe(tflite_file.read(content))
    problems = []
    ends = [(end.name, end.dtype) for end in (*found.inputs, *found.outputs)]
    wanted = [(name, scheme.io_dtype.value) for name in (graph.input_name, graph.output_name)]
    if ends != wanted:
        problems.append(f"inputs and outputs are {ends}, asked for {wanted}")
    if found.custom_ops:
        problems.append(f"custom operations: {', '.join(sorted(set(found.custom_ops)))}")
    if scheme.precision in (Precision.INT8, Precision.INT16X8) and found.float_ops and not scheme.keep_float:
        problems.append(f"float operations: {', '.join(sorted(set(found.float_ops)))}")
    if scheme.precision is Precision.INT8:
        left = sorted({op.op for op in found.ops} & set(_FORBIDDEN_IN_INT8))
        if left:
            problems.append(f"shape operations: {', '.join(left)}")
    if problems:
        raise ConversionError(
            f"the tflite-{scheme.precision} file is not what was asked for: {problems[0]}",
            hint="the model holds a layer that this precision does not support",
            details=problems[1:],
        )


def _write_atomically(content: bytes, path: Path) -> None:
    """Write through a temporary file in the same folder, so that `path` is complete or absent."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        raise _output_error(path, error) from error
    finally:
        # Ctrl-C and a full disk, too, leave nothing behind; after success there is nothing to remove.
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def _output_error(path: Path, error: OSError) -> EdgefxError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFullError(f"{path}: no space left", hint="free some space, or choose another folder")
    return OutputError(
        f"{path}: cannot be written ({error.strerror})", hint="choose a folder you may write to with -o"
    )
