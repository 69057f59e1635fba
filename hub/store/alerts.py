"""Alerts, silences, and what waits to be delivered."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, case, delete, exists, func, insert, or_, select, update

from hub.store.page import PageRequest, after
from hub.store.schema import alert_deliveries, alert_silences, alerts, device_models, devices, rollouts
from shared.errors import NotFound

__all__ = [
    "AlertRow",
    "DeliveryRow",
    "SilenceRow",
    "add_deliveries",
    "alert_report",
    "change_alert",
    "deserted_alerts",
    "due_deliveries",
    "get_alert",
    "insert_alert",
    "insert_silence",
    "list_alerts",
    "list_silences",
    "live_alerts",
    "open_counts",
    "prune_alerts",
    "remove_silence",
    "rolling_out",
    "set_delivery",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRow:
    """One alert. dedup: there is one live alert of it."""

    alert_id: int
    dedup: str
    rule: str
    severity: str
    model: str
    version: int
    level: str
    state: str
    breached: int
    calm: int
    period_s: int
    began_s: float
    opened_s: float | None
    resolved_s: float | None
    acknowledged_by: str
    acknowledged_s: float | None
    verdict: str
    note: str
    detail: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class SilenceRow:
    """Nothing is told of what it matches until `until_s`; an empty field matches all."""

    silence_id: int
    rule: str
    model: str
    level: str
    until_s: float
    reason: str
    by: str
    created_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryRow:
    """One message to one route."""

    delivery_id: int
    alert_id: int
    route: str
    payload: str
    state: str
    attempts: int
    next_s: float
    error: str
    created_s: float


_LIVE = ("pending", "open", "acknowledged")


def live_alerts(connection: Connection, dedups: Collection[str]) -> dict[str, AlertRow]:
    """Those that are not over, by key."""
    query = select(alerts).where(alerts.c.dedup.in_(sorted(dedups)), alerts.c.state.in_(_LIVE))
    return {row["dedup"]: AlertRow(**row) for row in connection.execute(query).mappings()}


def deserted_alerts(connection: Connection) -> list[AlertRow]:
    """Those that are not over, of versions that no device has any more."""
    serves = (
        exists()
        .where(device_models.c.model == alerts.c.model, device_models.c.version == alerts.c.version)
        .where(devices.c.device_id == device_models.c.device_id, devices.c.status == "active")
    )
    query = select(alerts).where(alerts.c.state.in_(_LIVE), ~serves).order_by(alerts.c.alert_id)
    return [AlertRow(**row) for row in connection.execute(query).mappings()]


def insert_alert(connection: Connection, fields: Mapping[str, Any]) -> int:
    """Add an alert; its number."""
    key = connection.execute(insert(alerts).values(**fields)).inserted_primary_key
    if key is None:
        raise NotFound("alert.unknown", "The alert was not kept.")
    return int(key[0])


def change_alert(connection: Connection, alert_id: int, changes: Mapping[str, Any]) -> None:
    """Change columns of an alert; a pending one that came to nothing is taken away."""
    if changes.get("state") == "gone":
        connection.execute(delete(alerts).where(alerts.c.alert_id == alert_id))
    else:
        connection.execute(update(alerts).where(alerts.c.alert_id == alert_id).values(**changes))


def get_alert(connection: Connection, alert_id: int) -> AlertRow:
    """The alert, or `alert.unknown`."""
    row = connection.execute(select(alerts).where(alerts.c.alert_id == alert_id)).mappings().one_or_none()
    if row is None:
        raise NotFound("alert.unknown", f"There is no alert {alert_id}.", hint="`skerry alerts list --all` names them.")
    return AlertRow(**row)


def list_alerts(connection: Connection, states: Sequence[str], model: str | None, page: PageRequest) -> list[AlertRow]:
    """Alerts in these states, newest first."""
    where = [alerts.c.state.in_(states), *after([alerts.c.alert_id], page, descending=True)]
    if model is not None:
        where.append(alerts.c.model == model)
    query = select(alerts).where(*where).order_by(alerts.c.alert_id.desc()).limit(page.fetch)
    return [AlertRow(**row) for row in connection.execute(query).mappings()]


def open_counts(connection: Connection) -> list[tuple[str, str, str, int]]:
    """(rule, severity, model, how many) of those that are open."""
    a = alerts.c
    query = select(a.rule, a.severity, a.model, func.count()).where(a.state.in_(("open", "acknowledged")))
    rows = connection.execute(query.group_by(a.rule, a.severity, a.model).order_by(a.rule, a.model))
    return [(row[0], row[1], row[2], int(row[3])) for row in rows]


def alert_report(connection: Connection, since_s: float) -> list[dict[str, Any]]:
    """By rule: how many were opened, acknowledged, and judged real or false."""
    a = alerts.c
    query = (
        select(
            a.rule,
            func.count().label("opened"),
            func.sum(case((a.acknowledged_s.is_not(None), 1), else_=0)).label("acknowledged"),
            func.sum(case((a.verdict == "real", 1), else_=0)).label("real"),
            func.sum(case((a.verdict == "false", 1), else_=0)).label("false"),
        )
        .where(a.opened_s.is_not(None), a.opened_s >= since_s)
        .group_by(a.rule)
        .order_by(a.rule)
    )
    return [
        {name: row[name] if name == "rule" else int(row[name]) for name in row}
        for row in connection.execute(query).mappings()
    ]


def rolling_out(connection: Connection, model: str, version: int, going_on: Collection[str]) -> bool:
    """Whether a rollout of the version has one of these statuses."""
    r = rollouts.c
    query = select(r.rollout_no).where(r.model == model, r.version == version, r.status.in_(sorted(going_on))).limit(1)
    return connection.execute(query).first() is not None


# --- silences -------------------------------------------------------------------------------------------------------
def insert_silence(connection: Connection, fields: Mapping[str, Any]) -> int:
    """Add a silence; its number."""
    key = connection.execute(insert(alert_silences).values(**fields)).inserted_primary_key
    if key is None:
        raise NotFound("silence.unknown", "The silence was not kept.")
    return int(key[0])


def list_silences(connection: Connection, now: float) -> list[SilenceRow]:
    """Those in force, by when they end."""
    query = select(alert_silences).where(alert_silences.c.until_s > now).order_by(alert_silences.c.until_s)
    return [SilenceRow(**row) for row in connection.execute(query).mappings()]


def remove_silence(connection: Connection, silence_id: int) -> None:
    """Take a silence away, or `silence.unknown`."""
    gone = connection.execute(delete(alert_silences).where(alert_silences.c.silence_id == silence_id)).rowcount
    if not gone:
        raise NotFound("silence.unknown", f"There is no silence {silence_id}.")


# --- deliveries -----------------------------------------------------------------------------------------------------
def add_deliveries(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Have messages wait."""
    if rows:
        connection.execute(insert(alert_deliveries), rows)


def due_deliveries(connection: Connection, now: float, limit: int) -> list[DeliveryRow]:
    """What is to be tried now."""
    d = alert_deliveries.c
    query = select(alert_deliveries).where(d.state == "waiting", d.next_s <= now).order_by(d.next_s, d.delivery_id)
    return [DeliveryRow(**row) for row in connection.execute(query.limit(limit)).mappings()]


def set_delivery(connection: Connection, delivery_id: int, changes: Mapping[str, Any]) -> None:
    """Change columns of a delivery."""
    d = alert_deliveries
    connection.execute(update(d).where(d.c.delivery_id == delivery_id).values(**changes))


def prune_alerts(connection: Connection, before_s: float) -> int:
    """Remove what was resolved, delivered or silenced before."""
    d, s = alert_deliveries, alert_silences
    gone = connection.execute(delete(d).where(d.c.created_s < before_s, d.c.state != "waiting")).rowcount
    gone += connection.execute(delete(s).where(s.c.until_s < before_s)).rowcount
    old = and_(alerts.c.state == "resolved", or_(alerts.c.resolved_s < before_s, alerts.c.resolved_s.is_(None)))
    return gone + connection.execute(delete(alerts).where(old)).rowcount
