"""What refuses or translates a candidate; the search itself is in test_budget.py and tests/e2e."""

from __future__ import annotations

import errno
from dataclasses import replace

import pytest

from edgefx.errors import ConversionError, EdgefxError
from edgefx.run.candidates import as_edgefx_errors
from edgefx.run.workshop import _require_integer
from edgefx.types import OpCount
from tests.unit.report_samples import artifact


def test_float_operations_are_named() -> None:
    made = artifact("tflite-int8", size_bytes=1, compute_int8=9)
    ends = OpCount(op="QUANTIZE", dtype="float32", count=2)
    with pytest.raises(ConversionError, match=r"3 operations .*: SOFTMAX x 3$") as caught:
        _require_integer(replace(made, ops=(*made.ops, ends)))
    assert "--integer-only" in caught.value.hint
    _require_integer(replace(made, compute_float=0))


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (RuntimeError("no such op"), "RuntimeError: no such op"),
        (MemoryError(), "out of memory"),
        (ConversionError("refused"), "refused"),
    ],
)
def test_what_one_target_dies_of_is_an_edgefx_error(error: Exception, says: str) -> None:
    with pytest.raises(EdgefxError, match=says), as_edgefx_errors("tflite-int8"):
        raise error


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()])
def test_what_all_targets_share_passes_through(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, as_edgefx_errors("tflite-int8"):
        raise error
    assert caught.value is error
