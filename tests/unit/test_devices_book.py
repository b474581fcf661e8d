"""Devices by name: `devices.yaml`, and what is wrong with one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgefx.benchmarking.devices import book
from edgefx.benchmarking.devices.ssh import Address, remote_command
from edgefx.errors import UnknownNameError, UsageError


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(book.VARIABLE, str(tmp_path / "devices.yaml"))
    return tmp_path / "devices.yaml"


def test_reads_devices(file: Path) -> None:
    file.write_text("a: ssh://pi@a\nb: {address: 'ssh://b:22', python: ~/p, dir: /d, threads: 2, notes: 5}\n")
    assert book.devices() == {
        "a": book.NamedDevice(name="a", address="ssh://pi@a"),
        "b": book.NamedDevice(
            name="b", address="ssh://b:22", python="~/p", folder="/d", threads=2, notes="5"
        ),
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1]", "not a mapping"),
        ("a: [1]", "devices.yaml: a: not a device"),
        ("a: {}", "a: it has no address"),
        ("a: host", "a: it has no address"),
        ("a: {address: 'ssh://a', thread: 2}", "unknown key of .*: a 'thread'"),
        ("a: {address: 'ssh://a', threads: 0}", "threads: 0 is no number"),
        ("a: {address: 'ssh://a', threads: true}", "threads: True is no number"),
        ("a: {", "no YAML"),
        ("a: " + "[" * 3000 + "]" * 3000, "no YAML: nested too deeply"),
        (f"a: {{address: 'ssh://a', threads: {'9' * 5000}}}", "no YAML: Exceeds the limit"),
        ("a: {address: 'ssh://a', notes: 2026-99-99}", "no YAML: month must be"),
        (
            "a: {address: 'ssh://a', notes: &a [x]}\nb: {address: 'ssh://b', notes: *a}",
            "no YAML: it has an alias",
        ),
        ("#" * 70_000, "cannot be read: larger than"),
    ],
)
def test_what_is_wrong_is_said(file: Path, text: str, said: str) -> None:
    file.write_text(text)
    with pytest.raises(UsageError, match=said) as caught:
        book.devices()
    assert caught.value.hint


def test_a_named_pipe_is_not_waited_for(file: Path) -> None:
    os.mkfifo(file)
    with pytest.raises(UsageError, match=r"devices\.yaml: cannot be read: it is a named pipe"):
        book.devices()


@pytest.mark.usefixtures("file")
def test_a_file_that_is_named_must_exist() -> None:
    with pytest.raises(UsageError, match=r"devices\.yaml: cannot be read"):
        book.device("pi5")


def test_the_working_folder_comes_first_then_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(book.VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    assert book.devices() == {}
    with pytest.raises(UsageError, match="unknown device 'pi5'") as caught:
        book.device("pi5")
    assert "edgefx/devices.yaml" in caught.value.hint
    (tmp_path / "config" / "edgefx").mkdir(parents=True)
    (tmp_path / "config" / "edgefx" / "devices.yaml").write_text("pi4: ssh://pi4\n")
    assert book.device("pi4").address == "ssh://pi4"
    (tmp_path / "devices.yaml").write_text("pi5: ssh://pi5\n")
    assert list(book.devices()) == ["pi5"]
    with pytest.raises(UnknownNameError, match="unknown device 'pi4'"):
        book.device("pi4")


@pytest.mark.parametrize(
    ("url", "words", "by_hand"),
    [
        ("ssh://Pi5", ["--", "Pi5"], "ssh Pi5"),
        ("ssh://pi@10.0.0.5:2222", ["-p", "2222", "-l", "pi", "--", "10.0.0.5"], "ssh -p 2222 pi@10.0.0.5"),
        ("ssh://pi@[fe80::1%25eth0]/", ["-l", "pi", "--", "fe80::1%25eth0"], "ssh pi@fe80::1%25eth0"),
    ],
)
def test_addresses(url: str, words: list[str], by_hand: str) -> None:
    address = Address.parse(url)
    assert address.words == words
    assert address.by_hand == by_hand


def test_only_the_path_of_python_is_given_to_a_shell() -> None:
    assert remote_command("~/a b'$(c)").startswith("""exec "$HOME"/'a b'"'"'$(c)' -c '""")
    assert remote_command("python3").startswith("exec python3 -c 'import sys;")
