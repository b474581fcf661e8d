"""Small OpenVINO models that hold one convolution in its usual surroundings, in float and in INT8.

In front of it is a convolution, behind it another one, both in float: what the form's INT8 costs in
conversions and changes of layout is then part of the time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from edgefx.hardware import Form, Role
from edgefx.runtimes.openvino import weights as openvino_weights
from edgefx.runtimes.openvino.calibrate import Grid
from edgefx.vocabulary import Hardware


def write(form: Form, folder: Path, hardware: Hardware) -> tuple[Path, Path]:
    """Write a form's models into a folder; returns the paths of the float and of the INT8 one."""
    paths = folder / "form-float32.xml", folder / "form-int8.xml"
    for path, int8 in zip(paths, (False, True), strict=True):
        model = _Chain(form, int8=int8, narrow=hardware.saturates_pairs).model()
        ov.save_model(model, path, compress_to_fp16=False)
    return paths


class _Chain:
    """A classifier made of a form and its surroundings.

    Args:
        form: The form.
        int8: Whether it computes in INT8.
        narrow: See `weights.scales`.
    """

    def __init__(self, form: Form, *, int8: bool, narrow: bool) -> None:
        self._form, self._int8, self._narrow = form, int8, narrow
        self._random = np.random.default_rng(0)

    def model(self) -> Any:
        form, axes = self._form, ops.constant([2, 3])
        image = ops.parameter([1, form.height, form.width, 3], ov.Type.f32, name="image")
        image.output(0).set_names({"image"})
        value = self._dense(ops.transpose(image, ops.constant([0, 3, 1, 2])), 3, form.inputs)
        if form.role is Role.GATED:
            value = ops.multiply(value, ops.sigmoid(ops.reduce_mean(value, axes, True)))
        if self._int8:
            value = Grid.spanning(-3.0, 3.0).quantize(value.output(0))
        if form.role is Role.DEPTHWISE:
            value = self._depthwise(value, form.outputs, form.kernel, form.stride, int8=self._int8)
        elif form.role is not Role.CONVERSION:
            value = self._dense(value, form.inputs, form.outputs, form.kernel, form.stride, int8=self._int8)
        if form.role is Role.SWISH:
            value = ops.swish(value)
        value = ops.reduce_mean(self._depthwise(value, form.outputs, 3), axes, False)
        value.output(0).set_names({"scores"})
        return ov.Model([value], [image], "form")

    def _dense(
        self, value: Any, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, *, int8: bool = False
    ) -> Any:
        weights = self._weights(outputs, inputs, kernel, kernel)
        made = ops.convolution(value, weights, *_steps(kernel, stride), [1, 1])
        return self._with_bias(made, outputs, int8=int8)

    def _depthwise(
        self, value: Any, channels: int, kernel: int, stride: int = 1, *, int8: bool = False
    ) -> Any:
        weights = self._weights(channels, 1, 1, kernel, kernel)
        made = ops.group_convolution(value, weights, *_steps(kernel, stride), [1, 1])
        return self._with_bias(made, channels, int8=int8)

    def _with_bias(self, made: Any, outputs: int, *, int8: bool) -> Any:
        if int8:
            groups = made.get_type_name() == "GroupConvolution"
            weights = openvino_weights.read(made)
            steps = openvino_weights.scales(weights, groups=groups, narrow=self._narrow)
            openvino_weights.store(made, openvino_weights.to_nearest(weights, steps), steps)
        return ops.add(made, ops.constant(np.full((1, outputs, 1, 1), 0.1, np.float32)))

    def _weights(self, *shape: int) -> Any:
        values = self._random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        return ops.constant(values.astype(np.float32))


def _steps(kernel: int, stride: int) -> tuple[list[int], list[int], list[int]]:
    """Return strides, and what is padded before and behind."""
    return [stride, stride], [(kernel - 1) // 2] * 2, [kernel // 2] * 2
