"""Closed periods are judged, oldest first: the fleet, each profile, and each device; verdicts are kept.

Rules: a period is judged once, some time after its end, so that what was on its way is in it. The fleet is the sum of
its profiles. Each period is one transaction: verdicts and what is remembered for the next one stand or fall together.
A version whose reference cannot be read is left for later. A device is judged by its newest window, which may have
come after the period while the verdict waited; no window is judged twice, so none confirms its own drift.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np

from hub.monitoring.devices import DeviceVerdict, DeviceWindow, judge_devices, silent
from hub.monitoring.examine import Severity, reference_cells
from hub.monitoring.judge import Memory, judge, listed
from hub.monitoring.pooled import expected_rate
from hub.monitoring.references import References, Watched
from hub.monitoring.sums import Sums, merged
from hub.monitoring.truths import JudgedErrors, judge_truths, listed_errors, remember_truths
from hub.store.database import Connection, Database
from hub.store.drift import (
    Pending,
    ResultRow,
    SumRow,
    latest_windows,
    memory_of,
    pending_periods,
    put_result,
    set_found,
    silent_devices,
    sums_of,
)
from hub.store.failures import plain_errors
from shared.clock import Clock
from shared.drift.check import read_window
from shared.errors import InvalidInput
from shared.wire.window import Window

__all__ = ["DEVICES", "FLEET", "Evaluation", "sums_from"]

FLEET, DEVICES = "fleet", "devices"
_LOG = logging.getLogger(__name__)
_AT_ONCE = 100
_NAMED_COUNT = 200
_GRACE_S = 60.0
_WINDOWS = msgspec.msgpack.Decoder(Window)
_MEMORIES = msgspec.msgpack.Decoder(Memory)


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What was found of a device, and in which window of its."""

    of: str = ""
    names: tuple[str, ...] = ()


def _found(stored: Any) -> Found:
    return msgspec.convert(stored, Found) if isinstance(stored, dict) else Found(names=tuple(stored))


def _name(window: Window) -> str:
    return f"{window.series}/{window.window_id}"


def sums_from(row: SumRow) -> Sums:
    """The sums of a stored row."""
    outcomes = np.frombuffer(row.outcomes, np.uint8).astype(np.int64)
    return Sums(
        vector=np.frombuffer(row.vector, "<i8").astype(np.int64),
        windows=row.windows,
        rows=row.rows,
        predicted=row.predicted,
        skipped=row.skipped,
        labelled=row.labelled,
        errors=row.errors,
        unknown=row.unknown,
        variance=row.variance,
        outcomes=[outcomes] if outcomes.size else [],
    )


class Evaluation:
    """Work of the scheduler; `on_judged` hears of the verdicts of a period, in their transaction."""

    def __init__(self, db: Database, clock: Clock, references: References, period_s: int) -> None:
        self._db = db
        self._clock = clock
        self._references = references
        self._period_s = period_s
        self._listeners: list[Callable[[Connection, Sequence[ResultRow]], None]] = []

    def on_judged(self, hear: Callable[[Connection, Sequence[ResultRow]], None]) -> None:
        """Have `hear` called with each period's verdicts."""
        self._listeners.append(hear)

    def run(self) -> int:
        """Judge what is closed; returns how many periods. Error `database.unavailable`."""
        closed_s = self._clock.now() - self._period_s - min(_GRACE_S, self._period_s / 2.0)
        with plain_errors(), self._db.read() as connection:
            waiting = pending_periods(connection, closed_s, _AT_ONCE)
        done = 0
        for pending in waiting:
            pair = (pending.model, pending.version)
            with plain_errors(), self._db.read() as connection:
                watched = self._references.get(connection, [pair]).get(pair)
                if watched is None:
                    continue
                errors = judge_truths(connection, pending, _expected(watched)) if not pending.arm else None
            with plain_errors(), self._db.write_rows() as connection:
                self._judge(connection, pending, watched, errors)
            done += 1
        return done

    def _judge(self, connection: Connection, pending: Pending, watched: Watched, errors: JudgedErrors | None) -> None:
        parts = {f"profile:{row.profile}": sums_from(row) for row in sums_of(connection, pending)}
        levels = {FLEET: merged(parts.values(), watched.shape), **parts}
        memories = memory_of(connection, pending)
        results = [
            self._level(pending, level, sums, watched, memories.get(level, b"")) for level, sums in levels.items()
        ]
        if errors is not None:
            results.append(self._devices(connection, pending, watched, levels[FLEET], errors))
            remember_truths(connection, pending, errors, self._clock.now())
        put_result(connection, results)
        for hear in self._listeners:
            hear(connection, results)

    def _level(self, pending: Pending, level: str, sums: Sums, watched: Watched, state: bytes) -> ResultRow:
        memory = _MEMORIES.decode(state) if state else Memory()
        period = (pending.period_s, pending.period_s + self._period_s)
        verdict, kept = judge(sums, watched.shape, watched.reference, watched.calibration, memory, period)
        return _row(pending, level, verdict.severity, verdict.rows, listed(verdict), msgspec.msgpack.encode(kept))

    def _devices(
        self, connection: Connection, pending: Pending, watched: Watched, fleet: Sums, errors: JudgedErrors
    ) -> ResultRow:
        verdicts = self._drifted(connection, pending, watched)
        said = _named(verdicts) | listed_errors(errors)
        worst = max(_worst(verdicts), Severity.PERFORMANCE if said["risen"] else Severity.NONE)
        return _row(pending, DEVICES, worst, fleet.rows, said, b"")

    def _drifted(self, connection: Connection, pending: Pending, watched: Watched) -> list[DeviceVerdict]:
        if watched.reference is None:
            return []
        windows: list[DeviceWindow] = []
        for row in latest_windows(connection, pending):
            try:
                window = _WINDOWS.decode(bytes(row.window))
                counts = read_window(window, watched.reference, watched.sha256)
            except (InvalidInput, msgspec.MsgspecError) as error:  # it was read once: the disk is at fault
                _LOG.error("the newest window of %s cannot be read: %s", row.device_id, error)
                continue
            found = _found(row.found)
            if window.epsilon or found.of == _name(window):
                continue  # noise hides one device on purpose; or this window was judged already
            windows.append(
                DeviceWindow(
                    device_id=row.device_id,
                    profile=row.profile,
                    window=window,
                    cells=counts.cells,
                    before=found.names,
                )
            )
        cells = reference_cells(watched.reference, pending.period_s, pending.period_s + self._period_s)
        verdicts = judge_devices(windows, watched.reference, cells)
        judged = [(w, Found(of=_name(w.window), names=v.found)) for w, v in zip(windows, verdicts, strict=True)]
        news = {w.device_id: msgspec.to_builtins(found) for w, found in judged if w.before or found.names}
        set_found(connection, pending.model, news)
        if watched.reference.rate.least_per_h:
            quiet = silent_devices(connection, pending, self._period_s, _NAMED_COUNT)
            verdicts += [silent(device_id, profile) for device_id, profile in quiet]
        return verdicts


def _expected(watched: Watched) -> float:
    """The error rate that the calibration promises; 0: there is none."""
    if watched.calibration is None:
        return 0.0
    total = sum(watched.calibration.total)
    return expected_rate(total - sum(watched.calibration.correct), total)


def _worst(verdicts: Sequence[DeviceVerdict]) -> Severity:
    return max((verdict.severity for verdict in verdicts), default=Severity.NONE)


def _named(verdicts: Sequence[DeviceVerdict]) -> dict[str, object]:
    told = sorted((v for v in verdicts if v.severity), key=lambda v: (-v.severity, -v.js, v.device_id))
    return {
        "devices": len(verdicts),
        "faulty": sum(bool(v.faults) for v in verdicts),
        "drifted": sum(bool(v.drifted) for v in verdicts),
        "named": [
            {name: getattr(v, name) for name in ("device_id", "profile", "faults", "drifted", "causes", "js")}
            for v in told[:_NAMED_COUNT]
        ],
    }


def _row(
    pending: Pending, level: str, severity: Severity, rows: int, result: dict[str, object], state: bytes
) -> ResultRow:
    return ResultRow(
        model=pending.model,
        period_s=pending.period_s,
        version=pending.version,
        arm=pending.arm,
        level=level,
        severity=int(severity),
        rows=rows,
        result=result,
        state=state,
    )
