"""Whatever happens in whatever order, a rollout keeps its promises: a state machine over the tick with a model fleet.

Devices report in any order and late, the hub restarts and loses work that was not committed, clocks jump, people give
every command at any time, devices join and are taken by other rollouts, gates turn. SKERRY_ROLLOUT_EXAMPLES=2000 looks
further than the ordinary run.
"""

from __future__ import annotations

import os
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from hub.rollouts.clockwork import MAX_STEP_S
from hub.rollouts.commands import command
from hub.rollouts.counts import DeviceState, Evidence
from hub.rollouts.plan import Group, Mode
from hub.rollouts.rate import per_minute
from hub.rollouts.state import (
    ENDED,
    Assign,
    Command,
    CommandKind,
    GroupStatus,
    Retry,
    RollBack,
    Status,
    Switch,
    Tick,
)
from hub.rollouts.tick import tick
from shared.errors import Conflict
from tests.rollouts.fleet import CREATED_S, EXPOSED, UNDER_WAY, Device, Fleet, plan, share

BATCH = 7
STOPPED = ENDED | {Status.ABORTING, Status.ROLLING_BACK, Status.ENDING, Status.PAUSED, Status.PLANNED}
_SHARE = {"metric": "error_rate", "operator": "<=", "threshold": "5%", "min_sample": 20}
EXAMPLES = int(os.environ.get("SKERRY_ROLLOUT_EXAMPLES", "40"))


@st.composite
def plans(draw: st.DrawFn) -> dict[str, Any]:
    """Fields of a definition: every feature is there sometimes."""
    each = {
        "success_percent": draw(st.sampled_from([50, 80, 100])),
        "error_percent": draw(st.sampled_from([0, 10, 40])),
        "max_failures": draw(st.sampled_from([None, 0, 2])),
        "min_sample": draw(st.integers(1, 4)),
        "observe_s": draw(st.sampled_from([600, 3600])),
        "bake_s": draw(st.sampled_from([0, 300, 1200])),
        "approve": draw(st.booleans()),
        "prepare": draw(st.booleans()),
        "count_unreached": draw(st.booleans()),
    }
    growing = {
        "per_minute": 2,
        "factor": 2,
        "every": 3,
        "cap": 6,
        "count": draw(st.sampled_from(["assigned", "succeeded"])),
    }
    end = {"end_at": draw(st.sampled_from([None, "2027-01-15T12:00:00+00:00"]))}
    return end | {
        "groups": [{"name": "one", "percent": 10}, {"name": "two", "percent": 50}, {"name": "three", "percent": 100}],
        "each_group": {name: value for name, value in each.items() if value is not None},
        "gates": draw(st.sampled_from([[], [_SHARE]])),
        "on_failure": draw(st.sampled_from(["pause", "abort", "roll_back"])),
        "scope": draw(st.sampled_from(["group", "all"])),
        "at_end": draw(st.sampled_from(["stop_assigning", "abort", "roll_back"])),
        "rate": draw(st.sampled_from([None, {"per_minute": 3}, growing])),
        "max_concurrent_downloads": draw(st.sampled_from([None, 2])),
        "window": draw(st.sampled_from([None, {"cron": "0 8 * * *", "duration_s": "6h", "timezone": "UTC"}])),
        "retry": {"attempts": draw(st.integers(1, 3)), "backoff_s": 60},
        "allow_new_devices": draw(st.booleans()),
    }


