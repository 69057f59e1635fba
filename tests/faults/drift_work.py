"""The counts of drift under cuts: what was kept is told, nothing is told twice as something else, and ids only grow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from agent.drift.keeper import DriftKeeper
from agent.drift.monitor import Monitor
from agent.drift.settings import DriftSettings
from agent.outbox.outbox import Outbox
from shared import durable
from shared.clock import SystemClock
from shared.errors import SkerryError
from shared.wire.up import decode_body, decode_envelope
from shared.wire.window import Window
from tests.drift.kit import ColumnsModel, manifest_of
from tests.faults.facts import Facts
from tests.faults.life import Broken
from tests.faults.marks import mark

__all__ = ["TABLE", "DriftScenario"]

TABLE = np.random.default_rng(4).normal(size=(400, 4)).astype(np.float32)
_SETTINGS = DriftSettings(window_s=30.0, snapshot_s=10.0)
_ROUNDS = 9
_ALL = 1 << 30


class _Clock:
    """Time by hand, so that a window ends when the scenario says so."""

    def __init__(self, at_s: float) -> None:
        self.at_s = at_s

    def now(self) -> float:
        return self.at_s

    def monotonic(self) -> float:
        return self.at_s


class _Life:
    """A keeper with its outbox over a folder, from its start."""

    def __init__(self, facts: Facts, root: Path, at_s: float) -> None:
        self.clock = _Clock(at_s)
        self.outbox = Outbox(root / "outbox.db", device_id=facts.device_id, limit_bytes=1 << 20, clock=SystemClock())
        self.events: list[str] = []
        self.keeper = DriftKeeper(
            root / "drift",
            _SETTINGS,
            put=self.outbox.put,
            post=lambda event: self.events.append(event.code),
            clock=self.clock,
            random=lambda: 1.0,
        )
        self._root = root

    async def start(self) -> Monitor:
        await self.outbox.start()
        durable.make_dir(self._root / "drift")
        manifest = msgspec.structs.replace(manifest_of(4), reference="reference.json")
        monitor = self.keeper.open(self._root / "bundle", manifest, None)
        if monitor is None or monitor.reference is None:
            raise Broken("the reference cannot be read")
        self.keeper.serve("table", monitor)
        return monitor

    async def windows(self) -> list[Window]:
        pending = await self.outbox.pending(0, count=100_000, limit_bytes=_ALL)
        bodies = [decode_body(decode_envelope(message.data)) for message in pending]
        return [body for body in bodies if isinstance(body, Window)]


class DriftScenario:
    """Rows, snapshots and windows. Marks: `fed N` before row N is seen, `kept N` once N rows are on the disk."""

    async def act(self, facts: Facts, root: Path, warm: bool) -> None:
        life, model = _Life(facts, root, 1e9), ColumnsModel(4)
        monitor = await life.start()
        fed = 0
        for _ in range(_ROUNDS):
            mark(root, f"fed {fed + 7}")
            for _ in range(7):
                x = TABLE[fed : fed + 1]
                monitor.observe(x, model.predict(x), model.embedding)
                fed += 1
            life.clock.at_s += 10.5
            await life.keeper.tick()
            mark(root, f"kept {fed}")
        await life.keeper.close()
        await life.outbox.close()

    def check(self, facts: Facts, root: Path, marks: Sequence[str]) -> None:
        """The counts are read through recovery only."""

    async def recover(self, facts: Facts, root: Path, marks: Sequence[str]) -> None:
        life = _Life(facts, root, 2e9)
        await life.start()
        try:
            life.clock.at_s += 31.0
            await life.keeper.tick()
            if life.events:
                raise Broken(f"the snapshot was not whole: {life.events}")
            self._judge(await life.windows(), marks)
        except SkerryError as error:
            raise Broken(f"the counts cannot be told: {error}") from error
        finally:
            await life.outbox.close()

    def _judge(self, windows: Sequence[Window], marks: Sequence[str]) -> None:
        numbers = {word: [int(text.split()[1]) for text in marks if text.startswith(word)] for word in ("fed", "kept")}
        seen: dict[tuple[str, int], Window] = {}
        last = 0
        for window in windows:
            key = window.series, window.window_id
            if seen.setdefault(key, window) != window:
                raise Broken(f"window {key} was told with two contents")
            if window.window_id < last:
                raise Broken(f"window {window.window_id} came behind {last}")
            last = window.window_id
        if len({window.series for window in windows}) > 1:
            raise Broken("a second series began although nothing was lost")
        told = sum(window.rows for window in seen.values())
        if not marks:
            return
        if told > max(numbers["fed"], default=0) or told < max(numbers["kept"], default=0):
            raise Broken(f"{told} rows were told of {numbers['fed'][-1:]}, and {numbers['kept'][-1:]} were kept")
