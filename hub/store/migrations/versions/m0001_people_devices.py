"""People, the audit log, devices and what they report."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables, those that others refer to first."""
    _api_tokens()
    _audit()
    _devices()
    _enrolment_tokens()
    _leases()
    _device_certificates()
    _device_epochs()
    _device_events()
    _device_models()
    _device_status()
    _device_tags()
    _install_reports()


def _api_tokens() -> None:
    op.create_table(
        "api_tokens",
        sa.Column("token_id", sa.String(length=32), nullable=False),
        sa.Column("secret_sha256", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("role", sa.String(length=32), nullable=False),
        sa.Column("scope", sa.JSON(), nullable=False),
        sa.Column("created_s", sa.Float(), nullable=False),
        sa.Column("expires_s", sa.Float(), nullable=False),
        sa.Column("revoked_s", sa.Float(), nullable=True),
        sa.Column("created_by", sa.String(length=63), nullable=False),
        sa.PrimaryKeyConstraint("token_id", name=op.f("pk_api_tokens")),
        sa.UniqueConstraint("secret_sha256", name=op.f("uq_api_tokens_secret_sha256")),
    )


def _audit() -> None:
    op.create_table(
        "audit",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("at_s", sa.Float(), nullable=False),
        sa.Column("actor", sa.String(length=80), nullable=False),
        sa.Column("action", sa.String(length=64), nullable=False),
        sa.Column("subject", sa.String(length=128), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("previous_hash", sa.String(length=64), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_audit")),
    )
    op.create_index(op.f("ix_audit_action"), "audit", ["action"], unique=False)
    op.create_index(op.f("ix_audit_subject"), "audit", ["subject"], unique=False)


def _devices() -> None:
    op.create_table(
        "devices",
        sa.Column("device_id", sa.String(length=63), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("profile", sa.String(length=63), nullable=False),
        sa.Column("hardware_id", sa.String(length=128), nullable=False),
        sa.Column("enrolled_s", sa.Float(), nullable=False),
        sa.Column("revoked_s", sa.Float(), nullable=True),
        sa.Column("inventory", sa.JSON(), nullable=True),
        sa.Column("inventory_s", sa.Float(), nullable=True),
        sa.Column("assignment_counter", sa.BigInteger(), nullable=False),
        sa.Column("desired_revision", sa.BigInteger(), nullable=False),
        sa.Column("published_revision", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("device_id", name=op.f("pk_devices")),
    )
    op.create_index(op.f("ix_devices_profile"), "devices", ["profile"], unique=False)
    op.create_index(op.f("ix_devices_status"), "devices", ["status"], unique=False)


def _enrolment_tokens() -> None:
    op.create_table(
        "enrolment_tokens",
        sa.Column("token_id", sa.String(length=32), nullable=False),
        sa.Column("secret_sha256", sa.String(length=64), nullable=False),
        sa.Column("device_id", sa.String(length=63), nullable=True),
        sa.Column("hardware_id", sa.String(length=128), nullable=True),
        sa.Column("profile", sa.String(length=63), nullable=True),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("created_s", sa.Float(), nullable=False),
        sa.Column("created_by", sa.String(length=63), nullable=False),
        sa.Column("expires_s", sa.Float(), nullable=False),
        sa.Column("used_s", sa.Float(), nullable=True),
        sa.Column("used_by", sa.String(length=63), nullable=True),
        sa.Column("used_key_sha256", sa.String(length=64), nullable=True),
        sa.PrimaryKeyConstraint("token_id", name=op.f("pk_enrolment_tokens")),
        sa.UniqueConstraint("secret_sha256", name=op.f("uq_enrolment_tokens_secret_sha256")),
    )


def _leases() -> None:
    op.create_table(
        "leases",
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("holder", sa.String(length=63), nullable=False),
        sa.Column("expires_s", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_leases")),
    )


def _device_certificates() -> None:
    op.create_table(
        "device_certificates",
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("device_id", sa.String(length=63), nullable=False),
        sa.Column("serial", sa.String(length=64), nullable=False),
        sa.Column("issued_s", sa.Float(), nullable=False),
        sa.Column("not_after_s", sa.Float(), nullable=False),
        sa.Column("superseded_s", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(["device_id"], ["devices.device_id"], name=op.f("fk_device_certificates_device_id")),
        sa.PrimaryKeyConstraint("fingerprint", name=op.f("pk_device_certificates")),
        sa.UniqueConstraint("serial", name=op.f("uq_device_certificates_serial")),
    )
    op.create_index(op.f("ix_device_certificates_device_id"), "device_certificates", ["device_id"], unique=False)


def _device_epochs() -> None:
    op.create_table(
        "device_epochs",
        sa.Column("device_id", sa.String(length=63), nullable=False),
        sa.Column("epoch", sa.String(length=16), nullable=False),
        sa.Column("watermark", sa.BigInteger(), nullable=False),
        sa.Column("retired_s", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["device_id"], ["devices.device_id"], name=op.f("fk_device_epochs_device_id")),
        sa.PrimaryKeyConstraint("device_id", "epoch", name=op.f("pk_device_epochs")),
    )


def _device_events() -> None:
    op.create_table(
        "device_events",
        sa.Column("device_id", sa.String(length=63), nullable=False),
        sa.Column("epoch", sa.String(length=16), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("code", sa.String(length=64), nullable=False),
        sa.Column("severity", sa.String(length=16), nullable=False),
        sa.Column("message", sa.String(length=500), nullable=False),
        sa.Column("model", sa.String(length=63), nullable=True),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("device_s", sa.Float(), nullable=False),
        sa.Column("received_s", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["device_id"], ["devices.device_id"], name=op.f("fk_device_events_device_id")),
        sa.PrimaryKeyConstraint("device_id", "epoch", "seq", name=op.f("pk_device_events")),
    )


def _device_models() -> None:
    op.create_table(
        "device_models",
        sa.Column("device_id", sa.String(length=63), nullable=False),
        sa.Column("model", sa.String(length=63), nullable=False),
        sa.Column("version", sa.Integer(), nullable=True),
        sa.Column("bundle_sha256", sa.String(length=64), nullable=True),
        sa.Column("previous_version", sa.Integer(), nullable=True),
        sa.Column("state", sa.String(length=32), nullable=False),
        sa.Column("target_version", sa.Integer(), nullable=True),
        sa.Column("counter", sa.BigInteger(), nullable=False),
        sa.Column("reason_code", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.String(length=500), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("errors", sa.BigInteger(), nullable=False),
        sa.Column("latency_p50_us", sa.BigInteger(), nullable=False),
        sa.Column("latency_p99_us", sa.BigInteger(), nullable=False),
        sa.Column("updated_s", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["device_id"], ["devices.device_id"], name=op.f("fk_device_models_device_id")),
        sa.PrimaryKeyConstraint("device_id", "model", name=op.f("pk_device_models")),
    )
    op.create_index("ix_device_models_model_version", "device_models", ["model", "version"], unique=False)


def _device_status() -> None:
    op.create_table(
        "device_status",
        sa.Column("device_id", sa.String(length=63), nullable=False),
        sa.Column("last_seen_s", sa.Float(), nullable=False),
        sa.Column("epoch", sa.String(length=16), nullable=False),
        sa.Column("watermark", sa.BigInteger(), nullable=False),
        sa.Column("heartbeat", sa.JSON(), nullable=True),
        sa.Column("heartbeat_s", sa.Float(), nullable=True),
        sa.Column("messages", sa.BigInteger(), nullable=False),
        sa.Column("dropped", sa.BigInteger(), nullable=False),
        sa.Column("malformed", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["device_id"], ["devices.device_id"], name=op.f("fk_device_status_device_id")),
        sa.PrimaryKeyConstraint("device_id", name=op.f("pk_device_status")),
    )
    op.create_index("ix_device_status_last_seen_s", "device_status", ["last_seen_s"], unique=False)


def _device_tags() -> None:
    op.create_table(
        "device_tags",
        sa.Column("device_id", sa.String(length=63), nullable=False),
        sa.Column("key", sa.String(length=32), nullable=False),
        sa.Column("value", sa.String(length=128), nullable=False),
        sa.ForeignKeyConstraint(["device_id"], ["devices.device_id"], name=op.f("fk_device_tags_device_id")),
        sa.PrimaryKeyConstraint("device_id", "key", name=op.f("pk_device_tags")),
    )
    op.create_index("ix_device_tags_key_value", "device_tags", ["key", "value"], unique=False)


def _install_reports() -> None:
    op.create_table(
        "install_reports",
        sa.Column("device_id", sa.String(length=63), nullable=False),
        sa.Column("epoch", sa.String(length=16), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("model", sa.String(length=63), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("counter", sa.BigInteger(), nullable=False),
        sa.Column("previous", sa.String(length=32), nullable=False),
        sa.Column("state", sa.String(length=32), nullable=False),
        sa.Column("event", sa.String(length=32), nullable=False),
        sa.Column("reason_code", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.String(length=500), nullable=False),
        sa.Column("device_s", sa.Float(), nullable=False),
        sa.Column("received_s", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["device_id"], ["devices.device_id"], name=op.f("fk_install_reports_device_id")),
        sa.PrimaryKeyConstraint("device_id", "epoch", "seq", name=op.f("pk_install_reports")),
    )
    op.create_index("ix_install_reports_model_version", "install_reports", ["model", "version"], unique=False)
