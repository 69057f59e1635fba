"""The daemon's side of renewal, with the real child and a real hub."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.identity.enrol import Wish, enrol
from agent.identity.renewing import Renewing
from agent.identity.store import IdentityStore
from agent.paths import AgentPaths
from shared.clock import Clock, SystemClock
from shared.wire.up import Event
from tests.agent_identity.tiny_hub import TinyHub, error


class LaterClock(SystemClock):
    """The machine's clock, some days ahead."""

    days = 0.0

    def now(self) -> float:
        return super().now() + self.days * 86400


@pytest.fixture
def paths(tmp_path: Path, hub: TinyHub) -> AgentPaths:
    found = AgentPaths(tmp_path / "state")
    enrol(found, hub.join(), Wish(profile="raspberry-pi-4", device_id="dev1"))
    return found


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - files and lists set no event
            await asyncio.sleep(0.01)


def renewing(paths: AgentPaths, clock: Clock, calls: list[str], events: list[Event]) -> Renewing:
    return Renewing(
        paths.root,
        IdentityStore(paths.identity),
        clock=clock,
        random=lambda: 0.5,
        renewed=lambda: calls.append("renewed"),
        report=events.append,
    )


async def run_until(part: Renewing, condition: Callable[[], bool]) -> None:
    task = asyncio.create_task(part.run())
    try:
        await until(condition)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_certificate_that_is_due_is_renewed_once(paths: AgentPaths) -> None:
    store = IdentityStore(paths.identity)
    before = store.validity()
    calls: list[str] = []
    events: list[Event] = []
    clock = LaterClock()
    clock.days = 1.9  # of four days, of which one has passed when it was issued
    await run_until(renewing(paths, clock, calls, events), lambda: bool(calls))
    assert store.validity().sha256 != before.sha256
    assert [event.code for event in events][:1] == ["identity.renewed"]


async def test_a_fresh_certificate_is_left_alone(hub: TinyHub, paths: AgentPaths) -> None:
    seen = len(hub.seen)
    task = asyncio.create_task(renewing(paths, SystemClock(), [], []).run())
    done, _ = await asyncio.wait({task}, timeout=0.1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert not done
    assert len(hub.seen) == seen


async def test_a_refused_renewal_is_told_and_changes_nothing(hub: TinyHub, paths: AgentPaths) -> None:
    hub.routes["POST /v1/device/renew"] = lambda _name, _headers, _body: error(403, "device.revoked", "Revoked.")
    store = IdentityStore(paths.identity)
    before = store.validity()
    calls: list[str] = []
    events: list[Event] = []
    clock = LaterClock()
    clock.days = 2.5
    await run_until(renewing(paths, clock, calls, events), lambda: bool(events))
    assert store.validity() == before
    assert [event.code for event in events] == ["device.revoked"]
    assert calls == []
