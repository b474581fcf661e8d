"""What every runtime asks of a file that it has written: it is read back before it counts as made."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from edgefx.errors import ConversionError
from edgefx.quantization import QuantScheme
from edgefx.types import FrozenGraph, TensorInfo


def problems_of_ends(ends: Iterable[TensorInfo], graph: FrozenGraph, scheme: QuantScheme) -> list[str]:
    """Return what is wrong with a file's inputs and outputs; nothing where they are as asked for."""
    found = [(end.name, end.dtype) for end in ends]
    names = graph.output_names
    dtypes = (scheme.io_dtype, *scheme.output_dtypes(names))
    wanted = list(zip((graph.input_name, *names), map(str, dtypes), strict=True))
    return [] if found == wanted else [f"inputs and outputs are {found}, asked for {wanted}"]


def refuse(problems: Sequence[str], target: str, *, hint: str = "") -> None:
    """Refuse a file that is not what was asked for.

    Args:
        problems: What is wrong with it; nothing where it is right.
        target: What it is for.
        hint: What helps against the first of them, where that is known.

    Raises:
        ConversionError: There is a problem.
    """
    if problems:
        raise ConversionError(
            f"the {target} file is not what was asked for: {problems[0]}",
            hint=hint or "the model holds a layer that this precision does not support",
            details=problems[1:],
        )
