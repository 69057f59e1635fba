"""When a device trains: only when everything is known and allows it, and it always says the same about the same."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.training.budget import DECLINED, Demands, Readings, Wanted, decide, still_holds
from shared.profiles import MaintenanceWindow, Profile, Training, load_profile
from shared.wire.training import Promise

GIB = 1 << 30
PROFILE = msgspec.structs.replace(
    load_profile("raspberry-pi-4"),
    training=Training(allowed=True),
    maintenance_window=MaintenanceWindow(cron="0 3 * * *", duration_s=3600),
)
BATTERY = msgspec.structs.replace(
    PROFILE,
    power=msgspec.structs.replace(PROFILE.power, source="battery", min_battery_percent=40),
    training=Training(allowed=True, mains_only=False),
)
WANTED = Wanted(model="digits", version=3, seconds=60.0, memory_bytes=100 << 20, bytes=100_000)
FINE = Readings(
    enabled=True,
    serving={"digits": 3},
    samples={0: 60, 1: 60},
    in_window=True,
    metered=False,
    on_mains=True,
    temperature_c=40.0,
    idle=True,
    cpu_percent=10.0,
    memory_available_bytes=GIB,
    disk_free_bytes=100 * GIB,
)


def without(**rules: Any) -> Profile:
    return msgspec.structs.replace(PROFILE, training=msgspec.structs.replace(PROFILE.training, **rules))


def test_a_device_that_has_all_it_takes_accepts() -> None:
    assert decide(PROFILE, WANTED, FINE).accepted


REFUSED: list[tuple[str, Profile, Wanted, Readings]] = [
    ("training.not_allowed", without(allowed=False), WANTED, FINE),
    ("training.switched_off", PROFILE, WANTED, replace(FINE, enabled=False)),
    ("training.not_installed", PROFILE, WANTED, replace(FINE, installed=False)),
    ("training.too_long", PROFILE, replace(WANTED, seconds=601.0), FINE),
    ("training.too_long", PROFILE, replace(WANTED, seconds=math.nan), FINE),
    ("training.link_slow", PROFILE, replace(WANTED, seconds=590.0, bytes=10**12), FINE),
    ("training.too_large", PROFILE, replace(WANTED, memory_bytes=GIB), FINE),
    ("training.model_missing", PROFILE, replace(WANTED, version=4), FINE),
    ("training.model_missing", PROFILE, replace(WANTED, model="other"), FINE),
    ("training.few_samples", PROFILE, WANTED, replace(FINE, samples={0: 50, 1: 49})),
    ("training.few_samples", PROFILE, replace(WANTED, min_samples=121), FINE),
    ("training.few_classes", PROFILE, WANTED, replace(FINE, samples={0: 200, 1: 0})),
    ("training.busy", PROFILE, WANTED, replace(FINE, busy=True)),
    ("training.resting", PROFILE, WANTED, replace(FINE, rest_s=12.0)),
    ("training.window_closed", PROFILE, WANTED, replace(FINE, in_window=False)),
    ("training.window_closed", PROFILE, WANTED, replace(FINE, in_window=None)),
    ("training.metered", PROFILE, WANTED, replace(FINE, metered=True)),
    ("training.on_battery", PROFILE, WANTED, replace(FINE, on_mains=False, battery_percent=100.0)),
    (
        "training.on_battery",
        msgspec.structs.replace(BATTERY, training=PROFILE.training),
        WANTED,
        replace(FINE, on_mains=None),
    ),
    ("training.battery_low", BATTERY, WANTED, replace(FINE, on_mains=False, battery_percent=39.0)),
    ("training.battery_low", BATTERY, WANTED, replace(FINE, on_mains=None, battery_percent=None)),
    ("training.too_hot", PROFILE, WANTED, replace(FINE, temperature_c=PROFILE.power.max_temperature_c)),
    ("training.too_hot", PROFILE, WANTED, replace(FINE, temperature_c=math.nan)),
    ("training.too_hot", BATTERY, WANTED, replace(FINE, temperature_c=None)),
    ("training.not_idle", PROFILE, WANTED, replace(FINE, idle=False)),
    ("training.not_idle", PROFILE, WANTED, replace(FINE, idle=None)),
    ("training.cpu_busy", PROFILE, WANTED, replace(FINE, cpu_percent=51.0)),
    ("training.cpu_busy", PROFILE, WANTED, replace(FINE, cpu_percent=None)),
    ("training.memory_low", PROFILE, WANTED, replace(FINE, memory_available_bytes=99 << 20)),
    ("training.memory_low", PROFILE, WANTED, replace(FINE, memory_available_bytes=None)),
    ("training.disk_low", PROFILE, WANTED, replace(FINE, disk_free_bytes=PROFILE.min_free_bytes)),
    ("training.disk_low", PROFILE, WANTED, replace(FINE, disk_free_bytes=None)),
]


@pytest.mark.parametrize(("code", "profile", "wanted", "readings"), REFUSED)
def test_each_reason_has_its_code_and_words(code: str, profile: Profile, wanted: Wanted, readings: Readings) -> None:
    decision = decide(profile, wanted, readings)
    assert (decision.accepted, decision.code) == (False, code)
    assert decision.reason.startswith(DECLINED[code])


PROMISES = [
    (Demands(secure_aggregation=True), Promise(client_noise=9.0)),
    (Demands(client_noise=0.5), Promise(secure_aggregation=True, client_noise=0.4)),
    (Demands(client_noise=0.5), Promise(client_noise=math.nan)),
]


@pytest.mark.parametrize(("demands", "promise"), PROMISES)
def test_a_device_refuses_less_privacy_than_its_owner_demands(demands: Demands, promise: Promise) -> None:
    decision = decide(PROFILE, replace(WANTED, promise=promise), FINE, demands)
    assert (decision.accepted, decision.code) == (False, "training.promise")
    kept = Promise(secure_aggregation=True, client_noise=0.5)
    assert decide(PROFILE, replace(WANTED, promise=kept), FINE, demands).accepted


def test_a_refusal_says_when_to_ask_again_where_that_is_known() -> None:
    waits = {
        "training.window_closed": replace(FINE, in_window=False, opens_in_s=600.0),
        "training.not_idle": replace(FINE, idle=False, idle_in_s=30.0),
        "training.busy": replace(FINE, busy=True, free_in_s=90.0),
        "training.resting": replace(FINE, rest_s=12.0),
        "training.too_hot": replace(FINE, temperature_c=200.0),
    }
    found = {code: decide(PROFILE, WANTED, readings).retry_s for code, readings in waits.items()}
    assert list(found) == [decide(PROFILE, WANTED, readings).code for readings in waits.values()]
    assert list(found.values()) == [600.0, 30.0, 90.0, 12.0, 0.0]
    assert decide(PROFILE, WANTED, replace(FINE, in_window=False)).retry_s == 0.0


def test_a_device_that_trains_goes_on_only_while_power_heat_and_load_allow_it() -> None:
    assert still_holds(PROFILE, replace(FINE, busy=True, rest_s=5.0, samples={})).accepted
    for change, code in (
        ({"temperature_c": 200.0}, "training.too_hot"),
        ({"on_mains": False}, "training.on_battery"),
        ({"idle": False}, "training.not_idle"),
        ({"cpu_percent": 99.0}, "training.cpu_busy"),
        ({"in_window": False}, "training.window_closed"),
    ):
        changed: dict[str, Any] = change
        assert still_holds(PROFILE, replace(FINE, **changed)).code == code


def test_every_code_has_a_case_and_a_row_in_the_documents() -> None:
    assert {code for code, *_ in REFUSED} | {"training.promise"} == set(DECLINED)
    text = (Path(__file__).parents[2] / "docs" / "federated.md").read_text()
    text = text.split("## When a device trains")[1].split("\n## ")[0]
    assert [line.split("`")[1] for line in text.splitlines() if line.startswith("| `training.")] == list(DECLINED)


def test_a_rule_that_the_profile_does_not_have_is_not_asked() -> None:
    free = msgspec.structs.replace(
        without(idle_only=False, unmetered_only=False, mains_only=False), maintenance_window=None
    )
    changed = replace(FINE, idle=None, metered=True, on_mains=False, battery_percent=90.0, in_window=None)
    assert decide(free, WANTED, changed).accepted
    assert decide(PROFILE, WANTED, replace(FINE, temperature_c=None)).accepted


NUMBERS = st.none() | st.floats(allow_nan=True, allow_infinity=True)
SIZES = st.none() | st.integers(0, 10**12)
ANSWERS = st.none() | st.booleans()
READINGS = st.builds(
    Readings,
    enabled=st.booleans(),
    serving=st.dictionaries(st.sampled_from(["digits", "other"]), st.integers(1, 4)),
    samples=st.dictionaries(st.integers(0, 9), st.integers(0, 300)),
    busy=st.booleans(),
    in_window=ANSWERS,
    metered=ANSWERS,
    on_mains=ANSWERS,
    battery_percent=NUMBERS,
    temperature_c=NUMBERS,
    idle=ANSWERS,
    cpu_percent=NUMBERS,
    memory_available_bytes=SIZES,
    disk_free_bytes=SIZES,
)
PROFILES = st.sampled_from([PROFILE, BATTERY, without(allowed=False)])
UNKNOWN = ["in_window", "battery_percent", "idle", "cpu_percent", "memory_available_bytes", "disk_free_bytes"]


def test_the_owner_may_say_how_busy_the_processor_may_be() -> None:
    busy = replace(FINE, cpu_percent=99.0)
    anything, little = Demands(busy_percent=100.0), Demands(busy_percent=20.0)
    assert decide(PROFILE, WANTED, busy, anything).accepted
    assert still_holds(PROFILE, busy, anything).accepted
    assert decide(PROFILE, WANTED, replace(FINE, cpu_percent=30.0), little).code == "training.cpu_busy"
    assert decide(PROFILE, WANTED, replace(FINE, cpu_percent=None), anything).code == "training.cpu_busy"


@given(PROFILES, READINGS)
def test_an_answer_is_always_given_and_a_refusal_always_has_a_code(profile: Profile, readings: Readings) -> None:
    decision = decide(profile, WANTED, readings)
    assert decision.accepted == (decision.code == "") == (decision.reason == "")
    assert decision.accepted or decision.code in DECLINED
    assert decision == decide(profile, WANTED, readings)


@given(PROFILES, READINGS, st.sampled_from(UNKNOWN))
def test_knowing_less_never_makes_a_device_train(profile: Profile, readings: Readings, name: str) -> None:
    if not decide(profile, WANTED, readings).accepted:
        less: dict[str, Any] = {name: None}
        assert not decide(profile, WANTED, replace(readings, **less)).accepted


@given(READINGS, st.integers(0, 400), st.floats(0, 100), st.floats(-40, 0))
def test_more_of_what_is_wanted_never_turns_an_acceptance_into_a_refusal(
    readings: Readings, samples: int, battery: float, cooler: float
) -> None:
    one = replace(FINE, samples=readings.samples, on_mains=readings.on_mains, battery_percent=battery)
    better = replace(
        one,
        samples={label: count + samples for label, count in one.samples.items()},
        battery_percent=100.0,
        temperature_c=40.0 + cooler,
    )
    assert decide(BATTERY, WANTED, better).accepted >= decide(BATTERY, WANTED, one).accepted
