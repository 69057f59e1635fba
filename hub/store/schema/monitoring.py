"""What windows say, added up by version, profile, arm and period; verdicts on it; alerts; metrics of applications.

Counts of a row of sums are one vector of int64 in little-endian bytes, whose shape the version's reference gives
(`hub.monitoring.sums`). The whole fleet is the sum of the profiles. A window counts once, because `window_marks` keeps
the highest id that was counted of each series. `window_latest` has one row a device and model: the newest window as it
came, so that a verdict can name devices.
"""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, Float, Index, Integer, LargeBinary, String, Table, Text

from hub.store.schema.base import ID, metadata

__all__ = [
    "alert_deliveries",
    "alert_silences",
    "alerts",
    "app_metrics",
    "drift_results",
    "drift_sums",
    "window_latest",
    "window_marks",
]

_ARM = String(32)
_LEVEL = String(80)  # "fleet", or "profile:" and its name

drift_sums = Table(
    "drift_sums",
    metadata,
    Column("model", ID, primary_key=True),
    Column("period_s", BigInteger, primary_key=True, autoincrement=False),  # start of the period of receipt
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("profile", ID, primary_key=True),
    Column("arm", _ARM, primary_key=True),
    Column("windows", BigInteger, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("predicted", BigInteger, nullable=False),
    Column("skipped", BigInteger, nullable=False),
    Column("labelled", BigInteger, nullable=False),
    Column("errors", BigInteger, nullable=False),
    Column("unknown", BigInteger, nullable=False),
    Column("variance", Float, nullable=False),  # of each count, from noise for privacy
    Column("vector", LargeBinary, nullable=False),
    Column("outcomes", LargeBinary, nullable=False),  # in the order of arrival, one byte each
)

window_marks = Table(
    "window_marks",
    metadata,
    Column("device_id", ID, primary_key=True),
    Column("model", ID, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("series", ID, primary_key=True),
    Column("window_id", BigInteger, nullable=False),
    Column("seen_s", Float, nullable=False),
    Index("ix_window_marks_seen_s", "seen_s"),
)

window_latest = Table(
    "window_latest",
    metadata,
    Column("device_id", ID, primary_key=True),
    Column("model", ID, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("profile", ID, nullable=False),
    Column("period_s", BigInteger, nullable=False),
    Column("received_s", Float, nullable=False),
    Column("window", LargeBinary, nullable=False),  # the message's body
    Column("found", JSON, nullable=False),  # in the last verdict on this device, and in which window
    Index("ix_window_latest_model", "model", "version", "period_s"),
)

app_metrics = Table(
    "app_metrics",
    metadata,
    Column("model", ID, primary_key=True),  # empty: of no model
    Column("period_s", BigInteger, primary_key=True, autoincrement=False),
    Column("version", Integer, primary_key=True, autoincrement=False),  # 0: of none
    Column("arm", _ARM, primary_key=True),
    Column("name", ID, primary_key=True),
    Column("kind", String(8), primary_key=True),
    Column("reports", BigInteger, nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("total", Float, nullable=False),
    Column("least", Float, nullable=False),
    Column("greatest", Float, nullable=False),
    Column("last", Float, nullable=False),
)

drift_results = Table(
    "drift_results",
    metadata,
    Column("model", ID, primary_key=True),
    Column("period_s", BigInteger, primary_key=True, autoincrement=False),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("arm", _ARM, primary_key=True),
    Column("level", _LEVEL, primary_key=True),
    Column("severity", Integer, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("result", JSON, nullable=False),  # what is shown
    Column("state", LargeBinary, nullable=False),  # what the next verdict begins with
)

alerts = Table(
    "alerts",
    metadata,
    Column("alert_id", Integer, primary_key=True),
    Column("dedup", String(255), nullable=False),  # rule, model, version, level and arm
    Column("rule", ID, nullable=False),
    Column("severity", String(16), nullable=False),
    Column("model", ID, nullable=False),
    Column("version", Integer, nullable=False),
    Column("level", _LEVEL, nullable=False),
    Column("state", String(16), nullable=False),
    Column("breached", Integer, nullable=False),  # periods in a row
    Column("calm", Integer, nullable=False),
    Column("period_s", BigInteger, nullable=False),  # the last one that was looked at
    Column("began_s", Float, nullable=False),
    Column("opened_s", Float),
    Column("resolved_s", Float),
    Column("acknowledged_by", ID, nullable=False),
    Column("acknowledged_s", Float),
    Column("verdict", String(8), nullable=False),  # of a person: real, false, or none yet
    Column("note", Text, nullable=False),
    Column("detail", JSON, nullable=False),
    Index("ix_alerts_dedup", "dedup", "state"),
)

alert_silences = Table(
    "alert_silences",
    metadata,
    Column("silence_id", Integer, primary_key=True),
    Column("rule", ID, nullable=False),  # empty: any
    Column("model", ID, nullable=False),
    Column("level", _LEVEL, nullable=False),
    Column("until_s", Float, nullable=False),
    Column("reason", Text, nullable=False),
    Column("by", ID, nullable=False),
    Column("created_s", Float, nullable=False),
)

alert_deliveries = Table(
    "alert_deliveries",
    metadata,
    Column("delivery_id", Integer, primary_key=True),
    Column("alert_id", Integer, nullable=False),
    Column("route", ID, nullable=False),
    Column("payload", Text, nullable=False),
    Column("state", String(16), nullable=False),  # waiting, sent, given_up
    Column("attempts", Integer, nullable=False),
    Column("next_s", Float, nullable=False),
    Column("error", Text, nullable=False),
    Column("created_s", Float, nullable=False),
    Index("ix_alert_deliveries_state", "state", "next_s"),
)
