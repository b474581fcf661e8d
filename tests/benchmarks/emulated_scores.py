"""The process that `emulated` starts on each CPU: ``emulated_scores PIXELS.npy ARTIFACT SCORES.npy``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from edgefx import runtimes
from edgefx.system import cpu


def main(pixels: str, artifact: str, scores: str) -> None:
    """Run an artifact on pixels, write its scores, and print what it ran on."""
    path = Path(artifact)
    with runtimes.for_artifact(path).open_session(path, threads=1) as session:
        np.save(scores, session.infer(np.load(pixels)))
        print(json.dumps({"hardware": cpu.detect(), "precision": session.precision_ran}))


if __name__ == "__main__":
    main(*sys.argv[1:])
