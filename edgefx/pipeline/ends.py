"""The element types of an artifact's outputs: as asked for, or as is best for what the model answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgefx.types import ModelTask, OutputKind
from edgefx.vocabulary import Ending, IoDtype

if TYPE_CHECKING:
    from edgefx.pipeline.plan import PlannedTarget
    from edgefx.types import ModelSpec, OutputSpec

_OF_SIGMOIDS = (ModelTask.BINARY, ModelTask.MULTILABEL)


def of_outputs(
    target: PlannedTarget, spec: ModelSpec
) -> tuple[IoDtype | None, tuple[tuple[str, IoDtype], ...]]:
    """Return the type of the output, where it is not the input's, and those of several that have their own.

    Where nothing is said of it, and float is possible, scores of sigmoids are float: in steps of 1/256 all
    sure ones are alike, so that their order is lost. On heads of EfficientNet-B0 that costs 0.88 pp of the
    area under the ROC curve and 2.29 pp of mean average precision, where float scores cost 0.20 and 0.22.

    Args:
        target: What is asked for.
        spec: The model.
    """
    named = dict(target.outputs)
    last = target.last
    if target.output_dtype is None and may_be_float(target):
        named = {one.name: IoDtype.FLOAT32 for one in spec.outputs if _is_of_sigmoids(one)} | named
        if not spec.outputs and _is_of_sigmoids(spec):
            last = IoDtype.FLOAT32
    return None if last is target.io_dtype else last, tuple(named.items())


def may_be_float(target: PlannedTarget) -> bool:
    """Whether scores may be float though other outputs of the target are integers."""
    row = target.row
    is_integer = row.io_dtypes[0] is not IoDtype.FLOAT32 and IoDtype.FLOAT32 in row.io_dtypes
    return is_integer and not target.integer_only and target.ends is Ending.SCORES


def _is_of_sigmoids(output: ModelSpec | OutputSpec) -> bool:
    return output.task in _OF_SIGMOIDS and output.output is OutputKind.PROBABILITIES
