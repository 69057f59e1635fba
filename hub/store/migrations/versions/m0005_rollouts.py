"""Rollouts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from hub.store.hashing import hash31

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_BATCH_COUNT = 5000


def upgrade() -> None:
    """Make the tables; give every device its place in the waves."""
    _rollouts()
    _rollout_groups()
    _rollout_devices()
    _rollout_events()
    _rollout_arrivals()
    _columns()
    _devices()


def _rollouts() -> None:
    op.create_table(
        "rollouts",
        sa.Column("rollout_no", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("rollout_id", sa.String(length=32), nullable=False),
        sa.Column("model", sa.String(length=63), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("definition", sa.Text(), nullable=False),
        sa.Column("plan", sa.Text(), nullable=False),
        sa.Column("progress", sa.Text(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("elapsed_e", sa.BigInteger(), nullable=False),
        sa.Column("changes", sa.BigInteger(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("hash_a", sa.BigInteger(), nullable=False),
        sa.Column("hash_b", sa.BigInteger(), nullable=False),
        sa.Column("marks", sa.Text(), nullable=False),
        sa.Column("created_s", sa.Float(), nullable=False),
        sa.Column("created_by", sa.String(length=63), nullable=False),
        sa.PrimaryKeyConstraint("rollout_no", name=op.f("pk_rollouts")),
        sa.UniqueConstraint("rollout_id", name=op.f("uq_rollouts_rollout_id")),
    )
    op.create_index("ix_rollouts_model", "rollouts", ["model"], unique=False)
    op.create_index(op.f("ix_rollouts_status"), "rollouts", ["status"], unique=False)


def _rollout_groups() -> None:
    op.create_table(
        "rollout_groups",
        sa.Column("rollout_no", sa.Integer(), nullable=False),
        sa.Column("group_no", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("threshold", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["rollout_no"], ["rollouts.rollout_no"], name=op.f("fk_rollout_groups_rollout_no")),
        sa.PrimaryKeyConstraint("rollout_no", "group_no", name=op.f("pk_rollout_groups")),
    )


def _rollout_devices() -> None:
    op.create_table(
        "rollout_devices",
        sa.Column("rollout_no", sa.Integer(), nullable=False),
        sa.Column("device_id", sa.String(length=63), nullable=False),
        sa.Column("model", sa.String(length=63), nullable=False),
        sa.Column("bucket", sa.BigInteger(), nullable=False),
        sa.Column("place", sa.BigInteger(), nullable=False),
        sa.Column("group_no", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("profile", sa.String(length=63), nullable=False),
        sa.Column("timezone", sa.String(length=64), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("counter", sa.BigInteger(), nullable=False),
        sa.Column("mode", sa.String(length=8), nullable=False),
        sa.Column("target_version", sa.Integer(), nullable=True),
        sa.Column("previous_version", sa.Integer(), nullable=True),
        sa.Column("changed_e", sa.BigInteger(), nullable=False),
        sa.Column("changed_s", sa.Float(), nullable=False),
        sa.Column("reason_code", sa.String(length=64), nullable=False),
        sa.Column("current", sa.SmallInteger(), nullable=False),
        sa.Column("dirty", sa.SmallInteger(), nullable=False),
        sa.Column("vanished", sa.SmallInteger(), nullable=False),
        sa.ForeignKeyConstraint(["device_id"], ["devices.device_id"], name=op.f("fk_rollout_devices_device_id")),
        sa.ForeignKeyConstraint(["rollout_no"], ["rollouts.rollout_no"], name=op.f("fk_rollout_devices_rollout_no")),
        sa.PrimaryKeyConstraint("rollout_no", "device_id", name=op.f("pk_rollout_devices")),
        sqlite_with_rowid=False,
    )
    counted = ["rollout_no", "group_no", "state", "changed_e", "attempts", "profile"]
    op.create_index("ix_rollout_devices_count", "rollout_devices", counted, unique=False)
    table = "rollout_devices"
    waiting = ["rollout_no", "group_no", "timezone", "place", "device_id"]
    _partial(table, "ix_rollout_devices_waiting", waiting, "state = 'waiting'")
    _partial(table, "ix_rollout_devices_current", ["device_id", "model"], "current = 1", unique=True)
    _partial(table, "ix_rollout_devices_dirty", ["rollout_no", "dirty", "device_id"], "dirty > 0")
    _partial(table, "ix_rollout_devices_vanished", ["rollout_no", "group_no"], "vanished > 0")


def _partial(table: str, name: str, columns: list[str], where: str, *, unique: bool = False) -> None:
    condition = sa.text(where)
    op.create_index(name, table, columns, unique=unique, sqlite_where=condition, postgresql_where=condition)


def _rollout_events() -> None:
    op.create_table(
        "rollout_events",
        sa.Column("rollout_no", sa.Integer(), nullable=False),
        sa.Column("event_no", sa.BigInteger(), nullable=False),
        sa.Column("at_s", sa.Float(), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("group_no", sa.Integer(), nullable=True),
        sa.Column("code", sa.String(length=64), nullable=False),
        sa.Column("message", sa.String(length=500), nullable=False),
        sa.Column("numbers", sa.Text(), nullable=False),
        sa.Column("by", sa.String(length=80), nullable=False),
        sa.ForeignKeyConstraint(["rollout_no"], ["rollouts.rollout_no"], name=op.f("fk_rollout_events_rollout_no")),
        sa.PrimaryKeyConstraint("rollout_no", "event_no", name=op.f("pk_rollout_events")),
    )


def _rollout_arrivals() -> None:
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "rollout_arrivals",
        sa.Column("arrival_no", number, autoincrement=True, nullable=False),
        sa.Column("device_id", sa.String(length=63), nullable=False),
        sa.Column("claimed", sa.SmallInteger(), nullable=False),
        sa.PrimaryKeyConstraint("arrival_no", name=op.f("pk_rollout_arrivals")),
    )


def _columns() -> None:
    """How an assignment is to be taken; which assignment of a device's went live last; what is still to be sent."""
    op.drop_index("ix_assignments_published_s", table_name="assignments")
    _partial("assignments", "ix_assignments_unsent", ["device_id"], "published_s IS NULL")
    op.add_column("assignments", sa.Column("mode", sa.String(length=8), nullable=False, server_default="live"))
    op.add_column("assignments", sa.Column("conditions", sa.Text(), nullable=False, server_default=""))
    op.add_column("device_models", sa.Column("served_counter", sa.BigInteger(), nullable=False, server_default="0"))


def _devices() -> None:
    op.add_column("devices", sa.Column("hash31", sa.BigInteger(), nullable=False, server_default="0"))
    _partial("devices", "ix_devices_unsent", ["device_id"], "desired_revision > published_revision")
    op.drop_index("ix_devices_status", table_name="devices")
    _fill_hashes(op.get_bind())


def _fill_hashes(connection: sa.Connection) -> None:
    devices = sa.table("devices", sa.column("device_id", sa.String), sa.column("hash31", sa.BigInteger))
    page = sa.select(devices.c.device_id).order_by(devices.c.device_id).limit(_BATCH_COUNT)
    fill = sa.update(devices).where(devices.c.device_id == sa.bindparam("d")).values(hash31=sa.bindparam("h"))
    last = ""
    while ids := list(connection.scalars(page.where(devices.c.device_id > last))):
        connection.execute(fill, [{"d": device_id, "h": hash31(device_id)} for device_id in ids])
        last = ids[-1]
