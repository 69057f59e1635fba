"""One batch of messages, one transaction: sequenced, folded, written, and only then confirmed by a watermark.

Rules:
- Whoever hands a message in has authenticated its device; an envelope that names another device is malformed.
- A message of an unknown or revoked device is refused and counted; it gets no watermark.
- An envelope that cannot be read is counted and cannot use up a sequence number.
- Data that a database refuses never holds up the fleet: the batch is halved until the one message is found, and that
  one is counted as malformed. When the database itself is away, nothing is applied and `Unavailable` is raised.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from hub.ingest.fold import Fold
from hub.ingest.health import Said, gather
from hub.ingest.rows import DeviceChange, DeviceRow, ModelRow
from hub.ingest.sequence import Sequenced, sequence
from hub.ingest.windows import NothingWatched, Speaker, WindowBook
from hub.store.database import Connection, Database
from hub.store.failures import plain_errors
from hub.store.health import add_health, cohorts_of, known_versions
from hub.store.ingest import apply_changes, lock_devices, model_rows, past_epochs
from shared.clock import Clock
from shared.errors import InvalidInput
from shared.limits import MAX_SEQ
from shared.wire.down import Watermark
from shared.wire.up import Envelope, InstallReport, decode_envelope

__all__ = ["IngestService", "Received", "Totals"]

_LOG = logging.getLogger(__name__)
_WITH_MODELS = frozenset({"heartbeat", "install"})


class Received(NamedTuple):
    """Bytes of one envelope and the device that they came from, as its certificate (not the bytes) says."""

    device_id: str
    data: bytes


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """What was decided about messages, in messages."""

    accepted: int = 0
    duplicates: int = 0
    gaps: int = 0
    stale: int = 0
    malformed: int = 0
    refused: int = 0

    def __add__(self, other: Totals) -> Totals:
        mine, theirs = msgspec.structs.asdict(self), msgspec.structs.asdict(other)
        return Totals(**{name: value + theirs[name] for name, value in mine.items()})


class _Inbox(msgspec.Struct):
    """The messages of one device in one batch, in order of arrival."""

    envelopes: list[Envelope] = []
    malformed: int = 0


class _Outcome(NamedTuple):
    watermarks: dict[str, Watermark]
    totals: Totals


class IngestService:
    """Applies device messages to the database exactly once."""

    def __init__(self, database: Database, clock: Clock, windows: WindowBook | None = None) -> None:
        self._database = database
        self._clock = clock
        self._windows = windows or WindowBook(NothingWatched())
        self._lock = threading.Lock()
        self._totals = Totals()
        self._traced: Callable[[str, Sequence[InstallReport]], None] | None = None

    def on_traced(self, traced: Callable[[str, Sequence[InstallReport]], None]) -> None:
        """Have `traced` told of a device's reports that are part of a trace, once committed; it must not block."""
        self._traced = traced

    @property
    def totals(self) -> Totals:
        """What was decided since this process started."""
        return self._totals

    def commit(self, messages: Sequence[Received]) -> dict[str, Watermark]:
        """Apply a batch; returns the watermark of each known device in it, ready to be sent. Blocks on the database.

        Errors: `database.unavailable` (retriable): what it does not return watermarks for can be handed in again.
        """
        watermarks: dict[str, Watermark] = {}
        for outcome in self._committed(messages):
            watermarks |= outcome.watermarks
            with self._lock:
                self._totals += outcome.totals
        return watermarks

    def _committed(self, messages: Sequence[Received]) -> Iterator[_Outcome]:
        if not messages:
            return
        try:
            yield self._transaction(messages, unreadable=False)
            return
        except InvalidInput as error:
            _LOG.error("%d messages cannot be stored together: %s", len(messages), error)
        if len(messages) == 1:
            yield self._transaction(messages, unreadable=True)
            return
        half = len(messages) // 2
        yield from self._committed(messages[:half])
        yield from self._committed(messages[half:])

    def _transaction(self, messages: Sequence[Received], *, unreadable: bool) -> _Outcome:
        now = self._clock.now()
        inboxes = _sorted_out(messages)
        with plain_errors(), self._database.write_rows() as connection:
            rows = lock_devices(connection, inboxes, now)
            known = {device_id: inboxes[device_id] for device_id in rows}
            past = past_epochs(connection, [d for d, inbox in known.items() if _has_other_epoch(rows[d], inbox)])
            decided = {d: sequence(rows[d].position, past.get(d, ()), inbox.envelopes) for d, inbox in known.items()}
            models = model_rows(connection, [d for d, result in decided.items() if _touches_models(result)])
            skip = {id(e) for inbox in known.values() for e in inbox.envelopes} if unreadable else set()
            folds = {d: _fold(decided[d], models.get(d, {}), now, skip) for d in known}
            speakers = [Speaker(d, rows[d].profile, fold) for d, fold in folds.items()]
            counted = self._windows.sort_out(connection, speakers, now)
            changes = [_change(rows[d], decided[d], known[d].malformed, fold, now) for d, fold in folds.items()]
            apply_changes(connection, changes, now)
            _add_up(connection, changes, now)
            self._windows.write(connection, counted, now)
        if self._traced is not None:
            for device_id, fold in folds.items():
                if fold.traced:
                    self._traced(device_id, fold.traced)
        refused = sum(len(i.envelopes) + i.malformed for d, i in inboxes.items() if d not in rows)
        if refused:
            _LOG.warning("%d messages of unknown or revoked devices were refused", refused)
        watermarks = {
            d: Watermark(epoch=r.answer.epoch, seq=r.answer.watermark, hub_s=now)
            for d, r in decided.items()
            if r.answer.epoch
        }
        return _Outcome(watermarks, _totals(decided.values(), rows, changes, refused))


