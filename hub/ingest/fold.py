"""From accepted messages to the rows that they change. Pure: a device's rows and its messages in, changed rows out.

Rules:
- The device's report wins: what it says serves is what the fleet state says serves.
- Counters since the last heartbeat add up; a total stops at `MAX_SEQ` instead of overflowing a column.
- A heartbeat that says `idle` says that no work goes on; it does not erase the outcome of the last install.
- After a roll-back nothing older is left to go back to; otherwise the version that served before is the previous one.
- A body that cannot be read uses up its sequence number, is counted and leaves an event; it never holds up the rest.
- Text is cut to its column and freed of NUL characters, so that nothing that a device says can fail a transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec

from hub.ingest.rows import EventRow, ModelRow, ReportRow, TrainingRow
from hub.ingest.sequence import Accepted
from shared.errors import InvalidInput
from shared.limits import MAX_REASON_CHARS, MAX_SEQ
from shared.wire.health import Health, VersionHealth
from shared.wire.training import SampleCount, TrainingReport
from shared.wire.up import Dropped, Envelope, Event, Heartbeat, InstallReport, Inventory, ModelStatus, decode_body
from shared.wire.window import Metric, Metrics, Window

__all__ = ["Fold"]

_OUTCOMES = frozenset({"committed", "rolled_back", "inconsistent"})
_ROLLBACKS = frozenset({"rolling_back", "rolled_back"})
_STATE_CHARS = 32
_CODE_CHARS = 64


class Fold:
    """Takes one device's accepted messages in sequence and collects what they change."""

    def __init__(self, models: Mapping[str, ModelRow], now: float) -> None:
        self._now = now
        self._before = models
        self._known = dict(models)
        self._changed: dict[str, ModelRow] = {}
        self.reports: list[ReportRow] = []
        self.events: list[EventRow] = []
        self.health: list[VersionHealth] = []
        self.windows: list[tuple[Envelope, Window]] = []
        self.metrics: list[tuple[Envelope, Metric]] = []
        self.traced: list[InstallReport] = []
        self.training: list[TrainingRow] = []
        self.samples: tuple[SampleCount, ...] | None = None
        self.heartbeat: dict[str, Any] | None = None
        self.inventory: dict[str, Any] | None = None
        self.dropped = 0
        self.malformed = 0

    @property
    def models(self) -> tuple[ModelRow, ...]:
        """The rows of the models that changed."""
        return tuple(self._changed.values())

    @property
    def moved(self) -> tuple[str, ...]:
        """The models of which not only counts changed, but what serves or how far an install is."""
        return tuple(
            name for name, row in self._changed.items() if _standing(row) != _standing(self._before.get(name))
        )

    def apply(self, accepted: Sequence[Accepted[Envelope]], unreadable: Collection[int] = ()) -> None:
        """Apply messages in sequence; those whose `id()` is in `unreadable` count as malformed without a look."""
        for item in accepted:
            envelope = item.message
            if envelope.kind == "dropped":
                self.dropped += item.new_count
            try:
                if id(envelope) in unreadable:
                    raise InvalidInput("wire.malformed", f"The {envelope.kind} message could not be stored.")
                self._body(envelope, decode_body(envelope), item.new_count)
            except InvalidInput as error:
                self.refuse(envelope, "ingest.malformed_body", error.message)

    def refuse(self, envelope: Envelope, code: str, message: str) -> None:
        """Count a message whose body was not taken, and leave an event."""
        self.malformed += 1
        self._event(envelope, code, "error", message)

    def _body(self, envelope: Envelope, body: msgspec.Struct, new_count: int) -> None:
        if isinstance(body, Heartbeat):
            self.heartbeat = _plain(body)
            if body.samples is not msgspec.UNSET:
                self.samples = tuple(body.samples)
            for status in body.models:
                self._put(_with_status(self._model(status.model), status, self._now))
        elif isinstance(body, Inventory):
            self.inventory = _plain(body)
        elif isinstance(body, InstallReport):
            self._put(_with_report(self._model(body.model), body, self._now))
            self.reports.append(_report_row(envelope, body, self._now))
            if body.trace is not msgspec.UNSET:
                self.traced.append(body)
        elif isinstance(body, Event):
            self._event(envelope, body.code, body.severity, body.message, body.model, body.count)
        elif isinstance(body, Health):
            self.health.extend(body.versions)
        elif isinstance(body, TrainingReport):
            self.training.append(_training_row(envelope, body, self._now))
        elif isinstance(body, Window):
            self.windows.append((envelope, body))
        elif isinstance(body, Metrics):
            self.metrics.extend((envelope, metric) for metric in body.metrics)
        elif isinstance(body, Dropped):
            kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(body.kinds.items()))
            text = f"The full outbox gave up {new_count} messages" + (f" ({kinds})." if kinds else ".")
            self._event(envelope, "outbox.dropped", "warning", text, None, new_count)

    def _model(self, name: str) -> ModelRow:
        return self._known.get(name) or ModelRow(model=name)

    def _put(self, row: ModelRow) -> None:
        self._known[row.model] = self._changed[row.model] = row

    def _event(
        self, envelope: Envelope, code: str, severity: str, message: str, model: str | None = None, count: int = 1
    ) -> None:
        self.events.append(
            EventRow(
                epoch=envelope.epoch,
                seq=envelope.seq,
                code=_text(code, _CODE_CHARS),
                severity=severity,
                message=_text(message, MAX_REASON_CHARS),
                model=model,
                count=count,
                device_s=envelope.created_s,
                received_s=self._now,
            )
        )


