"""Spans of a run's stages for OpenTelemetry, where its environment variables ask for them.

Nothing of OpenTelemetry is imported, and nothing is done, unless ``OTEL_TRACES_EXPORTER`` names an exporter
(``otlp``, or ``console``: stderr, which in a run is its log), or ``OTEL_EXPORTER_OTLP_ENDPOINT``, or that of
traces alone, says where a collector is. ``OTEL_SERVICE_NAME`` and the exporter's other variables work as
everywhere.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from edgefx.system.packages import is_installed

SERVICE = "edgefx"
_EXPORTER = "OTEL_TRACES_EXPORTER"
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_TIMEOUT_MS = 5000  # for a collector that does not answer
Attribute = str | bool | int | float
_tracers: list[Any] = []  # the tracer of the run that is going on; runs do not overlap in a process


class Trace:
    """What a run is told about at its end; nothing happens where nobody traces."""

    def __init__(self, span: Any = None) -> None:
        self._span = span

    def set(self, **attributes: Attribute | None) -> None:
        """Add attributes to the whole run; those that are None are left out."""
        if self._span is not None:
            self._span.set_attributes(_named(attributes))

    def event(self, name: str, **attributes: Attribute | None) -> None:
        """Add an event, such as what came of a target."""
        if self._span is not None:
            self._span.add_event(name, _named(attributes))


def wanted() -> bool:
    """Whether the environment asks for spans."""
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    exporter = os.environ.get(_EXPORTER, "")
    return exporter != "none" and bool(exporter or any(os.environ.get(name) for name in _ENDPOINTS))


def lacking() -> str:
    """Say why there are no spans although they are wanted; "" where there are, or nobody wants any."""
    if not wanted():
        return ""
    exporter = os.environ.get(_EXPORTER) or "otlp"
    if exporter not in ("otlp", "console"):
        return f"{_EXPORTER}={exporter}: nothing is traced; edgefx knows otlp, console and none"
    modules = ["opentelemetry.sdk"]
    if exporter == "otlp":
        modules.append("opentelemetry.exporter.otlp.proto.http")
    if not all(map(is_installed, modules)):
        return f"OpenTelemetry is asked for and not installed: nothing is traced; {HINT}"
    return ""


HINT = "pip install 'edgefx[otel]', or unset its variables"


@contextmanager
def run(name: str, **attributes: Attribute | None) -> Iterator[Trace]:
    """Trace a run, if that is wanted and can be done.

    Args:
        name: What is run.
        attributes: What is known of it before; without paths and whatever else is private.
    """
    if not wanted() or lacking() or _tracers:
        yield Trace()
        return
    provider = _provider()
    tracer = provider.get_tracer(SERVICE)
    _tracers.append(tracer)
    try:
        with _begun(tracer, name, attributes) as one:
            yield Trace(one)
    finally:
        _tracers.clear()
        provider.force_flush(_TIMEOUT_MS)
        provider.shutdown()


@contextmanager
def span(name: str, **attributes: Attribute | None) -> Iterator[None]:
    """Trace a piece of work of the run that is going on; an exception marks it as failed."""
    if not _tracers:
        yield
        return
    with _begun(_tracers[0], name, attributes):
        yield


@contextmanager
def _begun(tracer: Any, name: str, attributes: dict[str, Attribute | None]) -> Iterator[Any]:
    """Begin a span. Of an exception only the name leaves the machine: messages name files of the user."""
    from opentelemetry.trace import Status, StatusCode

    with tracer.start_as_current_span(
        f"{SERVICE}.{name}",
        attributes=_named(attributes),
        record_exception=False,
        set_status_on_exception=False,
    ) as one:
        try:
            yield one
        except BaseException as error:
            one.set_status(Status(StatusCode.ERROR, type(error).__name__))
            raise


def _named(attributes: dict[str, Attribute | None]) -> dict[str, Attribute]:
    return {f"{SERVICE}.{name}": value for name, value in attributes.items() if value is not None}


def _provider() -> Any:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SimpleSpanProcessor

    service = os.environ.get("OTEL_SERVICE_NAME") or SERVICE
    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    if os.environ.get(_EXPORTER) == "console":  # stdout is the result and nothing else
        provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(out=sys.stderr)))
    else:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider
