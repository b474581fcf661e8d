"""`benchmark_model` where nobody names one: fetched from a server, here one on loopback.

It was never fetched from Google's, which these tests cannot reach.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from edgefx.benchmarking.devices import tool
from edgefx.benchmarking.devices.phone import Phone
from edgefx.errors import ExitCode, MissingToolError
from edgefx.protocols import SILENT
from edgefx.system import host
from tests.unit.phones import Conversation, program

PROGRAM = program(machine=183)
Say = Callable[[bytes], None]


class _Server(ThreadingHTTPServer):
    """Has one file, which a test may change, of one release."""

    content = PROGRAM
    stated: int | None = None  # as its length
    asked: list[str]


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        if "/2.3.0/" not in self.path:
            self.send_error(404, "Not Found")
            return
        self.send_response(200)
        self.send_header("Content-Length", str(self.server.stated or len(self.server.content)))
        self.end_headers()
        self.wfile.write(self.server.content)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[_Server]:
    with _Server(("127.0.0.1", 0), _Handler) as running:
        running.asked = []
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        path = tool._ADDRESS.partition("storage.googleapis.com")[2]
        monkeypatch.setattr(tool, "_ADDRESS", f"http://127.0.0.1:{running.server_address[1]}{path}")
        monkeypatch.setenv("EDGEFX_CACHE_DIR", str(tmp_path / "cache"))
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setattr(tool, "_MOST_BYTES", 2 * len(PROGRAM))
        yield running
        running.shutdown()
        thread.join()


def test_the_installed_release_is_fetched_once_and_named(
    server: _Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "versions", lambda _: {"ai-edge-litert": "2.3.0"})
    for _ in range(2):
        with Phone(Conversation(), None, threads=4, progress=SILENT) as phone:
            assert phone.environment.packages == {}
            assert phone.find_tool().read_bytes() == PROGRAM
            said = {"benchmark_model": f"LiteRT 2.3.0, sha256 {hashlib.sha256(PROGRAM).hexdigest()}"}
            assert phone.environment.packages == said
            assert phone.find_tool().is_file()
            assert phone.environment.packages == said
    assert server.asked == ["/litert/binaries/2.3.0/android_arm64/benchmark_model"]


@pytest.mark.parametrize(
    ("content", "stated", "said"),
    [
        (b"<html>log in</html>", None, "what is there is no program for Android"),
        (program(machine=62), None, "what is there is for x86_64"),
        (PROGRAM, len(PROGRAM) + 1, f"{len(PROGRAM)} of {len(PROGRAM) + 1} bytes arrived"),
        (PROGRAM * 3, None, "more than 0 MB"),
    ],
)
def test_what_is_no_such_program_is_not_kept(
    server: _Server, tmp_path: Path, content: bytes, stated: int | None, said: str
) -> None:
    server.content, server.stated = content, stated
    with pytest.raises(MissingToolError, match=said) as caught:
        tool.published("2.3.0", SILENT)
    assert caught.value.exit_code is ExitCode.MISSING_DEPENDENCY
    assert "--benchmark-model" in caught.value.hint
    assert tool._ADDRESS.format(version="2.3.0") in caught.value.hint
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_release_that_is_not_there_and_a_server_that_is_not(server: _Server) -> None:
    with pytest.raises(MissingToolError, match="Not Found"):
        tool.published("9.9.9", SILENT)
    server.shutdown()
    server.server_close()
    with pytest.raises(MissingToolError, match=r"[Rr]efused"):
        tool.published("2.3.0", SILENT)


def test_phones_that_none_is_published_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        Phone(Conversation(abi="armeabi-v7a"), None, threads=4, progress=SILENT) as phone,
        pytest.raises(MissingToolError, match="none is published for armeabi-v7a"),
    ):
        phone.find_tool()
    monkeypatch.setattr(host, "versions", lambda _: {})
    with (
        Phone(Conversation(), None, threads=4, progress=SILENT) as phone,
        pytest.raises(MissingToolError, match="ai-edge-litert, which says which, is not here"),
    ):
        phone.find_tool()
