"""What devices told of their machines over the last day, so that each can be held against its own past.

Rules: one row a moment for all devices, at most `KEPT_COUNT` of them, so memory and disk are bounded by the fleet and
not by its history; a hub that is started again, or several hubs, add no moment before its time.
"""

from __future__ import annotations

import numpy as np

from hub.monitoring.health import READINGS, DeviceHealth, Moment, oddness
from hub.store.database import Database
from hub.store.device_history import add_moment, moments, newest_moment_s, readings_of, system_table
from hub.store.failures import plain_errors
from shared.clock import Clock

__all__ = ["EVERY_S", "KEPT_COUNT", "DeviceHistory"]

EVERY_S = 1800.0
KEPT_COUNT = 48
_MOST_DEVICES_COUNT = 200_000


class DeviceHistory:
    """`run` is work of the scheduler; `top` is what people ask."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    def run(self) -> int:
        """Keep what all devices told last, if it is time; returns of how many. Error `database.unavailable`."""
        now = self._clock.now()
        with plain_errors(), self._db.write_rows() as connection:
            newest = newest_moment_s(connection)
            if newest is not None and 0 <= now - newest < EVERY_S * 0.9:
                return 0
            table = system_table(connection, READINGS, _MOST_DEVICES_COUNT)
            if table.ids:
                names, values = "\n".join(table.ids).encode(), table.values.astype("<f4").tobytes()
                add_moment(connection, now, names, values, KEPT_COUNT)
            return len(table.ids)

    def top(self, limit: int) -> list[DeviceHealth]:
        """The oddest devices, among their peers or against their own past."""
        with self._db.read() as connection:
            table = system_table(connection, READINGS, _MOST_DEVICES_COUNT)
            past = [_moment(names, values) for names, values in moments(connection, KEPT_COUNT)]
            found = oddness(Moment(np.array(table.ids, str), table.values), np.array(table.profiles, str), past)
            order = np.lexsort((np.arange(len(table.ids)), -found.score))[:limit].tolist()
            said = readings_of(connection, [table.ids[i] for i in order])
        top = []
        for i in order:
            by_past = bool(found.past[i] > found.peers[i])
            score = float(found.score[i])
            column = found.past_reading[i] if by_past else found.peers_reading[i]
            top.append(
                DeviceHealth(
                    device_id=table.ids[i],
                    profile=table.profiles[i],
                    score=score,
                    reading=READINGS[column] if score else "",
                    against=("past" if by_past else "peers") if score else "",
                    peers=float(found.peers[i]),
                    past=float(found.past[i]),
                    readings=said.get(table.ids[i], {}),
                )
            )
        return top


def _moment(names: bytes, values: bytes) -> Moment:
    ids = np.array(names.decode().split("\n"), str)
    kept = np.frombuffer(values, "<f4").reshape(len(ids), -1)[:, : len(READINGS)]
    table = np.full((len(ids), len(READINGS)), np.nan, "<f4")  # a hub before this one knew fewer readings
    table[:, : kept.shape[1]] = kept
    return Moment(ids, table)
