"""Monitoring."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_ID, _ARM, _LEVEL = sa.String(length=63), sa.String(length=32), sa.String(length=80)


def upgrade() -> None:
    """Make the tables."""
    _sums()
    _windows()
    _metrics()
    _results()
    _alerts()
    _silences()
    _deliveries()


def _some(kind: Any, *names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, kind, nullable=False) for name in names]


def _key(kind: Any, name: str) -> sa.Column[Any]:
    return sa.Column(name, kind, autoincrement=False, nullable=False)


def _sums() -> None:
    op.create_table(
        "drift_sums",
        sa.Column("model", _ID, nullable=False),
        _key(sa.BigInteger(), "period_s"),
        _key(sa.Integer(), "version"),
        sa.Column("profile", _ID, nullable=False),
        sa.Column("arm", _ARM, nullable=False),
        *_some(sa.BigInteger(), "windows", "rows", "predicted", "skipped", "labelled", "errors", "unknown"),
        sa.Column("variance", sa.Float(), nullable=False),
        *_some(sa.LargeBinary(), "vector", "outcomes"),
        sa.PrimaryKeyConstraint("model", "period_s", "version", "profile", "arm", name=op.f("pk_drift_sums")),
    )


def _windows() -> None:
    op.create_table(
        "window_marks",
        *_some(_ID, "device_id", "model"),
        _key(sa.Integer(), "version"),
        sa.Column("series", _ID, nullable=False),
        sa.Column("window_id", sa.BigInteger(), nullable=False),
        sa.Column("seen_s", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("device_id", "model", "version", "series", name=op.f("pk_window_marks")),
    )
    op.create_index("ix_window_marks_seen_s", "window_marks", ["seen_s"])
    op.create_table(
        "window_latest",
        *_some(_ID, "device_id", "model"),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("profile", _ID, nullable=False),
        sa.Column("period_s", sa.BigInteger(), nullable=False),
        sa.Column("received_s", sa.Float(), nullable=False),
        sa.Column("window", sa.LargeBinary(), nullable=False),
        sa.Column("found", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("device_id", "model", name=op.f("pk_window_latest")),
    )
    op.create_index("ix_window_latest_model", "window_latest", ["model", "version", "period_s"])


def _metrics() -> None:
    op.create_table(
        "app_metrics",
        sa.Column("model", _ID, nullable=False),
        _key(sa.BigInteger(), "period_s"),
        _key(sa.Integer(), "version"),
        sa.Column("arm", _ARM, nullable=False),
        sa.Column("name", _ID, nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        *_some(sa.BigInteger(), "reports", "count"),
        *_some(sa.Float(), "total", "least", "greatest", "last"),
        sa.PrimaryKeyConstraint("model", "period_s", "version", "arm", "name", "kind", name=op.f("pk_app_metrics")),
    )


def _results() -> None:
    op.create_table(
        "drift_results",
        sa.Column("model", _ID, nullable=False),
        _key(sa.BigInteger(), "period_s"),
        _key(sa.Integer(), "version"),
        sa.Column("arm", _ARM, nullable=False),
        sa.Column("level", _LEVEL, nullable=False),
        sa.Column("severity", sa.Integer(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("result", sa.JSON(), nullable=False),
        sa.Column("state", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("model", "period_s", "version", "arm", "level", name=op.f("pk_drift_results")),
    )


def _alerts() -> None:
    op.create_table(
        "alerts",
        sa.Column("alert_id", sa.Integer(), nullable=False),
        sa.Column("dedup", sa.String(length=255), nullable=False),
        sa.Column("rule", _ID, nullable=False),
        sa.Column("severity", sa.String(length=16), nullable=False),
        sa.Column("model", _ID, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("level", _LEVEL, nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        *_some(sa.Integer(), "breached", "calm"),
        sa.Column("period_s", sa.BigInteger(), nullable=False),
        sa.Column("began_s", sa.Float(), nullable=False),
        sa.Column("opened_s", sa.Float(), nullable=True),
        sa.Column("resolved_s", sa.Float(), nullable=True),
        sa.Column("acknowledged_by", _ID, nullable=False),
        sa.Column("acknowledged_s", sa.Float(), nullable=True),
        sa.Column("verdict", sa.String(length=8), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("alert_id", name=op.f("pk_alerts")),
    )
    op.create_index("ix_alerts_dedup", "alerts", ["dedup", "state"])


def _silences() -> None:
    op.create_table(
        "alert_silences",
        sa.Column("silence_id", sa.Integer(), nullable=False),
        *_some(_ID, "rule", "model"),
        sa.Column("level", _LEVEL, nullable=False),
        sa.Column("until_s", sa.Float(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("by", _ID, nullable=False),
        sa.Column("created_s", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("silence_id", name=op.f("pk_alert_silences")),
    )


def _deliveries() -> None:
    op.create_table(
        "alert_deliveries",
        sa.Column("delivery_id", sa.Integer(), nullable=False),
        sa.Column("alert_id", sa.Integer(), nullable=False),
        sa.Column("route", _ID, nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_s", sa.Float(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("created_s", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("delivery_id", name=op.f("pk_alert_deliveries")),
    )
    op.create_index("ix_alert_deliveries_state", "alert_deliveries", ["state", "next_s"])
