"""Output folders of runs, as the tests of bundles take them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from edgefx.report import write_report
from edgefx.types import ArtifactFile
from tests.unit.report_samples import report


def run_folder(folder: Path, content: Callable[[str], bytes], **model: object) -> Path:
    """Write the folder of a run with an artifact of each runtime; that of OpenVINO is a pair of files.

    Args:
        folder: Where; it is made.
        content: Returns what a file of this name holds.
        **model: What the report says of the model otherwise than the sample does.

    Returns:
        The folder.
    """
    folder.mkdir()
    made, results = report(), []
    for result in made:
        assert result.artifact is not None
        names = [result.artifact.path.name]
        if result.target.startswith("openvino"):
            names.append(Path(names[0]).with_suffix(".bin").name)
        files = []
        for name in names:
            held = content(name)
            (folder / name).write_bytes(held)
            digest = sha256(held).hexdigest()
            files.append(ArtifactFile(path=folder / name, size_bytes=len(held), sha256=digest))
        results.append(replace(result, artifact=replace(result.artifact, files=tuple(files))))
    described = replace(made.model, **model)  # type: ignore[arg-type]
    write_report(replace(made, model=described, targets=tuple(results)), folder)
    return folder
