"""Deployments, and what each device should have."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, Float, ForeignKey, Index, Integer, String, Table, Text

from hub.store.schema.base import DIGEST, ID, metadata

__all__ = ["assignments", "deployments"]

deployments = Table(
    "deployments",
    metadata,
    Column("deployment_id", String(32), primary_key=True),
    Column("model", ID, nullable=False),
    Column("version", Integer, nullable=False),
    Column("filter", Text, nullable=False),
    Column("devices", Integer, nullable=False),
    Column("skipped", JSON, nullable=False),  # {reason_code: devices}
    Column("created_s", Float, nullable=False),
    Column("created_by", String(63), nullable=False),
    Column("note", String(500), nullable=False),
    Column("cancelled_s", Float),
)

assignments = Table(
    "assignments",
    metadata,
    Column("device_id", ID, ForeignKey("devices.device_id"), primary_key=True),
    Column("model", ID, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("bundle_sha256", DIGEST, nullable=False),
    Column("bundle_bytes", BigInteger, nullable=False),
    Column("counter", BigInteger, nullable=False),
    Column("bake_s", Integer, nullable=False),
    Column("issued_s", Float, nullable=False),
    Column("expires_s", Float, nullable=False),
    Column("deployment_id", String(32), nullable=False, index=True),
    Column("published_s", Float),  # NULL: the desired state is still to be sent
    Column("mode", String(8), nullable=False, default="live", server_default="live"),  # live | hold | shadow
    Column("conditions", Text, nullable=False, default="", server_default=""),  # JSON: its window, its shadow
    Index("ix_assignments_model_version", "model", "version"),
)
Index(  # only what is still to be sent, so that sending a fleet its documents costs the same for each device
    "ix_assignments_unsent",
    assignments.c.device_id,
    sqlite_where=assignments.c.published_s.is_(None),
    postgresql_where=assignments.c.published_s.is_(None),
)
