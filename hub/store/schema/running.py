"""Leases of singleton work."""

from __future__ import annotations

from sqlalchemy import Column, Float, String, Table

from hub.store.schema.base import metadata

__all__ = ["leases"]

leases = Table(
    "leases",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("holder", String(63), nullable=False),
    Column("expires_s", Float, nullable=False),
)
