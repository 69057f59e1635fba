"""The truths of single devices, read before a period's verdict and remembered with it.

Reading and stepping the detectors may take seconds in a large fleet, so it is done before the transaction of the
verdict; what it comes to is written there, and the outcomes are used up there. So a crash between costs nothing, and
nothing counts twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import Any

import msgspec
import numpy as np

from hub.monitoring.device_errors import DeviceErrors, ErrorVerdict, Truths, judge_errors
from hub.store.database import Connection
from hub.store.device_errors import outcomes_of_period, put_errors, states_of
from hub.store.drift import Pending

__all__ = ["JudgedErrors", "judge_truths", "listed_errors", "remember_truths"]

_STATES = msgspec.msgpack.Decoder(DeviceErrors)
_RISEN_COUNT = 200
_SUSPECTS_COUNT = 10


@dataclass(frozen=True, slots=True)
class JudgedErrors:
    """Verdicts by device, and what is to be remembered."""

    verdicts: list[ErrorVerdict]
    states: dict[str, DeviceErrors]


def judge_truths(connection: Connection, pending: Pending, expected: float) -> JudgedErrors:
    """The devices that told truths in the period; changes nothing."""
    rows = outcomes_of_period(connection, pending.model, pending.version, pending.period_s)
    told = [
        Truths(device_id=device_id, profile=profile, outcomes=np.concatenate([_bits(row) for row in group]))
        for (device_id, profile), group in groupby(rows, key=lambda row: (row.device_id, row.profile))
    ]
    stored = states_of(connection, pending.model, pending.version, [one.device_id for one in told])
    known = {device_id: _STATES.decode(state) for device_id, state in stored.items()}
    return JudgedErrors(*judge_errors(told, known, expected, pending.period_s))


def remember_truths(connection: Connection, pending: Pending, judged: JudgedErrors, now: float) -> None:
    """In the transaction of the verdict."""
    states = {device_id: msgspec.msgpack.encode(state) for device_id, state in judged.states.items()}
    put_errors(connection, pending.model, pending.version, pending.period_s, states, now)


def listed_errors(judged: JudgedErrors) -> dict[str, Any]:
    """As JSON values: how many devices' errors have risen, these, and those behind a rise that only the sum shows."""
    risen = sorted((v for v in judged.verdicts if v.risen), key=lambda v: (v.p, v.device_id))
    rest = sorted((v for v in judged.verdicts if not v.risen and v.share > 0), key=lambda v: (-v.share, v.device_id))
    told = risen[:_RISEN_COUNT] + rest[:_SUSPECTS_COUNT]
    return {"risen": len(risen), "errors": [msgspec.to_builtins(one) for one in told]}


def _bits(row: Any) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.unpackbits(np.frombuffer(bytes(row.outcomes), np.uint8), count=row.count).astype(np.int64)
