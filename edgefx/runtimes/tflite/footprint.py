"""What a ``.tflite`` takes when it is packed: deflated, or with its weights as lookup tables of TFLM."""

from __future__ import annotations

import zlib
from pathlib import Path

from edgefx.compression import Footprint
from edgefx.runtimes.tflite import flatbuffer, lookup, micro


def measure(path: Path) -> Footprint:
    """Read a file and say what it takes."""
    content = path.read_bytes()
    model = flatbuffer.read(content)
    micro.restored(model)
    weights = [codes for _, codes, _ in lookup.weights(model)]
    total = sum(codes.size for codes in weights)
    return Footprint(
        size_bytes=len(content),
        zipped_bytes=len(zlib.compress(content, 9)),
        lookup_bytes=len(micro.adapted(flatbuffer.write(model), packed=True)),
        zeros=sum(int((codes == 0).sum()) for codes in weights) / total if total else 0.0,
    )
