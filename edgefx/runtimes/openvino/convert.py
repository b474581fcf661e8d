"""From the canonical graph to a float OpenVINO model."""

from __future__ import annotations

from typing import Any

from edgefx.errors import ConversionError
from edgefx.protocols import Progress
from edgefx.runtimes.openvino import artifact
from edgefx.types import FrozenGraph

_SHARED_FLOAT = "openvino-float32.xml"


def float_model(graph: FrozenGraph, progress: Progress) -> Any:
    """Return the float IR as an ``openvino.Model``; converted once per workdir."""
    import openvino as ov

    from edgefx.runtimes.openvino import names

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
        model = _ordered(model, graph)
        names.name_operations(model, graph.path, outputs=graph.output_names)
        finish(model, graph)
        artifact.write(model, shared, half=False, exact=False, check=artifact.read)
    return artifact.read(shared)


def products_to_convolutions(model: Any) -> None:
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


def _ordered(model: Any, graph: FrozenGraph) -> Any:
    """Return a converted model with its outputs in the graph's order."""
    import openvino as ov

    if len(graph.output_names) == 1:
        return model
    by_name = {
        name.removesuffix(":0"): result
        for result in model.get_results()
        for name in (*result.output(0).get_names(), *result.input_value(0).get_names())
    }
    results = [by_name[name] for name in graph.output_names]
    return ov.Model(results, model.get_parameters(), graph.spec.name)


def finish(model: Any, graph: FrozenGraph) -> None:
    """Give the model and its ends their names, and number what has no name of its own."""
    from edgefx.runtimes.openvino import names

    model.set_friendly_name(graph.spec.name)
    parameter, results = model.get_parameters()[0], model.get_results()
    parameter.set_friendly_name(graph.input_name)
    parameter.output(0).set_names({graph.input_name})
    for result, name in zip(results, graph.output_names, strict=True):
        result.set_friendly_name(name)
    for operation in model.get_ops():
        for port in operation.outputs():
            if operation is not parameter and port.get_names():
                port.set_names(set())  # TensorFlow's tensor names, e.g. "Identity:0"
    for result, name in zip(results, graph.output_names, strict=True):
        result.input_value(0).set_names({name})
    names.number_unnamed(model)
