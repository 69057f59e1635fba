"""A hub that is killed again and again while real agents deliver: in the end every count is exact.

Real processes all through: `skerry-hub serve` with its broker and its database, agents with their outboxes. Nothing
that an outbox has made is missing at the hub, and nothing is counted twice.
"""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import func, select

from agent.outbox.rows import State
from agent.paths import AgentPaths
from hub.store.database import Database
from hub.store.schema import device_events, device_models, device_status
from tests.daemon.device import RunningAgent, running
from tests.e2e.fleet import HubFolder, outbox_state, put_events, until

DEVICES = ("pi-1", "pi-2", "pi-3")
EVENTS, KILLS, PREDICTIONS = 1200, 3, 30


class Ledger:
    """What the hub's database says, read beside the hub."""

    def __init__(self, hub: HubFolder) -> None:
        self.database = Database(f"sqlite:///{hub.data / 'hub.db'}")

    def messages(self) -> int:
        """How many messages of all devices were counted."""
        with self.database.read() as connection:
            return int(connection.scalar(select(func.sum(device_status.c.messages))) or 0)

    def status(self, device_id: str) -> tuple[str, int, int, int, int]:
        columns = (
            device_status.c.epoch,
            device_status.c.watermark,
            device_status.c.messages,
            device_status.c.dropped,
            device_status.c.malformed,
        )
        with self.database.read() as connection:
            row = connection.execute(select(*columns).where(device_status.c.device_id == device_id)).one()
        return row.epoch, row.watermark, row.messages, row.dropped, row.malformed

    def events(self, device_id: str) -> Counter[str]:
        """How often each of the test's events is there."""
        mine = device_events.c.device_id == device_id, device_events.c.code.startswith("n.")
        with self.database.read() as connection:
            return Counter(connection.scalars(select(device_events.c.code).where(*mine)))

    def requests(self, device_id: str) -> int:
        found = select(func.sum(device_models.c.requests)).where(device_models.c.device_id == device_id)
        with self.database.read() as connection:
            return int(connection.scalar(found) or 0)


def expected(state: State) -> tuple[str, int, int, int, int]:
    made = state.next_seq - 1
    return state.epoch, made, made, 0, 0


def deliver_through_kills(hub: HubFolder, ledger: Ledger, agents: list[RunningAgent]) -> None:
    """Kill the hub each time that it has taken another share, and let it finish after the last time."""
    before, total = ledger.messages(), len(agents) * EVENTS
    for kill in range(1, KILLS + 1):
        goal = before + kill * total // (KILLS + 1)
        with hub.serving():
            for agent in agents:
                for index in range(PREDICTIONS // KILLS):
                    agent.predict(index)
            until(lambda goal=goal: ledger.messages() >= goal, "the hub takes no messages")
    with hub.serving():
        for device, agent in zip(DEVICES, agents, strict=True):
            until(lambda device=device: len(ledger.events(device)) == EVENTS, f"events of {device} are missing")
            until(lambda device=device: ledger.requests(device) >= PREDICTIONS, f"{device} reports too few requests")
            assert agent.stop() == 0


@pytest.mark.slow
def test_nothing_is_lost_or_doubled_when_the_hub_is_killed_under_real_agents(tmp_path: Path) -> None:
    hub = HubFolder(tmp_path)
    folders = {device: AgentPaths(tmp_path / device) for device in DEVICES}
    with hub.serving():
        for device, paths in folders.items():
            hub.enrol(paths, device)
    codes = [f"n.{number}" for number in range(EVENTS)]
    for paths in folders.values():
        put_events(paths, codes)
    ledger = Ledger(hub)
    with ExitStack() as stack:
        stack.callback(ledger.database.close)
        agents = [stack.enter_context(running(paths)) for paths in folders.values()]
        deliver_through_kills(hub, ledger, agents)
        finish(hub, ledger, folders)
        for device, paths in folders.items():
            assert ledger.status(device) == expected(outbox_state(paths))
            assert ledger.events(device) == Counter(codes)
            assert ledger.requests(device) == PREDICTIONS


def finish(hub: HubFolder, ledger: Ledger, folders: dict[str, AgentPaths]) -> None:
    """Let every outbox become empty: run each agent, saying as little as it can, until nothing waits after its end."""
    with hub.serving():
        for device, paths in folders.items():
            paths.settings.write_text(paths.settings.read_text().replace("interval_s: 0.1\n", "interval_s: 3600\n", 1))
            while (state := outbox_state(paths)).pending_count:
                empty_once(ledger, device, paths, state)


def empty_once(ledger: Ledger, device: str, paths: AgentPaths, before: State) -> None:
    with running(paths) as agent:
        until(lambda: ledger.status(device)[1] >= before.next_seq, "the outbox does not move")
        until(lambda: agent.ask("/skerry/status")["hub"]["outbox_count"] == 0, "the outbox does not become empty")
        assert agent.stop() == 0
