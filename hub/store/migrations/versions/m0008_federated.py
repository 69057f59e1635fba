"""Federated training, and the public keys of devices, with which they join it."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_ID, _TEXT = sa.String(length=63), sa.Text()


def upgrade() -> None:
    """Make the tables; a device whose certificate was issued before joins when it has renewed it."""
    op.add_column("device_certificates", sa.Column("public_key", sa.LargeBinary(), nullable=True))
    _runs()
    _rounds()
    _checkpoints()
    _answers()
    _samples()


def _some(kind: Any, *names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, kind, nullable=False) for name in names]


def _runs() -> None:
    op.create_table(
        "federated_runs",
        sa.Column("run_no", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("run_id", sa.String(length=32), nullable=False),
        sa.Column("model", _ID, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("bundle_sha256", sa.String(length=64), nullable=False),
        *_some(_TEXT, "definition", "sizes"),
        sa.Column("state", sa.String(length=16), nullable=False),
        *_some(sa.Integer(), "rounds", "round_no", "attempts"),
        *_some(sa.BigInteger(), "bytes_down", "bytes_up"),
        sa.Column("code", sa.String(length=64), nullable=False),
        sa.Column("message", sa.String(length=500), nullable=False),
        *_some(_TEXT, "privacy", "evaluation", "result"),
        sa.Column("trigger", _ID, nullable=False),
        sa.Column("reason", sa.String(length=500), nullable=False),
        *_some(sa.String(length=80), "holder", "cancelled_by"),
        sa.Column("port", sa.Integer(), nullable=True),
        sa.Column("changes", sa.BigInteger(), nullable=False),
        sa.Column("created_s", sa.Float(), nullable=False),
        sa.Column("created_by", sa.String(length=80), nullable=False),
        sa.Column("started_s", sa.Float(), nullable=True),
        sa.Column("ended_s", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("run_no", name=op.f("pk_federated_runs")),
        sa.UniqueConstraint("run_id", name=op.f("uq_federated_runs_run_id")),
    )
    op.create_index(op.f("ix_federated_runs_state"), "federated_runs", ["state"], unique=False)
    op.create_index("ix_federated_runs_model_created_s", "federated_runs", ["model", "created_s"], unique=False)


def _rounds() -> None:
    op.create_table(
        "federated_rounds",
        sa.Column("run_no", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("round_no", sa.Integer(), nullable=False),
        *_some(sa.Float(), "at_s", "seconds"),
        sa.Column("abandoned", sa.String(length=64), nullable=False),
        *_some(sa.Integer(), "asked", "joined", "admitted", "rejected", "dropped"),
        *_some(sa.BigInteger(), "bytes_down", "bytes_up"),
        *_some(_TEXT, "metrics", "devices"),
        sa.ForeignKeyConstraint(["run_no"], ["federated_runs.run_no"], name=op.f("fk_federated_rounds_run_no")),
        sa.PrimaryKeyConstraint("run_no", "attempt", name=op.f("pk_federated_rounds")),
    )


def _checkpoints() -> None:
    op.create_table(
        "federated_checkpoints",
        sa.Column("run_no", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("checkpoint", sa.LargeBinary(), nullable=False),
        sa.Column("saved_s", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["run_no"], ["federated_runs.run_no"], name=op.f("fk_federated_checkpoints_run_no")),
        sa.PrimaryKeyConstraint("run_no", name=op.f("pk_federated_checkpoints")),
    )


def _answers() -> None:
    op.create_table(
        "federated_answers",
        sa.Column("device_id", _ID, nullable=False),
        sa.Column("epoch", sa.String(length=16), nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("run_id", sa.String(length=32), nullable=False),
        sa.Column("round_no", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("code", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.String(length=500), nullable=False),
        *_some(sa.Float(), "seconds", "retry_s", "received_s"),
        sa.ForeignKeyConstraint(["device_id"], ["devices.device_id"], name=op.f("fk_federated_answers_device_id")),
        sa.PrimaryKeyConstraint("device_id", "epoch", "seq", name=op.f("pk_federated_answers")),
    )
    op.create_index("ix_federated_answers_run_id_received_s", "federated_answers", ["run_id", "received_s"])


def _samples() -> None:
    op.create_table(
        "device_samples",
        *_some(_ID, "device_id", "model"),
        *_some(sa.BigInteger(), "kept", "seen", "classes"),
        sa.Column("personal", sa.SmallInteger(), nullable=False),
        sa.Column("updated_s", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["device_id"], ["devices.device_id"], name=op.f("fk_device_samples_device_id")),
        sa.PrimaryKeyConstraint("device_id", "model", name=op.f("pk_device_samples")),
    )
    op.create_index("ix_device_samples_model", "device_samples", ["model"], unique=False)
