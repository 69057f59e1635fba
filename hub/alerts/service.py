"""Alerts kept, told and judged by people.

Rules: what becomes of an alert is decided by `hub.alerts.lifecycle` and written in the transaction of the verdict it
follows from; what is to be told then waits in the database, so that no route ever holds anything up and a restart loses
nothing. A silence stops the telling and nothing else. While gates watch a rollout of the version, rules with `hold` do
not open: the gates have the same numbers. One that is paused, or only keeps what it has done, is watched by nobody.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import msgspec

from hub.alerts.config import AlertConfig
from hub.alerts.delivery import Publish, deliver
from hub.alerts.lifecycle import LIVE, Alert, ended, step
from hub.alerts.rules import Rule
from hub.alerts.signals import Reading, readings
from hub.audit.log import AuditLog
from hub.rollouts.state import Status
from hub.store import alerts as store
from hub.store.alerts import AlertRow, DeliveryRow, SilenceRow
from hub.store.database import Connection, Database
from hub.store.drift import ResultRow
from hub.store.failures import plain_errors
from hub.store.page import PageRequest
from shared.clock import Clock
from shared.errors import Conflict, InvalidInput, SkerryError

__all__ = ["AlertService", "STATES"]

_LOG = logging.getLogger(__name__)
STATES = ("pending", "open", "acknowledged", "resolved")
_AT_ONCE = 20
_MAX_ATTEMPTS = 12
_MAX_SILENCE_S = 30 * 86_400.0
_MAX_TEXT_CHARS = 500
_WATCHED = tuple(s.value for s in (Status.RUNNING, Status.ENDING, Status.ABORTING, Status.ROLLING_BACK))
_FIELDS = ("state", "breached", "calm", "period_s", "opened_s", "resolved_s")


class AlertService:
    """All of it; `hear` is given to the evaluation; `resolve_deserted`, `deliver_due` and `prune` to the scheduler."""

    def __init__(
        self, db: Database, clock: Clock, audit: AuditLog, config: AlertConfig, hub_url: str, keep_s: float
    ) -> None:
        self._db = db
        self._clock = clock
        self._audit = audit
        self.config = config
        self._hub_url = hub_url
        self._keep_s = keep_s
        self._publish: Publish | None = None

    def publish_by(self, publish: Publish) -> None:
        """Who takes what goes over MQTT; until then, such routes fail and are tried again."""
        self._publish = publish

    # --- from verdicts ----------------------------------------------------------------------------------------------
    def hear(self, connection: Connection, results: Sequence[ResultRow]) -> None:
        """Take the verdicts of one period of one version into account."""
        if not results or results[0].arm:
            return
        first = results[0]
        found = readings(self.config.rules, {row.level: row.result for row in results})
        keys = {_dedup(one, first): one for one in found}
        live = store.live_alerts(connection, keys)
        held = store.rolling_out(connection, first.model, first.version, _WATCHED)
        silences = store.list_silences(connection, self._clock.now())
        for dedup, one in keys.items():
            self._step(connection, dedup, one, live.get(dedup), first, silences, held=held and one.rule.hold)

    def _step(
        self,
        connection: Connection,
        dedup: str,
        one: Reading,
        before: AlertRow | None,
        result: ResultRow,
        silences: Sequence[SilenceRow],
        *,
        held: bool,
    ) -> None:
        now = self._clock.now()
        stood = None if before is None else _stands(before)
        after = step(stood, one.rule, one.value, result.period_s, now, held=held)
        if after.alert is None:
            return
        changes: dict[str, Any] = msgspec.structs.asdict(after.alert)
        if one.value >= one.rule.threshold:
            changes["detail"] = {**one.detail, "value": one.value, "held": held}
        if before is None:
            fields = _new(dedup, one, result) | changes
            alert_id = store.insert_alert(connection, fields)
        else:
            alert_id = before.alert_id
            store.change_alert(connection, alert_id, changes)
        if after.event:
            self._tell(connection, alert_id, one.rule, after.event, silences)

    def _tell(
        self, connection: Connection, alert_id: int, rule: Rule, event: str, silences: Sequence[SilenceRow]
    ) -> None:
        row = store.get_alert(connection, alert_id)
        if any(_matches(silence, row) for silence in silences):
            return
        now = self._clock.now()
        shown = {name: getattr(row, name) for name in ("alert_id", "rule", "severity", "model", "version", "level")}
        shown |= {"summary": rule.summary, "opened_s": row.opened_s, "detail": row.detail}
        shown["runbook"] = f"docs/runbooks/{row.rule}.md"
        payload = msgspec.json.encode(
            {"event": event, "hub": self._hub_url, "at_s": now, "alert": shown}
        ).decode()
        routes = rule.routes or self.config.default_routes
        waiting = {"payload": payload, "state": "waiting", "attempts": 0, "next_s": now, "error": "", "created_s": now}
        store.add_deliveries(connection, [{"alert_id": alert_id, "route": route, **waiting} for route in routes])

    # --- work of the scheduler --------------------------------------------------------------------------------------
    def resolve_deserted(self) -> int:
        """End the alerts of versions that no device has any more: nothing will ever be heard of them. How many.

        A device that went back brings the alert again, if what it sees still deserves it.
        """
        with plain_errors(), self._db.read() as connection:
            if not store.deserted_alerts(connection):
                return 0
        now = self._clock.now()
        with plain_errors(), self._db.write_rows() as connection:
            over = store.deserted_alerts(connection)
            silences = store.list_silences(connection, now)
            for row in over:
                after = ended(_stands(row), now)
                detail = {**row.detail, "ended": "No device has this version any more."}
                store.change_alert(connection, row.alert_id, msgspec.structs.asdict(after) | {"detail": detail})
                rule = self.config.rules.get(row.rule)
                if after.state == "resolved" and rule is not None:
                    self._tell(connection, row.alert_id, rule, "resolved", silences)
        return len(over)

    def deliver_due(self) -> int:
        """Try what is due; returns how many were delivered. Blocks on the routes, each with its own deadline."""
        with plain_errors(), self._db.read() as connection:
            due = store.due_deliveries(connection, self._clock.now(), _AT_ONCE)
        return sum(self._try(row) for row in due)

    def _try(self, row: DeliveryRow) -> bool:
        changes: dict[str, Any] = {"attempts": row.attempts + 1}
        route = self.config.routes.get(row.route)
        try:
            if route is None:
                raise InvalidInput("alerts.invalid", f"There is no route {row.route} any more.")
            deliver(route, row.payload, self._clock.now(), self._publish)
            changes["state"] = "sent"
        except SkerryError as error:
            _LOG.warning("an alert was not delivered by %s: %s", row.route, error)
            changes["error"] = error.message[:_MAX_TEXT_CHARS]
            changes["next_s"] = self._clock.now() + min(15.0 * 2.0**row.attempts, 3600.0)
            if route is None or row.attempts + 1 >= _MAX_ATTEMPTS:
                changes["state"] = "given_up"
        with plain_errors(), self._db.write_rows() as connection:
            store.set_delivery(connection, row.delivery_id, changes)
        return changes.get("state") == "sent"

    def prune(self) -> int:
        """Remove what is long over."""
        with plain_errors(), self._db.write_rows() as connection:
            return store.prune_alerts(connection, self._clock.now() - self._keep_s)

    # --- people -----------------------------------------------------------------------------------------------------
    def page(self, states: Sequence[str], model: str | None, page: PageRequest) -> list[AlertRow]:
        """Alerts, newest first; error `alert.state`."""
        if not set(states) <= set(STATES):
            raise InvalidInput("alert.state", "That is no state.", hint=f"States: {', '.join(STATES)}.")
        with self._db.read() as connection:
            return store.list_alerts(connection, states, model, page)

    def get(self, alert_id: int) -> AlertRow:
        """One alert, or `alert.unknown`."""
        with self._db.read() as connection:
            return store.get_alert(connection, alert_id)

    def acknowledge(self, alert_id: int, verdict: str, note: str, actor: str) -> AlertRow:
        """Say that somebody has seen it, and whether it was real (`real`, `false`, or empty: not known yet).

        Errors: `alert.unknown`, `alert.not_open`. A verdict may still be given when it is resolved.
        """
        now = self._clock.now()
        with plain_errors(), self._db.write() as connection:
            row = store.get_alert(connection, alert_id)
            if row.state == "pending":
                raise Conflict("alert.not_open", "The alert is not open yet.")
            changes: dict[str, Any] = {"note": note[:_MAX_TEXT_CHARS], "verdict": verdict}
            if row.acknowledged_s is None:
                changes |= {"acknowledged_by": actor, "acknowledged_s": now}
            if row.state in LIVE:
                changes["state"] = "acknowledged"
            store.change_alert(connection, alert_id, changes)
            self._audit.append(connection, actor, "alert.ack", f"alert {alert_id}", {"verdict": verdict})
            return store.get_alert(connection, alert_id)

    def silence(self, rule: str, model: str, level: str, for_s: float, reason: str, actor: str) -> SilenceRow:
        """Tell nothing of what matches for a time; errors `alert.rule`, `silence.too_long`."""
        if rule and rule not in self.config.rules:
            raise InvalidInput("alert.rule", f"There is no rule {rule!r:.80}.", hint="`skerry alerts rules` has them.")
        if not 0 < for_s <= _MAX_SILENCE_S:
            raise InvalidInput("silence.too_long", "A silence lasts at most 30 days.")
        now = self._clock.now()
        fields = {
            "rule": rule, "model": model, "level": level, "until_s": now + for_s,
            "reason": reason[:_MAX_TEXT_CHARS], "by": actor, "created_s": now,
        }  # fmt: skip
        with plain_errors(), self._db.write() as connection:
            silence_id = store.insert_silence(connection, fields)
            self._audit.append(
                connection, actor, "alert.silence", f"silence {silence_id}", {"rule": rule, "for_s": for_s}
            )
        return SilenceRow(silence_id=silence_id, **fields)  # type: ignore[arg-type]

    def unsilence(self, silence_id: int, actor: str) -> None:
        """End a silence early; error `silence.unknown`."""
        with plain_errors(), self._db.write() as connection:
            store.remove_silence(connection, silence_id)
            self._audit.append(connection, actor, "alert.unsilence", f"silence {silence_id}")

    def silences(self) -> list[SilenceRow]:
        """Those in force."""
        with self._db.read() as connection:
            return store.list_silences(connection, self._clock.now())

    def report(self, days: float) -> list[dict[str, Any]]:
        """By rule: alerts that were opened, and the precision over those that somebody has judged (null: none)."""
        with self._db.read() as connection:
            rows = store.alert_report(connection, self._clock.now() - days * 86_400.0)
        for row in rows:
            judged = row["real"] + row["false"]
            row["precision"] = row["real"] / judged if judged else None
        return rows

    def open_counts(self) -> list[tuple[str, str, str, int]]:
        """(rule, severity, model, how many)."""
        with self._db.read() as connection:
            return store.open_counts(connection)


def _stands(row: AlertRow) -> Alert:
    return Alert(**{name: getattr(row, name) for name in _FIELDS})


def _dedup(one: Reading, result: ResultRow) -> str:
    return f"{one.rule.name}|{result.model}|{result.version}|{one.level}"


def _new(dedup: str, one: Reading, result: ResultRow) -> dict[str, Any]:
    return {
        "dedup": dedup,
        "rule": one.rule.name,
        "severity": one.rule.severity,
        "model": result.model,
        "version": result.version,
        "level": one.level,
        "began_s": float(min(one.detail["since"].values(), default=result.period_s)),
        "acknowledged_by": "",
        "acknowledged_s": None,
        "verdict": "",
        "note": "",
        "detail": one.detail,
    }


def _matches(silence: SilenceRow, row: AlertRow) -> bool:
    pairs = ((silence.rule, row.rule), (silence.model, row.model), (silence.level, row.level))
    return all(wanted in ("", found) for wanted, found in pairs)
