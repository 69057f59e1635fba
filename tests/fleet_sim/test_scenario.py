"""Scenarios: strictly read, and what they decide depends on nothing but the seed."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.fleet_sim_app.fate import absences_of, draw, fate_of, profile_of
from scripts.fleet_sim_app.scenario import Scenario, load_scenario, parse_scenario, ready_scenarios
from shared.errors import InvalidInput, NotFound
from shared.profiles import profile_names

SMALL = b"name: small\nprofiles: {raspberry-pi-4: 3, x86-gateway: 1}\n"


def fleet(scenario: Scenario, count: int) -> list[tuple[str, str]]:
    return [(f"sim-{number}", profile_of(scenario, number)) for number in range(count)]


@pytest.mark.parametrize("name", ready_scenarios())
def test_every_ready_scenario_can_be_read_and_names_real_profiles(name: str) -> None:
    scenario = load_scenario(name)
    assert scenario.name == name
    assert scenario.profiles.keys() <= set(profile_names())


def test_the_five_stories_are_there() -> None:
    assert {"good", "crash30", "slow", "errors", "half-offline"} <= set(ready_scenarios())


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (b"colour: red\n", "colour"),
        (b"rules: [{version: 0}]\n", "rules[0].version"),
        (b"rules: [{crash: {share: 130}}]\n", "rules[0].crash.share"),
        (b"rules: [{fail: {share: 5, state: committed, code: a.b}}]\n", "cannot fail in the state committed"),
        (b"rules: [{fail: {share: 5, state: probing, code: shouting}}]\n", "rules[0].fail.code"),
        (b"rules: [{profile: camera-armv7}]\n", "no profile camera-armv7"),
        (b"offline: [{share: 50}]\n", "for_s"),
        (b"expect: applause\n", "expect"),
    ],
)
def test_what_is_wrong_is_named(more: bytes, said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_scenario(SMALL + more)
    assert caught.value.code == "scenario.invalid"
    assert said in caught.value.message


def test_a_key_that_stands_there_twice_is_refused() -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_scenario(SMALL + b"name: other\n")
    assert caught.value.code == "yaml.malformed"


def test_a_scenario_that_is_not_there_says_which_are(tmp_path: Path) -> None:
    for name in ("nothing", str(tmp_path / "nothing.yaml")):
        with pytest.raises(NotFound) as caught:
            load_scenario(name)
        assert caught.value.code == "scenario.missing"
        assert "crash30" in caught.value.hint


@given(st.binary(max_size=300))
def test_any_bytes_are_a_scenario_or_a_coded_refusal(data: bytes) -> None:
    try:
        assert isinstance(parse_scenario(data), Scenario)
    except InvalidInput as error:
        assert error.code.startswith(("scenario.", "yaml."))


def test_profiles_are_dealt_out_by_weight() -> None:
    scenario = parse_scenario(SMALL)
    dealt = [profile for _, profile in fleet(scenario, 400)]
    assert dealt.count("raspberry-pi-4") == 300
    assert {profile for _, profile in fleet(scenario, 4)} == {"raspberry-pi-4", "x86-gateway"}


def test_the_same_seed_gives_the_same_fate_and_another_seed_another() -> None:
    scenario = load_scenario("crash30")
    fates = [[fate_of(scenario, seed, *device, 2) for device in fleet(scenario, 60)] for seed in (1, 1, 2)]
    assert fates[0] == fates[1] != fates[2]


def test_a_larger_fleet_has_the_same_first_devices() -> None:
    scenario = load_scenario("crash30")
    assert fleet(scenario, 500)[:40] == fleet(scenario, 40)


def test_shares_are_met_on_the_profile_that_they_are_about_and_nowhere_else() -> None:
    scenario = load_scenario("crash30")
    crashing = [profile for name, profile in fleet(scenario, 4000) if fate_of(scenario, 3, name, profile, 2).crash]
    assert set(crashing) == {"raspberry-pi-4"}
    assert 0.26 < len(crashing) / 2400 < 0.34
    assert not any(fate_of(scenario, 3, name, profile, 1).crash for name, profile in fleet(scenario, 100))


def test_the_first_rule_that_says_something_decides() -> None:
    scenario = parse_scenario(
        SMALL
        + b"rules:\n"
        + b"  - {version: 2, profile: x86-gateway, errors: {percent: 50}}\n"
        + b"  - {version: 2, errors: {percent: 10}, latency: {median_ms: 5}}\n"
    )
    gateway, pi = (fate_of(scenario, 1, "d", profile, 2) for profile in ("x86-gateway", "raspberry-pi-4"))
    assert gateway.errors is not None
    assert gateway.errors.percent == 50
    assert gateway.latency is not None
    assert pi.errors is not None
    assert pi.errors.percent == 10


def test_half_of_the_fleet_is_away_and_comes_back() -> None:
    scenario = load_scenario("half-offline")
    away = [absences_of(scenario, 1, *device) for device in fleet(scenario, 1000)]
    assert 450 < sum(bool(found) for found in away) < 550
    assert {absence.until_s for found in away for absence in found} == {15.0}


@given(st.integers(), st.text(max_size=20))
def test_a_draw_is_in_its_range_and_repeats(seed: int, what: str) -> None:
    assert 0 <= draw(seed, what) < 1
    assert draw(seed, what) == draw(seed, what)
