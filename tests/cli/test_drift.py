"""`edgefx drift`: what is refused before any image is looked at."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgefx.provenance import lock
from edgefx.storage.hashes import hash_file
from tests.cli.conftest import Edgefx
from tests.unit.test_comparison import a_lock


def a_run(folder: Path, *, images: int = 30) -> Path:
    """A run whose artifact is a file of that name."""
    (folder / "val").mkdir(parents=True)
    for number in range(images):
        (folder / "val" / f"{number}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes([number]))
    (folder / "a.tflite").write_bytes(b"an artifact")
    files = [{"path": path.name, "sha256": hash_file(path)} for path in sorted((folder / "val").iterdir())]
    lock.write(a_lock(), folder)
    document = json.loads((folder / lock.NAME).read_text())
    role = {"role": "evaluation", "root": str(folder / "val"), "sha256": "", "files": files}
    document["data"] = [role]
    document["targets"] = document["targets"][:1]
    document["targets"][0]["files"] = [{"path": "a.tflite", "sha256": hash_file(folder / "a.tflite")}]
    (folder / lock.NAME).write_text(json.dumps(document))
    return folder


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("no run", "No such file"),
        ("no target", "did you mean"),
        ("artifact", "it is not the artifact of this run"),
        ("moved", "--reference DIR"),
        ("changed", "1 of 30 images of"),
        ("few", "3 images, too few to tell drift from chance"),
        ("no new images", "no such folder"),
    ],
)
def test_what_cannot_be_compared_is_refused(edgefx: Edgefx, tmp_path: Path, change: str, said: str) -> None:
    run = a_run(tmp_path / "run", images=3 if change == "few" else 30)
    new, options = run / "val", []
    if change == "no run":
        run = tmp_path / "elsewhere"
    elif change == "no target":
        options = ["-t", f"{json.loads((run / lock.NAME).read_text())['targets'][0]['target']}8"]
    elif change == "artifact":
        (run / "a.tflite").write_bytes(b"another")
    elif change == "moved":
        new = tmp_path / "moved"
        (run / "val").rename(new)
    elif change == "changed":
        (run / "val" / "7.png").write_bytes(b"\x89PNG\r\n\x1a\nother")
    elif change == "no new images":
        new = tmp_path / "none"
    done = edgefx("drift", str(run), str(new), *options)
    assert (done.code, done.out) == (2, "")
    assert said in done.err


def test_an_alarm_rate_is_a_share(edgefx: Edgefx, tmp_path: Path) -> None:
    for rate in ("0", "1", "x"):
        assert edgefx("drift", str(tmp_path), str(tmp_path), "--alarm-rate", rate).code == 2
