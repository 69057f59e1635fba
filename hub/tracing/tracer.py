"""Where spans go: nowhere, which is the default, or to a collector over OTLP. Nobody waits for either."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from hub.settings import TracingSettings
from hub.tracing.spans import Span
from shared.errors import InvalidInput

__all__ = ["NoTracer", "Tracer", "tracer_of"]


class Tracer(Protocol):
    """Takes spans. Never fails, never blocks."""

    @property
    def on(self) -> bool:
        """Does anybody look at them? Else none need be made."""
        ...

    def emit(self, spans: Sequence[Span]) -> None:
        """Take these."""
        ...

    def close(self) -> None:
        """Send what is left, within some seconds."""
        ...


class NoTracer:
    """Tracing is off; OpenTelemetry is not even imported."""

    on = False

    def emit(self, spans: Sequence[Span]) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def tracer_of(settings: TracingSettings) -> Tracer:
    """The tracer of the settings; error `tracing.missing` when the packages are not installed."""
    if not settings.endpoint:
        return NoTracer()
    try:
        from hub.tracing.otlp import OtlpTracer
    except ImportError as error:
        raise InvalidInput(
            "tracing.missing",
            "tracing.endpoint is set, but OpenTelemetry is not installed.",
            hint="pip install 'skerry[otel]', or remove the setting.",
        ) from error
    return OtlpTracer(settings)
