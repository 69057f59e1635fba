"""People: API tokens, and the record of what was done."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, Float, Integer, String, Table, Text

from hub.store.schema.base import DIGEST, metadata

__all__ = ["api_tokens", "audit"]

api_tokens = Table(
    "api_tokens",
    metadata,
    Column("token_id", String(32), primary_key=True),
    Column("secret_sha256", DIGEST, nullable=False, unique=True),
    Column("name", String(63), nullable=False),
    Column("role", String(32), nullable=False),
    Column("scope", JSON, nullable=False),  # {"models": [...]} or {}: everything
    Column("created_s", Float, nullable=False),
    Column("expires_s", Float, nullable=False),
    Column("revoked_s", Float),
    Column("created_by", String(63), nullable=False),
)

audit = Table(
    "audit",
    metadata,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("at_s", Float, nullable=False),
    Column("actor", String(80), nullable=False),
    Column("action", String(64), nullable=False, index=True),
    Column("subject", String(128), nullable=False, index=True),
    Column("detail", Text, nullable=False),  # canonical JSON
    Column("previous_hash", DIGEST, nullable=False),
    Column("hash", DIGEST, nullable=False),
)
