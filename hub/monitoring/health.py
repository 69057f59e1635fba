"""How odd a device's own readings are, among its peers and against its own past: robust scores. Pure, and vectorised.

Rules: peers are the devices of the same profile; fewer than `LEAST_PEERS` say nothing, nor do fewer than `LEAST_PAST`
earlier readings of the device. A reading scores how many robust deviations (median and MAD) it lies on the bad side of
the median, or on either side where both are bad (a clock); a deviation is at least what the reading is measured to
(`_FLOOR`), so that a fleet that is all alike, or a device that never changed, does not make a small difference large.
A device's score is the worst of both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

__all__ = ["LEAST_PAST", "LEAST_PEERS", "READINGS", "DeviceHealth", "Moment", "Oddness", "oddness"]

LEAST_PEERS = 5
LEAST_PAST = 8
_MAD = 1.4826
_FLOOR: Mapping[str, tuple[int, float]] = {
    "cpu_percent": (1, 5.0),
    "load_1m": (1, 0.5),
    "temperature_c": (1, 2.0),
    "memory_available_bytes": (-1, 16e6),
    "disk_free_bytes": (-1, 64e6),
    "restarts": (1, 1.0),
    "battery_percent": (-1, 5.0),
    "link_rtt_s": (1, 0.5),
    "link_reconnects": (1, 1.0),
    "clock_ahead_s": (0, 2.0),
}
"""By reading: which side is bad (0: both), and the least deviation."""
READINGS = tuple(_FLOOR)
"""The order of the columns of a table of readings; new ones come last, because tables are kept."""
Table = NDArray[np.float64]
Ids = NDArray[np.str_]


class Moment(NamedTuple):
    """Readings of many devices at one time. ids: ascending. values: [devices, READINGS], NaN where not told."""

    ids: Ids
    values: NDArray[np.floating[Any]]


class DeviceHealth(msgspec.Struct, frozen=True, kw_only=True):
    """score: robust deviations of the worst reading (`reading`), the larger of `peers` and `past`; 0: nothing is worse
    than usual, or there is nothing to compare with. against: which of the two. readings: as the device told them."""

    device_id: str
    profile: str
    score: float
    reading: str
    against: str
    peers: float
    past: float
    readings: dict[str, Any]


class Oddness(NamedTuple):
    """By device: the worst score among its peers and against its past, and the column of `READINGS` of each."""

    peers: Table
    peers_reading: NDArray[np.intp]
    past: Table
    past_reading: NDArray[np.intp]

    @property
    def score(self) -> Table:
        """The worse of both."""
        return np.maximum(self.peers, self.past)


def oddness(now: Moment, profiles: Ids, past: Sequence[Moment]) -> Oddness:
    """Scores of every device of `now`; `profiles` in its order, `past` in any order."""
    among = np.zeros(now.values.shape)
    for profile in np.unique(profiles):
        mine = profiles == profile
        values = np.asarray(now.values[mine], np.float64)
        for column in range(len(READINGS)):
            among[mine, column] = _scores(values[:, column], values[np.newaxis, :, column], column, LEAST_PEERS)
    own = np.zeros(now.values.shape)
    places = [_places(moment.ids, now.ids) for moment in past]
    for column in range(len(READINGS)):  # one reading at a time bounds the memory to moments times devices
        earlier = np.full((len(now.ids), len(past)), np.nan)
        for k, (moment, (there, at)) in enumerate(zip(past, places, strict=True)):
            earlier[there, k] = moment.values[at, column]
        own[:, column] = _scores(np.asarray(now.values[:, column], np.float64), earlier, column, LEAST_PAST)
    return Oddness(among.max(axis=1), among.argmax(axis=1), own.max(axis=1), own.argmax(axis=1))


def _places(earlier: Ids, ids: Ids) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
    """Which of `ids` are in `earlier`, and where these are."""
    if not len(earlier):
        return np.zeros(len(ids), bool), np.zeros(0, np.intp)
    at = np.minimum(np.searchsorted(earlier, ids), len(earlier) - 1)
    there = earlier[at] == ids
    return there, at[there]


def _scores(values: Table, others: Table, column: int, least: int) -> Table:
    """[n] values against the rows of others [n or 1, m]; 0 where one of them is not known, or too few others are."""
    side, floor = _FLOOR[READINGS[column]]
    middle, known = _median(others)
    spread = _MAD * _median(np.abs(others - middle[:, np.newaxis]))[0]
    off = values - middle
    score = (side * off if side else np.abs(off)) / np.maximum(spread, floor)
    return np.where((known >= least) & np.isfinite(score), np.maximum(score, 0.0), 0.0)


def _median(rows: Table) -> tuple[Table, NDArray[np.intp]]:
    """The median of what is known in each row (NaN: nothing is), and how many that are."""
    known = np.sum(~np.isnan(rows), axis=1)
    if not rows.shape[1]:
        return np.full(len(rows), np.nan), known
    ordered = np.sort(rows, axis=1)  # NaN comes last
    low, high = np.maximum(known - 1, 0) // 2, np.minimum(known // 2, rows.shape[1] - 1)
    pairs = np.take_along_axis(ordered, np.stack([low, high], axis=1), axis=1)
    return pairs.mean(axis=1), known
