"""Training starts by itself once for each reason: across restarts, crashes, second hubs and clocks that are set."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, select

from hub.federated.triggers import ACTOR, firing_name, firing_number
from hub.store import schema
from hub.store.audit import AuditFilter
from hub.store.registry import Status
from shared.errors import Conflict, InvalidInput, NotFound, Unavailable
from tests.policies.train_site import PAGE, PERIOD_S, TrainSite

ON_ALARM: dict[str, Any] = {"when": [{"alarm": {"severity": "info"}}], "cooldown_s": "1h"}
HOUR_S = 3600.0


@contextmanager
def ready(folder: Path, url: str) -> Iterator[TrainSite]:
    site = TrainSite(folder, url)
    try:
        site.release("digits", 1)
        site.verdict(1)
        yield site
    finally:
        site.close()


@pytest.fixture
def site(tmp_path: Path, sqlite_url: str) -> Iterator[TrainSite]:
    with ready(tmp_path, sqlite_url) as site:
        yield site


@pytest.fixture
def any_site(tmp_path: Path, database_url: str) -> Iterator[TrainSite]:
    with ready(tmp_path, database_url) as site:
        yield site


def test_an_alarm_makes_a_run_that_says_why_and_alarm_and_run_lead_to_it(any_site: TrainSite) -> None:
    site = any_site
    policy = {**ON_ALARM, "run": {"filter": "tag.lens==dirty", "rounds": {"goal": 3}}}
    site.triggers.set("digits", policy, "olga")
    assert site.tick() == 0
    number = site.alarm("input-drift")
    assert site.triggers.test("digits").decision.fires
    assert site.tick() == 1
    (firing,) = site.firings()
    assert (firing.state, firing.run_id) == ("started", site.run_ids()[0])
    assert firing.reason == f"alarm {number} (input-drift, warning, fleet) is open"
    assert firing.evidence["clauses"][0]["checks"][0]["figures"]["counted"] == [number]
    ((definition, by, reason, trigger),) = site.runs.made
    assert (definition.model, definition.filter, definition.rounds.goal) == ("digits", "tag.lens==dirty", 3)
    assert (by, reason, firing_number(trigger)) == (ACTOR, firing.reason, firing.firing_id)
    assert site.triggers.of_alarm(number) == [firing]
    assert site.triggers.of_alarm(number + 1) == []
    (entry,) = site.audit.list(AuditFilter(action="train_trigger.fire"), PAGE)
    assert json.loads(entry.detail) == {
        "firing": firing.firing_id, "keys": [f"alarm:{number}"], "reason": firing.reason,
    }  # fmt: skip


def test_the_same_alarm_never_fires_twice_and_three_alarms_fire_three_times(any_site: TrainSite) -> None:
    site = any_site
    site.triggers.set("digits", ON_ALARM, "olga")
    for cycle in (1, 2, 3):
        site.alarm("input-drift")
        assert site.tick() == 1
        assert site.tick() == 0, "the run goes on"
        site.end_runs()
        assert site.rest(2 * HOUR_S) == 0, "the alarm is still open, and was answered"
        assert len(site.firings()) == cycle
    assert len({firing.run_id for firing in site.firings()}) == 3


def test_the_cooldown_holds_through_a_restart_and_a_clock_that_is_set_back_and_forth(site: TrainSite) -> None:
    site.triggers.set("digits", ON_ALARM, "olga")
    site.alarm("input-drift")
    assert site.tick() == 1
    site.end_runs()
    site.alarm("prediction-drift")
    site.triggers = site.hub()  # restarted
    assert site.rest(HOUR_S / 2) == 0
    for jump_s in (-10 * HOUR_S, 100 * HOUR_S, -HOUR_S):
        assert site.tick(jump_s) == 0
    veto = next(one for one in site.triggers.test("digits").decision.vetoes if one.name == "cooldown")
    assert 0 < veto.figures["left_s"] < HOUR_S
    assert site.rest(HOUR_S) == 1, "and it ends after its time, whatever the clock says"


def test_broken_data_is_a_veto_until_it_is_over(site: TrainSite) -> None:
    site.triggers.set("digits", ON_ALARM, "olga")
    site.alarm("input-drift")
    site.alarm("data-quality", severity="critical")
    assert site.rest(10 * 60) == 0
    assert "data is broken" in site.triggers.test("digits").decision.reason
    site.resolve()
    site.alarm("input-drift")
    assert site.tick() == 1


def test_faulty_devices_are_counted_from_the_alert(site: TrainSite) -> None:
    site.triggers.set("digits", {**ON_ALARM, "faulty_devices_percent": 3}, "olga")
    site.alarm("input-drift")
    few = {"value": 3.0, "of": 100}
    site.alarm("faulty-devices", severity="critical", level="devices", detail=few)
    assert site.triggers.test("digits").decision.fires
    site.alarm("faulty-devices", severity="critical", level="devices", detail={**few, "value": 4.0})
    assert not site.triggers.test("digits").decision.fires


def test_a_candidate_that_waits_for_its_signatures_is_a_veto_until_it_is_approved_or_withdrawn(site: TrainSite) -> None:
    site.triggers.set("digits", ON_ALARM, "olga")
    site.alarm("input-drift")
    site.register("digits", 2)
    site.set_status("digits", 2, Status.GATED)
    assert site.tick() == 0
    assert "version 2 passed its gate and waits" in site.triggers.test("digits").decision.reason
    site.set_status("digits", 2, Status.WITHDRAWN)
    assert site.tick() == 1


def test_the_version_that_serves_is_the_one_with_most_rows_of_those_that_report(site: TrainSite) -> None:
    site.triggers.set("digits", ON_ALARM, "olga")
    site.alarm("input-drift")
    site.verdict(2, period_s=2 * PERIOD_S, rows=100)
    assert site.triggers.test("digits").decision.fires
    site.verdict(2, period_s=4 * PERIOD_S, rows=100)  # version 1 has not reported for three periods
    assert "does not serve any more" in site.triggers.test("digits").decision.reason


def test_a_drop_of_the_estimated_accuracy_fires_again_only_with_a_newer_verdict(site: TrainSite) -> None:
    site.triggers.set("digits", {"when": [{"accuracy_drop": 3}], "cooldown_s": "1h"}, "olga")
    assert site.tick() == 0
    site.verdict(1, period_s=2 * PERIOD_S, value=0.8)
    assert site.tick() == 1
    site.end_runs("failed")
    assert site.rest(2 * HOUR_S) == 0
    site.verdict(1, period_s=3 * PERIOD_S, value=0.8)
    assert site.tick() == 1


def test_new_samples_are_counted_over_the_fleet_from_the_last_run_whoever_began_it(any_site: TrainSite) -> None:
    site = any_site
    for name in ("pi-1", "pi-2", "gone"):
        site.add_device(name, status="revoked" if name == "gone" else "active")
        site.samples(name, 40)
    site.triggers.set("digits", {"when": [{"new_samples": 100}], "cooldown_s": "1h"}, "olga")
    assert site.tick() == 0, "revoked devices do not count"
    site.samples("pi-1", 60)
    assert site.tick() == 1
    site.end_runs()
    site.samples("pi-2", 139)
    assert site.rest(2 * HOUR_S) == 0
    site.samples("pi-2", 140)
    assert site.tick() == 1
    site.end_runs()
    site.samples("pi-2", 300)
    with site.db.write() as connection:
        site.runs.insert(connection, "f-00000000beef", "digits")
    assert site.tick() == 0
    site.end_runs()
    assert site.rest(2 * HOUR_S) == 0, "a run that somebody asked for has used them"
    site.samples("pi-2", 50)  # erased
    assert site.tick() == 0
    site.samples("pi-2", 150)
    assert site.tick() == 1


def test_the_schedule_fires_once_for_each_of_its_times(site: TrainSite) -> None:
    site.clock.now_s = 500 * 86_400.0 + 30.0
    hourly = {"cron": "15 * * * *", "timezone": "UTC", "within_s": "15m"}
    site.triggers.set("digits", {"when": [{"schedule": hourly}], "cooldown_s": 1}, "olga")
    started = []
    for _ in range(3 * 20):
        started += [site.clock.now_s] if site.tick(180.0) else []
        site.end_runs()
    assert [int(at_s % HOUR_S) // 60 for at_s in started] == [15, 15, 15]
    site.clock.now_s = 510 * 86_400.0 + 13 * 60.0  # set: not believed for ten minutes
    assert [site.tick(180.0) for _ in range(4)] == [0, 0, 0, 0]
    assert sum(site.tick(180.0) for _ in range(3)) == 1


def test_what_cannot_be_made_is_kept_with_the_reason_and_not_tried_again(site: TrainSite) -> None:
    site.triggers.set("digits", ON_ALARM, "olga")
    site.alarm("input-drift")
    site.runs.problem = InvalidInput("federated.no_head", "The version has no head.")
    found = site.triggers.test("digits")
    assert (found.decision.fires, found.code) == (True, "federated.no_head")
    assert site.tick() == 0
    site.runs.problem = None
    assert site.rest(2 * HOUR_S) == 0
    (firing,) = site.firings()
    assert (firing.state, firing.code, firing.run_id) == ("refused", "federated.no_head", "")
    assert len(site.audit.list(AuditFilter(action="train_trigger.refuse"), PAGE)) == 1


def test_a_database_that_is_away_is_waited_for_but_not_for_ever(site: TrainSite) -> None:
    site.triggers.set("digits", ON_ALARM, "olga")
    site.alarm("input-drift")
    site.runs.problem = Unavailable("database.unavailable", "Away.", retriable=True)
    assert (site.tick(), site.tick()) == (0, 0)
    site.runs.problem = None
    assert site.tick() == 1
    site.end_runs()
    site.rest(2 * HOUR_S)
    site.alarm("input-drift")
    site.runs.problem = Unavailable("database.unavailable", "Away.", retriable=True)
    site.tick()
    site.runs.problem = None
    assert site.tick(24 * HOUR_S) == 0
    assert site.firings()[-1].code == "trigger.too_late"


class Killed(BaseException):
    pass


def test_a_hub_that_dies_between_the_firing_and_its_run_makes_the_run_when_it_is_back(site: TrainSite) -> None:
    site.triggers.set("digits", ON_ALARM, "olga")
    site.alarm("input-drift")
    site.runs.problem = Killed()
    with pytest.raises(Killed):
        site.tick()
    assert [firing.state for firing in site.firings()] == ["starting"]
    site.runs.problem = None
    site.triggers = site.hub()
    assert site.tick() == 1
    assert site.tick() == 0
    assert (len(site.firings()), len(site.run_ids())) == (1, 1)


def test_two_hubs_at_once_make_one_firing_and_one_run(any_site: TrainSite) -> None:
    site = any_site
    site.triggers.set("digits", ON_ALARM, "olga")
    site.alarm("input-drift")
    other = site.hub()

    def quicker() -> None:
        """The other hub does the whole of it while this one is about to make the run."""
        site.runs.before = lambda: None
        assert other.run() == 1

    site.runs.before = quicker
    assert site.tick() == 0
    assert (len(site.firings()), len(site.run_ids())) == (1, 1)


def test_a_policy_that_is_gone_or_changed_starts_nothing(site: TrainSite) -> None:
    site.triggers.set("digits", ON_ALARM, "olga")
    site.alarm("input-drift")
    site.triggers.set("digits", {**ON_ALARM, "enabled": False}, "olga")
    assert site.tick() == 0
    site.triggers.remove("digits", "olga")
    assert site.tick() == 0
    with pytest.raises(NotFound) as caught:
        site.triggers.get("digits")
    assert caught.value.code == "policy.unknown"
    with pytest.raises(NotFound):
        site.triggers.set("nothing", ON_ALARM, "olga")
    assert site.triggers.test("digits", ON_ALARM).decision.fires, "a draft can be tried"
    actions = [entry.action for entry in site.audit.list(AuditFilter(subject="digits"), PAGE)]
    assert actions.count("train_trigger.set") == 2


def test_bytes_of_a_month_are_counted_by_the_class_of_link(site: TrainSite) -> None:
    with site.db.write() as connection:
        site.runs.insert(connection, "f-00000000beef", "digits")
        number = connection.execute(select(schema.federated_runs.c.run_no)).scalar_one()
    moved = {"run_no": number, "devices": 2, "bytes_down": 30 << 20, "bytes_up": 20 << 20}
    site.row(schema.federated_traffic, profile="camera-armv7", **moved)
    site.row(schema.federated_traffic, profile="unheard-of", **moved)
    site.end_runs()
    limits = {"bytes_per_month": {"cellular": "50 MiB", "wifi": "1 MiB"}, "cost_per_month": 1000}
    site.triggers.set("digits", {**ON_ALARM, "budget": limits}, "olga")
    site.rest(2 * HOUR_S)
    site.alarm("input-drift")
    found = site.triggers.test("digits").decision
    assert [veto.name for veto in found.vetoes if veto.holds] == ["budget_bytes"]
    assert next(veto.figures["cost"] for veto in found.vetoes if veto.name == "budget_cost") > 0
    assert site.tick() == 0
    site.clock.now_s += 31 * 86_400
    assert site.rest(600) == 1


def test_a_look_costs_the_same_number_of_statements_for_any_number_of_models_and_devices(site: TrainSite) -> None:
    def statements() -> int:
        seen: list[str] = []

        def count(_c: Any, _cursor: Any, statement: str, *_more: Any) -> None:
            seen.append(statement)

        event.listen(site.db.engine, "before_cursor_execute", count)
        site.tick()
        event.remove(site.db.engine, "before_cursor_execute", count)
        return len(seen)

    site.triggers.set("digits", ON_ALARM, "olga")
    site.tick()
    before = statements()
    for number in range(12):
        site.release(f"m{number}", 1)
        site.triggers.set(f"m{number}", ON_ALARM, "olga")
    for number in range(50):
        site.add_device(f"pi-{number}")
        site.samples(f"pi-{number}", 5)
    site.tick()
    assert statements() == before


def test_names_of_firings_are_read_back_and_nothing_else_is() -> None:
    assert firing_number(firing_name(12)) == 12
    assert [firing_number(name) for name in ("", "t-", "t-x", "12", "t-1²")] == [None] * 5


def test_a_firing_that_has_its_run_takes_no_other(site: TrainSite) -> None:
    site.triggers.set("digits", ON_ALARM, "olga")
    site.alarm("input-drift")
    site.tick()
    (firing,) = site.firings()
    with pytest.raises(Conflict) as caught:
        site.triggers.make_run(firing)
    assert caught.value.code == "trigger.started"
    assert len(site.run_ids()) == 1
