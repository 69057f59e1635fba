"""Numbers for rules, from the verdicts of one period. Pure.

A breach of the whole fleet is told once, for the fleet: profiles are looked at only where the fleet as a whole is calm.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from hub.alerts.rules import Rule

__all__ = ["Reading", "readings"]

FLEET, DEVICES = "fleet", "devices"
_SHOWN_COUNT = 50
_OF_DEVICES = frozenset({"faulty_devices", "drifted_devices", "devices_with_errors"})


class Reading(NamedTuple):
    """The value of a rule at one level, and what is shown with it."""

    rule: Rule
    level: str
    value: float
    detail: dict[str, Any]


def readings(rules: Mapping[str, Rule], results: Mapping[str, Mapping[str, Any]]) -> list[Reading]:
    """What every enabled rule reads from the verdicts by level."""
    found: list[Reading] = []
    for rule in rules.values():
        if not rule.enabled:
            continue
        if rule.signal in _OF_DEVICES:
            found += [_reading(rule, DEVICES, results[DEVICES])] if DEVICES in results else []
            continue
        behind = results.get(DEVICES, {}).get("errors", []) if rule.signal == "labelled_errors" else []
        fleet = _reading(rule, FLEET, results[FLEET]) if FLEET in results else None
        profiles = [_reading(rule, level, one) for level, one in results.items() if level.startswith("profile:")]
        if fleet is not None:
            found.append(fleet)
            if fleet.value >= rule.clear > 0 or len(profiles) == 1:
                profiles = [one._replace(value=0.0) for one in profiles]  # the fleet's alert tells it
        found += profiles
        found = [_with_devices(one, behind) if one.rule is rule and behind else one for one in found]
    return found


def _with_devices(one: Reading, errors: Sequence[Mapping[str, Any]]) -> Reading:
    """With the devices behind a rise: those that risen themselves, and those whose truths speak for it most."""
    profile = one.level.removeprefix("profile:") if one.level != FLEET else ""
    mine = [error for error in errors if profile in ("", error["profile"])]
    return one._replace(detail=one.detail | {"devices": [dict(error) for error in mine[:_SHOWN_COUNT]]})


def _reading(rule: Rule, level: str, result: Mapping[str, Any]) -> Reading:
    value, detail = _READ[rule.signal](result)
    return Reading(rule, level, value, detail | {"since": result.get("since", {}), "rows": result.get("rows", 0)})


def _quality(result: Mapping[str, Any]) -> tuple[float, dict[str, Any]]:
    faults = result["faults"]
    return max((one["share"] for one in faults), default=0.0), {"faults": list(faults)[:16]}


def _estimate(result: Mapping[str, Any]) -> tuple[float, dict[str, Any]]:
    found = [one for one in result["estimated"] if one["metric"] == "accuracy"]
    return max((one["promised"] - one["high"] for one in found), default=0.0), {"estimated": found}


def _labelled(result: Mapping[str, Any]) -> tuple[float, dict[str, Any]]:
    return float(bool(result["labelled"]["risen"])), {"labelled": result["labelled"]}


def _drift(source: str) -> Callable[[Mapping[str, Any]], tuple[float, dict[str, Any]]]:
    def read(result: Mapping[str, Any]) -> tuple[float, dict[str, Any]]:
        broken = {one["feature"] for one in result["faults"]}
        told = [
            one
            for one in result["drifted"]
            if one["confirmed"] and one["feature"] not in broken and (one["source"] == "output") == (source == "output")
        ]
        worst = sorted(told, key=lambda one: -one["js"])[:8]
        shown = [{name: one[name] for name in ("feature", "js", "p", "shift")} for one in worst]
        return max((one["js"] for one in told), default=0.0), {"features": shown}

    return read


def _refused(result: Mapping[str, Any]) -> tuple[float, dict[str, Any]]:
    # What is not finite was looked at as well, so it is among the rows.
    refused = {cause: n for cause, n in result["refused"].items() if cause != "not_finite"}
    total = sum(refused.values())
    return total / max(total + result["rows"], 1), {"refused": refused}


def _devices(what: str) -> Callable[[Mapping[str, Any]], tuple[float, dict[str, Any]]]:
    def read(result: Mapping[str, Any]) -> tuple[float, dict[str, Any]]:
        key = "faults" if what == "faulty" else "drifted"
        named = [
            {"device_id": one["device_id"], "profile": one["profile"], key: list(one[key]), **_meant(one, key)}
            for one in result["named"]
            if one[key]
        ]
        return float(result[what]), {"devices": named[:_SHOWN_COUNT], "of": result["devices"]}

    return read


def _erring(result: Mapping[str, Any]) -> tuple[float, dict[str, Any]]:
    named = [dict(one) for one in result.get("errors", ()) if one["risen"]]
    return float(result.get("risen", 0)), {"devices": named[:_SHOWN_COUNT], "of": result["devices"]}


def _meant(one: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {"causes": list(one.get("causes", ()))} if key == "drifted" else {}


_READ: Mapping[str, Callable[[Mapping[str, Any]], tuple[float, dict[str, Any]]]] = {
    "data_quality": _quality,
    "estimated_accuracy_drop": _estimate,
    "labelled_errors": _labelled,
    "prediction_drift": _drift("output"),
    "input_drift": _drift("input"),
    "refused_share": _refused,
    "faulty_devices": _devices("faulty"),
    "drifted_devices": _devices("drifted"),
    "devices_with_errors": _erring,
}
