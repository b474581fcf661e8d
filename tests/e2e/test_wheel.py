"""The wheel and the sdist that `python -m build` makes, tried in an environment that has no checkout."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

import pytest

from edgefx.version import __version__
from tests.e2e import installs

ROOT = Path(__file__).parents[2]
_INFO = f"edgefx-{__version__}.dist-info"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that is made of it, which proves that the sdist is whole."""
    out = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", out, ROOT],
        check=True,
        capture_output=True,
        timeout=120,
    )
    return out


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (path,) = built.glob("*.whl")
    return path


def tracked(*folders: str) -> set[str]:
    """Return the files of the repository that Git knows, or would with the next `git add`."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", "--", *folders],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a Git checkout")
    return {name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()}


def test_the_wheel_holds_the_package_and_its_resources_and_nothing_else(wheel: Path) -> None:
    found = {name for name in zipfile.ZipFile(wheel).namelist() if not name.startswith(_INFO)}
    package = tracked("edgefx")
    resources = {f"edgefx/_resources/{name}" for name in tracked("recipes", "calibration")}
    assert found == package | resources
    for name in (
        "edgefx/py.typed",
        "edgefx/models/digits.weights.h5",
        "edgefx/_resources/recipes/schema.json",
    ):
        assert name in found


def test_what_the_wheel_says_of_itself(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    about = archive.read(f"{_INFO}/METADATA").decode()
    assert f"Version: {__version__}\n" in about
    assert "License-Expression: Apache-2.0\n" in about
    for extra in ("tflite", "onnx", "openvino", "train", "all"):
        assert f"Provides-Extra: {extra}\n" in about
    base = [line for line in about.splitlines() if line.startswith("Requires-Dist") and "extra" not in line]
    assert not any(
        name in line for line in base for name in ("tensorflow", "keras", "onnx", "openvino", "litert")
    )
    assert "edgefx = edgefx.__main__:main" in archive.read(f"{_INFO}/entry_points.txt").decode()
    assert f"{_INFO}/licenses/LICENSE" in archive.namelist()


def test_the_sdist_holds_the_repository(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {str(PurePosixPath(*PurePosixPath(one.name).parts[1:])) for one in archive if one.isfile()}
    left_out = {name for name in tracked() if name.startswith(".ci/")}
    assert names == (tracked() - left_out) | {"PKG-INFO"}


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the wheel and what edgefx[all] requires."""
    home = tmp_path_factory.mktemp("installed")
    found = installs.environment(home / "env", "edgefx[all]")
    command = [sys.executable, "-m", "pip", "--python", str(found), "install", "--quiet"]
    command += ["--no-index", "--no-deps", str(wheel)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return found


def test_it_runs_outside_the_checkout(python: Path, tmp_path: Path) -> None:
    def edgefx(*arguments: str) -> str:
        return installs.run(python.with_name("edgefx"), *arguments, cwd=tmp_path)

    where = installs.run(python, "-c", "import edgefx; print(edgefx.__file__)", cwd=tmp_path)
    assert ROOT not in Path(where.strip()).parents
    assert edgefx("--version").split()[-1] == __version__
    assert all(row["available"] for row in json.loads(edgefx("targets", "--json")))
    assert "digits-demo" in edgefx("recipe", "list")
    assert json.loads(edgefx("doctor", "--json"))["problems"] == []
    planned = edgefx("run", "digits-demo", "--dry-run")
    for step in ("canonicalize", "tflite-int8", "benchmark"):
        assert step in planned
    assert [path.name for path in tmp_path.iterdir()] in ([], ["state"])


def test_its_types_are_seen_by_others(python: Path, tmp_path: Path) -> None:
    """A project that uses edgefx finds the API's types without further settings."""
    (tmp_path / "user.py").write_text("import edgefx\nreveal_type(edgefx.diff('a', 'b'))\n")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--python-executable", python, "--follow-imports=silent", "user.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert "edgefx.provenance.comparison.RunDiff" in done.stdout, done.stdout + done.stderr
