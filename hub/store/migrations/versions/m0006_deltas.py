"""Deltas, and how many bytes each installation took over the network."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table; what was installed before counts as nothing downloaded, and is left out of what was saved."""
    op.create_table(
        "deltas",
        sa.Column("to_sha256", sa.String(length=64), nullable=False),
        sa.Column("from_sha256", sa.String(length=64), nullable=False),
        sa.Column("model", sa.String(length=63), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=True),
        sa.Column("bytes", sa.BigInteger(), nullable=True),
        sa.Column("reason_code", sa.String(length=64), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("wanted_s", sa.Float(), nullable=False),
        sa.Column("until_s", sa.Float(), nullable=True),
        sa.Column("ended_s", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(["sha256"], ["blobs.sha256"], name=op.f("fk_deltas_sha256")),
        sa.PrimaryKeyConstraint("to_sha256", "from_sha256", name=op.f("pk_deltas")),
    )
    op.create_index("ix_deltas_state_wanted_s", "deltas", ["state", "wanted_s"], unique=False)
    op.add_column("device_models", sa.Column("bytes_downloaded", sa.BigInteger(), nullable=True))
