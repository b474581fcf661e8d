"""The bill of materials: everything that the lock installs here, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgefx.version import __version__
from tests import sbom

LOCK = """\
numpy==2.4.6 ; python_full_version >= '3.11' \\
    --hash=sha256:{a} \\
    --hash=sha256:{b}
never==1.0 ; sys_platform == 'plan9' \\
    --hash=sha256:{a}
Not.Installed==3 \\
    --hash=sha256:{b}
""".format(a="a" * 64, b="b" * 64)


def test_what_is_locked_for_this_platform_is_listed() -> None:
    found = {one["name"]: one for one in sbom.bill(LOCK)["components"]}
    assert list(found) == ["numpy", "not-installed"]
    numpy = found["numpy"]
    assert (numpy["version"], numpy["purl"]) == ("2.4.6", "pkg:pypi/numpy@2.4.6")
    assert [one["value"] for one in numpy["properties"]] == ["a" * 64, "b" * 64]
    assert "BSD" in json.dumps(numpy["licenses"])
    assert "licenses" not in found["not-installed"]


def test_the_repositorys_lock(capsys: pytest.CaptureFixture[str]) -> None:
    assert sbom.main([]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    assert document["metadata"]["component"]["version"] == __version__
    references = [one["bom-ref"] for one in document["components"]]
    assert len(references) == len(set(references))
    versions = {one["name"]: one["version"] for one in document["components"]}
    assert {"tensorflow", "openvino", "onnxruntime", "ai-edge-litert", "click", "pytest"} <= set(versions)
    edges = {one["ref"]: one["dependsOn"] for one in document["dependencies"]}
    own = edges.pop(f"pkg:pypi/edgefx@{__version__}")
    assert f"pkg:pypi/tensorflow@{versions['tensorflow']}" in own
    assert f"pkg:pypi/numpy@{versions['numpy']}" in edges[f"pkg:pypi/tensorflow@{versions['tensorflow']}"]
    assert set(edges) == set(references)
    assert {one for listed in edges.values() for one in listed} <= set(references)


def test_no_such_lock(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sbom.main([str(tmp_path / "none.lock")]) == 2
    assert "none.lock: No such file" in capsys.readouterr().err
