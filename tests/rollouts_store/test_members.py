"""Who is in a rollout, who takes a device from whom, and what becomes of devices that fail, leave or hold back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from sqlalchemy import delete, insert

from hub.deployments.desired import DesiredStates
from hub.rollouts.state import Status
from hub.store import devices, schema
from hub.store.hashing import hash31
from shared.errors import Conflict, InvalidInput, NotFound
from tests.rollouts_store.kit import STEPS, RolloutKit
from tests.rollouts_store.test_life import CANARY

ALL: dict[str, Any] = {**CANARY, "groups": [{"name": "all", "percent": 100}]}


@pytest.fixture
def fleet(kit: RolloutKit) -> RolloutKit:
    """Ten devices on version 1; versions 2 and 3 are approved."""
    kit.fleet(10)
    kit.release("digits", 1, 2, 3)
    kit.serve(1)
    return kit


def silent(_device: str, _row: Mapping[str, Any]) -> Sequence[str]:
    return ()


def fail(_device: str, _row: Mapping[str, Any]) -> Sequence[str]:
    return ("downloading", "rolled_back")


def test_a_device_has_its_hash_from_its_enrolment_on(kit: RolloutKit) -> None:
    kit.fleet(3)
    assert [kit.device(one)["hash31"] for one in kit.device_ids()] == [hash31(one) for one in kit.device_ids()]


def test_devices_that_serve_the_version_already_have_succeeded_whatever_other_models_do(fleet: RolloutKit) -> None:
    fleet.release("letters", 2)
    fleet.start({**ALL, "model": "letters"})
    fleet.run(1)
    fleet.serve(2, ["dev-00003", "dev-00004"])
    rollout_id = fleet.start(ALL)
    fleet.run(0)
    assert fleet.tally(rollout_id) == {"assigned": 8, "succeeded": 2}


def test_a_newer_rollout_takes_devices_over_and_a_stuck_one_does_not_block_it(fleet: RolloutKit) -> None:
    stuck = fleet.start(ALL)
    fleet.run(2, silent)
    newer = fleet.start({**ALL, "version": 3})
    fleet.run(3)
    assert fleet.tally(stuck) == {"superseded": 10}
    assert fleet.tally(newer) == {"succeeded": 10}
    assert set(fleet.served().values()) == {3}


def test_a_rollout_of_lower_priority_leaves_devices_alone_that_a_higher_one_has(fleet: RolloutKit) -> None:
    high = fleet.start({**ALL, "priority": 5, "targets": {"filter": "id=in=(dev-00000,dev-00001)"}})
    fleet.run(1, silent)
    low = fleet.start({**ALL, "version": 3})
    fleet.run(2, silent)
    assert fleet.tally(high) == {"assigned": 2}
    assert {one for one, state in fleet.states(low).items() if state == "waiting"} == {"dev-00000", "dev-00001"}


def test_what_a_person_deploys_is_not_overwritten_by_a_rollout_that_goes_on(fleet: RolloutKit) -> None:
    rollout = fleet.start({**ALL, "rate": {"per_minute": 1}})
    fleet.run(1)
    fleet.deployments.create("digits", 3, "all", "", "olga")
    fleet.run(5, step_s=60)
    assert fleet.tally(rollout) == {"superseded": 10}
    assert set(fleet.served().values()) == {3}


def test_devices_that_failed_are_tried_again_after_a_back_off(fleet: RolloutKit) -> None:
    each = {**CANARY["each_group"], "error_percent": 60}
    rollout = fleet.start({**ALL, "each_group": each, "retry": {"attempts": 2, "backoff_s": 300}})
    fleet.run(2, lambda device, row: fail(device, row) if device < "dev-00005" else STEPS)
    assert fleet.tally(rollout) == {"failed": 5, "succeeded": 5}
    fleet.run(3, step_s=60)
    assert fleet.tally(rollout) == {"failed": 5, "succeeded": 5}
    fleet.run(6, step_s=60)
    assert fleet.tally(rollout) == {"succeeded": 10}


def test_a_device_that_served_it_and_went_back_by_itself_is_reverted_and_another_failed(fleet: RolloutKit) -> None:
    rollout = fleet.start({**ALL, "on_failure": "pause"})

    def behave(device: str, _row: Mapping[str, Any]) -> Sequence[str]:
        return ("probation", "rolled_back") if device == "dev-00000" else ("probing", "rolled_back")

    fleet.run(1, behave)
    assert fleet.tally(rollout) == {"failed": 9, "reverted": 1}
    assert fleet.status(rollout) is Status.PAUSED


def test_a_roll_back_gives_each_device_its_own_version_and_takes_it_from_those_without(kit: RolloutKit) -> None:
    ids = kit.fleet(9)
    kit.release("digits", 1, 2, 3)
    kit.serve(1, ids[:3])
    kit.serve(2, ids[3:6])
    rollout = kit.start({**ALL, "version": 3})
    kit.run(2)
    assert set(kit.served().values()) == {3}
    kit.rollouts.roll_back(rollout, "olga", "no good")
    kit.run(3)
    assert kit.tally(rollout) == {"rolled_back": 6, "withdrawn": 3}
    assert [kit.served()[one] for one in ids] == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert all(kit.assigned(one) is None for one in ids[6:])
    assert kit.status(rollout) is Status.ROLLED_BACK


def test_an_abort_takes_back_only_what_is_under_way(fleet: RolloutKit) -> None:
    rollout = fleet.start(ALL)

    def behave(device: str, row: Mapping[str, Any]) -> Sequence[str]:
        return STEPS if int(device[-1]) < 4 or row["version"] == 1 else ("downloading",)

    fleet.run(1, behave)
    fleet.rollouts.abort(rollout, "olga")
    fleet.run(2, behave)
    assert fleet.tally(rollout) == {"succeeded": 4, "withdrawn": 6}
    assert sorted(fleet.served().values(), key=str) == [1] * 6 + [2] * 4
    assert fleet.status(rollout) is Status.ABORTED


def test_a_revoked_device_is_skipped_wherever_it_stands(fleet: RolloutKit) -> None:
    rollout = fleet.start({**ALL, "rate": {"per_minute": 30}})
    fleet.run(1, silent)
    assert fleet.tally(rollout).keys() == {"assigned", "waiting"} or fleet.tally(rollout).keys() == {"waiting"}
    with fleet.db.write() as connection:
        for device_id in ("dev-00000", "dev-00009"):
            devices.mark_revoked(connection, device_id, fleet.clock.now())
    fleet.run(5, step_s=60)
    states = fleet.states(rollout)
    assert {states["dev-00000"], states["dev-00009"]} == {"skipped"}
    assert fleet.tally(rollout)["succeeded"] == 8


def test_a_tag_brings_a_device_in_and_takes_a_waiting_one_out(fleet: RolloutKit) -> None:
    with fleet.db.write() as connection:
        for device_id in ("dev-00000", "dev-00001"):
            devices.change_tags(connection, device_id, {"site": "north"})
    rollout = fleet.start({**ALL, "targets": {"filter": "tag.site==north"}, "start_at": "2030-01-01T00:00:00Z"})
    with fleet.db.write() as connection:
        devices.change_tags(connection, "dev-00001", {"site": "south"})
        devices.change_tags(connection, "dev-00005", {"site": "north"})
    fleet.engine.run()
    assert fleet.states(rollout) == {"dev-00000": "waiting", "dev-00001": "skipped", "dev-00005": "waiting"}


def test_blue_and_green_hold_until_a_person_lets_them_switch(fleet: RolloutKit) -> None:
    rollout = fleet.start({**ALL, "groups": [{"name": "all", "percent": 100, "prepare": True, "approve": True}]})

    def behave(_device: str, row: Mapping[str, Any]) -> Sequence[str]:
        return ("downloading", "held") if row["mode"] == "hold" else STEPS

    fleet.run(3, behave)
    assert fleet.tally(rollout) == {"staged": 10}
    assert set(fleet.served().values()) == {1}
    fleet.rollouts.approve(rollout, "olga")
    fleet.run(3, behave)
    assert fleet.tally(rollout) == {"succeeded": 10}
    assert set(fleet.served().values()) == {2}


def test_a_shadow_runs_beside_and_goes_away_again(fleet: RolloutKit) -> None:
    definition = {key: value for key, value in ALL.items() if key not in ("groups", "each_group")}
    rollout = fleet.start({**definition, "strategy": "shadow"})

    def behave(_device: str, row: Mapping[str, Any]) -> Sequence[str]:
        return ("downloading", "held") if row["mode"] == "shadow" else STEPS

    fleet.run(2, behave)
    assert set(fleet.served().values()) == {1}
    assert "succeeded" in fleet.tally(rollout)
    DesiredStates(fleet.db, fleet.clock, fleet.signatures).desired_state("dev-00000")
    shadows = [row for row in fleet.desires().values() if row["mode"] == "shadow"]
    assert shadows
    fleet.rollouts.abort(rollout, "olga")
    fleet.run(3, behave)
    assert fleet.status(rollout) is Status.ABORTED


def test_a_definition_that_cannot_work_is_refused_with_a_code(fleet: RolloutKit) -> None:
    gate = {"metric": "drift_score", "operator": "<=", "threshold": 0.2, "min_sample": 10}
    with pytest.raises(InvalidInput) as caught:
        fleet.start({**ALL, "gates": [gate]})
    assert caught.value.code == "rollout.unmeasured"
    with pytest.raises(Conflict) as nobody:
        fleet.start({**ALL, "targets": {"filter": "tag.site==nowhere"}})
    assert nobody.value.code == "rollout.no_devices"
    with pytest.raises(NotFound) as unknown:
        fleet.rollouts.pause("r-none", "olga")
    assert unknown.value.code == "rollout.unknown"
    with pytest.raises(InvalidInput) as invalid:
        fleet.start({key: value for key, value in ALL.items() if key != "gates"})
    assert invalid.value.code == "rollout.invalid"


def test_a_version_that_is_withdrawn_in_the_middle_pauses_the_rollout_with_the_reason(fleet: RolloutKit) -> None:
    rollout = fleet.start({**ALL, "rate": {"per_minute": 6}})
    fleet.run(2)
    fleet.versions.withdraw("digits", 2, "bad", "rita")
    fleet.run(5)
    assert fleet.status(rollout) is Status.PAUSED
    reason = fleet.progress(rollout).reason
    assert reason is not None
    assert "withdrawn" in reason.message


def test_a_rollout_that_cannot_say_who_belongs_to_it_stops_no_other(fleet: RolloutKit) -> None:
    with fleet.db.write() as connection:
        values = {"name": "gone", "filter": "id==dev-0000*", "description": "", "created_s": 0.0, "changed_s": 0.0}
        connection.execute(insert(schema.device_groups).values(created_by="olga", changed_by="olga", **values))
    broken = fleet.start({**ALL, "targets": {"group": "gone"}, "start_at": "2030-01-01T00:00:00Z"})
    with fleet.db.write() as connection:
        connection.execute(delete(schema.device_groups))
    fleet.release("faces", 1)
    other = fleet.start({**ALL, "model": "faces", "version": 1})
    fleet.fleet(1, prefix="new")
    fleet.engine.run()
    assert fleet.tally(other) == {"assigned": 11}
    assert fleet.status(broken) is Status.PLANNED


def test_a_dry_run_says_who_gets_it_over_which_links_and_changes_nothing(kit: RolloutKit) -> None:
    kit.fleet(40, "raspberry-pi-4", "pi")
    kit.fleet(20, "camera-armv7", "cam")
    kit.add_device("odd", "unknown-profile")
    kit.release("digits", 1, 2)
    text = (
        b"model: digits\nversion: 2\ntargets: {filter: all}\ngates: []\n"
        b"each_group: {success_percent: 90, error_percent: 5, min_sample: 5, observe_s: 1h}\n"
        b"groups:\n- {name: canary, percent: 10}\n- {name: rest, percent: 100}\n"
    )
    planned = kit.rollouts.plan(text)
    seen = planned.forecast
    assert planned.rollout_id == ""
    assert seen.devices == 60
    assert [wave.name for wave in seen.waves] == ["canary", "rest"]
    assert seen.waves[1].cumulative == 60
    assert seen.skipped == {"profile.unknown": 1}
    assert [one.device_id for one in seen.examples] == ["odd"]
    size = kit.versions.get("digits", 2).bundle_bytes
    assert sum(link.bytes for link in seen.links) == 60 * size
    assert sum(link.devices for link in seen.links) == 60
    assert kit.status_count() == 0
