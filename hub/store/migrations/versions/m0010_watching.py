"""Single devices: their machines over the last day, and their errors."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_ID = sa.String(length=63)


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "device_history",
        *_some(sa.Float(), "at_s"),
        *_some(sa.LargeBinary(), "names", "readings"),
        sa.PrimaryKeyConstraint("at_s", name=op.f("pk_device_history")),
    )
    _outcomes()
    op.create_table(
        "device_errors",
        *_some(_ID, "device_id", "model"),
        *_some(sa.Integer(), "version"),
        *_some(sa.Float(), "updated_s"),
        *_some(sa.LargeBinary(), "state"),
        sa.PrimaryKeyConstraint("device_id", "model", name=op.f("pk_device_errors")),
    )


def _some(kind: Any, *names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, kind, nullable=False) for name in names]


def _outcomes() -> None:
    op.create_table(
        "device_outcomes",
        *_some(_ID, "device_id", "model"),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        *_some(_ID, "series"),
        sa.Column("window_id", sa.BigInteger(), autoincrement=False, nullable=False),
        *_some(sa.BigInteger(), "period_s"),
        *_some(sa.Float(), "received_s"),
        *_some(sa.Integer(), "count"),
        *_some(sa.LargeBinary(), "outcomes"),
        sa.PrimaryKeyConstraint(
            "device_id", "model", "version", "series", "window_id", name=op.f("pk_device_outcomes")
        ),
    )
    op.create_index("ix_device_outcomes_model", "device_outcomes", ["model", "version", "period_s"])
    op.create_index("ix_device_outcomes_period_s", "device_outcomes", ["period_s"])
