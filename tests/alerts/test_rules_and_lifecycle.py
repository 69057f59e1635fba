"""Rules are strict data; an alert opens late enough, does not flutter, and counts every period once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.alerts.config import load_config
from hub.alerts.lifecycle import LIVE, Alert, Step, step
from hub.alerts.rules import Rule, parse_rules, with_changes
from hub.alerts.signals import readings
from shared.errors import InvalidInput

ROOT = Path(__file__).resolve().parents[2]
RULE = Rule(
    name="r",
    signal="data_quality",
    severity="critical",
    summary="s",
    threshold=0.5,
    clear=0.2,
    open_after=2,
    close_after=2,
)


def run(values: list[float], rule: Rule = RULE, *, held: bool = False) -> list[str]:
    """The events, period by period."""
    alert: Alert | None = None
    events: list[str] = []
    for period, value in enumerate(values):
        done = step(alert, rule, value, period, float(period), held=held)
        alert = done.alert if done.alert is not None and done.alert.state in LIVE else None
        events.append(done.event)
    return events


def test_it_opens_after_as_many_periods_and_closes_after_as_many() -> None:
    assert run([0.9, 0.9, 0.9, 0.0, 0.0]) == ["", "opened", "", "", "resolved"]


def test_one_calm_period_before_it_opens_is_the_end_of_it() -> None:
    assert run([0.9, 0.0, 0.9, 0.0]) == [""] * 4


def test_between_clear_and_threshold_nothing_changes() -> None:
    assert run([0.9, 0.9, 0.3, 0.3, 0.3, 0.0, 0.3, 0.0]) == ["", "opened", "", "", "", "", "", "resolved"]


def test_what_is_held_opens_when_it_is_no_longer_held() -> None:
    assert run([0.9, 0.9, 0.9], held=True) == [""] * 3
    alert = Alert(breached=5, period_s=4)
    assert step(alert, RULE, 0.9, 5, 5.0).event == "opened"


def test_a_period_counts_once() -> None:
    alert = Alert(breached=1, period_s=7)
    assert step(alert, RULE, 0.9, 7, 1.0) == Step(alert=alert)
    assert step(alert, RULE, 0.9, 6, 1.0) == Step(alert=alert)


@given(st.lists(st.sampled_from([0.0, 0.3, 0.9]), max_size=40))
def test_opened_and_resolved_alternate_whatever_comes(values: list[float]) -> None:
    events = [event for event in run(values) if event]
    assert events == ["opened", "resolved"] * (len(events) // 2) + ["opened"] * (len(events) % 2)


@pytest.mark.parametrize(
    "fields",
    [{"threshold": 0}, {"clear": 0.6}, {"signal": "moon"}, {"unknown": 1}, {"open_after": 0}, {"severity": "bad"}],
    ids=str,
)
def test_a_rule_that_makes_no_sense_refuses_the_file(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as caught:
        with_changes({"r": RULE}, {"r": fields})
    assert caught.value.code == "alerts.invalid"


def test_the_same_name_twice_is_refused() -> None:
    plain = {"name": "r", "signal": "input_drift", "severity": "info", "summary": "s", "threshold": 1, "clear": 1}
    with pytest.raises(InvalidInput):
        parse_rules([plain, plain])


def test_every_ready_rule_has_its_runbook_and_every_runbook_its_rule(tmp_path: Path) -> None:
    rules = load_config(tmp_path / "none.yaml").rules
    assert {path.stem for path in (ROOT / "docs" / "runbooks").glob("*.md")} == set(rules)


def test_the_file_of_the_hub_changes_rules_and_names_routes(tmp_path: Path) -> None:
    path = tmp_path / "alerts.yaml"
    path.write_text(
        "routes:\n  ops: {kind: webhook, url: 'https://example.test/x', secret_file: /s}\n"
        "default_routes: [ops]\nrules:\n  input-drift: {enabled: false}\n  data-quality: {routes: [log]}\n"
    )
    config = load_config(path)
    assert not config.rules["input-drift"].enabled
    assert config.rules["data-quality"].routes == ["log"]
    assert config.default_routes == ["ops"]


@pytest.mark.parametrize(
    "text",
    [
        "default_routes: [nowhere]",
        "routes: {a: {kind: webhook, url: 'http://example.test/', secret_file: /s}}",
        "routes: {a: {kind: email, host: mail.test, security: none, sender: a@b, to: [c@d]}}",
        "rules: {mine: {threshold: 3}}",
        "surprise: 1",
    ],
)
def test_a_file_that_cannot_be_used_refuses_the_start(tmp_path: Path, text: str) -> None:
    path = tmp_path / "alerts.yaml"
    path.write_text(text)
    with pytest.raises(InvalidInput) as caught:
        load_config(path)
    assert caught.value.code == "alerts.invalid"


def verdict(share: float) -> dict[str, Any]:
    faults = [{"feature": "x", "cause": "stuck", "rows": 1, "share": share}] if share else []
    labelled = {"risen": ""}
    return {
        "faults": faults,
        "drifted": [],
        "estimated": [],
        "labelled": labelled,
        "refused": {},
        "rows": 9,
        "since": {},
    }


def test_what_the_whole_fleet_has_is_not_told_again_for_each_profile() -> None:
    def told(fleet: float, *profiles: float) -> list[str]:
        levels = {"fleet": verdict(fleet)} | {f"profile:{i}": verdict(share) for i, share in enumerate(profiles)}
        return [one.level for one in readings({"r": RULE}, levels) if one.value]

    assert told(0.9, 0.9, 0.9) == ["fleet"]
    assert told(0.1, 0.9, 0.0) == ["fleet", "profile:0"]
