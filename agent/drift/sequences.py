"""Faults that only a sequence of rows shows: stuck, constant, clipped, another unit, the same row again. Pure.

Integers and a few running numbers for each feature, of constant size; all at once for many rows. A feature is *stuck*
when it varied before and then has one value for longer than the reference says can happen by chance; *constant* when it
never varied; *clipped* when many rows lie exactly on the window's least or greatest value and the reference's do not.
Rows that are the same in every feature say nothing about one of them: they are duplicates and left out of the rest,
unless the reference is full of such rows too.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from agent.drift.units import UNITS, changed_unit
from shared.drift.reference import Feature
from shared.preprocess.kernels import Array
from shared.wire.window import Finding

__all__ = ["Sequences"]

_RECENT_ROWS = 32
_COMMON_SHARE = 0.05
_FEWEST_CLIPPED = 6
_DOUBT = 5.0
_CARRIED = (("last", "<f4"), ("run", "<i4"), ("varied", "?"))
_WINDOWED = (
    ("stuck", "<u4"),
    ("constant", "<u4"),
    ("least", "<f4"),
    ("most", "<f4"),
    ("at_least", "<u4"),
    ("at_most", "<u4"),
    ("rows", "<u4"),
    ("sum", "<f8"),
    ("squares", "<f8"),
)


class Sequences:
    """The state over the features of the input. `duplicates`: rows of this window that came again.

    units: the changes of unit that can happen to these features.
    """

    def __init__(
        self,
        features: Sequence[Feature],
        duplicate_share: float = 0.0,
        units: Sequence[tuple[str, float, float]] = UNITS,
    ) -> None:
        self._units = units
        self._leaves_out = len(features) > 1 and duplicate_share < _COMMON_SHARE
        self._features = list(features)
        self._numbers = np.array([feature.type != "category" for feature in features])
        self._stuck_rows = np.array([f.stuck_rows or (1 << 30) for f in features])
        self._missing = np.array([np.nan if f.missing is None else f.missing for f in features], np.float32)
        self._mean = np.array([feature.mean for feature in features])
        self._scale = np.array([feature.std or 1.0 for feature in features])
        self._state = np.zeros(len(features), [*_CARRIED, *_WINDOWED])
        self._recent: OrderedDict[bytes, None] = OrderedDict()
        self._begun = False
        self.duplicates = 0
        self.begin_window()

    def begin_window(self) -> None:
        """Forget what belongs to a window; what carries over (the last value, how long it lasts) stays."""
        for name, _kind in _WINDOWED:
            self._state[name] = 0
        self._state["least"], self._state["most"] = np.inf, -np.inf
        self.duplicates = 0

    def add(self, values: Array) -> None:
        """Look at [n, F] rows in order."""
        fresh = self._fresh(values)
        if not self._leaves_out:
            fresh = values
        if not len(fresh):
            return
        self._runs(fresh)
        known = np.where(fresh == self._missing, np.float32(np.nan), fresh)
        known[~np.isfinite(known)] = np.nan
        self._extremes(known)
        self._moments(known)

    def _fresh(self, values: Array) -> Array:
        keep = np.ones(len(values), bool)
        for index, row in enumerate(values):
            key = row.tobytes()
            if key in self._recent:
                keep[index] = False
                self._recent.move_to_end(key)
            else:
                self._recent[key] = None
                if len(self._recent) > _RECENT_ROWS:
                    self._recent.popitem(last=False)
        self.duplicates += len(values) - int(keep.sum())
        return values[keep]

    def _runs(self, values: Array) -> None:
        state, count = self._state, len(values)
        same = np.empty(values.shape, bool)
        same[0] = (values[0] == state["last"]) & self._begun
        same[1:] = values[1:] == values[:-1]
        changed = ~same
        if not self._begun:
            changed[0] = False
        rows = np.arange(count, dtype=np.int32)[:, np.newaxis]
        broken = np.maximum.accumulate(np.where(same, np.int32(-1), rows), axis=0)
        run = np.where(broken >= 0, rows - broken, state["run"] + rows + self._begun)
        varied = np.logical_or.accumulate(changed, axis=0) | state["varied"]
        held = run + 1 >= self._stuck_rows
        state["stuck"] += (held & varied).sum(axis=0, dtype=np.uint32)
        state["constant"] += (held & ~varied).sum(axis=0, dtype=np.uint32)
        state["last"], state["run"] = values[-1], np.minimum(run[-1], 1 << 29)
        state["varied"] = varied[-1]
        self._begun = True

    def _extremes(self, known: Array) -> None:
        for name, count, found, better in (
            ("least", "at_least", np.fmin.reduce(known, axis=0), np.less),
            ("most", "at_most", np.fmax.reduce(known, axis=0), np.greater),
        ):
            before = self._state[name]
            further = better(found, before)
            here = (known == found).sum(axis=0, dtype=np.uint32)
            self._state[count] = np.where(further, here, self._state[count] + np.where(found == before, here, 0))
            self._state[name] = np.where(further, found, before)

    def _moments(self, known: Array) -> None:
        z = (known - self._mean) / self._scale
        there = np.isfinite(z)
        z[~there] = 0.0
        self._state["rows"] += there.sum(axis=0, dtype=np.uint32)
        self._state["sum"] += z.sum(axis=0)
        self._state["squares"] += (z * z).sum(axis=0)

    def findings(self) -> list[Finding]:
        """What this window shows so far, at most one cause a feature."""
        found = (self._finding(index) for index in range(len(self._features)))
        return [finding for finding in found if finding is not None]

    def _finding(self, index: int) -> Finding | None:
        state, feature = self._state[index], self._features[index]
        for cause in ("constant", "stuck"):
            if state[cause]:
                return Finding(feature=index, cause=cause, rows=int(state[cause]))
        rows = int(state["rows"])
        if not rows or not self._numbers[index]:
            return None
        mean = float(state["sum"]) / rows
        std = math.sqrt(max(0.0, float(state["squares"]) / rows - mean * mean)) * self._scale[index]
        unit = changed_unit(
            rows=rows,
            mean=self._mean[index] + mean * self._scale[index],
            std=std,
            old_mean=feature.mean,
            old_std=feature.std,
            units=self._units,
        )
        if unit:
            return Finding(feature=index, cause="unit", rows=rows, detail=unit)
        piled, expected = int(max(state["at_least"], state["at_most"])), rows * feature.extreme_share
        if piled >= _FEWEST_CLIPPED and piled > expected + _DOUBT * math.sqrt(expected) + 1:
            return Finding(feature=index, cause="clipped", rows=piled)
        return None

    def dump(self) -> bytes:
        """The state as bytes, for a snapshot."""
        return bytes([self._begun]) + self.duplicates.to_bytes(8, "little") + self._state.tobytes()

    def load(self, data: bytes) -> bool:
        """Take a dumped state; False, and nothing changed, when it is not one of these features."""
        if len(data) != 9 + self._state.nbytes:
            return False
        self._begun, self.duplicates = data[0] == 1, int.from_bytes(data[1:9], "little")
        self._state = np.frombuffer(data, self._state.dtype, offset=9).copy()
        return True
