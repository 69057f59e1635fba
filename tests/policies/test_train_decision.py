"""Training starts for a reason, never against a veto, and never twice for the same reason."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.federated.trigger_decision import Decision, alarm_key, candidate_keys, decide
from hub.federated.trigger_facts import Alarm, Estimate, Facts, next_base
from hub.federated.trigger_policy import TrainPolicy, train_policy_of
from hub.rollouts.clockwork import advance
from hub.rollouts.state import EngineClock

SUNDAY_S = 1_000_000 + 4 * 86_400  # no special day; schedules below name every day


def policy(*when: dict[str, Any], **more: Any) -> TrainPolicy:
    return train_policy_of({"when": list(when), **more}, "digits")


def alarm(number: int = 7, **more: Any) -> Alarm:
    given = {"version": 3, "rule": "input-drift", "signal": "input_drift", "severity": "warning", "level": "fleet"}
    return Alarm(alert_id=number, **{**given, **more})


ESTIMATE = Estimate(
    version=3, period_s=900, rows=50, value=0.71, low=0.69, high=0.73, promised=0.92, worse=True
)  # fmt: skip
CALM = Facts(
    model="digits",
    now_s=SUNDAY_S,
    settled=True,
    engine_s=10**6,
    rested_s=None,
    revision=2,
    reporting=frozenset({3}),
    estimate=ESTIMATE,
    alarms=(),
    samples=1000,
    base_samples=900,
    active_run="",
    waiting_version=None,
    used=frozenset(),
    week_runs=0,
    link_bytes={},
    cost=0.0,
)


def facts(**changes: Any) -> Facts:
    return msgspec.structs.replace(CALM, **changes)


ON_ALARM = policy({"alarm": {}})


def test_an_open_alarm_fires_and_says_which() -> None:
    found = decide(ON_ALARM, facts(alarms=(alarm(),)))
    assert found.fires
    assert found.keys == ("alarm:7",)
    assert found.reason == "would fire because alarm 7 (input-drift, warning, fleet) is open"
    assert found.clauses[0].checks[0].figures["counted"] == [7]


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"severity": "info"}, "no alarm of at least warning"),
        ({"signal": "other"}, "no alarm of at least warning"),
        ({"version": 2}, "does not serve any more"),
    ],
)
def test_an_alarm_that_is_too_weak_of_another_cause_or_of_another_version_does_not(
    changes: dict[str, Any], word: str
) -> None:
    found = decide(ON_ALARM, facts(alarms=(alarm(**changes),)))
    assert not found.fires
    assert word in found.reason


def test_the_same_alarm_never_fires_twice_and_another_one_does() -> None:
    used = frozenset({alarm_key(7)})
    again = decide(ON_ALARM, facts(alarms=(alarm(),), used=used))
    assert not again.fires
    assert "answered by a run already" in again.reason
    assert decide(ON_ALARM, facts(alarms=(alarm(), alarm(8)), used=used)).keys == ("alarm:8",)


def test_firing_uses_up_everything_that_held() -> None:
    both = policy({"alarm": {}}, {"accuracy_drop": 20}, {"new_samples": 100})
    found = decide(both, facts(alarms=(alarm(), alarm(9))))
    assert found.keys == ("accuracy:3:900", "alarm:7", "alarm:9", "samples:2")
    assert set(found.keys) == candidate_keys(both, facts(alarms=(alarm(), alarm(9))))


def test_all_conditions_of_an_entry_must_hold() -> None:
    wish = policy({"alarm": {}, "new_samples": 500})
    found = decide(wish, facts(alarms=(alarm(),)))
    assert (found.fires, found.reason) == (False, "would not fire because devices have seen 100 new samples of 500")
    assert decide(wish, facts(alarms=(alarm(),), samples=1400)).fires


def test_a_drop_of_the_estimated_accuracy_must_be_large_and_beyond_chance() -> None:
    wish = policy({"accuracy_drop": 21})
    assert decide(wish, facts()).keys == ("accuracy:3:900",)
    assert "21.0 points" in decide(wish, facts()).reason
    assert not decide(policy({"accuracy_drop": 22}), facts()).fires
    unsure = msgspec.structs.replace(ESTIMATE, worse=False)
    assert "chance" in decide(wish, facts(estimate=unsure)).reason
    assert not decide(wish, facts(estimate=None)).fires
    assert not decide(wish, facts(estimate=msgspec.structs.replace(ESTIMATE, promised=0.0))).fires


def test_samples_count_from_the_last_run_and_devices_that_leave_do_not_stop_them_for_ever() -> None:
    assert next_base(400, 900) == 400
    assert next_base(1000, 900) == 900
    assert decide(policy({"new_samples": 100}), facts(samples=500, base_samples=next_base(400, 900))).fires


def test_a_time_of_the_schedule_fires_once_and_waits_for_a_clock_that_can_be_believed() -> None:
    wish = policy({"schedule": {"cron": "0 * * * *", "timezone": "Europe/Paris", "within_s": 1800}})
    on_time = facts(now_s=3600 * 500 + 60)
    found = decide(wish, on_time)
    assert found.keys == (f"schedule:{3600 * 500}",)
    assert not decide(wish, msgspec.structs.replace(on_time, used=frozenset(found.keys))).fires
    assert "clock was set" in decide(wish, msgspec.structs.replace(on_time, settled=False)).reason
    late = decide(wish, facts(now_s=3600 * 500 + 1800))
    assert not late.fires
    assert late.clauses[0].checks[0].figures["next_s"] == 3600 * 501


VETOES: dict[str, dict[str, Any]] = {
    "data_quality": {"alarms": (alarm(), alarm(1, signal="data_quality", severity="critical"))},
    "run_active": {"active_run": "f-0123456789ab"},
    "candidate_waiting": {"waiting_version": 4},
    "cooldown": {"rested_s": 86_399},
    "budget_runs": {"week_runs": 3},
    "budget_bytes": {"link_bytes": {"cellular": 50}},
    "budget_cost": {"cost": 20.0},
}
CAREFUL = policy(
    {"alarm": {}}, budget={"runs_per_week": 3, "bytes_per_month": {"cellular": 50}, "cost_per_month": 20}
)


@pytest.mark.parametrize("name", VETOES)
def test_each_veto_stands_in_the_way_alone(name: str) -> None:
    found = decide(CAREFUL, facts(**{"alarms": (alarm(),), **VETOES[name]}))
    assert [veto.name for veto in found.vetoes if veto.holds] == [name]
    assert not found.fires
    assert found.keys == ()
    assert "although alarm 7" in found.reason


def test_a_policy_that_is_switched_off_never_fires() -> None:
    assert not decide(policy({"alarm": {}}, enabled=False), facts(alarms=(alarm(),))).fires


def test_broken_data_of_a_version_that_nobody_runs_any_more_is_no_veto() -> None:
    old = alarm(1, signal="data_quality", severity="critical", version=1)
    assert decide(ON_ALARM, facts(alarms=(alarm(), old))).fires
    assert not decide(ON_ALARM, facts(alarms=(alarm(), old), reporting=frozenset({1, 3}))).fires


def test_a_few_faulty_devices_can_be_tolerated_and_none_are_unless_it_is_said() -> None:
    faulty = alarm(1, signal="faulty_devices", severity="critical", level="devices", faulty=2, judged=100)
    assert not decide(ON_ALARM, facts(alarms=(alarm(), faulty))).fires
    assert decide(policy({"alarm": {}}, faulty_devices_percent=2), facts(alarms=(alarm(), faulty))).fires
    assert not decide(policy({"alarm": {}}, faulty_devices_percent=1), facts(alarms=(alarm(), faulty))).fires


# --- for any facts --------------------------------------------------------------------------------------------------
ALARMS = st.builds(
    Alarm,
    alert_id=st.integers(1, 6),
    version=st.integers(1, 4),
    rule=st.just("r"),
    signal=st.sampled_from(["input_drift", "prediction_drift", "data_quality", "faulty_devices", ""]),
    severity=st.sampled_from(["info", "warning", "critical"]),
    level=st.just("fleet"),
    faulty=st.integers(0, 5),
    judged=st.integers(0, 5),
)
ANY_FACTS = st.builds(
    Facts,
    model=st.just("digits"),
    now_s=st.integers(0, 2**33),
    settled=st.booleans(),
    engine_s=st.integers(0, 2**33),
    rested_s=st.none() | st.integers(0, 200_000),
    revision=st.integers(0, 5),
    reporting=st.frozensets(st.integers(1, 4)),
    estimate=st.none() | st.just(ESTIMATE),
    alarms=st.lists(ALARMS, max_size=4, unique_by=lambda one: one.alert_id).map(tuple),
    samples=st.integers(0, 2000),
    base_samples=st.integers(0, 2000),
    active_run=st.sampled_from(["", "f-0123456789ab"]),
    waiting_version=st.none() | st.integers(1, 9),
    used=st.frozensets(st.sampled_from([f"alarm:{n}" for n in range(7)] + ["samples:2", "accuracy:3:900"])),
    week_runs=st.integers(0, 5),
    link_bytes=st.dictionaries(st.sampled_from(["cellular", "wifi"]), st.integers(0, 100)),
    cost=st.floats(0, 40),
)
EVERYTHING = policy(
    {"alarm": {"severity": "info"}},
    {"accuracy_drop": 3},
    {"new_samples": 10},
    {"schedule": {"cron": "*/7 * * * *", "timezone": "America/New_York"}},
    budget={"runs_per_week": 3, "bytes_per_month": {"cellular": 50}, "cost_per_month": 20},
)


@given(ANY_FACTS)
def test_nothing_fires_while_a_veto_stands_or_without_a_key(given_facts: Facts) -> None:
    found = decide(EVERYTHING, given_facts)
    vetoed = (
        given_facts.active_run != ""
        or given_facts.waiting_version is not None
        or (given_facts.rested_s is not None and given_facts.rested_s < 86_400)
        or given_facts.week_runs >= 3
        or given_facts.link_bytes.get("cellular", 0) >= 50
        or given_facts.cost >= 20
        or any(
            one.signal in ("data_quality", "faulty_devices") and one.version in given_facts.reporting
            for one in given_facts.alarms
            if not (one.signal == "faulty_devices" and one.judged and not one.faulty)
        )
    )
    assert not (found.fires and vetoed)
    assert found.fires == bool(found.keys)
    assert not set(found.keys) & given_facts.used


@given(ANY_FACTS)
def test_once_fired_the_same_facts_never_fire_again(given_facts: Facts) -> None:
    found = decide(EVERYTHING, given_facts)
    after = msgspec.structs.replace(given_facts, used=given_facts.used | set(found.keys))
    assert not (found.fires and decide(EVERYTHING, after).fires)
    assert found.reason.startswith("would fire" if found.fires else "would not fire")


@given(st.lists(st.integers(-400_000, 400_000), max_size=40))
def test_the_cooldown_lasts_its_engine_time_however_the_clock_is_set(moves: list[int]) -> None:
    """Each move is a tick; only those that a running hub could have made shorten the cooldown."""
    wish = policy({"alarm": {}}, cooldown_s=3600)
    clock, now_s = advance(EngineClock(), 5_000_000, 0).clock, 5_000_000
    began_e, number, fired_e = clock.elapsed_s, 100, None
    for move in moves:
        now_s += move
        clock = advance(clock, now_s, 0).clock
        number += 1  # always a new alarm: only the cooldown can stand in the way
        rested = clock.elapsed_s - began_e
        found: Decision = decide(wish, facts(alarms=(alarm(number),), rested_s=rested, now_s=now_s))
        if found.fires:
            assert fired_e is None or clock.elapsed_s - fired_e >= 3600
            began_e = fired_e = clock.elapsed_s
        assert found.fires == (rested >= 3600)
