"""Bad recipes and, word for word, what is said of each.

`recipes/bad/NAME.yaml` is a recipe, `NAME.txt` what `edgefx recipe check NAME.yaml` says. After a change of
messages: ``EDGEFX_UPDATE_GOLDEN=1 python -m pytest tests/unit/test_recipe_errors.py``, and read the diff.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgefx.errors import UsageError
from edgefx.recipe.load import check

FOLDER = Path(__file__).with_name("recipes") / "bad"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))


def said(name: str) -> str:
    """Return the message for a bad recipe as the command line prints it, without colours."""
    with pytest.raises(UsageError) as caught:
        check(Path(f"{name}.yaml"))
    error = caught.value
    lines = [f"error: {error.message}", *(f"  {line}" for line in error.details)]
    lines += [f"hint: {error.hint}"] if error.hint else []
    return "".join(f"{line}\n" for line in lines).replace(str(Path.cwd()), "CWD")


@pytest.fixture(autouse=True)
def _in_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FOLDER)
    monkeypatch.delenv("EDGEFX_TEST_UNSET", raising=False)


def test_there_are_many() -> None:
    assert len(NAMES) >= 40


@pytest.mark.parametrize("name", NAMES)
def test_message(name: str) -> None:
    text = said(name)
    golden = FOLDER / f"{name}.txt"
    if os.environ.get("EDGEFX_UPDATE_GOLDEN"):
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")
    assert text.isprintable() or all(line.isprintable() for line in text.splitlines())


def test_every_golden_message_has_its_recipe() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.txt")) == NAMES


def test_nothing_heavy_is_imported_to_find_mistakes() -> None:
    probe = (
        "import sys; from edgefx.cli import run; code = run(['recipe', 'check', 'everything.yaml']);"
        "print(code, sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    result = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True, timeout=60
    )
    assert result.stdout.startswith("2 ")
    for name in ("numpy", "pydantic", "rich", "tensorflow", "keras", "PIL"):
        assert f"'{name}'" not in result.stdout
