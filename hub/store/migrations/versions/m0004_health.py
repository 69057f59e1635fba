"""Health of versions after their installation."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    _health_windows()
    _shadow_windows()
    _health_latency()


def _key(kind: Any, name: str) -> sa.Column[Any]:
    return sa.Column(name, kind, autoincrement=False, nullable=False)


def _count(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.BigInteger(), nullable=False)


def _health_windows() -> None:
    op.create_table(
        "health_windows",
        sa.Column("model", sa.String(length=63), nullable=False),
        _key(sa.BigInteger(), "period_s"),
        _key(sa.Integer(), "version"),
        sa.Column("profile", sa.String(length=63), nullable=False),
        sa.Column("cohort", sa.String(length=32), nullable=False),
        *(_count(name) for name in ("reports", "requests", "errors", "over_budget", "crashes")),
        sa.PrimaryKeyConstraint("model", "period_s", "version", "profile", "cohort", name=op.f("pk_health_windows")),
    )


def _shadow_windows() -> None:
    counts = ("reports", "compared", "disagreed", "errors", "over_budget", "skipped", "crashes", "stopped")
    op.create_table(
        "shadow_windows",
        sa.Column("model", sa.String(length=63), nullable=False),
        _key(sa.BigInteger(), "period_s"),
        _key(sa.Integer(), "version"),
        _key(sa.Integer(), "beside"),
        sa.Column("profile", sa.String(length=63), nullable=False),
        sa.Column("cohort", sa.String(length=32), nullable=False),
        *(_count(name) for name in counts),
        sa.PrimaryKeyConstraint(
            "model", "period_s", "version", "beside", "profile", "cohort", name=op.f("pk_shadow_windows")
        ),
    )


def _health_latency() -> None:
    op.create_table(
        "health_latency",
        sa.Column("model", sa.String(length=63), nullable=False),
        _key(sa.BigInteger(), "period_s"),
        _key(sa.Integer(), "version"),
        _key(sa.Integer(), "shadow"),
        sa.Column("profile", sa.String(length=63), nullable=False),
        sa.Column("cohort", sa.String(length=32), nullable=False),
        _key(sa.Integer(), "bucket"),
        _count("count"),
        sa.PrimaryKeyConstraint(
            "model", "period_s", "version", "shadow", "profile", "cohort", "bucket", name=op.f("pk_health_latency")
        ),
    )
