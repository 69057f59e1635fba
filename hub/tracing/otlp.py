"""Spans to a collector over OTLP/HTTP, in the background and in batches. The only user of OpenTelemetry.

A bounded queue: what a collector that is away does not take in time is dropped, and the library logs it.
"""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from hub.settings import TracingSettings
from hub.tracing.spans import Span
from shared import __version__

__all__ = ["OtlpTracer"]

_TIMEOUT_S = 10
_DELAY_MS = 1000
_FLUSH_MS = 5000


class OtlpTracer:
    """Hands spans with their own ids and times to the library's processor."""

    on = True

    def __init__(self, settings: TracingSettings) -> None:
        self._resource = Resource.create({"service.name": settings.service_name, "service.version": __version__})
        self._scope = InstrumentationScope("skerry", __version__)
        exporter = OTLPSpanExporter(endpoint=settings.endpoint, timeout=_TIMEOUT_S)
        self._processor = BatchSpanProcessor(exporter, schedule_delay_millis=_DELAY_MS)

    def emit(self, spans: Sequence[Span]) -> None:
        """Queue them."""
        for span in spans:
            self._processor.on_end(self._readable(span))

    def close(self) -> None:
        """Send what is queued, and end the thread."""
        self._processor.force_flush(_FLUSH_MS)
        self._processor.shutdown()  # type: ignore[no-untyped-call]

    def _readable(self, span: Span) -> ReadableSpan:
        parent = _context(span.trace_id, span.parent_id) if span.parent_id else None
        status = Status(StatusCode.ERROR, span.failed) if span.failed else Status(StatusCode.OK)
        return ReadableSpan(
            name=span.name,
            context=_context(span.trace_id, span.span_id),
            parent=parent,
            resource=self._resource,
            attributes=dict(span.attributes),
            kind=SpanKind.INTERNAL,
            instrumentation_scope=self._scope,
            status=status,
            start_time=_nanoseconds(span.start_s),
            end_time=_nanoseconds(span.end_s),
        )


def _context(trace_id: str, span_id: str) -> SpanContext:
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))


def _nanoseconds(at_s: float) -> int:
    return int(at_s * 1e9)
