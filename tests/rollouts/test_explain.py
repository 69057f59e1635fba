"""Why a device has what it has: in its own words, and never with those about something older."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from hub.rollouts.explain import ModelExplanation, explain
from hub.rollouts.state import GroupProgress, GroupStatus, Reason, Rollout, Status, fresh
from hub.store.rollout_views import Membership, Standing
from tests.rollouts.fleet import CREATED_S, plan

NOW_S = 1000.0


def standing(**fields: Any) -> Standing:
    said = {"state": "committed", "reason_code": "", "reason": ""}
    given = {"wanted": 2, "deployment_id": "r-1", "mode": "live", "published_s": 900.0, "spoken": True}
    return Standing(**{"model": "digits", "serves": 1, "last_seen_s": 940.0, **said, **given, **fields})


def member(state: str, group_no: int = 0, *, current: bool = True) -> Membership:
    return Membership(
        rollout_no=1,
        rollout_id="r-1",
        version=2,
        group_no=group_no,
        group=("canary", "wave-2")[group_no],
        state=state,
        attempts=1,
        timezone="",
        reason_code="",
        current=current,
        changed_s=0.0,
    )


def rollout(status: Status = Status.RUNNING, *groups: GroupProgress, **fields: Any) -> dict[str, Rollout]:
    made = plan(groups=[{"name": "canary", "percent": 10}, {"name": "wave-2", "percent": 100}])
    progress = msgspec.structs.replace(fresh(made), status=status, **fields)
    if groups:
        progress = msgspec.structs.replace(progress, groups=groups)
    return {"r-1": Rollout(rollout_id="r-1", created_s=CREATED_S, plan=made, progress=progress)}


def explained(stands: Standing, *members: Membership, of: dict[str, Rollout] | None = None) -> ModelExplanation:
    return explain(stands, members, of or rollout(), NOW_S)


def test_what_serves_is_told_with_who_assigned_it() -> None:
    found = explained(standing(serves=2), member("succeeded"))
    assert found.because.message == "It serves version 2, which rollout r-1 (group canary) assigned."
    assert found.waits_for is None
    found = explained(standing(serves=1, wanted=1), member("rolled_back"))
    assert "the roll-back of rollout r-1" in found.because.message


@pytest.mark.parametrize(
    ("fields", "code", "words"),
    [
        ({"spoken": False, "published_s": None}, "explain.unsent", "has still to send"),
        ({"spoken": False}, "explain.not_taken_up", "last heard of 60 seconds ago"),
        ({"spoken": False, "last_seen_s": None}, "explain.not_taken_up", "never heard of"),
        ({"state": "downloading"}, "explain.installing", "downloading"),
        ({"state": "held", "reason_code": "window.closed", "reason": "It opens at 2."}, "window.closed", "opens at 2"),
        (
            {"state": "rolled_back", "reason_code": "probe.golden", "reason": "Differs", "published_s": None},
            "explain.refused",
            "Differs [probe.golden]",
        ),
    ],
)
def test_what_is_outstanding_is_in_the_devices_own_words(fields: dict[str, Any], code: str, words: str) -> None:
    waits = explained(standing(**fields)).waits_for
    assert waits is not None
    assert waits.code == code
    assert words in waits.message


def test_an_older_failure_is_not_blamed_on_a_new_assignment() -> None:
    old = standing(state="rolled_back", reason_code="probe.golden", reason="Differs", spoken=False)
    waits = explained(old).waits_for
    assert waits is not None
    assert waits.code == "explain.not_taken_up"
    assert "Differs" not in waits.message


def test_a_device_of_a_later_wave_hears_what_comes_first() -> None:
    baking = Reason(code="group.baking", message="The bake time is going on.")
    groups = (GroupProgress(status=GroupStatus.BAKING, waits_for=baking), GroupProgress())
    stands = standing(serves=1, wanted=1, deployment_id="d-1")
    waits = explained(stands, member("waiting", 1, current=False), of=rollout(Status.RUNNING, *groups)).waits_for
    assert waits is not None
    assert waits.message == (
        "Rollout r-1 will give it version 2 in its group wave-2;"
        " group canary comes first and is baking: The bake time is going on."
    )


def test_a_device_of_a_paused_rollout_hears_why() -> None:
    why = Reason(code="command.pause", message="Paused by olga.")
    stands = standing(serves=None, wanted=None, deployment_id=None, state="")
    found = explained(stands, member("waiting", current=False), of=rollout(Status.PAUSED, reason=why))
    assert found.because.code == "explain.nothing"
    assert found.waits_for is not None
    assert found.waits_for.message.endswith("and is paused: Paused by olga.")
