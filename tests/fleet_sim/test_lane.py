"""A simulated installation reports what a real agent reports: held against the machine's table and a real one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from random import Random

import pytest

from agent.ota.intake import peek
from agent.ota.machine import REST, TRANSITIONS, Event, State, accepts
from scripts.fleet_sim_app.fate import Fate
from scripts.fleet_sim_app.lane import Lane, LaneParts
from scripts.fleet_sim_app.scenario import Errors, Failure
from scripts.fleet_sim_app.serving import Load, Serving
from shared.clock import SystemClock
from shared.errors import Unavailable
from shared.wire.down import Assignment
from shared.wire.up import InstallReport
from tests.ota.conftest import Release
from tests.ota.device import Device

FAILING = [state for state in State if accepts(state, Event.FAILED) and state not in (State.ROLLING_BACK, State.HELD)]


class Simulated:
    """A lane and what it reported. `fates` by version; `fetched`: versions in the order of their downloads."""

    def __init__(self, fates: dict[int, Fate] | None = None) -> None:
        self.fates = fates or {}
        self.reports: list[InstallReport] = []
        self.fetched: list[int] = []
        self.cuts = 0
        self.changed = asyncio.Event()
        clock = SystemClock()
        self.serving = Serving("digits", Load(200.0, 100.0), Random(1))
        self.lane = Lane(
            "digits",
            LaneParts(
                fetch=self._fetch, report=self._report, fate=lambda version: self.fates.get(version, Fate()),
                serving=self.serving, budget_ms=100.0, probe_s=0.0, clock=clock, random=lambda: 0.0,
                swapped=lambda: None,
            ),
        )  # fmt: skip

    async def _fetch(self, assignment: Assignment, fate: Fate) -> int:
        del fate
        self.fetched.append(assignment.version)
        if self.cuts:
            self.cuts -= 1
            raise Unavailable("download.cut", "The download ended early.", retriable=True)
        return assignment.bundle_bytes

    def _report(self, message: InstallReport) -> None:
        self.reports.append(message)
        self.changed.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Lane]:
        task = asyncio.create_task(self.lane.run())
        try:
            yield self.lane
        finally:
            task.cancel()
            await asyncio.wait({task})

    async def until(self, state: State, counter: int) -> None:
        async with asyncio.timeout(20):
            while not (
                self.reports and (self.reports[-1].state, self.reports[-1].assignment_counter) == (state, counter)
            ):
                self.changed.clear()
                await self.changed.wait()


def assignment(version: int, counter: int, **more: int) -> Assignment:
    return Assignment(
        device_id="pi-1", model="digits", version=version, counter=counter, target=f"digits/{version}.bundle",
        bundle_sha256=f"{version:064x}", bundle_bytes=1000, issued_s=1.0, expires_s=2e9, bake_s=more.get("bake_s", 0),
    )  # fmt: skip


def said(reports: Sequence[InstallReport]) -> list[tuple[object, ...]]:
    return [
        (r.assignment_counter, r.version, r.previous, r.event, r.state, r.reason_code, r.active_version, r.attempt)
        for r in reports
    ]


def hold_against_the_table(reports: Sequence[InstallReport]) -> None:
    """Every report is a transition of the machine, and continues where the one before ended."""
    at = State.IDLE
    for report in reports:
        assert State(report.previous) is at
        assert TRANSITIONS[at, Event(report.event)] is State(report.state)
        at = State(report.state)
    assert at in REST


async def test_it_says_what_a_real_agent_says(device: Device, release: Release, assign: Callable[..., bytes]) -> None:
    """First version, second, back to the first without a download, the same once more."""
    release(1)
    release(2)
    story = [assign(1, 1), assign(2, 2), assign(1, 3), assign(1, 4)]
    simulated = Simulated()
    async with device.run(), simulated.running() as lane:
        for counter, envelope in enumerate(story, 1):
            await device.assign(envelope)
            await device.until_state("committed", counter=counter)
            lane.offer(peek(envelope))
            await simulated.until(State.COMMITTED, counter)
    assert said(simulated.reports) == said(device.reports())
    assert simulated.reports[-1].bytes_downloaded == device.reports()[-1].bytes_downloaded
    assert simulated.fetched == [1, 2]
    hold_against_the_table(simulated.reports)


async def test_a_refused_version_leaves_the_one_that_serves_as_on_a_real_agent(
    device: Device, release: Release, assign: Callable[..., bytes]
) -> None:
    release(1)
    release(2, broken=True)
    device.in_process = False
    story = [(assign(1, 1), "committed"), (assign(2, 2), "rolled_back")]
    refused = Failure(share=100, state=State.PROBING, code="probe.golden_mismatch")
    simulated = Simulated({2: Fate(failure=refused)})
    async with device.run(), simulated.running() as lane:
        for counter, (envelope, end) in enumerate(story, 1):
            await device.assign(envelope)
            await device.until_state(end, counter=counter)
            lane.offer(peek(envelope))
            await simulated.until(State(end), counter)
    assert said(simulated.reports) == said(device.reports())


@pytest.mark.parametrize("state", FAILING)
async def test_a_failure_in_any_state_ends_on_the_version_before(state: State) -> None:
    simulated = Simulated({2: Fate(failure=Failure(share=100, state=state, code="test.failed"))})
    async with simulated.running() as lane:
        lane.offer(assignment(1, 1))
        await simulated.until(State.COMMITTED, 1)
        lane.offer(assignment(2, 2))
        await simulated.until(State.ROLLED_BACK, 2)
    hold_against_the_table(simulated.reports)
    failed = [r for r in simulated.reports if r.event == Event.FAILED]
    assert [(r.previous, r.state, r.reason_code) for r in failed] == [(state, "rolling_back", "test.failed")]
    assert simulated.reports[-1].active_version == 1
    assert simulated.serving.version == 1


async def test_a_version_that_crashes_its_agent_goes_back_by_itself() -> None:
    simulated = Simulated()
    async with simulated.running() as lane:
        lane.offer(assignment(1, 1))
        await simulated.until(State.COMMITTED, 1)
        lane.offer(assignment(2, 2, bake_s=60))
        await simulated.until(State.PROBATION, 2)
        for _ in range(3):
            lane.crashed()
            await asyncio.sleep(0)
        await simulated.until(State.ROLLED_BACK, 2)
    hold_against_the_table(simulated.reports)
    ends = [(r.event, r.state, r.reason_code) for r in simulated.reports[-4:]]
    assert ends == [
        ("restarted", "probation", ""),
        ("restarted", "probation", ""),
        ("exhausted", "rolling_back", "install.crash_loop"),
        ("succeeded", "rolled_back", "install.crash_loop"),
    ]
    assert simulated.serving.version == 1


async def test_probation_judges_what_was_counted() -> None:
    simulated = Simulated({2: Fate(errors=Errors(percent=60))})
    async with simulated.running() as lane:
        lane.offer(assignment(1, 1))
        await simulated.until(State.COMMITTED, 1)
        lane.offer(assignment(2, 2, bake_s=2))
        await simulated.until(State.ROLLED_BACK, 2)
    hold_against_the_table(simulated.reports)
    assert simulated.reports[-1].reason_code == "probation.errors"


async def test_a_download_that_breaks_is_tried_again_and_counted() -> None:
    simulated = Simulated()
    simulated.cuts = 1
    async with simulated.running() as lane:
        lane.offer(assignment(1, 1))
        await simulated.until(State.COMMITTED, 1)
    hold_against_the_table(simulated.reports)
    assert simulated.fetched == [1, 1]
    assert [r.attempt for r in simulated.reports if r.event == Event.INTERRUPTED] == [1]


async def test_a_newer_version_takes_over_and_an_older_counter_is_nothing() -> None:
    simulated = Simulated()
    async with simulated.running() as lane:
        lane.offer(assignment(1, 2, bake_s=60))
        await simulated.until(State.PROBATION, 2)
        lane.offer(assignment(3, 1))
        lane.offer(assignment(2, 3))
        await simulated.until(State.COMMITTED, 3)
    hold_against_the_table(simulated.reports)
    assert [r.reason_code for r in simulated.reports if r.event == Event.SUPERSEDED] == ["install.superseded"]
    assert {r.version for r in simulated.reports} == {1, 2}


async def test_an_assignment_that_is_taken_back_ends_what_is_under_way() -> None:
    simulated = Simulated({1: Fate(failure=Failure(share=100, state=State.HELD, code="test.never"))})
    held = assignment(1, 1)
    async with simulated.running() as lane:
        lane.offer(Assignment(**{name: getattr(held, name) for name in held.__struct_fields__} | {"mode": "hold"}))
        await simulated.until(State.HELD, 1)
        lane.withdraw()
        await simulated.until(State.ROLLED_BACK, 1)
    hold_against_the_table(simulated.reports)
    assert simulated.reports[-1].active_version is None
