"""Compilers in environments of their own: made whole from a lock, or not at all."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import zipfile
from pathlib import Path

import pytest

from edgefx.compilers import environments, iree
from edgefx.compilers.environments import OwnEnvironment
from edgefx.errors import NotSetUpError
from edgefx.protocols import SILENT

_COMMAND = "edgefx-greet"


def wheel(folder: Path) -> Path:
    """Write a wheel with one command, as an index would have it."""
    files = {
        "edgefx_greet.py": b"def main():\n    print('hello')\n",
        "edgefx_greet-1.2.dist-info/METADATA": b"Metadata-Version: 2.1\nName: edgefx-greet\nVersion: 1.2\n",
        "edgefx_greet-1.2.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "edgefx_greet-1.2.dist-info/entry_points.txt": (
            f"[console_scripts]\n{_COMMAND} = edgefx_greet:main\n".encode()
        ),
    }
    record = "".join(
        f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b'=').decode()},"
        f"{len(content)}\n"
        for name, content in files.items()
    )
    path = folder / "edgefx_greet-1.2-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        archive.writestr(
            "edgefx_greet-1.2.dist-info/RECORD", record + "edgefx_greet-1.2.dist-info/RECORD,,\n"
        )
    return path


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OwnEnvironment:
    """An environment whose only package lies in a folder."""
    made = wheel(tmp_path)
    lock = tmp_path / "greet.lock"
    lock.write_text(f"edgefx-greet==1.2 --hash=sha256:{hashlib.sha256(made.read_bytes()).hexdigest()}\n")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv(environments.VARIABLE, str(tmp_path / "environments"))
    return OwnEnvironment(name="greet", purpose="greetings", lock=lock, megabytes=1)


def test_it_is_made_once_from_its_lock_and_its_commands_run(environment: OwnEnvironment) -> None:
    with pytest.raises(NotSetUpError, match="environment of its own") as caught:
        environment.command(_COMMAND)
    assert "edgefx setup greet" in (caught.value.hint or "")
    made = environment.make(SILENT)
    assert not made.was_ready
    assert dict(made.packages) == {"edgefx-greet": "1.2"}
    said = subprocess.run([environment.command(_COMMAND)], capture_output=True, text=True, check=True)
    assert said.stdout == "hello\n"
    assert environment.make(SILENT).was_ready


def test_packages_with_another_hash_are_refused_and_nothing_is_left(environment: OwnEnvironment) -> None:
    environment.lock.write_text(f"edgefx-greet==1.2 --hash=sha256:{'0' * 64}\n")
    with pytest.raises(NotSetUpError, match="cannot be installed"):
        environment.make(SILENT)
    assert not environment.folder.exists()


def test_one_that_was_half_made_is_made_again(environment: OwnEnvironment) -> None:
    environment.folder.mkdir(parents=True)
    (environment.folder / "pyvenv.cfg").write_text("home = /nowhere\n")
    assert not environment.is_ready
    environment.make(SILENT)
    subprocess.run([environment.command(_COMMAND)], capture_output=True, check=True)


def test_another_lock_is_another_environment(environment: OwnEnvironment) -> None:
    before = environment.folder
    environment.lock.write_text(environment.lock.read_text() + "# changed\n")
    assert environment.folder != before


def test_the_lock_of_iree_has_hashes_and_the_version_that_the_cache_knows() -> None:
    lines = iree.ENVIRONMENT.lock.read_text().replace("\\\n", " ").splitlines()
    assert all("--hash=sha256:" in line for line in lines)
    assert any(line.startswith(f"iree-base-compiler=={iree.VERSION} ") for line in lines)
