"""Spans for OpenTelemetry: at a real collector's socket, on stderr, and none where nobody asks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.util import find_spec
from threading import Thread

import pytest

from edgefx.system import tracing

HAS_SDK = find_spec("opentelemetry") is not None and find_spec("opentelemetry.sdk") is not None
HAS_OTLP = HAS_SDK and find_spec("opentelemetry.exporter") is not None
# What a run does, without one: a stage that is computed, one from the cache, and one that fails.
PROGRAM = """
from contextlib import suppress
from pathlib import Path
from edgefx.pipeline.memo import Memo, Workspace
from edgefx.cache.settings import OFF
from edgefx.protocols import SILENT
from edgefx.system import tracing
from edgefx.vocabulary import StageKind

with tracing.run("run", targets=2) as trace:
    memo = Memo(OFF.store(SILENT.warn), SILENT, Workspace(scratch=Path(), staging=Path()))
    with memo.timed(StageKind.CONVERT, "tflite-int8"), memo.timed(StageKind.LOAD, None):
        pass
    with suppress(ValueError), memo.timed(StageKind.EVALUATE, "onnx-int8"):
        raise ValueError("no answer")
    trace.set(model_sha256="ab", nothing=None)
    trace.event("target", target="tflite-int8", drop_pp=0.25)
import sys
print(sorted(name for name in sys.modules if name.startswith("opentelemetry"))[:1])
"""


@contextmanager
def collector() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """A receiver of OTLP over HTTP, on a socket of its own."""
    received: list[tuple[str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - of the base class
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", received
    finally:
        server.shutdown()
        server.server_close()


def program(**environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM], env=kept | environment, capture_output=True, text=True, check=True
    )


def test_nothing_is_imported_where_nobody_asks() -> None:
    for environment in ({}, {"OTEL_TRACES_EXPORTER": "none"}):
        done = program(**environment)
        assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_what_is_asked_for_and_cannot_be_had_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "zipkin")
    assert "zipkin: nothing is traced; edgefx knows otlp, console and none" in tracing.lacking()
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
    assert ("pip install 'edgefx[otel]'" in tracing.lacking()) is not HAS_OTLP
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert tracing.lacking() == ""


@pytest.mark.skipif(not HAS_SDK, reason="opentelemetry-sdk is not installed")
def test_spans_on_stderr_are_those_of_the_stages() -> None:
    done = program(OTEL_TRACES_EXPORTER="console")
    text, decoder, spans = done.stderr, json.JSONDecoder(), {}
    while text.strip():
        one, end = decoder.raw_decode(text.lstrip())
        text = text.lstrip()[end:]
        spans[one["name"]] = one
    assert set(spans) == {"edgefx.run", "edgefx.convert", "edgefx.load", "edgefx.evaluate"}
    root = spans["edgefx.run"]
    assert root["attributes"] == {"edgefx.targets": 2, "edgefx.model_sha256": "ab"}
    (event,) = root["events"]
    assert event["attributes"] == {"edgefx.target": "tflite-int8", "edgefx.drop_pp": 0.25}
    for name, parent in (("convert", "run"), ("load", "convert"), ("evaluate", "run")):
        assert spans[f"edgefx.{name}"]["parent_id"] == spans[f"edgefx.{parent}"]["context"]["span_id"]
    assert spans["edgefx.convert"]["attributes"]["edgefx.target"] == "tflite-int8"
    assert spans["edgefx.convert"]["attributes"]["edgefx.cached"] is False
    # Messages of errors name files of the user: they stay here.
    assert spans["edgefx.evaluate"]["status"] == {"status_code": "ERROR", "description": "ValueError"}
    assert "no answer" not in done.stderr
    assert spans["edgefx.run"]["resource"]["attributes"]["service.name"] == "edgefx"


@pytest.mark.skipif(not HAS_OTLP, reason="the exporter for OTLP is not installed")
def test_a_collector_gets_them() -> None:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    with collector() as (address, received):
        program(OTEL_EXPORTER_OTLP_ENDPOINT=address, OTEL_SERVICE_NAME="ci")
    assert {path for path, _ in received} == {"/v1/traces"}
    names, services = set(), set()
    for _, body in received:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            services |= {
                one.value.string_value for one in resource.resource.attributes if one.key == "service.name"
            }
            names |= {one.name for scope in resource.scope_spans for one in scope.spans}
    assert names == {"edgefx.run", "edgefx.convert", "edgefx.load", "edgefx.evaluate"}
    assert services == {"ci"}
