"""The registry, trust metadata and deployments."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables, those that others refer to first."""
    _alias_history()
    _blobs()
    _deployments()
    _gate_results()
    _models()
    _tuf_files()
    _tuf_metadata()
    _tuf_staged()
    _assignments()
    _datasets()
    _versions()


def _alias_history() -> None:
    op.create_table(
        "alias_history",
        sa.Column("move_id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("model", sa.String(length=63), nullable=False),
        sa.Column("alias", sa.String(length=32), nullable=False),
        sa.Column("version", sa.Integer(), nullable=True),
        sa.Column("at_s", sa.Float(), nullable=False),
        sa.Column("by", sa.String(length=63), nullable=False),
        sa.Column("reason", sa.String(length=500), nullable=False),
        sa.PrimaryKeyConstraint("move_id", name=op.f("pk_alias_history")),
    )
    op.create_index("ix_alias_history_model_alias", "alias_history", ["model", "alias"], unique=False)


def _blobs() -> None:
    op.create_table(
        "blobs",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("created_s", sa.Float(), nullable=False),
        sa.Column("collected_s", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_blobs")),
    )


def _deployments() -> None:
    op.create_table(
        "deployments",
        sa.Column("deployment_id", sa.String(length=32), nullable=False),
        sa.Column("model", sa.String(length=63), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("filter", sa.Text(), nullable=False),
        sa.Column("devices", sa.Integer(), nullable=False),
        sa.Column("skipped", sa.JSON(), nullable=False),
        sa.Column("created_s", sa.Float(), nullable=False),
        sa.Column("created_by", sa.String(length=63), nullable=False),
        sa.Column("note", sa.String(length=500), nullable=False),
        sa.Column("cancelled_s", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("deployment_id", name=op.f("pk_deployments")),
    )


def _gate_results() -> None:
    op.create_table(
        "gate_results",
        sa.Column("gate_id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("model", sa.String(length=63), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("dataset_sha256", sa.String(length=64), nullable=False),
        sa.Column("dataset_name", sa.String(length=128), nullable=False),
        sa.Column("passed", sa.Integer(), nullable=False),
        sa.Column("metrics", sa.JSON(), nullable=False),
        sa.Column("checks", sa.JSON(), nullable=False),
        sa.Column("at_s", sa.Float(), nullable=False),
        sa.Column("by", sa.String(length=63), nullable=False),
        sa.PrimaryKeyConstraint("gate_id", name=op.f("pk_gate_results")),
    )
    op.create_index("ix_gate_results_model_version", "gate_results", ["model", "version"], unique=False)


def _models() -> None:
    op.create_table(
        "models",
        sa.Column("model", sa.String(length=63), nullable=False),
        sa.Column("description", sa.String(length=500), nullable=False),
        sa.Column("gate", sa.JSON(), nullable=False),
        sa.Column("bake_s", sa.Integer(), nullable=False),
        sa.Column("created_s", sa.Float(), nullable=False),
        sa.Column("created_by", sa.String(length=63), nullable=False),
        sa.PrimaryKeyConstraint("model", name=op.f("pk_models")),
    )


def _tuf_files() -> None:
    op.create_table(
        "tuf_files",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("path", sa.String(length=128), nullable=False),
        sa.Column("bytes", sa.LargeBinary(), nullable=False),
        sa.Column("added_s", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("sha256", "path", name=op.f("pk_tuf_files")),
    )


def _tuf_metadata() -> None:
    op.create_table(
        "tuf_metadata",
        sa.Column("role", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("bytes", sa.LargeBinary(), nullable=False),
        sa.Column("expires_s", sa.Float(), nullable=False),
        sa.Column("published_s", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("role", "version", name=op.f("pk_tuf_metadata")),
    )


def _tuf_staged() -> None:
    op.create_table(
        "tuf_staged",
        sa.Column("role", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("bytes", sa.LargeBinary(), nullable=False),
        sa.Column("context", sa.JSON(), nullable=False),
        sa.Column("staged_s", sa.Float(), nullable=False),
        sa.Column("staged_by", sa.String(length=63), nullable=False),
        sa.PrimaryKeyConstraint("role", name=op.f("pk_tuf_staged")),
    )


def _assignments() -> None:
    op.create_table(
        "assignments",
        sa.Column("device_id", sa.String(length=63), nullable=False),
        sa.Column("model", sa.String(length=63), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("bundle_sha256", sa.String(length=64), nullable=False),
        sa.Column("bundle_bytes", sa.BigInteger(), nullable=False),
        sa.Column("counter", sa.BigInteger(), nullable=False),
        sa.Column("bake_s", sa.Integer(), nullable=False),
        sa.Column("issued_s", sa.Float(), nullable=False),
        sa.Column("expires_s", sa.Float(), nullable=False),
        sa.Column("deployment_id", sa.String(length=32), nullable=False),
        sa.Column("published_s", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(["device_id"], ["devices.device_id"], name=op.f("fk_assignments_device_id")),
        sa.PrimaryKeyConstraint("device_id", "model", name=op.f("pk_assignments")),
    )
    op.create_index(op.f("ix_assignments_deployment_id"), "assignments", ["deployment_id"], unique=False)
    op.create_index("ix_assignments_model_version", "assignments", ["model", "version"], unique=False)
    op.create_index("ix_assignments_published_s", "assignments", ["published_s"], unique=False)


def _datasets() -> None:
    op.create_table(
        "datasets",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("created_s", sa.Float(), nullable=False),
        sa.Column("created_by", sa.String(length=63), nullable=False),
        sa.ForeignKeyConstraint(["sha256"], ["blobs.sha256"], name=op.f("fk_datasets_sha256")),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_datasets")),
    )


def _versions() -> None:
    op.create_table(
        "versions",
        sa.Column("model", sa.String(length=63), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("bundle_sha256", sa.String(length=64), nullable=False),
        sa.Column("bundle_bytes", sa.BigInteger(), nullable=False),
        sa.Column("manifest", sa.Text(), nullable=False),
        sa.Column("card", sa.Text(), nullable=False),
        sa.Column("parent_version", sa.Integer(), nullable=True),
        sa.Column("created_s", sa.Float(), nullable=False),
        sa.Column("created_by", sa.String(length=63), nullable=False),
        sa.Column("approved_s", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(["bundle_sha256"], ["blobs.sha256"], name=op.f("fk_versions_bundle_sha256")),
        sa.ForeignKeyConstraint(["model"], ["models.model"], name=op.f("fk_versions_model")),
        sa.PrimaryKeyConstraint("model", "version", name=op.f("pk_versions")),
        sa.UniqueConstraint("model", "bundle_sha256", name=op.f("uq_versions_model_bundle_sha256")),
    )