class RolloutMachine(RuleBasedStateMachine):
    """The rules are what may happen; the checks are in `_check_tick` and the invariants."""

    fleet: Fleet

    @initialize(fields=plans(), sizes=st.tuples(*[st.integers(0, 6)] * 3))
    def create(self, fields: dict[str, Any], sizes: tuple[int, int, int]) -> None:
        self.fleet = Fleet.of(plan(**fields), *sizes)
        self.highest_wall_s = CREATED_S
        self.given = 0

    # --- the hub
    @rule(moved_s=st.integers(0, MAX_STEP_S))
    def tick(self, moved_s: int) -> None:
        self._tick(moved_s)

    @rule(minutes=st.integers(5, 90))
    def time_goes_by(self, minutes: int) -> None:
        for _ in range(minutes):
            self._tick(60)

    @rule(to_s=st.one_of(st.integers(0, 2 * CREATED_S), st.integers(CREATED_S, CREATED_S + 10**6), st.just(0)))
    def clock_jumps(self, to_s: int) -> None:
        before = len(self.fleet.in_state(*EXPOSED))
        steady = 0 <= to_s - self.fleet.now_s <= MAX_STEP_S or self.fleet.rollout.progress.clock.wall_s == 0
        self._tick(to_s - self.fleet.now_s)
        assert steady or len(self.fleet.in_state(*EXPOSED)) <= before

    @rule()
    def hub_restarts(self) -> None:
        self.fleet.restart()

    @rule(moved_s=st.integers(0, MAX_STEP_S))
    def hub_dies_before_the_commit(self, moved_s: int) -> None:
        """The tick was computed, and nothing of it is kept; the same inputs give the same outcome again."""
        now_s = self.fleet.now_s + moved_s
        first = tick(self.fleet.rollout, self.fleet.counts(), now_s, BATCH)
        self.fleet.restart()
        assert tick(self.fleet.rollout, self.fleet.counts(), now_s, BATCH) == first

    @rule(moved_s=st.integers(0, MAX_STEP_S))
    def a_second_tick_at_the_same_time_adds_nothing(self, moved_s: int) -> None:
        self._tick(moved_s)
        for _ in range(40):
            if not self._tick(0).actions:
                break
        progress = self.fleet.rollout.progress
        again = self._tick(0)
        assert again == Tick(progress=progress)

    # --- devices
    @rule(which=st.integers(0, 50), state=st.sampled_from(DeviceState))
    def a_device_reports(self, which: int, state: DeviceState) -> None:
        """Any report that a device with this assignment could make."""
        found = self.fleet.in_state(*UNDER_WAY)
        if not found:
            return
        device = found[which % len(found)]
        allowed = {DeviceState.DOWNLOADING, DeviceState.STAGED, DeviceState.FAILED}
        if device.mode is not Mode.HOLD:
            allowed |= {DeviceState.INSTALLING, DeviceState.SUCCEEDED, DeviceState.REVERTED}
        if state in allowed:
            self.fleet.report(device, state)

    @rule(
        state=st.sampled_from([DeviceState.SUCCEEDED, DeviceState.SUCCEEDED, DeviceState.FAILED, DeviceState.REVERTED])
    )
    def all_that_are_under_way_end(self, state: DeviceState) -> None:
        if state is DeviceState.REVERTED:
            for device in self.fleet.in_state(*UNDER_WAY):
                self.fleet.report(device, DeviceState.FAILED if device.mode is Mode.HOLD else state)
        else:
            self.fleet.finish(state)

    @rule(which=st.integers(0, 50))
    def a_device_returned(self, which: int) -> None:
        found = self.fleet.in_state(DeviceState.ROLLING_BACK)
        if found:
            self.fleet.report(found[which % len(found)], DeviceState.ROLLED_BACK)

    @rule(group_no=st.integers(0, 2), previous=st.sampled_from([None, 1, 2]))
    def a_device_joins(self, group_no: int, previous: int | None) -> None:
        name = len(self.fleet.devices)
        self.fleet.devices.append(Device(name=name, group_no=group_no, previous=previous, desired=previous))

    @rule(which=st.integers(0, 50), held=st.booleans())
    def another_rollout_takes_or_holds_a_device(self, which: int, held: bool) -> None:
        if not self.fleet.devices:
            return
        device = self.fleet.devices[which % len(self.fleet.devices)]
        if device.state is DeviceState.WAITING:
            device.held = held
        elif device.state in EXPOSED:
            device.desired = 99
            self.fleet.report(device, DeviceState.SUPERSEDED)

    @rule(events=st.integers(0, 30), profile=st.sampled_from(["", "jetson"]))
    def health_arrives(self, events: int, profile: str) -> None:
        self.fleet.evidence = (
            Evidence(gate_no=0, candidate=share(0 if profile else events, 100)),
            Evidence(gate_no=0, profile="jetson", candidate=share(events, 30)),
        )

    # --- people
    @rule(kind=st.sampled_from(CommandKind), group_no=st.sampled_from([None, 0, 1, 2]))
    def a_person_asks(self, kind: CommandKind, group_no: int | None) -> None:
        asked = Command(kind=kind, group_no=group_no if kind is CommandKind.ROLL_BACK else None, by="alice")
        try:
            outcome = command(self.fleet.rollout, asked, self.fleet.counts(), self.fleet.now_s)
        except Conflict as error:
            assert error.code == "rollout.state"
            return
        assert outcome.actions == ()
        self.fleet.apply(outcome)

    # --- what must hold at every tick
    def _tick(self, moved_s: int) -> Tick:
        before, counts = self.fleet.rollout, self.fleet.counts()
        errors = {no: self._errors(no) for no in range(3)}
        busy = sum(group.starting + group.downloading for group in counts.groups)
        outcome = self.fleet.tick(moved_s, BATCH)
        given = [action for action in outcome.actions if isinstance(action, Assign | Retry | Switch)]
        self.given += sum(action.limit for action in given)
        changed = outcome.progress != before.progress
        assert outcome.progress.revision == before.progress.revision + changed
        assert sum(action.limit for action in given) <= BATCH
        for action in given:
            self._check_given(action, outcome, errors[action.group_no])
        most = self.fleet.rollout.plan.max_concurrent_downloads
        if given and most is not None:
            assert busy + sum(action.limit for action in given) <= most
        for other in outcome.actions:
            assert not isinstance(other, RollBack) or other.group_no in outcome.progress.returning
        self._check_rate()
        return outcome

    def _check_given(self, action: Assign | Retry | Switch, outcome: Tick, failed: bool) -> None:
        """A device gets the version only while all runs, in a group whose turn it is and within its error budget."""
        progress = outcome.progress
        assert action.limit > 0
        assert progress.status in (Status.RUNNING, Status.KEEPING)
        assert not failed
        status = progress.groups[action.group_no].status
        assert status not in (GroupStatus.WAITING, GroupStatus.FAILED)
        for before in progress.groups[: action.group_no]:
            assert before.status is GroupStatus.PASSED
        assert self.fleet.now_s >= CREATED_S - 300
        if isinstance(action, Switch):
            assert progress.groups[action.group_no].switched
        elif self.fleet.rollout.plan.groups[action.group_no].prepare and not progress.groups[action.group_no].switched:
            assert action.mode is Mode.HOLD
        window = self.fleet.rollout.plan.window
        if window is not None and not (isinstance(action, Assign | Retry) and action.mode is Mode.HOLD):
            assert 8 <= self.fleet.now_s // 3600 % 24 < 14

    def _errors(self, group_no: int) -> bool:
        """Whether the group is over its error budget, said in another way than the core does."""
        group: Group = self.fleet.rollout.plan.groups[group_no]
        counts = self.fleet.counts().groups[group_no]
        forgiven = min(self.fleet.rollout.progress.groups[group_no].forgiven, counts.errors)
        bad = counts.failed + counts.reverted + counts.silent + counts.retrying - forgiven
        ended = bad + counts.succeeded
        if group.max_failures is not None and bad > group.max_failures:
            return True
        enough = ended >= group.min_sample or ended >= counts.members
        return group.error_bp is not None and enough and bad > 0 and bad / ended > group.error_bp / 10_000 + 1e-12

    def _check_rate(self) -> None:
        rate = self.fleet.rollout.plan.rate
        if rate is None:
            return
        minutes = self.fleet.rollout.progress.clock.elapsed_s / 60
        assert self.given <= per_minute(rate, 10**9, 10**9) * (minutes + 1)

    @invariant()
    def nobody_is_exposed_before_the_turn_of_the_group(self) -> None:
        if not hasattr(self, "fleet"):
            return
        for device in self.fleet.in_state(*EXPOSED):
            assert self.fleet.rollout.progress.groups[device.group_no].status is not GroupStatus.WAITING

    @invariant()
    def an_ended_rollout_leaves_every_device_in_a_known_state(self) -> None:
        if not hasattr(self, "fleet"):
            return
        progress = self.fleet.rollout.progress
        if progress.status is Status.ABORTED:
            assert not self.fleet.in_state(*UNDER_WAY)
        if progress.status is Status.ROLLED_BACK:
            assert not self.fleet.in_state(*UNDER_WAY)
            for group_no in progress.returning:
                assert not self.fleet.in_state(*EXPOSED, group_no=group_no)
        for device in self.fleet.in_state(DeviceState.ROLLING_BACK, DeviceState.ROLLED_BACK, DeviceState.WITHDRAWN):
            assert device.desired == device.previous

    def teardown(self) -> None:
        """Once everybody answers, the rollout comes to rest: ended, or waiting for a person or a device."""
        if not hasattr(self, "fleet"):
            return
        self.fleet.now_s = max(self.fleet.now_s, CREATED_S)
        for _ in range(400):
            self.fleet.finish(DeviceState.SUCCEEDED)
            for device in self.fleet.in_state(DeviceState.ROLLING_BACK):
                self.fleet.report(device, DeviceState.ROLLED_BACK)
            self._tick(MAX_STEP_S)
        progress = self.fleet.rollout.progress
        assert progress.status not in (Status.ABORTING, Status.ROLLING_BACK, Status.ENDING)
        if progress.status is Status.RUNNING:
            current = next(g for g in progress.groups if g.status is not GroupStatus.PASSED)
            assert current.status in (GroupStatus.READY, GroupStatus.AWAITING_APPROVAL) or current.waits_for is not None


RolloutMachine.TestCase.settings = settings(
    max_examples=EXAMPLES, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
test_rollouts_keep_their_promises = RolloutMachine.TestCase
