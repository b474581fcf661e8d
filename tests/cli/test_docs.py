"""What pages and README say of edgefx is so: command lines parse, links lead somewhere, pages build."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from docs.generate import PARTS, commands, expand
from edgefx.cli import COMMANDS, cli
from edgefx.cli.context import App
from edgefx.errors import ExitCode

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
TEXTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *PAGES]
# Options of other programs that the texts mention.
FOREIGN = {"--store", "--against", "--strict", "--keep"}
_CONSOLE = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def _lines(text: str) -> Iterator[list[str]]:
    """Yield the words of each command line of edgefx in a text's console blocks."""
    for block in _CONSOLE.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True) if line.startswith("$ ") else []
            if words and words[0].rpartition("/")[2] == "edgefx":
                yield words[1:]


def _parse(words: list[str]) -> None:
    """Let Click read a command line; nothing is run."""
    context = cli.make_context("edgefx", list(words), obj=App(argv=words))
    command: click.Command = cli
    while isinstance(command, click.Group):
        rest = [*context._protected_args, *context.args]
        name, found, rest = command.resolve_command(context, rest)
        assert found is not None
        assert name is not None
        context = found.make_context(name, rest, parent=context)
        command = found


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_command_lines_parse(path: Path) -> None:
    for words in _lines(path.read_text(encoding="utf-8")):
        try:
            _parse(words)
        except click.ClickException as error:
            pytest.fail(f"edgefx {shlex.join(words)}: {error.format_message()}")


def test_examples_in_help_parse() -> None:
    examples = [
        line.strip().removeprefix("Example: ").partition(" > ")[0]
        for _, command in (("edgefx", cli), *commands())
        for line in (command.epilog or "").splitlines()
        if re.match(r"\s*(Example: )?edgefx \w", line)
    ]
    assert len(examples) > len(COMMANDS)
    for example in examples:
        _parse(shlex.split(example)[1:])


def test_every_command_is_shown() -> None:
    shown = {words[0] for path in TEXTS for words in _lines(path.read_text(encoding="utf-8"))}
    assert set(COMMANDS) - shown == set()


def test_a_wrong_command_line_would_be_found() -> None:
    with pytest.raises(click.NoSuchOption):
        _parse(["compile", "digits", "-t", "tflite-int8", "--efort", "high"])
    with pytest.raises(click.UsageError):
        _parse(["recipe", "init", "digits", "--output"])


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_options_in_sentences_exist(path: Path) -> None:
    known = {name for _, command in commands() for option in command.params for name in option.opts}
    prose = _FENCE.sub("", path.read_text(encoding="utf-8"))
    named = {
        option
        for code in re.findall(r"`([^`]+)`", prose)
        for option in re.findall(r"(?<!\S)--[a-z][\w-]*", code)
    }
    assert named - known - FOREIGN - {"--help", "--version"} == set()


def test_every_exit_code_is_explained() -> None:
    page = (ROOT / "docs" / "reference" / "exit-codes.md").read_text(encoding="utf-8")
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)} == {*ExitCode}


def test_every_generated_part_has_a_place() -> None:
    places = {
        place
        for path in PAGES
        for place in re.findall(
            r"^<!-- generated: (\S+) -->$", path.read_text(encoding="utf-8"), re.MULTILINE
        )
    }
    assert {place for place in places if "/" not in place} == set(PARTS)
    programs = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("programs/*")}
    assert {place for place in places if "/" in place} == programs


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    text = _FENCE.sub("", expand(path.read_text(encoding="utf-8")))
    for link in _LINK.findall(text):
        if re.match(r"https?:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), f"{path.name}: {link}"
        if anchor:
            assert anchor in _anchors(target), f"{path.name}: {link}"


def _anchors(page: Path) -> set[str]:
    text = _FENCE.sub("", expand(page.read_text(encoding="utf-8")))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    plain = (re.sub(r"[^\w\s-]", "", heading.replace("`", "")).strip().lower() for heading in headings)
    return {re.sub(r"[\s-]+", "-", heading) for heading in plain}


def test_the_pages_build_strictly_and_load_nothing_from_elsewhere(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="an environment from before the pages: make brings it")
    pytest.importorskip("material", reason="an environment from before the pages: make brings it")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "--quiet", "build", "--strict", "--site-dir", tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert built.returncode == 0, built.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) >= len(PAGES)
    for page in pages:
        loaded = re.findall(
            r"<(?:link|script|img|iframe)\b[^>]*\b(?:href|src)=[\"']?(https?:)?//",
            page.read_text(encoding="utf-8"),
        )
        assert loaded == [], page.name
    assert "<!-- generated" not in "".join(page.read_text(encoding="utf-8") for page in pages)
