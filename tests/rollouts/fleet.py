"""A model fleet: devices as values, their counts as the store would give them, and actions carried out as it would.

It keeps what the pure core never sees, which version each device was told to run, so that tests can say what a
roll-back must lead to.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from hub.rollouts.counts import Counts, DeviceState, Evidence, GroupCounts, Measure
from hub.rollouts.definition import definition_of
from hub.rollouts.plan import Mode, Plan
from hub.rollouts.planning import plan_of
from hub.rollouts.state import (
    Action,
    Assign,
    ChangeKind,
    GroupStatus,
    Retry,
    RollBack,
    Rollout,
    Status,
    Switch,
    Tick,
    Withdraw,
    fresh,
)
from hub.rollouts.tick import BATCH, tick
from hub.rollouts.timing import START_GRACE_S, backoff_s, observe_s

__all__ = [
    "CREATED_S",
    "Device",
    "Fleet",
    "definition",
    "group",
    "kinds",
    "plan",
    "reason_of",
    "share",
    "status",
    "waits_for",
]

CREATED_S = 1_800_000_000
UNDER_WAY = (DeviceState.ASSIGNED, DeviceState.DOWNLOADING, DeviceState.STAGED, DeviceState.INSTALLING)
EXPOSED = (*UNDER_WAY, DeviceState.SUCCEEDED, DeviceState.FAILED, DeviceState.REVERTED)


def definition(**fields: object) -> dict[str, object]:
    """A small definition; `fields` replace or add."""
    values: dict[str, object] = {
        "model": "digits",
        "version": 7,
        "targets": {"filter": "all"},
        "groups": [{"name": "canary", "percent": 10}, {"name": "rest", "percent": 100}],
        "each_group": {"success_percent": 80, "error_percent": 10, "min_sample": 3, "observe_s": 3600, "bake_s": 600},
        "gates": [],
    }
    values |= fields
    return {name: value for name, value in values.items() if value is not None}


def plan(**fields: object) -> Plan:
    """The plan of such a definition."""
    return plan_of(definition_of(definition(**fields)))


def share(events: int, n: int) -> Measure:
    """Events of trials."""
    return Measure(numerator=events, denominator=n, n=n)


@dataclass(slots=True)
class Device:
    """One member. previous: what it ran before; desired: what it was told to run. Times are engine time."""

    name: int
    group_no: int
    previous: int | None = 1
    desired: int | None = 1
    state: DeviceState = DeviceState.WAITING
    mode: Mode = Mode.LIVE
    attempts: int = 0
    assigned_s: int = 0
    changed_s: int = 0
    held: bool = False
    zone: str = ""


@dataclass(slots=True)
class Fleet:
    """A rollout over devices. `apply` is the store's transaction."""

    rollout: Rollout
    devices: list[Device]
    now_s: int = CREATED_S
    evidence: tuple[Evidence, ...] = ()
    history: list[Tick] = field(default_factory=list)

    @classmethod
    def of(cls, plan: Plan, *sizes: int) -> Fleet:
        """A fleet with so many devices in each group."""
        devices = [Device(name=0, group_no=no) for no, size in enumerate(sizes) for _ in range(size)]
        for name, device in enumerate(devices):
            device.name = name
            device.previous = device.desired = 1 + name % 3
        rollout = Rollout(rollout_id="r-000000000001", created_s=CREATED_S, plan=plan, progress=fresh(plan))
        return cls(rollout=rollout, devices=devices)

    # --- what the store knows
    def of_group(self, group_no: int) -> list[Device]:
        return [device for device in self.devices if device.group_no == group_no]

    def in_state(self, *states: DeviceState, group_no: int | None = None) -> list[Device]:
        return [d for d in self.devices if d.state in states and group_no in (None, d.group_no)]

    def counts(self) -> Counts:
        groups = tuple(self._group_counts(no) for no in range(len(self.rollout.plan.groups)))
        return Counts(groups=groups, evidence=self.evidence)

    def _group_counts(self, group_no: int) -> GroupCounts:
        devices, plan = self.of_group(group_no), self.rollout.plan
        elapsed = self.rollout.progress.clock.elapsed_s
        late = elapsed - observe_s(plan, plan.groups[group_no])
        in_state = {state: [d for d in devices if d.state is state] for state in DeviceState}
        failed = [d for d in in_state[DeviceState.FAILED] if d.attempts < plan.retry.attempts]
        free = [d for d in in_state[DeviceState.WAITING] if not d.held]
        zones = {zone: sum(d.zone == zone for d in free) for zone in {d.zone for d in free if d.zone}}
        moving = [
            d
            for d in (
                *in_state[DeviceState.DOWNLOADING],
                *in_state[DeviceState.STAGED],
                *in_state[DeviceState.INSTALLING],
            )
            if not (d.state is DeviceState.STAGED and d.mode is not Mode.LIVE)
        ]
        overlays = {
            "held": len(in_state[DeviceState.WAITING]) - len(free),
            "holding": sum(d.mode is Mode.HOLD for d in in_state[DeviceState.STAGED]),
            "starting": sum(d.assigned_s > elapsed - START_GRACE_S for d in in_state[DeviceState.ASSIGNED]),
            "unreached": sum(d.assigned_s <= late for d in in_state[DeviceState.ASSIGNED]),
            "silent": sum(d.changed_s <= late and d.attempts <= 1 for d in moving),
            "retrying": sum(d.attempts > 1 for state in UNDER_WAY for d in in_state[state]),
            "retry_left": len(failed),
            "retry_due": sum(elapsed >= d.changed_s + backoff_s(plan.retry, d.attempts) for d in failed),
        }
        numbers = {state.value: len(found) for state, found in in_state.items()} | overlays
        return msgspec.convert(numbers | {"waiting_by_zone": zones}, GroupCounts)

    # --- what the store does
    def tick(self, moved_s: int = 0, batch: int = BATCH) -> Tick:
        """One tick after the clock moved, carried out."""
        self.now_s += moved_s
        outcome = tick(self.rollout, self.counts(), self.now_s, batch)
        self.apply(outcome)
        return outcome

    def apply(self, outcome: Tick) -> None:
        """What one transaction does: the actions and the progress."""
        self.rollout = msgspec.structs.replace(self.rollout, progress=outcome.progress)
        for action in outcome.actions:
            self._carry_out(action)
        self.history.append(outcome)

    def _carry_out(self, action: Action) -> None:
        group = self.of_group(action.group_no)
        if isinstance(action, Assign):
            ready = [d for d in group if d.state is DeviceState.WAITING and not d.held]
            ready = [d for d in ready if not action.zones or d.zone in action.zones]
            self._assign(ready[: action.limit], action.mode)
        elif isinstance(action, Retry):
            elapsed, retry = self.rollout.progress.clock.elapsed_s, self.rollout.plan.retry
            due = [d for d in group if d.state is DeviceState.FAILED and d.attempts < retry.attempts]
            due = [d for d in due if elapsed >= d.changed_s + backoff_s(retry, d.attempts)]
            self._assign(due[: action.limit], action.mode)
        elif isinstance(action, Switch):
            holding = [d for d in group if d.state is DeviceState.STAGED and d.mode is Mode.HOLD]
            for device in holding[: action.limit]:
                device.mode = Mode.LIVE
                self.report(device, DeviceState.STAGED)
        elif isinstance(action, Withdraw):
            states = (*UNDER_WAY, DeviceState.SUCCEEDED) if action.also_succeeded else UNDER_WAY
            for device in (d for d in group if d.state in states):
                device.desired = device.previous
                self.report(device, DeviceState.WITHDRAWN)
        elif isinstance(action, RollBack):
            for device in (d for d in group if d.state in EXPOSED):
                known = device.previous is not None
                device.desired = device.previous
                self.report(device, DeviceState.ROLLING_BACK if known else DeviceState.WITHDRAWN)

    def _assign(self, devices: Iterable[Device], mode: Mode) -> None:
        for device in devices:
            device.mode = mode
            device.desired = self.rollout.plan.version
            device.attempts += 1
            device.assigned_s = self.rollout.progress.clock.elapsed_s
            self.report(device, DeviceState.ASSIGNED)

    # --- what devices and people do
    def report(self, device: Device, state: DeviceState) -> None:
        """The device is in another state now."""
        device.state = state
        device.changed_s = self.rollout.progress.clock.elapsed_s

    def finish(
        self, state: DeviceState = DeviceState.SUCCEEDED, group_no: int | None = None, at_most: int = 10**9
    ) -> int:
        """Let devices that are under way end; how many did."""
        found = self.in_state(*UNDER_WAY, group_no=group_no)[:at_most]
        for device in found:
            staged = state is DeviceState.SUCCEEDED and device.mode is Mode.HOLD
            self.report(device, DeviceState.STAGED if staged else state)
        return len(found)

    def wait(self, seconds: int, step_s: int = 60) -> list[Tick]:
        """Tick as the scheduler does, for so long."""
        return [self.tick(step_s) for _ in range(max(1, seconds // step_s))]

    def restart(self) -> None:
        """The hub ends and starts: only what was stored is left."""
        self.rollout = msgspec.json.decode(msgspec.json.encode(self.rollout), type=Rollout)


# --- reading ---------------------------------------------------------------------------------------------------------
def kinds(*ticks: Tick) -> list[ChangeKind]:
    """What happened in these ticks."""
    return [change.kind for outcome in ticks for change in outcome.changes]


def reason_of(fleet: Fleet) -> str:
    """The code of why the rollout has its status."""
    reason = fleet.rollout.progress.reason
    return reason.code if reason else ""


def waits_for(fleet: Fleet, group_no: int = 0) -> str:
    """The code of what a group waits for."""
    reason = fleet.rollout.progress.groups[group_no].waits_for
    return reason.code if reason else ""


def status(fleet: Fleet) -> Status:
    """Where the rollout stands."""
    return fleet.rollout.progress.status


def group(fleet: Fleet, group_no: int) -> GroupStatus:
    """Where a group stands."""
    return fleet.rollout.progress.groups[group_no].status