def _standing(row: ModelRow | None) -> tuple[object, ...]:
    if row is None:
        return ()
    return row.version, row.bundle_sha256, row.state, row.counter, row.served_counter, row.reason_code


def _text(value: str, limit: int) -> str:
    return value.replace("\x00", "\ufffd")[:limit]


def _plain(body: msgspec.Struct) -> dict[str, Any]:
    """JSON values that every database stores: NaN becomes null, NUL characters become U+FFFD."""
    cleaned = msgspec.json.encode(body).replace(b"\\u0000", b"\\ufffd")
    plain: dict[str, Any] = msgspec.json.decode(cleaned)
    return plain


def _serving(row: ModelRow, version: int | None, state: str) -> int | None:
    """The previous version, after the device says that `version` serves now."""
    if state in _ROLLBACKS and version != row.version:
        return None
    if version == row.version or row.version is None:
        return row.previous_version
    return row.version


def _with_status(row: ModelRow, status: ModelStatus, now: float) -> ModelRow:
    state = _text(status.state, _STATE_CHARS)
    if row.state and (state == row.state or (state == "idle" and row.state in _OUTCOMES)):
        state, code, reason = row.state, row.reason_code, row.reason
    else:
        code, reason = "", ""
    return msgspec.structs.replace(
        row,
        version=status.version,
        bundle_sha256=status.bundle_sha256,
        previous_version=_serving(row, status.version, state),
        state=state,
        counter=status.assignment_counter or row.counter,
        reason_code=code,
        reason=reason,
        requests=min(row.requests + status.requests, MAX_SEQ),
        errors=min(row.errors + status.errors, MAX_SEQ),
        latency_p50_us=status.latency_p50_us,
        latency_p99_us=status.latency_p99_us,
        updated_s=now,
    )


def _with_report(row: ModelRow, report: InstallReport, now: float) -> ModelRow:
    state = _text(report.state, _STATE_CHARS)
    live = report.active_version == report.version
    if live:
        digest: str | None = report.bundle_sha256
    else:
        digest = row.bundle_sha256 if report.active_version == row.version else None
    return msgspec.structs.replace(
        row,
        version=report.active_version,
        bundle_sha256=digest,
        previous_version=_serving(row, report.active_version, state),
        state=state,
        target_version=report.version,
        counter=report.assignment_counter,
        served_counter=report.assignment_counter if live else row.served_counter,
        reason_code=_text(report.reason_code, _CODE_CHARS),
        reason=_text(report.reason, MAX_REASON_CHARS),
        bytes_downloaded=min(report.bytes_downloaded, MAX_SEQ),
        updated_s=now,
    )


def _report_row(envelope: Envelope, report: InstallReport, now: float) -> ReportRow:
    return ReportRow(
        epoch=envelope.epoch,
        seq=envelope.seq,
        model=report.model,
        version=report.version,
        counter=report.assignment_counter,
        previous=_text(report.previous, _STATE_CHARS),
        state=_text(report.state, _STATE_CHARS),
        event=_text(report.event, _STATE_CHARS),
        reason_code=_text(report.reason_code, _CODE_CHARS),
        reason=_text(report.reason, MAX_REASON_CHARS),
        device_s=envelope.created_s,
        received_s=now,
    )


def _training_row(envelope: Envelope, report: TrainingReport, now: float) -> TrainingRow:
    return TrainingRow(
        epoch=envelope.epoch,
        seq=envelope.seq,
        run_id=report.run,
        round_no=report.round_no,
        state=report.state,
        code=_text(report.code, _CODE_CHARS),
        reason=_text(report.reason, MAX_REASON_CHARS),
        seconds=report.seconds,
        retry_s=report.retry_s,
        received_s=now,
    )
