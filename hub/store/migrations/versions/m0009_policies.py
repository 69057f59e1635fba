"""Policies by which the hub acts of itself, and the bytes of runs that they go by."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_ID = sa.String(length=63)


def upgrade() -> None:
    """Make the tables."""
    for name in ("train_policies", "deploy_policies"):
        _policies(name)
    _state()
    _firings()
    _decisions()
    _traffic()


def _some(kind: Any, *names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, kind, nullable=False) for name in names]


def _policies(name: str) -> None:
    op.create_table(
        name,
        *_some(_ID, "model"),
        *_some(sa.Text(), "document"),
        *_some(sa.Float(), "changed_s"),
        *_some(sa.String(length=80), "changed_by"),
        sa.ForeignKeyConstraint(["model"], ["models.model"], name=op.f(f"fk_{name}_model")),
        sa.PrimaryKeyConstraint("model", name=op.f(f"pk_{name}")),
    )


def _state() -> None:
    op.create_table(
        "train_state",
        *_some(_ID, "model"),
        *_some(sa.String(length=32), "run_id"),
        *_some(sa.BigInteger(), "revision", "base_samples"),
        sa.Column("began_e", sa.BigInteger()),
        sa.PrimaryKeyConstraint("model", name=op.f("pk_train_state")),
    )
    op.create_table(
        "trigger_clock",
        *_some(sa.String(length=16), "name"),
        *_some(sa.BigInteger(), "wall_s", "elapsed_e"),
        sa.Column("jumped_e", sa.BigInteger()),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_trigger_clock")),
    )


def _firings() -> None:
    op.create_table(
        "train_firings",
        sa.Column("firing_id", sa.Integer(), autoincrement=True, nullable=False),
        *_some(_ID, "model"),
        *_some(sa.Float(), "at_s"),
        *_some(sa.String(length=16), "state"),
        *_some(sa.String(length=32), "run_id"),
        *_some(sa.Text(), "reason"),
        *_some(sa.JSON(), "evidence"),
        *_some(sa.Text(), "definition"),
        *_some(sa.String(length=64), "code"),
        *_some(sa.String(length=500), "message"),
        sa.PrimaryKeyConstraint("firing_id", name=op.f("pk_train_firings")),
    )
    op.create_index(op.f("ix_train_firings_state"), "train_firings", ["state"])
    op.create_index("ix_train_firings_model", "train_firings", ["model", "firing_id"])
    op.create_table(
        "train_keys",
        *_some(_ID, "model"),
        *_some(sa.String(length=64), "key"),
        *_some(sa.Integer(), "firing_id"),
        sa.ForeignKeyConstraint(["firing_id"], ["train_firings.firing_id"], name=op.f("fk_train_keys_firing_id")),
        sa.PrimaryKeyConstraint("model", "key", name=op.f("pk_train_keys")),
    )
    op.create_index("ix_train_keys_key", "train_keys", ["key"])


def _decisions() -> None:
    op.create_table(
        "deploy_decisions",
        *_some(_ID, "model"),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        *_some(sa.Float(), "at_s"),
        *_some(sa.String(length=16), "state"),
        *_some(sa.String(length=32), "rollout_id"),
        *_some(sa.String(length=64), "code"),
        *_some(sa.Text(), "reason"),
        *_some(sa.JSON(), "evidence"),
        sa.PrimaryKeyConstraint("model", "version", name=op.f("pk_deploy_decisions")),
    )
    op.create_index("ix_deploy_decisions_rollout_id", "deploy_decisions", ["rollout_id"])


def _traffic() -> None:
    op.create_table(
        "federated_traffic",
        sa.Column("run_no", sa.Integer(), autoincrement=False, nullable=False),
        *_some(sa.String(length=63), "profile"),
        *_some(sa.Integer(), "devices"),
        *_some(sa.BigInteger(), "bytes_down", "bytes_up"),
        sa.ForeignKeyConstraint(["run_no"], ["federated_runs.run_no"], name=op.f("fk_federated_traffic_run_no")),
        sa.PrimaryKeyConstraint("run_no", "profile", name=op.f("pk_federated_traffic")),
    )
