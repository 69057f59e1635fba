"""A policy for training is refused unless every field is understood, and the refusal names the field."""

from __future__ import annotations

import pytest

from hub.federated.trigger_policy import from_store, parse_train_policy, stored_train_policy
from shared.errors import InvalidInput

WHOLE = b"""
when:
  - alarm: {severity: info, causes: [input_drift]}
    new_samples: 500
  - accuracy_drop: 3
  - schedule: {cron: '0 3 * * sun', timezone: Europe/Paris, within_s: 2h}
cooldown_s: 12h
faulty_devices_percent: 5
budget: {runs_per_week: 3, bytes_per_month: {cellular: 50 MiB}, cost_per_month: 20}
run: {filter: 'tag.lens==dirty', rounds: {count: 5, goal: 4}}
note: the lenses
"""


def test_a_policy_is_kept_as_it_was_said() -> None:
    policy = parse_train_policy(WHOLE, "digits")
    assert from_store(stored_train_policy(policy)) == policy
    assert (policy.rest_s, policy.link_bytes) == (43_200, {"cellular": 50 << 20})
    run = policy.definition("digits")
    assert (run.model, run.filter, run.rounds.goal) == ("digits", "tag.lens==dirty", 4)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("{}", "when"),
        ("when: []", "when"),
        ("when: [{}]", "when[0]"),
        ("when: [{alarms: {}}]", "when[0].alarms"),
        ("when: [{alarm: {severity: bad}}]", "when[0].alarm.severity"),
        ("when: [{alarm: {causes: [data_quality]}}]", "when[0].alarm.causes[0]"),
        ("when: [{alarm: {causes: [input_drift, input_drift]}}]", "when[0].alarm.causes"),
        ("when: [{accuracy_drop: 0}]", "when[0].accuracy_drop"),
        ("when: [{new_samples: -1}]", "when[0].new_samples"),
        ("when: [{schedule: {cron: '0 3 * *', timezone: UTC}}]", "when[0].schedule.cron"),
        ("when: [{schedule: {cron: '0 3 30 2 *', timezone: UTC}}]", "when[0].schedule.cron"),
        ("when: [{schedule: {cron: '0 3 * * *', timezone: Mars}}]", "when[0].schedule.timezone"),
        ("when: [{schedule: {cron: '0 3 * * *'}}]", "when[0].schedule.timezone"),
        ("when: [{schedule: {cron: '0 3 * * *', timezone: UTC, within_s: 1s}}]", "when[0].schedule.within_s"),
        ("when: [{new_samples: 5}]\nrun: {rounds: {gaol: 3}}", "run.rounds.gaol"),
        ("when: [{new_samples: 5}]\nrun: {rounds: {goal: 3, quorum: 5}}", "run"),
        ("when: [{new_samples: 5}]\nrun: {model: other}", "run.model"),
        ("when: [{new_samples: 5}]\ncooldown_s: 1y", "cooldown_s"),
        ("when: [{new_samples: 5}]\ncooldown_s: 0", "cooldown_s"),
        ("when: [{new_samples: 5}]\nbudget: {bytes_per_month: {wifi: 5 MB}}", "budget.bytes_per_month.wifi"),
        ("when: [{new_samples: 5}]\nbudget: {bytes_per_month: {wify: 5}}", "budget.bytes_per_month"),
        ("when: [{new_samples: 5}]\nbudget: {runs_per_week: 0}", "budget.runs_per_week"),
        ("[]", "policy"),
    ],
)
def test_what_is_not_understood_is_refused_by_its_field(text: str, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_train_policy(text.encode(), "digits")
    assert (caught.value.code, caught.value.detail["field"]) == ("policy.invalid", field)
    assert caught.value.message.startswith(f"{field}: ")


def test_a_document_is_bounded_before_it_is_read() -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_train_policy(b" " * (1 << 20) + b"x", "digits")
    assert caught.value.code == "policy.too_large"
