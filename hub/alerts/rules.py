"""Rules: which numbers of a verdict are worth an alert, from when on, and until when. Pure.

Rules of the rules: strict (an unknown field or a value out of range refuses the whole file, `alerts.invalid`); `clear`
is at most `threshold`, so that an alert does not flutter at its edge; every rule names a severity.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from shared.errors import InvalidInput

__all__ = ["SIGNALS", "Rule", "RuleSet", "parse_rules", "with_changes"]

Name = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9-]{0,62}\Z")]
Periods = Annotated[int, Meta(ge=1, le=1000)]
Signal = Literal[
    "data_quality",
    "estimated_accuracy_drop",
    "labelled_errors",
    "prediction_drift",
    "input_drift",
    "refused_share",
    "faulty_devices",
    "drifted_devices",
    "devices_with_errors",
]
SIGNALS: Mapping[str, str] = {
    "data_quality": "largest share of rows with one fault",
    "estimated_accuracy_drop": "how far the whole interval of the estimated accuracy lies below what was promised",
    "labelled_errors": "1 while a rise of the errors among truths holds",
    "prediction_drift": "largest distance of an output that drifted in two windows",
    "input_drift": "largest distance of an input that drifted in two windows",
    "refused_share": "share of requests that were refused for their data",
    "faulty_devices": "devices whose own data has a fault",
    "drifted_devices": "devices that drifted in two windows",
    "devices_with_errors": "devices whose own truths show a rise of errors",
}
"""What a rule can look at."""


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Opens after `open_after` periods in a row with a value of at least `threshold`, and is resolved after
    `close_after` in a row with less than `clear`. hold: not while a rollout of the version goes on (its gates hear of
    it). routes: whom it is told; empty: the default ones."""

    name: Name
    signal: Signal
    severity: Literal["critical", "warning", "info"]
    summary: Annotated[str, Meta(min_length=1, max_length=200)]
    threshold: Annotated[float, Meta(gt=0, le=1e9)]
    clear: Annotated[float, Meta(ge=0, le=1e9)]
    open_after: Periods = 1
    close_after: Periods = 2
    hold: bool = False
    enabled: bool = True
    routes: Annotated[list[Name], Meta(max_length=16)] = []


RuleSet = dict[str, Rule]


def _invalid(problem: object) -> InvalidInput:
    return InvalidInput(
        "alerts.invalid", f"The rules of alerts are not usable: {problem}."[:300], hint="See docs/monitoring.md."
    )


def parse_rules(plain: Any) -> RuleSet:
    """Rules by name, from a list of mappings."""
    try:
        rules = msgspec.convert(plain, list[Rule])
    except msgspec.ValidationError as error:
        raise _invalid(error) from error
    for rule in rules:
        if rule.clear > rule.threshold:
            raise _invalid(f"{rule.name}: clear is above threshold")
    found = {rule.name: rule for rule in rules}
    if len(found) != len(rules):
        raise _invalid("a rule is there twice")
    return found


def with_changes(rules: Mapping[str, Rule], changes: Any) -> RuleSet:
    """The rules with the fields that `changes` gives by name; a name that is new must be a whole rule."""
    if not isinstance(changes, dict) or not all(isinstance(one, dict) for one in changes.values()):
        raise _invalid("rules is a mapping of names to fields")
    plain = {name: msgspec.to_builtins(rule) for name, rule in rules.items()}
    for name, fields in changes.items():
        plain[name] = {**plain.get(name, {}), **fields, "name": name}
    return parse_rules(list(plain.values()))
