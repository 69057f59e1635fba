"""Deltas between two bundles, made once per pair."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, ForeignKey, Index, Integer, String, Table

from hub.store.schema.base import DIGEST, ID, metadata

__all__ = ["deltas"]

deltas = Table(
    "deltas",
    metadata,
    Column("to_sha256", DIGEST, primary_key=True),
    Column("from_sha256", DIGEST, primary_key=True),
    Column("model", ID, nullable=False),
    Column("state", String(16), nullable=False),  # wanted | making | ready | none
    Column("sha256", DIGEST, ForeignKey("blobs.sha256")),
    Column("bytes", BigInteger),
    Column("reason_code", String(64), nullable=False),  # why there is none
    Column("attempts", Integer, nullable=False),
    Column("wanted_s", Float, nullable=False),
    Column("until_s", Float),  # making: who began it is given up after this
    Column("ended_s", Float),
    Index("ix_deltas_state_wanted_s", "state", "wanted_s"),
)
