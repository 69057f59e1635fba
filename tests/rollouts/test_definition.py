"""Definitions: strict data, errors that name the field, and plans in whole numbers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.rollouts.amounts import basis_points, millionths, moment_s, seconds
from hub.rollouts.definition import definition_of, parse_definition
from hub.rollouts.metrics import METRICS, Kind, Metric
from hub.rollouts.plan import Compare, Mode, OnFailure, Operator, Plan, Scope, Strategy
from hub.rollouts.planning import plan_of
from shared import limits
from shared.errors import InvalidInput, SkerryError, TooLarge
from tests.rollouts.fleet import definition, plan

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
GATE = {"metric": "error_rate", "operator": "<=", "threshold": "2%", "min_sample": 50}
CONTROL = {"compare": "control", "fallback": "5%"}
GROUPS = [{"name": "a", "percent": 10}, {"name": "b", "percent": 100}]


def ready(strategy: Any, **fields: Any) -> Plan:
    return plan(groups=None, each_group={}, gates=None, strategy=strategy, **fields)


def field_of(**fields: Any) -> str:
    """The field that a definition with these fields is refused for."""
    with pytest.raises(InvalidInput) as caught:
        plan(**fields)
    assert caught.value.code == "rollout.invalid"
    field = caught.value.detail["field"]
    assert caught.value.message.startswith(f"{field}: ")
    assert isinstance(field, str)
    return field


# --- reading ---------------------------------------------------------------------------------------------------------
def test_yaml_and_json_say_the_same() -> None:
    values = definition(gates=[GATE])
    assert parse_definition(msgspec.json.encode(values)) == parse_definition(msgspec.yaml.encode(values))


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("rollout-*.yaml")), ids=lambda path: path.name)
def test_the_examples_are_valid(path: Path) -> None:
    planned = plan_of(parse_definition(path.read_bytes()))
    assert msgspec.json.decode(msgspec.json.encode(planned), type=Plan) == planned


def test_the_examples_of_the_reference_are_valid() -> None:
    text = (EXAMPLES.parent / "rollouts.md").read_text()
    blocks = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    whole = [block for block in blocks if block.startswith("model:")]
    assert len(whole) >= 6
    for block in whole:
        plan_of(parse_definition(block.encode()))
    for name in METRICS:
        assert f"`{name}`" in text


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "rollout.invalid"),
        (b"- a\n- b", "rollout.invalid"),
        (b"model: a\nmodel: b", "yaml.malformed"),
        (b"model: &a b\nnote: *a", "yaml.malformed"),
        (b'{"model": "a", "model": "b"}', "json.malformed"),
        (b'{"model": NaN}', "json.malformed"),
        (b"\xff\xfe", "yaml.malformed"),
    ],
)
def test_what_is_not_one_plain_document_is_refused(data: bytes, code: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_definition(data)
    assert caught.value.code == code


def test_a_document_over_the_bound_is_not_parsed() -> None:
    with pytest.raises(TooLarge) as caught:
        parse_definition(b"{" * (limits.MAX_ROLLOUT_BYTES + 1))
    assert caught.value.code == "rollout.too_large"


def test_an_unknown_field_is_refused_with_the_nearest_known_one() -> None:
    with pytest.raises(InvalidInput) as caught:
        plan(groups=[{"name": "a", "percnt": 10}])
    assert caught.value.detail["field"] == "groups[0].percnt"
    assert "percent" in caught.value.hint


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    )
)
def test_any_value_gives_a_plan_or_a_named_error(value: Any) -> None:
    for fields in ({"gates": value}, {"rate": value}, {"each_group": value}, {"window": value}, {"targets": value}):
        try:
            plan(**fields)
        except SkerryError as error:
            assert error.code == "rollout.invalid"


# --- what has to be said ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"model": None}, "model"),
        ({"version": 0}, "version"),
        ({"targets": None}, "targets"),
        ({"targets": {}}, "targets"),
        ({"targets": {"filter": "all", "group": "x"}}, "targets"),
        ({"targets": {"devices": ["a", "a"]}}, "targets.devices"),
        ({"strategy": "canary"}, "strategy"),
        ({"groups": None}, "strategy"),
        ({"groups": []}, "groups"),
        ({"gates": None}, "gates"),
        ({"each_group": {"error_percent": 5}}, "groups[0].success_percent"),
        ({"each_group": {"success_percent": 90}}, "groups[0].error_percent"),
        ({"each_group": {"success_percent": 90, "error_percent": 100}}, "groups[0].error_percent"),
        ({"each_group": {"success_percent": 0, "error_percent": 5}}, "groups[0].success_percent"),
        ({"each_group": {"success_percent": 90, "error_percent": "many"}}, "groups[0].error_percent"),
        ({"groups": [{"name": "a", "percent": 50}]}, "groups[0].percent"),
        ({"groups": [{"name": "a", "percent": 50}, {"name": "b", "percent": 50}]}, "groups[1].percent"),
        ({"groups": [{"name": "a", "percent": 50}, {"name": "b", "percent": 20}]}, "groups[1].percent"),
        ({"groups": [{"name": "a", "percent": 0}, {"name": "b", "percent": 100}]}, "groups[0].percent"),
        ({"groups": [{"name": "a", "percent": 0.001}, {"name": "b", "percent": 100}]}, "groups[0].percent"),
        ({"groups": [{"name": "a", "percent": 10}, {"name": "a", "percent": 100}]}, "groups[1].name"),
        ({"groups": [{"name": "a"}]}, "groups[0]"),
        ({"groups": [{"name": "a", "percent": 100, "filter": "all"}]}, "groups[0]"),
        ({"groups": [{"name": "a", "percent": 100, "observe_s": 5}]}, "groups[0].observe_s"),
        ({"groups": [{"name": "a", "percent": 100, "bake_s": "1y"}]}, "groups[0].bake_s"),
        ({"groups": [{"name": "a", "percent": 100, "bake_s": 1.5}]}, "groups[0].bake_s"),
        ({"groups": [{"name": "A!", "percent": 100}]}, "groups[0].name"),
        ({"rate": {"per_minute": 0}}, "rate.per_minute"),
        ({"rate": {"per_minute": 5, "every": 10}}, "rate.factor"),
        ({"rate": {"per_minute": 5, "factor": 2, "cap": 10}}, "rate.every"),
        ({"rate": {"per_minute": 5, "factor": 2, "every": 10}}, "rate.cap"),
        ({"rate": {"per_minute": 5, "factor": 2, "every": 10, "cap": 4}}, "rate.cap"),
        ({"rate": {"per_minute": 5, "factor": 1, "every": 10, "cap": 50}}, "rate.factor"),
        ({"max_concurrent_downloads": 0}, "max_concurrent_downloads"),
        ({"window": {"cron": "61 2 * * *", "duration_s": "1h", "timezone": "UTC"}}, "window.cron"),
        ({"window": {"cron": "0 2 * * *", "duration_s": "1h", "timezone": "Mars/Olympus"}}, "window.timezone"),
        ({"window": {"cron": "0 2 * * *", "duration_s": 5, "timezone": "UTC"}}, "window.duration_s"),
        ({"window": {"cron": "0 2 * * *", "duration_s": "1h"}}, "window.timezone"),
        ({"start_at": "2027-03-01T02:00:00"}, "start_at"),
        ({"start_at": "tomorrow"}, "start_at"),
        ({"start_at": "2027-03-01T02:00:00+01:00", "end_at": "2027-03-01T01:00:00+00:00"}, "end_at"),
        ({"start_at": "2027-03-01T00:00:00Z", "end_at": "2027-03-02T00:00:00Z",
          "window": {"cron": "0 2 * * wed", "duration_s": "1h", "timezone": "UTC"}}, "window.cron"),
        ({"retry": {"attempts": 0}}, "retry.attempts"),
        ({"retry": {"attempts": 3, "backoff_s": 1}}, "retry.backoff_s"),
        ({"priority": 101}, "priority"),
        ({"on_failure": "explode"}, "on_failure"),
        ({"at_end": None, "scope": "galaxy"}, "scope"),
        ({"shadow": {"share": 5}}, "shadow"),
    ],
)  # fmt: skip
def test_what_could_do_harm_or_cannot_work_is_refused_and_named(fields: dict[str, Any], field: str) -> None:
    assert field_of(**fields) == field


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"metric": "eror_rate"}, "gates[0].metric"),
        ({"metric": "shadow_disagreement"}, "gates[0].metric"),
        ({"operator": ">="}, "gates[0].operator"),
        ({"operator": "=="}, "gates[0].operator"),
        ({"threshold": None}, "gates[0].threshold"),
        ({"threshold": "x%"}, "gates[0].threshold"),
        ({"threshold": 2}, "gates[0].threshold"),
        ({"threshold": "100%"}, "gates[0].threshold"),
        ({"threshold": "0.00001%"}, "gates[0].threshold"),
        ({"threshold": "-1%"}, "gates[0].threshold"),
        ({"min_sample": None}, "gates[0].min_sample"),
        ({"min_sample": 0}, "gates[0].min_sample"),
        ({"window_s": 60}, "gates[0].window_s"),
        ({"compare": "control"}, "gates[0].fallback"),
        ({"fallback": "5%"}, "gates[0].fallback"),
        ({**CONTROL, "min_sample": 10}, "gates[0].min_sample"),
        ({**CONTROL, "threshold": "-1%"}, "gates[0].threshold"),
        ({**CONTROL, "fallback": "100%"}, "gates[0].fallback"),
        ({"on_fail": "ignore"}, "gates[0].on_fail"),
    ],
)
def test_a_gate_that_is_not_whole_refuses_the_rollout(change: dict[str, Any], field: str) -> None:
    gate = {name: value for name, value in (GATE | change).items() if value is not None}
    assert field_of(gates=[gate]) == field


def test_gates_point_the_way_in_which_their_metric_is_good() -> None:
    for metric in METRICS.values():
        wrong = Operator.AT_LEAST if metric.good is Operator.AT_MOST else Operator.AT_MOST
        shadow = metric.modes == frozenset({Mode.SHADOW})
        fields: dict[str, Any] = {"groups": None, "strategy": "shadow"} if shadow else {}
        gate = {"metric": metric.name, "threshold": "50%", "min_sample": 50}
        plan(
            gates=[gate | {"operator": metric.good.value}],
            each_group={"success_percent": 90, "error_percent": 5},
            **fields,
        )
        assert field_of(gates=[gate | {"operator": wrong.value}], **fields) == "gates[0].operator"


def test_more_metrics_can_be_demanded_by_handing_them_in() -> None:
    own = {"battery": Metric("battery", Kind.VALUE, Operator.AT_LEAST, "per cent of charge")}
    gate = {"metric": "battery", "operator": ">=", "threshold": 30, "min_sample": 1}
    planned = plan_of(definition_of(definition(gates=[gate])), {**METRICS, **own})
    assert planned.gates[0].threshold_ppm == 30_000_000


# --- what it becomes -------------------------------------------------------------------------------------------------
def test_strategies_expand_to_groups() -> None:
    shares = {strategy: [group.percent_bp for group in ready(strategy.value).groups] for strategy in Strategy}
    assert shares == {
        Strategy.CANARY: [100, 1000, 5000, 10_000],
        Strategy.LINEAR: [2000, 4000, 6000, 8000, 10_000],
        Strategy.EXPONENTIAL: [100, 400, 1600, 6400, 10_000],
        Strategy.ALL_AT_ONCE: [10_000],
        Strategy.BLUE_GREEN: [100, 10_000],
        Strategy.SHADOW: [1000],
    }


def test_strategies_take_their_own_options_only() -> None:
    assert [g.percent_bp for g in ready({"name": "canary", "steps": [5, 100]}).groups] == [500, 10_000]
    assert [g.percent_bp for g in ready({"name": "linear", "step": "33.33%"}).groups] == [3333, 6666, 9999, 10_000]
    assert [g.percent_bp for g in ready({"name": "exponential", "start": 5, "factor": 3}).groups] == [
        500,
        1500,
        4500,
        10_000,
    ]
    assert field_of(groups=None, gates=None, strategy={"name": "linear", "steps": [5, 100]}) == "strategy.steps"
    assert field_of(groups=None, gates=None, strategy={"name": "canary", "steps": [50, 10]}) == "groups[1].percent"


def test_every_strategy_is_judged_unless_it_says_otherwise() -> None:
    for strategy in Strategy:
        planned = ready(strategy.value)
        assert planned.gates
        assert all(group.error_bp is not None and group.success_bp > 0 for group in planned.groups)
        assert planned.on_failure is OnFailure.ROLL_BACK
        assert planned.scope is Scope.ALL
    assert plan(groups=None, strategy="canary", gates=[]).gates == ()


def test_the_default_error_gate_compares_with_control_and_has_a_limit_without_it() -> None:
    gate = ready("canary").gates[1]
    assert (gate.metric, gate.compare, gate.threshold_ppm, gate.fallback_ppm) == (
        "error_rate", Compare.CONTROL, 10_000, 50_000,
    )  # fmt: skip


def test_what_is_said_for_a_group_goes_before_what_is_said_for_each() -> None:
    planned = plan(groups=[{"name": "a", "percent": 10, "bake_s": "2h"}, {"name": "b", "percent": 100}])
    assert [group.bake_s for group in planned.groups] == [7200, 600]


def test_what_a_person_says_for_each_group_goes_before_the_defaults_of_a_strategy() -> None:
    planned = plan(groups=None, strategy="canary", gates=None, each_group={"bake_s": 60, "max_failures": 3})
    assert {group.bake_s for group in planned.groups} == {60}
    assert {(group.error_bp, group.max_failures) for group in planned.groups} == {(None, 3)}
    assert {group.success_bp for group in planned.groups} == {9000}


def test_blue_green_tries_a_canary_prepares_all_and_lets_a_person_switch() -> None:
    canary, switch = ready("blue-green").groups
    assert (canary.prepare, canary.approve) == (False, False)
    assert (switch.prepare, switch.approve) == (True, True)
    assert (
        field_of(groups=None, gates=None, strategy="blue-green", each_group={"prepare": False}) == "each_group.prepare"
    )


def test_a_shadow_is_never_kept_and_never_pauses() -> None:
    planned = ready("shadow", shadow={"share": 20, "cpu": 2.5})
    assert planned.mode is Mode.SHADOW
    assert not planned.allow_new_devices
    assert planned.shadow is not None
    assert (planned.shadow.share_bp, planned.shadow.cpu_bp) == (2000, 250)
    assert field_of(groups=None, gates=None, strategy="shadow", allow_new_devices=True) == "allow_new_devices"
    assert field_of(groups=None, gates=None, strategy="shadow", on_failure="pause") == "on_failure"


def test_devices_that_join_later_get_it_unless_the_devices_were_named() -> None:
    assert plan().allow_new_devices
    assert not plan(targets={"devices": ["cam-1"]}).allow_new_devices
    assert not plan(allow_new_devices=False).allow_new_devices
    assert not plan(groups=[{"name": "a", "devices": ["cam-1"]}]).allow_new_devices


# --- amounts ---------------------------------------------------------------------------------------------------------
def test_amounts_are_exact() -> None:
    assert [basis_points(value, "f") for value in (0.29, "0.29%", "29 %", 100)] == [29, 29, 2900, 10_000]
    assert [millionths(value, "f") for value in ("2%", 0.02, "0.07", 1, "-0.5")] == [
        20_000,
        20_000,
        70_000,
        10**6,
        -500_000,
    ]
    assert [seconds(value, "f", 0, 10**9) for value in (90, "90s", "15m", "24h", "7d")] == [90, 90, 900, 86400, 604_800]
    assert moment_s("2027-03-01T02:00:00+01:00", "f") == moment_s("2027-03-01T01:00:00Z", "f") == 1_803_862_800
    assert moment_s(None, "f") is None


@settings(deadline=None)
@given(st.integers(1, 10_000))
def test_every_hundredth_of_a_per_cent_can_be_written(share_bp: int) -> None:
    assert basis_points(share_bp / 100, "f") == share_bp
    assert basis_points(f"{share_bp / 100}%", "f") == share_bp
