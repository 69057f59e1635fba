"""TUF metadata: published, staged, and the small targets of the top-level role."""

from __future__ import annotations

from sqlalchemy import JSON, Column, Float, Integer, LargeBinary, String, Table

from hub.store.schema.base import DIGEST, metadata

__all__ = ["tuf_files", "tuf_metadata", "tuf_staged"]

tuf_metadata = Table(
    "tuf_metadata",
    metadata,
    Column("role", String(64), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("bytes", LargeBinary, nullable=False),
    Column("expires_s", Float, nullable=False),
    Column("published_s", Float, nullable=False),
)

tuf_staged = Table(
    "tuf_staged",
    metadata,
    Column("role", String(64), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("bytes", LargeBinary, nullable=False),  # metadata with the signatures so far
    Column("context", JSON, nullable=False),  # what it is about, e.g. {"model": "digits", "version": 3}
    Column("staged_s", Float, nullable=False),
    Column("staged_by", String(63), nullable=False),
)

tuf_files = Table(
    "tuf_files",
    metadata,
    Column("sha256", DIGEST, primary_key=True),
    Column("path", String(128), primary_key=True),  # a target of the top-level role, e.g. the assignment keys
    Column("bytes", LargeBinary, nullable=False),
    Column("added_s", Float, nullable=False),
)
