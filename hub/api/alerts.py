"""Alerts: what is open, who has seen it, what is silenced, and how often they were right."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field

from hub.access.permissions import Permission
from hub.access.principal import Principal
from hub.api.auth import HubDep, require
from hub.api.paging import Listing, Page, paged
from hub.api.words import Words
from hub.store.alerts import AlertRow, SilenceRow

router = APIRouter(tags=["alerts"])
Reader = Annotated[Principal, Depends(require(Permission.MONITORING_READ))]
Manager = Annotated[Principal, Depends(require(Permission.ALERTS_MANAGE))]


class Acknowledgement(BaseModel):
    """Somebody has seen it; `verdict`: whether it was real, "" if that is not known yet."""

    model_config = ConfigDict(extra="forbid")
    verdict: Literal["", "real", "false"] = ""
    note: Words = ""


class SilenceWish(BaseModel):
    """Tell nothing of what matches; an empty field matches all."""

    model_config = ConfigDict(extra="forbid")
    rule: Annotated[str, Field(max_length=63)] = ""
    model: Annotated[str, Field(max_length=63)] = ""
    level: Annotated[str, Field(max_length=80)] = ""
    for_s: Annotated[float, Field(gt=0)]
    reason: Words = ""


class Silences(BaseModel):
    """Those in force."""

    items: list[SilenceRow]


class FiredAnswer(BaseModel):
    """What a trigger did because of the alert. run_id empty: no run was made, for `code`."""

    firing_id: int
    state: str
    run_id: str
    code: str


class FiredListing(BaseModel):
    """What triggers did because of one alert."""

    items: list[FiredAnswer]


class Rules(BaseModel):
    """The rules in force, as data."""

    items: list[dict[str, Any]]


class RuleReport(BaseModel):
    """How a rule did; precision over those alerts that somebody has judged, null without any."""

    rule: str
    opened: int
    acknowledged: int
    real: int
    false: int
    precision: float | None


class Report(BaseModel):
    """By rule."""

    days: float
    items: list[RuleReport]


@router.get("/v1/alerts", response_model=Listing[AlertRow])
def list_alerts(
    hub: HubDep,
    page: Page,
    _: Reader,
    state: Annotated[list[str], Query()] = ["open", "acknowledged"],  # noqa: B006 - FastAPI copies it
    model: Annotated[str | None, Query(max_length=63)] = None,
) -> dict[str, Any]:
    """Alerts, newest first."""
    return paged(hub.alerts.page(state, model, page), page, lambda row: (row.alert_id,), lambda row: row)


@router.get("/v1/alerts/rules")
def alert_rules(hub: HubDep, _: Reader) -> Rules:
    """The rules in force."""
    return Rules(items=[msgspec.to_builtins(rule) for rule in hub.alerts.config.rules.values()])


@router.get("/v1/alerts/report")
def alert_report(hub: HubDep, _: Reader, days: Annotated[float, Query(gt=0, le=366)] = 30.0) -> Report:
    """How many alerts each rule opened, and how many of them were real."""
    return Report(days=days, items=[RuleReport(**row) for row in hub.alerts.report(days)])


@router.get("/v1/alerts/silences")
def list_silences(hub: HubDep, _: Reader) -> Silences:
    """Silences in force."""
    return Silences(items=hub.alerts.silences())


@router.post("/v1/alerts/silences", status_code=201)
def make_silence(hub: HubDep, wish: SilenceWish, principal: Manager) -> SilenceRow:
    """Tell nothing of what matches for a time."""
    return hub.alerts.silence(wish.rule, wish.model, wish.level, wish.for_s, wish.reason, principal.name)


@router.delete("/v1/alerts/silences/{silence_id}", status_code=204)
def end_silence(hub: HubDep, silence_id: int, principal: Manager) -> None:
    """End a silence early."""
    hub.alerts.unsilence(silence_id, principal.name)


@router.get("/v1/alerts/{alert_id}")
def show_alert(hub: HubDep, alert_id: int, _: Reader) -> AlertRow:
    """One alert with its detail."""
    return hub.alerts.get(alert_id)


@router.get("/v1/alerts/{alert_id}/firings")
def alert_firings(hub: HubDep, alert_id: int, _: Reader) -> FiredListing:
    """The training that the alert has started."""
    hub.alerts.get(alert_id)
    return FiredListing(
        items=[
            FiredAnswer(firing_id=row.firing_id, state=row.state, run_id=row.run_id, code=row.code)
            for row in hub.policies.train.of_alarm(alert_id)
        ]
    )


@router.post("/v1/alerts/{alert_id}/ack")
def acknowledge(hub: HubDep, alert_id: int, said: Acknowledgement, principal: Manager) -> AlertRow:
    """Say that it was seen, and whether it was real."""
    return hub.alerts.acknowledge(alert_id, said.verdict, said.note, principal.name)
