"""A run on the hub that works on it: a real process that plays a worker, a real database, scripted devices."""

from __future__ import annotations

import dataclasses
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hub.federated.checkpoint import read_checkpoint
from hub.federated.conductor import Conductor
from hub.federated.definition import Privacy, Rounds
from hub.federated.stage import Stage
from hub.store import devices
from hub.store import federated as store
from hub.store.audit import AuditFilter
from hub.store.federated import RunRow, RunState
from hub.store.page import PageRequest
from shared.errors import Conflict, Unavailable
from shared.wire.training import Promise
from tests.databases import SqliteBackend
from tests.federated.run_kit import Receiver, RunKit, until

FIRST = PageRequest(limit=50)


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> SqliteBackend:
    """What the store promises on both databases is in `test_runs`."""
    return SqliteBackend(tmp_path_factory.mktemp("template"))


@pytest.fixture
def kit(tmp_path: Path, sqlite: SqliteBackend) -> Iterator[RunKit]:
    with sqlite.fresh(tmp_path) as url:
        kit = RunKit(tmp_path, url)
        kit.add_trainer("d-1", samples=200)
        kit.add_trainer("d-2", samples=300)
        yield kit
        kit.close()


def create(kit: RunKit) -> RunRow:
    return kit.runs.create(kit.definition(), by="dana")


def start(stage: Stage, row: RunRow) -> Conductor:
    conductor = Conductor(stage, row, 8450)
    conductor.start()
    return conductor


def finish(kit: RunKit, stage: Stage, row: RunRow) -> Conductor:
    conductor = start(stage, kit.run(row.run_id))
    conductor.join(60)
    assert not conductor.alive
    return conductor


def test_a_run_goes_from_its_first_round_to_the_hand_over(kit: RunKit) -> None:
    receiver, row = Receiver(), create(kit)
    finish(kit, kit.stage("ask:d-1,d-2", "round", "abandon", "round", handover=receiver), row)
    done = kit.run(row.run_id)
    assert (done.state, done.round_no, done.attempts, done.port) == (RunState.FINISHED, 2, 3, None)
    assert done.result == {
        "version": 2, "bundle_sha256": "", "gate_id": None, "gate_passed": True, "code": "", "reason": ""
    }  # fmt: skip
    assert [(r.round_no, r.abandoned) for r in kit.runs.rounds(row.run_id, FIRST)] == [
        (1, ""), (2, "federated.quorum"), (2, "")
    ]  # fmt: skip
    (outcome,) = receiver.outcomes
    assert (outcome.rounds, outcome.cohort, outcome.bytes_up) == (2, ("d-1", "d-2"), 90)
    assert outcome.weights.tolist() == [10, 11, 2, 3, 4, 5, 6, 7, 8, 9]
    assert (outcome.base_version, outcome.base_bundle_sha256) == (1, row.bundle_sha256)
    entry = kit.audit.list(AuditFilter(), FIRST)[0]
    assert (entry.actor, entry.action, entry.subject) == ("hub", "federated.finished", row.run_id)
    assert list((kit.folder / "federated").iterdir()) == []


def test_what_devices_measured_is_told_by_profile_and_group_and_outlives_a_hand_over_that_comes_later(
    kit: RunKit,
) -> None:
    kit.group("hall", {"d-2"})
    kit.group("yard", {"d-9"})
    row = create(kit)
    busy = Receiver(Unavailable("gate.busy", "Busy.", retriable=True))
    finish(kit, kit.stage("ask:d-1,d-2", "round", "evaluate", handover=busy), row)
    assert kit.run(row.run_id).state is RunState.HANDING_OVER
    finish(kit, kit.stage(handover=busy), row)
    first, again = busy.outcomes
    assert first.evaluation is not None
    assert again.evaluation == first.evaluation
    whole = first.evaluation.whole
    assert (first.evaluation.asked, whole.examples, whole.accuracy, whole.base_accuracy) == (3, 20, 0.9, 0.8)
    assert [part.devices for part in first.evaluation.profiles] == [2]
    assert [(part.name, part.devices) for part in first.evaluation.groups] == [("hall", 1)]


def test_without_somebody_to_take_them_over_the_weights_are_kept(kit: RunKit) -> None:
    row = create(kit)
    finish(kit, kit.stage("round"), row)
    assert (kit.run(row.run_id).state, kit.run(row.run_id).result) == (RunState.FINISHED, {})
    with kit.db.read() as connection:
        assert read_checkpoint(store.load_checkpoint(connection, row.run_no)).round_no == 1


