"""OpenVINO INT8 from a trained model: its weights, rounded to the nearest, and its ranges as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgefx.models.thaw import with_weights
from edgefx.quantize.fakequant import FakeQuantization
from edgefx.targets import openvino, openvino_ir, openvino_placement, openvino_quantize, openvino_statistics
from edgefx.targets.openvino_statistics import Grid
from edgefx.types import FrozenGraph, ImageSet, IoDtype, OutputKind, Progress, QuantScheme


def convert(
    trained: FakeQuantization,
    graph: FrozenGraph,
    scheme: QuantScheme,
    out: Path,
    *,
    calibration: ImageSet,
    progress: Progress,
) -> tuple[Path, ...]:
    """Write what was trained as ``.xml`` and ``.bin``, quantized where OpenVINO gains from it.

    Biases are left as trained: what rounding shifts was before the eyes of the training.

    Args:
        trained: Weights and grids after training.
        graph: The canonical graph, before training.
        scheme: Ends, and layers kept in float.
        out: The ``.xml``; the pair appears when it is complete and checked, or not at all.
        calibration: Images for a range that training did not know, such as that of logits as integers.
        progress: Told of each step.

    Raises:
        ConversionError: The graph cannot be converted.
        OutputError: `out` cannot be written.
    """
    openvino.check()
    again = with_weights(graph, trained.canonical_weights(), graph.workdir / "trained")
    model = openvino._float_model(again, progress)  # noqa: SLF001 - the same runtime
    with progress.task("quantizing for OpenVINO"):
        model = _quantized(model, trained, scheme, calibration, progress)
    if scheme.io_dtype is not IoDtype.FLOAT32:
        logits = graph.spec.output is OutputKind.LOGITS
        scale, zero_point = openvino_quantize.set_io_dtype(
            model,
            scheme.io_dtype,
            output=graph.spec.output,
            scores=openvino._scores(model, calibration) if logits else None,  # noqa: SLF001
        )
        openvino_ir.set_quantization(model, scale=scale, zero_point=zero_point)
    openvino._finish(model, again)  # noqa: SLF001
    return openvino_ir.write(
        model,
        out,
        half=False,
        exact=False,
        check=lambda path: openvino._verify(path, again, scheme),  # noqa: SLF001
    )


def _quantized(
    model: Any, trained: FakeQuantization, scheme: QuantScheme, calibration: ImageSet, progress: Progress
) -> Any:
    quantized = model.clone()
    named = {operation.get_friendly_name(): operation for operation in quantized.get_ordered_ops()}
    sites = openvino_placement.find(quantized, keep_float=scheme.keep_float)
    grids = {}
    for site in sites:
        span = trained.range_of(openvino_placement.layer_of(named[site.source]))
        if span is not None:
            grids[site] = Grid.spanning(*span)
    missing = [site for site in sites if site not in grids]
    if missing:
        sources = [site.source for site in missing]
        with progress.task("measuring what was not trained", len(calibration)) as task:
            seen = openvino_statistics.observe(quantized, sources, calibration, task)
        grids |= {site: Grid.chosen(seen[site.source], towards=1.0) for site in missing}
    for operation in openvino_placement.weighted(quantized):
        layer = openvino_placement.layer_of(operation)
        if layer not in scheme.keep_float and not openvino_placement.reads_image(operation):
            nothing = np.zeros(int(operation.get_input_shape(0)[1]))
            openvino_quantize.quantize_weights(operation, nothing, nothing, None)
    openvino_quantize.quantize_activations(quantized, grids)
    return quantized
