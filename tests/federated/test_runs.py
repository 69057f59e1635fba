"""Federated runs in the database: made, listed, cancelled, resumed; on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from hub.federated.checkpoint import read_checkpoint
from hub.federated.definition import Rounds, RunDefinition, Strategy
from hub.federated.run import definition_digest
from hub.store import federated as store
from hub.store.audit import AuditFilter
from hub.store.federated import TRANSITIONS, RoundRow, RunRow, RunState
from hub.store.federated_devices import keys_of, samples_of
from hub.store.garbage import Retention, collectable_bundles
from hub.store.page import PageRequest
from shared.errors import Conflict, InvalidInput, NotFound
from tests.federated.run_kit import WEIGHTS, RunKit

FIRST = PageRequest(limit=50)


@pytest.fixture
def kit(tmp_path: Path, database_url: str) -> Iterator[RunKit]:
    kit = RunKit(tmp_path, database_url)
    yield kit
    kit.close()


def step(kit: RunKit, row: RunRow, to: RunState, **values: Any) -> RunRow:
    with kit.db.write() as connection:
        return store.set_state(connection, row, to, **values)


def round_row(number: int, abandoned: str = "") -> RoundRow:
    return RoundRow(
        attempt=0, round_no=number, at_s=5.0, seconds=1.5, abandoned=abandoned, asked=2, joined=2, admitted=1,
        rejected=1, dropped=0, bytes_down=100, bytes_up=30, metrics={"loss": 0.5},
        devices={"pi-1": "admitted", "pi-2": "update.norm"},
    )  # fmt: skip


def keep(kit: RunKit, row: RunRow, made: RoundRow, checkpoint: bytes | None) -> RunRow:
    with kit.db.write() as connection:
        return store.add_round(connection, row, made, checkpoint)


def test_a_run_begins_with_the_weights_of_the_version_that_production_names(kit: RunKit) -> None:
    kit.release("digits", 2, weights={name: array + 1 for name, array in WEIGHTS.items()})
    kit.aliases.move("digits", "production", 1, "", "rita")
    definition = kit.definition(seed=7)
    row = kit.runs.create(definition, by="dana", reason="winter")
    assert (row.version, row.state, row.sizes, row.created_by) == (1, RunState.QUEUED, (2, 8), "dana")
    assert msgspec.json.decode(row.definition, type=RunDefinition) == definition
    with kit.db.read() as connection:
        kept = read_checkpoint(store.load_checkpoint(connection, row.run_no))
    assert kept.weights.tolist() == [8, 9, *range(8)]
    assert (kept.run_id, kept.round_no, kept.seed) == (row.run_id, 0, 7)
    assert kept.definition == definition_digest(definition)
    entry = kit.audit.list(AuditFilter(), FIRST)[0]
    assert (entry.actor, entry.action, entry.subject) == ("dana", "federated.create", row.run_id)


def test_without_an_alias_the_newest_approved_version_is_trained_and_a_named_one_wins(kit: RunKit) -> None:
    kit.release("digits", 2, weights=WEIGHTS)
    kit.register("digits", 3, weights=WEIGHTS)
    assert kit.runs.plan(kit.definition()).version == 2
    assert kit.runs.plan(kit.definition(version=3)).version == 3


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"model": "nothing"}, "model.unknown"),
        ({"version": 9}, "version.unknown"),
        ({"version": 4}, "federated.no_head"),
        ({"version": 5}, "federated.withdrawn"),
        ({"filter": "group==nothing"}, "filter.group"),
        ({"strategy": Strategy(name="magic")}, "federated.strategy"),
        ({"strategy": Strategy(name="median", parameters={"cut": 0.1})}, "federated.strategy"),
        ({"rounds": Rounds(goal=2, quorum=3)}, "federated.invalid"),
    ],
)
def test_what_could_not_work_is_refused_before_there_is_a_run(kit: RunKit, change: dict[str, Any], code: str) -> None:
    kit.register("digits", 4)
    kit.register("digits", 5, weights=WEIGHTS)
    kit.versions.withdraw("digits", 5, "", "rita")
    for call in (kit.runs.plan, lambda definition: kit.runs.create(definition, by="dana")):
        with pytest.raises((InvalidInput, NotFound, Conflict)) as refused:
            call(kit.definition(**change))
        assert refused.value.code == code
    assert kit.runs.page(FIRST) == []


def test_a_model_without_an_approved_version_has_nothing_to_train(kit: RunKit) -> None:
    kit.register("faces", 1, weights=WEIGHTS)
    with pytest.raises(Conflict) as refused:
        kit.runs.plan(kit.definition(model="faces"))
    assert refused.value.code == "federated.no_base"


def test_a_dry_run_says_who_would_take_part_why_others_not_and_what_goes_over_which_link(kit: RunKit) -> None:
    kit.add_trainer("pi-1", samples=200)
    kit.add_trainer("pi-2", samples=300)
    kit.add_trainer("few", samples=3)
    kit.add_trainer("old", version=2)
    kit.add_device("silent")
    seen = kit.runs.plan(kit.definition()).forecast
    assert (seen.devices, seen.samples, seen.quorum, seen.enough, seen.asked) == (2, 500, 1, True, 2)
    assert seen.skipped == {"federated.offline": 1, "training.few_samples": 1, "training.model_missing": 1}
    assert {one.device_id: one.code for one in seen.examples}["old"] == "training.model_missing"
    assert (seen.bytes_down, seen.bytes_up) == (40, 1 + 2 * 4 + 10)
    (link,) = seen.links
    assert (link.devices, link.asked, link.bytes_down, link.bytes_up) == (2, 2.0, 80, 38)
    assert kit.runs.page(FIRST) == []


def test_every_legal_step_can_be_taken_and_no_other_one(kit: RunKit) -> None:
    for before in RunState:
        for after in RunState:
            row = kit.runs.create(kit.definition(), by="dana")
            row = _in_state(kit, row, before)
            if (before, after) in TRANSITIONS:
                assert step(kit, row, after).state is after
            else:
                with pytest.raises(Conflict) as refused:
                    step(kit, row, after)
                assert refused.value.code == "federated.state"


_PATHS = {
    RunState.QUEUED: [],
    RunState.RUNNING: [RunState.RUNNING],
    RunState.HANDING_OVER: [RunState.RUNNING, RunState.HANDING_OVER],
    RunState.FINISHED: [RunState.RUNNING, RunState.HANDING_OVER, RunState.FINISHED],
    RunState.FAILED: [RunState.FAILED],
    RunState.CANCELLED: [RunState.CANCELLED],
}


def _in_state(kit: RunKit, row: RunRow, state: RunState) -> RunRow:
    for one in _PATHS[state]:
        row = step(kit, row, one)
    return row


def test_a_hub_that_has_lost_its_run_writes_nothing_any_more(kit: RunKit) -> None:
    row = step(kit, kit.runs.create(kit.definition(), by="dana"), RunState.RUNNING, holder="one")
    row = keep(kit, row, round_row(1), b"after 1")
    with kit.db.write() as connection:
        assert store.set_port(connection, row, "other", 8450)
    with pytest.raises(Conflict) as refused:
        keep(kit, row, round_row(2), b"after 2")
    assert refused.value.code == "federated.changed"
    with pytest.raises(Conflict):
        step(kit, row, RunState.HANDING_OVER)
    with kit.db.read() as connection:
        assert store.load_checkpoint(connection, row.run_no) == b"after 1"
    assert kit.run(row.run_id).attempts == 1


def test_rounds_are_kept_with_what_became_of_each_device_and_only_those_that_count_move_the_run(kit: RunKit) -> None:
    row = step(kit, kit.runs.create(kit.definition(), by="dana"), RunState.RUNNING)
    keep(kit, row, round_row(1, "federated.quorum"), None)
    row = keep(kit, row, round_row(1), b"after 1")
    assert (row.round_no, row.attempts, row.bytes_down, row.bytes_up) == (1, 2, 200, 60)
    first, second = kit.runs.rounds(row.run_id, FIRST)
    assert (first.attempt, first.abandoned, second.attempt) == (1, "federated.quorum", 2)
    assert second.devices == {"pi-1": "admitted", "pi-2": "update.norm"}
    assert second.metrics == {"loss": 0.5}
    assert kit.runs.rounds(row.run_id, PageRequest(limit=50, after=(1,))) == [second]


def test_a_run_that_waits_is_cancelled_at_once_and_one_that_goes_on_is_asked_to_end(kit: RunKit) -> None:
    waits = kit.runs.create(kit.definition(), by="dana")
    assert kit.runs.cancel(waits.run_id, by="olga").state is RunState.CANCELLED
    goes_on = step(kit, kit.runs.create(kit.definition(), by="dana"), RunState.RUNNING)
    asked = kit.runs.cancel(goes_on.run_id, by="olga")
    assert (asked.state, asked.cancelled_by) == (RunState.RUNNING, "olga")
    over = step(kit, asked, RunState.HANDING_OVER)
    with pytest.raises(Conflict) as refused:
        kit.runs.cancel(over.run_id, by="olga")
    assert refused.value.code == "federated.state"


def test_a_failed_run_is_resumed_with_its_last_checkpoint_and_a_finished_one_is_not(kit: RunKit) -> None:
    row = step(kit, kit.runs.create(kit.definition(), by="dana"), RunState.RUNNING, holder="one")
    row = keep(kit, row, round_row(1), b"after 1")
    step(kit, row, RunState.FAILED, code="federated.no_devices", message="Nobody came.", ended_s=5.0)
    again = kit.runs.resume(row.run_id, by="dana")
    assert (again.state, again.code, again.holder, again.ended_s) == (RunState.QUEUED, "", "", None)
    assert again.round_no == 1
    with kit.db.read() as connection:
        assert store.load_checkpoint(connection, row.run_no) == b"after 1"
    done = _in_state(kit, kit.runs.create(kit.definition(), by="dana"), RunState.FINISHED)
    with pytest.raises(Conflict):
        kit.runs.resume(done.run_id, by="dana")


def test_runs_are_listed_newest_first_by_model_and_by_whether_they_have_ended(kit: RunKit) -> None:
    kit.release("faces", 1, weights=WEIGHTS)
    made = []
    for model in ("digits", "faces", "digits"):
        kit.clock.now_s += 1
        made.append(kit.runs.create(kit.definition(model=model), by="dana").run_id)
    kit.runs.cancel(made[0], by="olga")
    assert [row.run_id for row in kit.runs.page(FIRST)] == made[::-1]
    assert [row.run_id for row in kit.runs.page(FIRST, "digits", active=True)] == [made[2]]
    assert [row.run_id for row in kit.runs.page(FIRST, only=frozenset({"faces"}))] == [made[1]]
    two = kit.runs.page(PageRequest(limit=1))
    assert len(two) == 2
    then = kit.runs.page(PageRequest(limit=1, after=(two[0].created_s, two[0].run_id)))
    assert [row.run_id for row in then] == made[1::-1]


def test_the_bundle_of_a_run_that_goes_on_is_not_collected(kit: RunKit) -> None:
    kit.register("digits", 2, weights=WEIGHTS)
    row = kit.runs.create(kit.definition(version=2), by="dana")
    later, retention = kit.clock.now() + 90 * 86_400, Retention()
    with kit.db.read() as connection:
        assert collectable_bundles(connection, retention, later) == []
    kit.runs.cancel(row.run_id, by="olga")
    with kit.db.read() as connection:
        assert [found.version for found in collectable_bundles(connection, retention, later)] == [2]


def test_the_key_in_use_is_that_of_the_oldest_certificate_that_counts(kit: RunKit) -> None:
    first = kit.add_trainer("pi-1")
    kit.add_key("pi-1", 2.0)
    kit.add_device("none")
    with kit.db.read() as connection:
        assert keys_of(connection, ["pi-1", "none", "unknown"]) == {"pi-1": first}


def test_samples_of_a_model_are_those_that_active_devices_said_last(kit: RunKit) -> None:
    kit.add_trainer("pi-1", samples=5)
    kit.add_trainer("gone", status="revoked")
    kit.clock.now_s += 60
    kit.say_samples("pi-1", 9)
    with kit.db.read() as connection:
        (row,) = samples_of(connection, "digits")
    assert (row.device_id, row.kept, row.seen, row.personal) == ("pi-1", 9, 18, False)
    kit.clock.now_s += 60
    kit.say_samples("pi-1", 1, model="faces")
    with kit.db.read() as connection:
        assert samples_of(connection, "digits") == []


def test_answers_to_offers_are_kept_for_thirty_days(kit: RunKit) -> None:
    kit.add_trainer("pi-1")
    row = kit.runs.create(kit.definition(), by="dana")
    kit.say(row.run_id, "pi-1", "accepted", seq=1)
    kit.clock.now_s += 29 * 86_400
    kit.say(row.run_id, "pi-1", "declined", seq=2)
    assert (kit.runs.prune(), len(kit.runs.answers(row.run_id, 10))) == (0, 2)
    kit.clock.now_s += 2 * 86_400
    assert (kit.runs.prune(), [one.state for one in kit.runs.answers(row.run_id, 10)]) == (1, ["declined"])


def test_weights_are_numbers_that_a_checkpoint_keeps_bit_by_bit(kit: RunKit) -> None:
    awkward = {"w": np.array([[1e-30, 3.3]], np.float32), "b": np.array([-0.0], np.float32)}
    kit.register("digits", 2, weights=awkward)
    row = kit.runs.create(kit.definition(version=2), by="dana")
    with kit.db.read() as connection:
        kept = read_checkpoint(store.load_checkpoint(connection, row.run_no))
    assert kept.weights.tobytes() == np.concatenate([awkward["b"], awkward["w"].ravel()]).tobytes()
