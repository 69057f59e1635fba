"""When a model's training starts by itself, as people write it: parsed strictly, every bound checked. Pure.

`when` is a list of which any one suffices; within one of them everything must hold. What the run is to do stands in
`run`, as in `hub.federated.definition`, without the model. Errors: `policy.invalid` (names the field).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta

from hub.federated.definition import RunDefinition, run_of
from hub.policies.fields import Amount, byte_count, document, invalid, recoded, seconds, struct
from shared import canonical, limits
from shared.schedule import MAX_DURATION_S, MIN_DURATION_S, Schedule, parse_schedule, parse_zone

__all__ = ["CAUSES", "QUALITY", "AlarmWish", "Budget", "Clause", "Link", "ScheduleWish", "Severity", "TrainPolicy"]
__all__ += ["from_store", "parse_train_policy", "stored_train_policy", "train_policy_of"]

Severity = Literal["info", "warning", "critical"]
Link = Literal["ethernet", "wifi", "cellular", "satellite", "lora"]
Cause = Literal["input_drift", "prediction_drift", "drifted_devices", "estimated_accuracy_drop", "labelled_errors"]
CAUSES = ("input_drift", "prediction_drift", "drifted_devices", "estimated_accuracy_drop", "labelled_errors")
"""Signals of alerts that new training may answer."""
QUALITY = frozenset({"data_quality", "faulty_devices", "refused_share"})
"""Signals that say that the data itself is broken: whoever trains on it makes it worse."""
_MAX_COOLDOWN_S = 90 * 86_400


class _Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What all parts of a policy share."""


class AlarmWish(_Strict, frozen=True, kw_only=True):
    """An open alarm of at least this severity, of one of these causes."""

    severity: Severity = "warning"
    causes: Annotated[tuple[Cause, ...], Meta(min_length=1, max_length=len(CAUSES))] = CAUSES  # type: ignore[assignment]


class ScheduleWish(_Strict, frozen=True, kw_only=True):
    """The times that `cron` names; what was kept from starting may still start for `within_s` afterwards."""

    cron: Annotated[str, Meta(min_length=1, max_length=limits.MAX_CRON_CHARS)]
    timezone: Annotated[str, Meta(min_length=1, max_length=64)]
    within_s: Amount = 3600

    def parsed(self) -> Schedule:
        """As a window."""
        return parse_schedule(self.cron, seconds(self.within_s, "within_s", MIN_DURATION_S, MAX_DURATION_S))


class Clause(_Strict, frozen=True, kw_only=True):
    """All that is given must hold. accuracy_drop: points of a hundred below what the calibration promised.

    new_samples: that devices have seen since the last run began, over the fleet.
    """

    alarm: AlarmWish | None = None
    accuracy_drop: Annotated[float, Meta(gt=0, le=100)] | None = None
    new_samples: Annotated[int, Meta(ge=1, le=10**12)] | None = None
    schedule: ScheduleWish | None = None


class Budget(_Strict, frozen=True, kw_only=True):
    """What the model's runs of the last 7 and 30 days may have taken, whoever started them, for one more to start.

    bytes_per_month: by class of link, up and down together. cost_per_month: by the profiles' `cost_per_mib`.
    """

    runs_per_week: Annotated[int, Meta(ge=1, le=1000)] | None = None
    bytes_per_month: dict[Link, Amount] = {}
    cost_per_month: Annotated[float, Meta(gt=0, le=1e12)] | None = None


class TrainPolicy(_Strict, frozen=True, kw_only=True):
    """All of it; docs/retraining.md is the reference. faulty_devices_percent: so many devices with broken inputs of
    their own, of those judged, are tolerated. cooldown_s: from one run to the next."""

    schema_version: Literal[1] = 1
    enabled: bool = True
    when: Annotated[tuple[Clause, ...], Meta(min_length=1, max_length=16)]
    cooldown_s: Amount = 86_400
    faulty_devices_percent: Annotated[float, Meta(ge=0, le=100)] = 0.0
    budget: Budget = Budget()
    run: dict[str, Any] = {}
    note: Annotated[str, Meta(max_length=limits.MAX_REASON_CHARS)] = ""

    def definition(self, model: str) -> RunDefinition:
        """The run to start."""
        if "model" in self.run:
            raise invalid("run.model", "the policy is the model's already", "Leave it out.")
        return recoded("run", lambda: run_of({**self.run, "model": model}))

    @property
    def rest_s(self) -> int:
        """The cooldown in seconds."""
        return seconds(self.cooldown_s, "cooldown_s", 1, _MAX_COOLDOWN_S)

    @property
    def link_bytes(self) -> dict[str, int]:
        """Bytes a month by class of link."""
        found = self.budget.bytes_per_month.items()
        return {link: byte_count(amount, f"budget.bytes_per_month.{link}") for link, amount in found}


_SPECS = (TrainPolicy, Clause, AlarmWish, ScheduleWish, Budget)
_WORDS = {"severity": get_args(Severity), "bytes_per_month": get_args(Link)} | {
    f"causes[{number}]": CAUSES for number in range(len(CAUSES))
}


def parse_train_policy(data: bytes, model: str) -> TrainPolicy:
    """The policy of a model from the bytes of a YAML or JSON document."""
    return train_policy_of(document(data), model)


def train_policy_of(values: Any, model: str) -> TrainPolicy:
    """The policy of a model from plain values, checked as a whole."""
    policy = struct(values, TrainPolicy, _SPECS, _WORDS)
    for number, clause in enumerate(policy.when):
        _check_clause(clause, f"when[{number}]")
    _ = policy.rest_s, policy.link_bytes
    policy.definition(model)
    return policy


def _check_clause(clause: Clause, at: str) -> None:
    if clause == Clause():
        raise invalid(at, "it has no condition", "Give one of alarm, accuracy_drop, new_samples, schedule.")
    if clause.alarm is not None and len(set(clause.alarm.causes)) != len(clause.alarm.causes):
        raise invalid(f"{at}.alarm.causes", "a cause is there twice")
    if clause.schedule is not None:
        wish = clause.schedule
        seconds(wish.within_s, f"{at}.schedule.within_s", MIN_DURATION_S, MAX_DURATION_S)
        recoded(f"{at}.schedule.cron", wish.parsed)
        recoded(f"{at}.schedule.timezone", lambda: parse_zone(wish.timezone))


def stored_train_policy(policy: TrainPolicy) -> str:
    """The policy as it is kept: canonical JSON, without what is the default."""
    return canonical.dumps(policy).decode()


@lru_cache(maxsize=512)
def from_store(text: str) -> TrainPolicy:
    """A policy that was checked when it was kept."""
    return msgspec.json.decode(text, type=TrainPolicy)
