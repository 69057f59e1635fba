"""Saved groups of devices: by a filter (dynamic) or a list (static)."""

from __future__ import annotations

from sqlalchemy import Column, Float, ForeignKey, Index, String, Table, Text

from hub.store.schema.base import ID, metadata

__all__ = ["device_group_members", "device_group_references", "device_groups"]

device_groups = Table(
    "device_groups",
    metadata,
    Column("name", ID, primary_key=True),
    Column("filter", Text),  # NULL: a list, in `device_group_members`
    Column("description", String(500), nullable=False, default=""),
    Column("created_s", Float, nullable=False),
    Column("created_by", String(63), nullable=False),
    Column("changed_s", Float, nullable=False),
    Column("changed_by", String(63), nullable=False),
)

device_group_members = Table(
    "device_group_members",
    metadata,
    Column("group_name", ID, ForeignKey("device_groups.name"), primary_key=True),
    Column("device_id", ID, ForeignKey("devices.device_id"), primary_key=True),
    Index("ix_device_group_members_device_id", "device_id"),
)

device_group_references = Table(  # which groups the filter of a group names
    "device_group_references",
    metadata,
    Column("group_name", ID, ForeignKey("device_groups.name"), primary_key=True),
    Column("names", ID, ForeignKey("device_groups.name"), primary_key=True),
    Index("ix_device_group_references_names", "names"),
)
