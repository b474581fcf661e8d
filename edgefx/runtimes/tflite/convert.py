"""From the canonical graph to a float ``.tflite``, by TensorFlow's converter."""

from __future__ import annotations

from edgefx.errors import ConversionError
from edgefx.models.graph import freeze
from edgefx.protocols import Progress
from edgefx.storage.atomic import write_artifact
from edgefx.types import FrozenGraph, Precision

_SHARED_FLOAT = "float32.tflite"


def float_content(graph: FrozenGraph, progress: Progress) -> bytes:
    """Return the float32 ``.tflite``, made once per workdir."""
    shared = graph.workdir / _SHARED_FLOAT
    if not shared.exists():
        with progress.task("converting to TFLite float32"):
            write_artifact(shared, from_tensorflow(graph, Precision.FLOAT32))
    return shared.read_bytes()


def from_tensorflow(graph: FrozenGraph, precision: Precision) -> bytes:
    """Convert the frozen graph with TensorFlow's converter; names and signature are ours."""
    import tensorflow as tf

    from edgefx.runtimes.tflite import flatbuffer

    try:
        definition = freeze.read(graph.path)
        function = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(definition, name=""), [])
        pruned = function.prune(f"{graph.input_name}:0", [f"{name}:0" for name in graph.output_names])
        converter = tf.lite.TFLiteConverter.from_concrete_functions([pruned], trackable_obj=function)
        if precision is not Precision.FLOAT32:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if precision is Precision.FLOAT16:
            converter.target_spec.supported_types = [tf.float16]
        model = flatbuffer.read(converter.convert())
    except Exception as error:
        raise ConversionError(
            f"TensorFlow's TFLite converter refused the graph: {error}",
            hint="a layer may have no TFLite counterpart; the log file has the converter's messages",
        ) from error
    flatbuffer.rename_io(model, input_name=graph.input_name, output_names=graph.output_names)
    return flatbuffer.write(model)
