"""What edgefx costs and gives against the three scripts that one would write by hand for INT8.

The scripts below are the usual recipes: the TFLite converter's full-integer mode, tf2onnx with ONNX
Runtime's `quantize_static`, `openvino.convert_model` with `nncf.quantize`, each with its defaults, 100
calibration images and a process of its own. edgefx makes the same three targets in one run, without
evaluation, benchmark and cache. Both sides are run in turn, each first in every other round, and both find
the packages' files in memory: whoever came first would otherwise read them from the disk for the other.
Aims: peak memory <= 2.5 GB; time <= 0.8 times the sum of the three with --effort fast. With --eval, `edgefx
evaluate` then measures all artifacts against the Keras model, and `edgefx benchmark` the latency of each
runtime's two, interleaved, at one thread.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from .common import Ran, run, show
from .stored import Figure

_TOLERANCE = 0.15  # of the time of whole processes, alternated

_PRELUDE = """
import sys, numpy as np
from pathlib import Path
from PIL import Image
import keras
model = keras.models.load_model({model!r}, compile=False)
height, width = model.input_shape[1:3]
files = sorted(p for p in Path({calib!r}).rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
files = files[:: max(1, len(files) // 100)][:100]
images = [np.asarray(Image.open(f).convert("RGB").resize((width, height)), np.float32)[None] for f in files]
"""

# What both sides import, so that the first to run does not pay for reading and compiling it.
_WARM = """
import importlib, pkgutil, edgefx
import edgefx.runtimes.openvino.offline
import keras, nncf, onnxruntime.quantization, openvino, tensorflow, tf2onnx, tf_keras
import ai_edge_litert.interpreter, ai_edge_quantizer
for module in pkgutil.walk_packages(edgefx.__path__, "edgefx."):
    if not module.name.endswith(("__main__", ".offline")):
        importlib.import_module(module.name)
"""

SCRIPTS = {
    "tflite": """
import tensorflow as tf, tempfile
saved = tempfile.mkdtemp()
model.export(saved, format="tf_saved_model", verbose=False,
             input_signature=[tf.TensorSpec((1, height, width, 3), tf.float32)])
converter = tf.lite.TFLiteConverter.from_saved_model(saved)
converter.optimizations = [tf.lite.Optimize.DEFAULT]
converter.representative_dataset = lambda: ([image] for image in images)
converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
converter.inference_input_type = converter.inference_output_type = tf.uint8
Path({out!r}, "byhand.tflite").write_bytes(converter.convert())
""",
    "onnx": """
import tensorflow as tf, tf2onnx, tempfile
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2
from onnxruntime.quantization import CalibrationDataReader, quantize_static
function = tf.function(lambda image: model(image, training=False))
spec = tf.TensorSpec((1, height, width, 3), tf.float32, name="image")
frozen = convert_variables_to_constants_v2(function.get_concrete_function(spec))
float_path = Path(tempfile.mkdtemp(), "float.onnx")
tf2onnx.convert.from_graph_def(frozen.graph.as_graph_def(), input_names=[frozen.inputs[0].name],
                               output_names=[frozen.outputs[0].name], opset=17, output_path=str(float_path))
class Reader(CalibrationDataReader):
    def __init__(self): self.rest = iter(images)
    def get_next(self):
        image = next(self.rest, None)
        return None if image is None else {{frozen.inputs[0].name: image}}
quantize_static(str(float_path), {out!r} + "/byhand.onnx", Reader())
""",
    "openvino": """
import tensorflow as tf, openvino as ov, nncf, tempfile
saved = tempfile.mkdtemp()
model.export(saved, format="tf_saved_model", verbose=False)
converted = ov.convert_model(saved, input=[1, height, width, 3])
quantized = nncf.quantize(converted, nncf.Dataset(images))
ov.save_model(quantized, {out!r} + "/byhand.xml")
""",
}


def main(options: list[str]) -> dict[str, object]:
    """Time both sides in turn, and evaluate what they made."""
    parser = argparse.ArgumentParser(prog="byhand", description=__doc__)
    parser.add_argument("--model", default="digits", help="a .keras file")
    parser.add_argument("--calib", help="calibration images (digits brings its own)")
    parser.add_argument("--eval", help="labelled images to measure accuracy on")
    parser.add_argument("--effort", default="balanced", help="of edgefx")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(options)
    with tempfile.TemporaryDirectory() as folder:
        model, calib = inputs(args.model, args.calib, Path(folder))
        ours: list[Ran] = []
        theirs: dict[str, list[Ran]] = {name: [] for name in SCRIPTS}
        commands = {name: command(name, model, calib, Path(folder)) for name in SCRIPTS}
        own = [sys.executable, "-m", "edgefx", "compile", model, "--calib", calib, "-o", f"{folder}/ours"]
        own += ["--target", "tflite-int8,onnx-int8,openvino-int8", "--no-eval", "--no-benchmark"]
        own += ["--effort", args.effort, "--no-cache"]
        subprocess.run([sys.executable, "-c", _WARM], check=True, capture_output=True)
        for turn in range(args.rounds):
            shutil.rmtree(f"{folder}/ours", ignore_errors=True)
            if turn % 2:
                ours.append(run(own))
            for name, script in commands.items():
                theirs[name].append(run(script))
            if not turn % 2:
                ours.append(run(own))
        rows: dict[str, object] = {f"by hand: {name}": _median(runs) for name, runs in theirs.items()}
        rows["edgefx: all three in one run"] = _median(ours)
        ratios = [
            one.seconds / sum(runs[k].seconds for runs in theirs.values()) for k, one in enumerate(ours)
        ]
        rows["edgefx over the sum"] = Figure(round(statistics.median(ratios), 3), _TOLERANCE)
        if args.eval:
            rows |= _accuracies(model, args.eval, Path(folder))
            rows |= _latencies(Path(folder))
        return show(rows, as_json=args.json)


def command(name: str, model: str, calib: str, folder: Path) -> list[str]:
    """Write one of the scripts; returns what runs it.

    Args:
        name: Of `SCRIPTS`.
        model: A .keras file.
        calib: A folder of images.
        folder: Where script and artifact are written.
    """
    file = folder / f"byhand_{name}.py"  # "onnx.py" would be imported as onnx
    file.write_text((_PRELUDE + SCRIPTS[name]).format(model=model, calib=calib, out=str(folder)))
    return [sys.executable, str(file)]


def inputs(model: str, calib: str | None, folder: Path) -> tuple[str, str]:
    """Return the paths of a .keras file and a folder of calibration images; `digits` is written to a file.

    Args:
        model: A .keras file, or digits.
        calib: Calibration images; digits brings its own.
        folder: Where digits is written.
    """
    if model != "digits":
        if not calib:
            sys.exit("--calib is needed for a model of your own")
        return str(Path(model).resolve()), str(Path(calib).resolve())
    from edgefx.data import digits

    file = folder / "digits.keras"
    if not file.is_file():
        code = "from edgefx.models.load import load; import sys; load('digits').model.save(sys.argv[1])"
        subprocess.run([sys.executable, "-c", code, str(file)], check=True, capture_output=True)
    return str(file), str(Path(calib).resolve()) if calib else str(digits.calibration_folder())


def _median(runs: list[Ran]) -> Ran:
    return Ran(
        seconds=statistics.median(run.seconds for run in runs),
        peak_memory_mb=max(run.peak_memory_mb for run in runs),
    )


def _accuracies(model: str, images: str, folder: Path) -> dict[str, object]:
    """Return drop and agreement of every artifact, measured by `edgefx evaluate`."""
    rows: dict[str, object] = {}
    for path in sorted((*folder.glob("byhand.*"), *folder.glob("ours/*-int8.*"))):
        if path.suffix in (".tflite", ".onnx", ".xml"):
            command = [
                sys.executable,
                "-m",
                "edgefx",
                "evaluate",
                str(path),
                images,
                "--baseline",
                model,
                "--json",
            ]
            found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            accuracy = found["comparison"]
            who = "by hand" if path.parent == folder else "edgefx"
            rows[f"{who} {path.suffix}: drop, agreement"] = (
                f"{accuracy['drop_pp']:+.2f} pp, {100 * accuracy['agreement']:.1f} %"
            )
    return rows


def _latencies(folder: Path) -> dict[str, object]:
    """Return how long edgefx's artifact takes against the one made by hand, per runtime."""
    rows: dict[str, object] = {}
    for suffix in (".tflite", ".onnx", ".xml"):
        pair = [str(folder / f"byhand{suffix}"), *map(str, folder.glob(f"ours/*-int8{suffix}"))]
        command = [sys.executable, "-m", "edgefx", "benchmark", *pair, "--json"]
        command += ["--threads", "1", "--rounds", "300", "--seconds", "20"]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        theirs, ours = (found["latencies"][path] for path in pair)
        rows[f"edgefx {suffix}: latency over by hand, p50 and fastest"] = (
            f"{ours['p50_ms'] / theirs['p50_ms']:.2f}, {ours['min_ms'] / theirs['min_ms']:.2f}"
        )
    return rows