def test_the_worker_begins_with_those_who_could_take_part_and_their_keys(kit: RunKit) -> None:
    kit.add_trainer("few", samples=2)
    kit.add_trainer("old", version=7)
    row = create(kit)
    finish(kit, kit.stage("round"), row)
    begin = kit.heard("Begin")[0]
    assert {p["device_id"]: (p["samples"], p["group"]) for p in begin["participants"]} == {
        "d-1": (200, "raspberry-pi-4"), "d-2": (300, "raspberry-pi-4")
    }  # fmt: skip
    assert (begin["port"], begin["host"], begin["program"]) == (8450, "127.0.0.1", "")


def test_an_ask_becomes_an_offer_for_each_device(kit: RunKit) -> None:
    row = create(kit)
    finish(kit, kit.stage("ask:d-1,d-2", "round"), row)
    first, second = kit.offers
    assert (first.device_id, second.device_id) == ("d-1", "d-2")
    assert (first.run, first.round_no, first.model, first.version) == (row.run_id, 1, "digits", 1)
    assert (first.bundle_sha256, first.address) == (row.bundle_sha256, "hub.example:8450")
    assert (first.valid_s, first.task_s, first.min_samples) == (60.0, 60.0, 10)
    assert first.bytes > 40 + 19
    assert not first.promise.secure_aggregation


def test_a_worker_that_dies_is_followed_by_one_that_begins_where_it_stood(kit: RunKit) -> None:
    row = create(kit)
    finish(kit, kit.stage("round", "die"), row)
    assert len(kit.heard("Begin")) == 2
    assert kit.run(row.run_id).round_no == 2  # both of them made a round


def test_a_run_fails_with_the_code_and_the_words_of_its_worker(kit: RunKit) -> None:
    row = create(kit)
    finish(kit, kit.stage("round", "fail:federated.diverged"), row)
    done = kit.run(row.run_id)
    assert (done.state, done.code, done.message) == (RunState.FAILED, "federated.diverged", "It had to be.")
    kit.runs.resume(row.run_id, by="dana")
    finish(kit, kit.stage("round"), row)
    assert (kit.run(row.run_id).state, kit.run(row.run_id).round_no) == (RunState.FINISHED, 2)


def test_privacy_that_was_paid_for_in_a_round_that_died_is_neither_forgotten_nor_paid_again(kit: RunKit) -> None:
    row = create(kit)
    finish(kit, kit.stage("reserve", "die", "round"), row)
    begins = kit.heard("Begin")
    assert len(begins) == 2
    with kit.db.read() as connection:
        kept = read_checkpoint(store.load_checkpoint(connection, row.run_no))
    assert (kept.round_no, kept.privacy.releases) == (1, 2)
    assert kit.run(row.run_id).privacy["epsilon"] == 4.0


def test_a_run_whose_privacy_is_spent_early_is_handed_over_and_says_so(kit: RunKit) -> None:
    receiver, row = Receiver(), create(kit)
    finish(kit, kit.stage("reserve", "round", "spent", handover=receiver), row)
    done = kit.run(row.run_id)
    assert (done.state, done.code, done.message) == (RunState.FINISHED, "federated.privacy_spent", "No more.")
    (outcome,) = receiver.outcomes
    assert outcome.privacy_spent is not None
    assert (outcome.privacy_spent.epsilon, outcome.privacy_spent.releases) == (2.0, 1)


def test_the_devices_authority_goes_to_the_worker_and_the_promise_to_the_devices(kit: RunKit) -> None:
    privacy = Privacy(mode="client", noise_multiplier=2.0, clip=0.5, secure_aggregation=True)
    rounds = Rounds(count=1, goal=3, quorum=3, deadline_s=60, wait_s=60)
    row = kit.runs.create(kit.definition(privacy=privacy, rounds=rounds), by="dana")
    stage = kit.stage("ask:d-1", "round")
    places = dataclasses.replace(stage.places, device_ca=b"der")
    finish(kit, dataclasses.replace(stage, places=places), row)
    assert kit.heard("Begin")[0]["device_ca"] == "ZGVy"
    (offer,) = kit.offers
    assert offer.promise == Promise(secure_aggregation=True, client_noise=2.0, clip=0.5)
    assert offer.bytes > 2 * 40 + 3 * 1000


