"""`Effort.HIGH`: weights, biases and scales of an integer graph optimized together on calibration images.

GPTQ and bias correction look at one layer at a time. Here the way each weight is rounded (as in Nagel et al.,
"Up or down? Adaptive rounding for post-training quantization", 2020), biases and scales learn together what
the float model computes, with the activations rounded as the integer kernels round them, and the outputs of
the residual blocks among what is compared (Li et al., "BRECQ: pushing the limit of post-training quantization
by block reconstruction", 2021). No labels are needed; some of the images are kept apart, and what does not
help on these is dropped. Gradients pass the rounding straight through: AdaRound's rectified sigmoids need
ten thousand steps, these some seventy.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from edgefx.errors import ModelError
from edgefx.protocols import Progress
from edgefx.quantization import QatSettings
from edgefx.runtimes.protocol import QatTemplate
from edgefx.types import FrozenGraph, ImageSet

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT

_FEWEST = 16  # images; with fewer there is nothing to keep apart
_EPOCHS = 12  # tuned: ablations tflite.reconstruct.EPOCHS
_KEPT_APART = 0.2  # of the images, which are few; tuned: ablations tflite.reconstruct.KEPT_APART


def reconstruct(
    model: ModelT,
    quantized: ModelT,
    graph: FrozenGraph,
    calibration: ImageSet,
    *,
    seed: int,
    progress: Progress,
) -> ModelT:
    """Return the integer graph with other weights, biases and scales; as it was where none is better.

    Args:
        model: The float graph that `quantized` was made from, its channels scaled likewise.
        quantized: Fully integer, after all other steps; its ends are int8.
        graph: The canonical graph.
        calibration: Images of the graph's size.
        seed: Of the images' order, and of which are kept apart.
        progress: Told of each epoch.
    """
    from edgefx.qat import train
    from edgefx.runtimes.tflite import flatbuffer, training

    if len(calibration) < _FEWEST:
        progress.warn(f"{len(calibration)} images are too few for effort high: it is as balanced")
        return quantized
    template = QatTemplate(quantized=flatbuffer.write(quantized), float_model=flatbuffer.write(model))
    with tempfile.TemporaryDirectory(dir=graph.workdir) as scratch:
        try:
            trained = train.train(
                graph,
                calibration,
                QatSettings(epochs=_EPOCHS, validation_split=_KEPT_APART, seed=seed),
                start=training.read(template, graph),
                workdir=Path(scratch),
                progress=progress,
            )
        except ModelError as error:  # such as a SavedModel, whose layers are not known
            progress.warn(f"{error.message}: effort high is as balanced")
            return quantized
    return training.applied(template, trained.quantization, graph)
