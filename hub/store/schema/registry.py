"""The registry: blobs, datasets, models, versions, gate results, aliases."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from hub.store.schema.base import DIGEST, ID, metadata

__all__ = ["alias_history", "blobs", "datasets", "gate_results", "models", "versions"]

blobs = Table(
    "blobs",
    metadata,
    Column("sha256", DIGEST, primary_key=True),
    Column("bytes", BigInteger, nullable=False),
    Column("kind", String(16), nullable=False),  # bundle | dataset
    Column("created_s", Float, nullable=False),
    Column("collected_s", Float),  # set: the bytes were removed by garbage collection, the row stays as evidence
)

datasets = Table(
    "datasets",
    metadata,
    Column("sha256", DIGEST, ForeignKey("blobs.sha256"), primary_key=True),
    Column("name", String(128), nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("created_s", Float, nullable=False),
    Column("created_by", String(63), nullable=False),
)

models = Table(
    "models",
    metadata,
    Column("model", ID, primary_key=True),
    Column("description", String(500), nullable=False),
    Column("gate", JSON, nullable=False),  # the gate policy as data
    Column("bake_s", Integer, nullable=False),
    Column("created_s", Float, nullable=False),
    Column("created_by", String(63), nullable=False),
)

versions = Table(
    "versions",
    metadata,
    Column("model", ID, ForeignKey("models.model"), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("status", String(16), nullable=False),  # registered | gated | approved | rejected | withdrawn
    Column("bundle_sha256", DIGEST, ForeignKey("blobs.sha256"), nullable=False),
    Column("bundle_bytes", BigInteger, nullable=False),
    Column("manifest", Text, nullable=False),  # canonical JSON as in the bundle
    Column("card", Text, nullable=False),
    Column("parent_version", Integer),
    Column("created_s", Float, nullable=False),
    Column("created_by", String(63), nullable=False),
    Column("approved_s", Float),
    UniqueConstraint("model", "bundle_sha256"),
)

gate_results = Table(
    "gate_results",
    metadata,
    Column("gate_id", Integer, primary_key=True, autoincrement=True),
    Column("model", ID, nullable=False),
    Column("version", Integer, nullable=False),
    Column("dataset_sha256", DIGEST, nullable=False),
    Column("dataset_name", String(128), nullable=False),
    Column("passed", Integer, nullable=False),
    Column("metrics", JSON, nullable=False),
    Column("checks", JSON, nullable=False),
    Column("at_s", Float, nullable=False),
    Column("by", String(63), nullable=False),
    Index("ix_gate_results_model_version", "model", "version"),
)

alias_history = Table(
    "alias_history",
    metadata,
    Column("move_id", Integer, primary_key=True, autoincrement=True),
    Column("model", ID, nullable=False),
    Column("alias", String(32), nullable=False),
    Column("version", Integer),  # NULL: the alias was taken away
    Column("at_s", Float, nullable=False),
    Column("by", String(63), nullable=False),
    Column("reason", String(500), nullable=False),
    Index("ix_alias_history_model_alias", "model", "alias"),
)