def _sorted_out(messages: Sequence[Received]) -> dict[str, _Inbox]:
    inboxes: dict[str, _Inbox] = {}
    for device_id, data in messages:
        inbox = inboxes.setdefault(device_id, _Inbox())
        try:
            envelope = decode_envelope(data)
            if envelope.device_id != device_id:
                raise InvalidInput("wire.wrong_device", f"The envelope is for {envelope.device_id}.")
            inbox.envelopes.append(envelope)
        except InvalidInput as error:
            inbox.malformed += 1
            _LOG.warning("a message of device %s was refused: %s", device_id, error)
    return inboxes


def _has_other_epoch(row: DeviceRow, inbox: _Inbox) -> bool:
    return any(envelope.epoch != row.position.epoch for envelope in inbox.envelopes)


def _touches_models(result: Sequenced[Envelope]) -> bool:
    return any(item.message.kind in _WITH_MODELS for item in result.accepted)


def _fold(
    result: Sequenced[Envelope], models: Mapping[str, ModelRow], now: float, unreadable: Collection[int]
) -> Fold:
    fold = Fold(models, now)
    fold.apply(result.accepted, unreadable)
    return fold


def _change(row: DeviceRow, result: Sequenced[Envelope], malformed: int, fold: Fold, now: float) -> DeviceChange:
    return DeviceChange(
        row=DeviceRow(
            device_id=row.device_id,
            position=result.position,
            last_seen_s=max(row.last_seen_s, now),
            messages=row.messages + len(result.accepted),
            dropped=min(row.dropped + fold.dropped, MAX_SEQ),
            malformed=row.malformed + malformed + fold.malformed,
            profile=row.profile,
        ),
        retired=result.retired,
        models=fold.models,
        reports=tuple(fold.reports),
        events=tuple(fold.events),
        health=tuple(fold.health),
        training=tuple(fold.training),
        samples=fold.samples,
        moved=fold.moved,
        heartbeat=fold.heartbeat,
        inventory=fold.inventory,
    )


def _add_up(connection: Connection, changes: Sequence[DeviceChange], now: float) -> None:
    """What the batch says about versions, added to what is known; last, because devices share these rows."""
    speakers = [change for change in changes if change.health]
    if not speakers:
        return
    cohorts = cohorts_of(connection, [change.row.device_id for change in speakers])
    said = [
        Said(change.row.profile, cohorts.get((change.row.device_id, health.model), ""), health)
        for change in speakers
        for health in change.health
    ]
    named = {(health.model, health.version) for _, _, health in said}
    named |= {(health.model, health.shadow.version) for _, _, health in said if health.shadow is not None}
    gathered = gather(said, known_versions(connection, named), now)
    if gathered.unknown:
        _LOG.warning("devices spoke %d times of versions that the registry does not know", gathered.unknown)
    add_health(connection, gathered.windows, gathered.shadows, gathered.latencies)


def _totals(
    decided: Collection[Sequenced[Envelope]],
    rows: Mapping[str, DeviceRow],
    changes: Sequence[DeviceChange],
    refused: int,
) -> Totals:
    return Totals(
        accepted=sum(len(result.accepted) for result in decided),
        duplicates=sum(result.duplicates for result in decided),
        gaps=sum(result.gaps for result in decided),
        stale=sum(result.stale for result in decided),
        malformed=sum(change.row.malformed - rows[change.row.device_id].malformed for change in changes),
        refused=refused,
    )
