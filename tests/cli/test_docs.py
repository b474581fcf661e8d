"""The README documents what the command line has: an undocumented command fails here."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from edgefx.cli import COMMANDS, cli
from edgefx.errors import ExitCode
from edgefx.metrics import METRICS

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_is_in_the_readme(name: str) -> None:
    assert re.search(rf"\bedgefx {name}\b", README), f"README.md does not mention 'edgefx {name}'"


@pytest.mark.parametrize("code", list(ExitCode))
def test_every_exit_code_is_in_the_readme(code: ExitCode) -> None:
    assert re.search(rf"(?<![\d.]){code.value}(?![\d.])", README)


def test_every_limit_is_in_the_readme() -> None:
    assert [row.gate for row in METRICS.values() if row.gate and f"`{row.gate}`" not in README] == []


def test_completion_is_in_the_readme() -> None:
    assert "_EDGEFX_COMPLETE=bash_source" in README


def test_the_readme_shows_no_option_that_does_not_exist() -> None:
    context = click.Context(cli, info_name="edgefx")
    for line in README.replace("\\\n", " ").splitlines():
        match = re.search(r"\bedgefx (\w+)(.*)", line)
        if match is None or match[1] not in COMMANDS:
            continue
        command = cli.get_command(context, match[1])
        assert command is not None
        known = {name for parameter in command.params for name in parameter.opts} | {"--help"}
        for option in re.findall(r"(?<!\S)(--[a-z][a-z0-9-]*)", match[2].split("`")[0].split("|")[0]):
            assert option in known, f"README.md: edgefx {match[1]} has no {option}"
