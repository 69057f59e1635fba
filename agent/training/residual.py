"""What rounding left out of a device's last update of a run, kept for its next one (`shared.federated.codec`).

Rules: it counts once or never. It leaves the disk before the update goes out and comes back, as what the new update
left out, once that was delivered; a power cut or a broken connection in between costs it, and costs the run one
rounding, but nothing is ever sent twice. It belongs to one run and goes with it. It is encrypted with the key of the
samples, so erasing them erases it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from agent.training.records import head, scan, seal
from agent.training.sample_key import SampleKey
from shared import durable, limits
from shared.errors import NotFound, TooLarge
from shared.federated.vector import Vector

__all__ = ["Residual"]

_NAME = "residual-"
_LIMIT_BYTES = 4 * limits.MAX_FEDERATED_WEIGHTS_COUNT + 64 * limits.KIB


class Residual:
    """That of one run, in `folder`. key: None keeps it in memory only. Other runs' residuals are dropped."""

    def __init__(self, folder: Path, run: str, total: int, key: SampleKey | None) -> None:
        self._file = folder / f"{_NAME}{run}"
        self._run = run
        self._total = total
        self._key = key
        self._next: Vector | None = None
        self._under_way = False
        for other in folder.glob(f"{_NAME}*"):
            if other != self._file:
                durable.remove(other)
        self._value = self._load()

    def take(self) -> Vector | None:
        """What the last delivered update left out; None: nothing."""
        return self._value

    def leave(self, left_out: Vector) -> None:
        """An update goes out that leaves this out; from here on the one before counts no more."""
        if self._value is not None and self._file.exists():
            durable.remove(self._file)
        self._value, self._next = None, left_out if left_out.any() else None
        self._under_way = True

    def delivered(self) -> None:
        """The hub has the update; durable when this returns. Without one under way nothing changes."""
        if not self._under_way:
            return
        self._under_way = False
        self._value, self._next = self._next, None
        if self._value is not None and self._key is not None:
            content = self._run.encode() + b"\n" + self._value.astype("<f4").tobytes()
            durable.write_file(self._file, head(self._key.id) + seal(self._key.secret, self._key.id, content))

    def forget(self) -> None:
        """Drop it."""
        self._value, self._next, self._under_way = None, None, False
        durable.remove(self._file)

    def _load(self) -> Vector | None:
        if self._key is None:
            return None
        try:
            data = durable.read_file(self._file, limit=_LIMIT_BYTES)
        except (NotFound, TooLarge):
            return None
        found = next(scan(data, self._key.secret, self._key.id), None)
        run, _, body = (b"" if found is None else found.content).partition(b"\n")
        if run != self._run.encode() or len(body) != 4 * self._total:
            return None
        vector = np.frombuffer(body, "<f4").astype(np.float32)
        return vector if np.isfinite(vector).all() else None