def test_a_cancelled_run_ends_before_its_next_round_and_keeps_its_checkpoint(kit: RunKit) -> None:
    receiver, row = Receiver(), create(kit)
    conductor = start(kit.stage("round", "wait:Cancel", "round", handover=receiver), row)
    until(lambda: kit.run(row.run_id).round_no == 1)
    kit.runs.cancel(row.run_id, by="olga")
    conductor.tick()
    conductor.tick()
    conductor.join(60)
    assert (kit.run(row.run_id).state, kit.run(row.run_id).round_no) == (RunState.CANCELLED, 1)
    assert receiver.outcomes == []
    assert len(kit.heard("Cancel")) == 1


def test_a_stopped_hub_leaves_the_run_as_it_stands_and_the_next_one_goes_on(kit: RunKit) -> None:
    row = create(kit)
    conductor = start(kit.stage("round", "wait:Never"), row)
    until(lambda: kit.run(row.run_id).round_no == 1)
    conductor.stop()
    conductor.join(60)
    assert conductor.left == "federated.stopped"
    assert kit.run(row.run_id).state is RunState.RUNNING
    finish(kit, kit.stage("round", holder="two"), row)
    assert (kit.run(row.run_id).state, kit.run(row.run_id).round_no) == (RunState.FINISHED, 2)


def test_a_hub_whose_run_was_taken_by_another_one_ends_its_worker_and_writes_nothing(kit: RunKit) -> None:
    row = create(kit)
    conductor = start(kit.stage("round", "wait:Never"), row)
    until(lambda: kit.run(row.run_id).round_no == 1)
    with kit.db.write() as connection:
        assert store.set_port(connection, kit.run(row.run_id), "two", 8450)
    conductor.tick()
    conductor.join(60)
    assert not conductor.alive
    assert (kit.run(row.run_id).state, kit.run(row.run_id).holder) == (RunState.RUNNING, "two")


def test_a_hand_over_that_cannot_be_done_now_is_done_later_and_one_that_never_can_fails_the_run(kit: RunKit) -> None:
    row = create(kit)
    busy = Receiver(Unavailable("gate.busy", "Busy.", retriable=True))
    assert finish(kit, kit.stage("round", handover=busy), row).left == "gate.busy"
    assert kit.run(row.run_id).state is RunState.HANDING_OVER
    finish(kit, kit.stage("round", handover=busy), row)
    assert (kit.run(row.run_id).state, kit.run(row.run_id).round_no) == (RunState.FINISHED, 1)
    assert len(busy.outcomes) == 2
    other = create(kit)
    finish(kit, kit.stage("round", handover=Receiver(Conflict("federated.base", "No."))), other)
    assert (kit.run(other.run_id).state, kit.run(other.run_id).code) == (RunState.FAILED, "federated.base")


def test_a_defect_fails_the_run_with_a_code(kit: RunKit) -> None:
    row = create(kit)
    finish(kit, kit.stage("round", handover=Receiver(RuntimeError("boom"))), row)
    done = kit.run(row.run_id)
    assert (done.state, done.code) == (RunState.FAILED, "federated.failed")
    assert "boom" not in done.message


def test_a_port_that_is_taken_is_tried_again_and_fails_the_run_in_the_end(kit: RunKit) -> None:
    row = create(kit)
    stage = kit.stage("fail:federated.port")
    assert finish(kit, stage, row).left == "federated.port"
    assert kit.run(row.run_id).state is RunState.RUNNING
    last = Conductor(stage, kit.run(row.run_id), 8450, last_try=True)
    last.start()
    last.join(60)
    assert (kit.run(row.run_id).state, kit.run(row.run_id).code) == (RunState.FAILED, "federated.port")


def test_a_program_that_is_not_there_fails_the_run(kit: RunKit) -> None:
    row, stage = create(kit), kit.stage("round")
    places = replace(stage.places, program=kit.folder / "none.fab")
    finish(kit, replace(stage, places=places), row)
    assert (kit.run(row.run_id).state, kit.run(row.run_id).code) == (RunState.FAILED, "federated.program")


# --- devices that come and go -----------------------------------------------------------------------------------------
def test_a_revoked_device_is_out_at_once(kit: RunKit) -> None:
    row = create(kit)
    conductor = start(kit.stage("wait:Never"), row)
    until(lambda: kit.run(row.run_id).port is not None)
    with kit.db.write() as connection:
        devices.mark_revoked(connection, "d-1", kit.clock.now())
    conductor.remove("d-1")
    until(lambda: kit.heard("Remove"))
    assert kit.heard("Remove") == [{"kind": "Remove", "type": "Remove", "device_id": "d-1"}]
    conductor.stop()
    conductor.join(60)


