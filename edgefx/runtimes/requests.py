"""What every runtime refuses alike: a conversion that its row in the table of targets does not allow."""

from __future__ import annotations

from edgefx.errors import UnknownNameError, UsageError
from edgefx.runtimes.protocol import ConversionRequest
from edgefx.targets import TARGETS
from edgefx.vocabulary import Runtime


def check(request: ConversionRequest, runtime: Runtime) -> None:
    """Check that a runtime can do what is asked for, before any work is done.

    The recipe and the plan check the same with the place of the mistake; this is for callers that have
    neither, and so that no runtime answers differently from the others.

    Raises:
        UsageError: There is no such target, its ends cannot have that type, or images are missing.
        UnknownNameError: A layer to be kept in float does not exist.
    """
    scheme, name = request.scheme, f"{runtime}-{request.scheme.precision}"
    row = TARGETS.get(name)
    if row is None:
        known = ", ".join(row.name for row in TARGETS.values() if row.runtime is runtime)
        raise UsageError(f"there is no target {name}", hint=f"choose one of: {known}")
    for dtype in scheme.io_dtypes:
        if dtype not in row.io_dtypes:
            raise UsageError(
                f"{name} has {' or '.join(row.io_dtypes)} input and output, {dtype} was asked for",
                hint=f"use --io-dtype with {runtime}-int8",
            )
    written_as_trained = request.trained is not None and request.trained.graph is None
    if row.needs_calibration and not written_as_trained and not request.calibration:
        raise UsageError(f"{name} needs calibration images", hint="give a folder with --calib")
    known_layers = [layer.name for layer in request.graph.layers]
    for layer in sorted(scheme.keep_float):
        if layer not in known_layers:
            raise UnknownNameError("layer", layer, known_layers, hint="(list them with: edgefx inspect)")
