"""The steps of `action.yml` and `ci/gitlab.yml`, run as shell scripts, with the cache restored in between."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from edgefx.data import digits

ROOT = Path(__file__).parents[2]
RECIPE = """\
version: 1
model: digits
targets: [tflite-float32]
evaluate: {images: val}
benchmark: null
gates: {max_drop: 5pp, min_images: 50, on_inconclusive: warn}
"""
_INPUT = re.compile(r"\$\{\{ inputs\.(\w+) \}\}")


def action() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text())
    return loaded


def gitlab() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "ci" / "gitlab.yml").read_text())[".edgefx"]
    return loaded


def checkout(folder: Path) -> None:
    """Make the folder of a job: a recipe and images, always at the same path, as on a runner."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "recipe.yaml").write_text(RECIPE)
    for path in sorted(digits.evaluation_folder().rglob("*.png"))[::6]:
        (folder / "val" / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / "val" / path.parent.name / path.name)


def shell(script: str, folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],  # as both runners call it
        cwd=folder,
        env={**os.environ, "PATH": path, "EDGEFX_CACHE_SIZE": "1GB", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )


def github_job(folder: Path, **given: str) -> subprocess.CompletedProcess[str]:
    """Run the steps of the action that are shell; what GitHub puts in for an expression is put in."""
    described = action()
    inputs = {name: row.get("default", "") for name, row in described["inputs"].items()} | given
    done = None
    for step in described["runs"]["steps"]:
        if "run" not in step:
            continue
        assert "${{" not in step["run"]  # what a user types reaches the shell by its environment only
        values = {
            name: _INPUT.sub(lambda found: inputs[found[1]], text) for name, text in step["env"].items()
        }
        github = {
            "GITHUB_ACTIONS": "true",
            "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
            "GITHUB_ACTION_PATH": str(ROOT),
        }
        done = shell(step["run"], folder, {**github, **values})
        if done.returncode:
            break
    assert done is not None
    return done


def test_steps_run_and_a_restored_cache_saves_the_work(tmp_path: Path) -> None:
    folder, saved = tmp_path / "job", tmp_path / "cache.tar"
    checkout(folder)
    first = github_job(folder, install="none")
    assert first.returncode == 0, first.stderr
    kept = action()["inputs"]["cache"]["default"]
    assert [step["with"]["path"] for step in action()["runs"]["steps"] if "with" in step] == [
        "${{ inputs.cache }}"
    ]
    report = json.loads((folder / "edgefx-out" / "report.json").read_text())
    assert report["timings"]
    assert "tflite-float32" in (folder / "summary.md").read_text()
    for name in ("report.html", "junit.xml", "benchmark.json"):
        assert (folder / "edgefx-out" / name).stat().st_size > 100
    with tarfile.open(saved, "w") as archive:
        archive.add(folder / kept, kept)

    def restore() -> None:
        checkout(folder)
        with tarfile.open(saved) as archive:
            archive.extractall(folder, filter="data")

    restore()
    failing = github_job(folder, install="none", arguments="--set gates.max_size=1kB -q")
    assert failing.returncode == 1
    assert "::error title=" in failing.stderr
    again = json.loads((folder / "edgefx-out" / "report.json").read_text())
    assert again["timings"] == []  # nothing was computed
    assert again["targets"][0]["accuracy"] == report["targets"][0]["accuracy"]

    restore()
    job = gitlab()
    variables = {**job["variables"], "EDGEFX_INSTALL": "none", "CI_PROJECT_DIR": str(folder)}
    values = {name: text.replace("$CI_PROJECT_DIR", str(folder)) for name, text in variables.items()}
    assert Path(values["EDGEFX_CACHE_DIR"]) == folder / kept
    assert job["cache"]["paths"] == [f"{kept}/"]
    done = shell("\n".join(job["script"]), folder, values)
    assert done.returncode == 0, done.stderr
    assert json.loads((folder / "edgefx-out" / "report.json").read_text())["timings"] == []
    for name in job["artifacts"]["reports"].values():
        assert (folder / name).is_file()
    assert (folder / "edgefx-out" / "metrics.txt").read_text().endswith("# EOF\n")


@pytest.mark.parametrize("path", ["action.yml", "ci/gitlab.yml"])
def test_the_formats_that_are_written_exist(path: str) -> None:
    from edgefx.destinations import parse

    written = re.findall(r"--report ([^ \\\n]+)", (ROOT / path).read_text())
    assert len(written) == 4
    assert all(parse(text.replace('"$OUTPUT', "out").replace('"', "")) for text in written)
