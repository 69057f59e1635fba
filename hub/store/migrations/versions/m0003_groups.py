"""Saved device groups, and columns for what filters ask of inventories and heartbeats."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from alembic import op

from shared.software_version import sort_key

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_BATCH_COUNT = 1000
_TEXTS = ("agent_version", "runtime", "runtime_version", "arch", "os", "python")
_KEYS = ("agent_version_key", "runtime_version_key", "python_key")
_NUMBERS = ("cpu_count", "memory_bytes", "storage_bytes")
_HOT = ("disk_free_bytes", "rss_bytes", "outbox_count")


def upgrade() -> None:
    """Make the tables; add the columns and fill them from the documents that are there."""
    _device_groups()
    _device_group_members()
    _device_group_references()
    _columns()
    bind = op.get_bind()
    _fill(bind, "devices", "inventory", (*_TEXTS, *_KEYS, *_NUMBERS))
    _fill(bind, "device_status", "heartbeat", (*_HOT, "cpu_percent"))


def _device_groups() -> None:
    op.create_table(
        "device_groups",
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("filter", sa.Text(), nullable=True),
        sa.Column("description", sa.String(length=500), nullable=False),
        sa.Column("created_s", sa.Float(), nullable=False),
        sa.Column("created_by", sa.String(length=63), nullable=False),
        sa.Column("changed_s", sa.Float(), nullable=False),
        sa.Column("changed_by", sa.String(length=63), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_device_groups")),
    )


def _device_group_members() -> None:
    op.create_table(
        "device_group_members",
        sa.Column("group_name", sa.String(length=63), nullable=False),
        sa.Column("device_id", sa.String(length=63), nullable=False),
        sa.ForeignKeyConstraint(
            ["group_name"], ["device_groups.name"], name=op.f("fk_device_group_members_group_name")
        ),
        sa.ForeignKeyConstraint(["device_id"], ["devices.device_id"], name=op.f("fk_device_group_members_device_id")),
        sa.PrimaryKeyConstraint("group_name", "device_id", name=op.f("pk_device_group_members")),
    )
    op.create_index("ix_device_group_members_device_id", "device_group_members", ["device_id"], unique=False)


def _device_group_references() -> None:
    op.create_table(
        "device_group_references",
        sa.Column("group_name", sa.String(length=63), nullable=False),
        sa.Column("names", sa.String(length=63), nullable=False),
        sa.ForeignKeyConstraint(
            ["group_name"], ["device_groups.name"], name=op.f("fk_device_group_references_group_name")
        ),
        sa.ForeignKeyConstraint(["names"], ["device_groups.name"], name=op.f("fk_device_group_references_names")),
        sa.PrimaryKeyConstraint("group_name", "names", name=op.f("pk_device_group_references")),
    )
    op.create_index("ix_device_group_references_names", "device_group_references", ["names"], unique=False)


def _columns() -> None:
    for name in _TEXTS:
        op.add_column("devices", sa.Column(name, sa.String(length=128), nullable=True))
    for name in _KEYS:
        op.add_column("devices", sa.Column(name, sa.String(length=31), nullable=True))
    for name in _NUMBERS:
        op.add_column("devices", sa.Column(name, sa.BigInteger(), nullable=True))
    op.create_index("ix_devices_agent_version_key", "devices", ["agent_version_key"], unique=False)
    for name in _HOT:
        op.add_column("device_status", sa.Column(name, sa.BigInteger(), nullable=True))
    op.add_column("device_status", sa.Column("cpu_percent", sa.Float(), nullable=True))


def _fill(connection: sa.Connection, name: str, document: str, columns: tuple[str, ...]) -> None:
    id_column, json_column = sa.column("device_id", sa.String), sa.column(document, sa.JSON)
    table = sa.table(name, id_column, json_column, *(sa.column(column) for column in columns))
    page = sa.select(id_column, json_column).select_from(table).order_by(id_column).limit(_BATCH_COUNT)
    fill = (
        sa.update(table)
        .where(id_column == sa.bindparam("of_device"))
        .values({column: sa.bindparam(f"new_{column}") for column in columns})
    )
    last = ""
    while rows := connection.execute(page.where(id_column > last)).all():
        found = [(row[0], row[1]) for row in rows if isinstance(row[1], dict)]
        if found:
            connection.execute(fill, [{"of_device": i, **_values(said, columns)} for i, said in found])
        last = rows[-1][0]


def _values(document: Mapping[str, Any], columns: tuple[str, ...]) -> dict[str, Any]:
    return {
        f"new_{column}": sort_key(str(document.get(column.removesuffix("_key"), "")))
        if column in _KEYS
        else document.get(column)
        for column in columns
    }