def test_a_device_that_another_hub_revoked_is_out_at_the_next_look(kit: RunKit) -> None:
    row = create(kit)
    conductor = start(kit.stage("wait:Never"), row)
    until(lambda: kit.run(row.run_id).port is not None)
    with kit.db.write() as connection:
        devices.mark_revoked(connection, "d-1", kit.clock.now())
    conductor.soon()
    conductor.tick()
    until(lambda: kit.heard("Remove"))
    conductor.stop()
    conductor.join(60)


def test_the_worker_hears_of_devices_that_come_that_have_more_samples_and_that_have_a_new_key(kit: RunKit) -> None:
    row = create(kit)
    conductor = start(kit.stage("wait:Enrol", "wait:Enrol", "wait:Enrol", "ask:d-1"), row)
    until(lambda: kit.run(row.run_id).port is not None)

    def enrolled(number: int) -> list[tuple[str, int]]:
        conductor.soon()
        conductor.tick()
        until(lambda: len(kit.heard("Enrol")) >= number)
        return [(p["device_id"], p["samples"]) for p in kit.heard("Enrol")[number - 1]["participants"]]

    kit.add_trainer("d-3", samples=400)
    assert enrolled(1) == [("d-3", 400)]
    kit.say_samples("d-2", 350)
    assert enrolled(2) == [("d-2", 350)]
    kit.say_samples("d-1", 1)  # they have expired: nobody asks it any more, and its open answer still counts
    assert enrolled(3) == [("d-1", 0)]
    conductor.join(60)


def test_a_device_with_a_renewed_certificate_is_let_in_with_its_new_key_before_it_is_asked(kit: RunKit) -> None:
    row = create(kit)
    conductor = start(kit.stage("wait:Remove", "ask:d-2", "wait:Enrol"), row)
    until(lambda: kit.run(row.run_id).port is not None)
    new = kit.add_key("d-2", 5.0)
    with kit.db.write() as connection:
        devices.supersede_before(connection, "d-2", 5.0, kit.clock.now())
    conductor.remove("d-1")  # lets the script go on
    conductor.join(60)
    (enrol,) = kit.heard("Enrol")
    assert [(p["device_id"], p["public_key"]) for p in enrol["participants"]] == [("d-2", b64encode(new).decode())]
    assert [offer.device_id for offer in kit.offers] == ["d-2"]


def test_who_declines_is_told_to_the_worker_and_is_left_alone_for_as_long_as_it_said(kit: RunKit) -> None:
    row = create(kit)
    conductor = start(kit.stage("ask:d-1,d-2", "wait:Declined", "ask:d-1,d-2", "wait:Declined"), row)
    until(lambda: len(kit.offers) == 2)
    kit.say(row.run_id, "d-1", "declined", seq=1, retry_s=600.0)
    conductor.tick()
    conductor.join(60)
    assert [line["device_id"] for line in kit.heard("Declined")] == ["d-1", "d-1"]
    assert [offer.device_id for offer in kit.offers] == ["d-1", "d-2", "d-2"]


def test_what_a_device_said_still_holds_after_the_hub_was_started_anew(kit: RunKit) -> None:
    row = create(kit)
    kit.say(row.run_id, "d-1", "declined", seq=1, retry_s=600.0)
    finish(kit, kit.stage("ask:d-1,d-2", "round"), row)
    assert [p["device_id"] for p in kit.heard("Begin")[0]["participants"]] == ["d-2"]
    assert [offer.device_id for offer in kit.offers] == ["d-2"]


def test_an_offer_that_nobody_answered_goes_out_once_more(kit: RunKit) -> None:
    row = create(kit)
    conductor = start(kit.stage("ask:d-1,d-2", "wait:Declined"), row)
    until(lambda: len(kit.offers) == 2)
    kit.say(row.run_id, "d-1", "accepted", seq=1)
    for _ in range(3):
        kit.clock.now_s += 16
        conductor.tick()
    assert [(offer.device_id, offer.valid_s) for offer in kit.offers[2:]] == [("d-2", 44.0)]
    conductor.join(60)
    assert [line["device_id"] for line in kit.heard("Declined")] == ["d-2"]
