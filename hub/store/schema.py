"""All tables. SQLite (WAL) and PostgreSQL from the same definitions; migrations are in `hub/store/migrations`.

Times are seconds since 1970 (`_s`, REAL). JSON is canonical text in a TEXT column where its bytes are hashed or
signed, and `JSON` where it is only shown. The hot row of a device (`device_status`) stands apart from its identity,
so that check-ins never contend with administration.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)
_ID = String(63)
_DIGEST = String(64)

# --- people ---------------------------------------------------------------------------------------------------------
api_tokens = Table(
    "api_tokens",
    metadata,
    Column("token_id", String(32), primary_key=True),
    Column("secret_sha256", _DIGEST, nullable=False, unique=True),
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
    Column("previous_hash", _DIGEST, nullable=False),
    Column("hash", _DIGEST, nullable=False),
)

# --- devices --------------------------------------------------------------------------------------------------------
enrolment_tokens = Table(
    "enrolment_tokens",
    metadata,
    Column("token_id", String(32), primary_key=True),
    Column("secret_sha256", _DIGEST, nullable=False, unique=True),
    Column("device_id", _ID),  # fixed id, or NULL: the device may wish
    Column("hardware_id", String(128)),  # pre-authorised hardware, or NULL: any
    Column("profile", String(63)),
    Column("tags", JSON, nullable=False),
    Column("created_s", Float, nullable=False),
    Column("created_by", String(63), nullable=False),
    Column("expires_s", Float, nullable=False),
    Column("used_s", Float),
    Column("used_by", _ID),
    Column("used_key_sha256", _DIGEST),  # of the public key: the same device may ask again when it lost the answer
)

devices = Table(
    "devices",
    metadata,
    Column("device_id", _ID, primary_key=True),
    Column("status", String(16), nullable=False, index=True),  # active | revoked
    Column("profile", String(63), nullable=False, index=True),
    Column("hardware_id", String(128), nullable=False),
    Column("enrolled_s", Float, nullable=False),
    Column("revoked_s", Float),
    Column("inventory", JSON),
    Column("inventory_s", Float),
    Column("assignment_counter", BigInteger, nullable=False, default=0),
    Column("desired_revision", BigInteger, nullable=False, default=0),
    Column("published_revision", BigInteger, nullable=False, default=0),  # behind desired_revision: still to be sent
)

device_certificates = Table(
    "device_certificates",
    metadata,
    Column("fingerprint", _DIGEST, primary_key=True),  # sha256 of the DER
    Column("device_id", _ID, ForeignKey("devices.device_id"), nullable=False, index=True),
    Column("serial", String(64), nullable=False, unique=True),
    Column("issued_s", Float, nullable=False),
    Column("not_after_s", Float, nullable=False),
    Column("superseded_s", Float),
)

device_tags = Table(
    "device_tags",
    metadata,
    Column("device_id", _ID, ForeignKey("devices.device_id"), primary_key=True),
    Column("key", String(32), primary_key=True),
    Column("value", String(128), nullable=False),
    Index("ix_device_tags_key_value", "key", "value"),
)

device_status = Table(
    "device_status",
    metadata,
    Column("device_id", _ID, ForeignKey("devices.device_id"), primary_key=True),
    Column("last_seen_s", Float, nullable=False),
    Column("epoch", String(16), nullable=False),
    Column("watermark", BigInteger, nullable=False),
    Column("heartbeat", JSON),
    Column("heartbeat_s", Float),
    Column("messages", BigInteger, nullable=False, default=0),
    Column("dropped", BigInteger, nullable=False, default=0),
    Column("malformed", BigInteger, nullable=False, default=0),
    Index("ix_device_status_last_seen_s", "last_seen_s"),
)

device_epochs = Table(  # outbox epochs that a device has left: a replay of one is never taken for a new start
    "device_epochs",
    metadata,
    Column("device_id", _ID, ForeignKey("devices.device_id"), primary_key=True),
    Column("epoch", String(16), primary_key=True),
    Column("watermark", BigInteger, nullable=False),
    Column("retired_s", Float, nullable=False),
)

device_models = Table(
    "device_models",
    metadata,
    Column("device_id", _ID, ForeignKey("devices.device_id"), primary_key=True),
    Column("model", _ID, primary_key=True),
    Column("version", Integer),  # what serves now, by the device's own word
    Column("bundle_sha256", _DIGEST),
    Column("previous_version", Integer),  # what a rollback on the device would give
    Column("state", String(32), nullable=False),
    Column("target_version", Integer),  # what the last report was about
    Column("counter", BigInteger, nullable=False, default=0),
    Column("reason_code", String(64), nullable=False, default=""),
    Column("reason", String(500), nullable=False, default=""),
    Column("requests", BigInteger, nullable=False, default=0),
    Column("errors", BigInteger, nullable=False, default=0),
    Column("latency_p50_us", BigInteger, nullable=False, default=0),
    Column("latency_p99_us", BigInteger, nullable=False, default=0),
    Column("updated_s", Float, nullable=False),
    Index("ix_device_models_model_version", "model", "version"),
)

install_reports = Table(
    "install_reports",
    metadata,
    Column("device_id", _ID, ForeignKey("devices.device_id"), primary_key=True),
    Column("epoch", String(16), primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("model", _ID, nullable=False),
    Column("version", Integer, nullable=False),
    Column("counter", BigInteger, nullable=False),
    Column("previous", String(32), nullable=False),
    Column("state", String(32), nullable=False),
    Column("event", String(32), nullable=False),
    Column("reason_code", String(64), nullable=False),
    Column("reason", String(500), nullable=False),
    Column("device_s", Float, nullable=False),
    Column("received_s", Float, nullable=False),
    Index("ix_install_reports_model_version", "model", "version"),
)

device_events = Table(
    "device_events",
    metadata,
    Column("device_id", _ID, ForeignKey("devices.device_id"), primary_key=True),
    Column("epoch", String(16), primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("code", String(64), nullable=False),
    Column("severity", String(16), nullable=False),
    Column("message", String(500), nullable=False),
    Column("model", _ID),
    Column("count", BigInteger, nullable=False),
    Column("device_s", Float, nullable=False),
    Column("received_s", Float, nullable=False),
)

# --- registry -------------------------------------------------------------------------------------------------------
blobs = Table(
    "blobs",
    metadata,
    Column("sha256", _DIGEST, primary_key=True),
    Column("bytes", BigInteger, nullable=False),
    Column("kind", String(16), nullable=False),  # bundle | dataset
    Column("created_s", Float, nullable=False),
    Column("collected_s", Float),  # set: the bytes were removed by garbage collection, the row stays as evidence
)

datasets = Table(
    "datasets",
    metadata,
    Column("sha256", _DIGEST, ForeignKey("blobs.sha256"), primary_key=True),
    Column("name", String(128), nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("created_s", Float, nullable=False),
    Column("created_by", String(63), nullable=False),
)

models = Table(
    "models",
    metadata,
    Column("model", _ID, primary_key=True),
    Column("description", String(500), nullable=False),
    Column("gate", JSON, nullable=False),  # the gate policy as data
    Column("bake_s", Integer, nullable=False),
    Column("created_s", Float, nullable=False),
    Column("created_by", String(63), nullable=False),
)

versions = Table(
    "versions",
    metadata,
    Column("model", _ID, ForeignKey("models.model"), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("status", String(16), nullable=False),  # registered | gated | approved | rejected | withdrawn
    Column("bundle_sha256", _DIGEST, ForeignKey("blobs.sha256"), nullable=False),
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
    Column("model", _ID, nullable=False),
    Column("version", Integer, nullable=False),
    Column("dataset_sha256", _DIGEST, nullable=False),
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
    Column("model", _ID, nullable=False),
    Column("alias", String(32), nullable=False),
    Column("version", Integer),  # NULL: the alias was taken away
    Column("at_s", Float, nullable=False),
    Column("by", String(63), nullable=False),
    Column("reason", String(500), nullable=False),
    Index("ix_alias_history_model_alias", "model", "alias"),
)

# --- trust ----------------------------------------------------------------------------------------------------------
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
    Column("sha256", _DIGEST, primary_key=True),
    Column("path", String(128), primary_key=True),  # a target of the top-level role, e.g. the assignment keys
    Column("bytes", LargeBinary, nullable=False),
    Column("added_s", Float, nullable=False),
)

# --- deployments ----------------------------------------------------------------------------------------------------
deployments = Table(
    "deployments",
    metadata,
    Column("deployment_id", String(32), primary_key=True),
    Column("model", _ID, nullable=False),
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
    Column("device_id", _ID, ForeignKey("devices.device_id"), primary_key=True),
    Column("model", _ID, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("bundle_sha256", _DIGEST, nullable=False),
    Column("bundle_bytes", BigInteger, nullable=False),
    Column("counter", BigInteger, nullable=False),
    Column("bake_s", Integer, nullable=False),
    Column("issued_s", Float, nullable=False),
    Column("expires_s", Float, nullable=False),
    Column("deployment_id", String(32), nullable=False, index=True),
    Column("published_s", Float),  # NULL: the desired state is still to be sent
    Index("ix_assignments_model_version", "model", "version"),
    Index("ix_assignments_published_s", "published_s"),
)

# --- running --------------------------------------------------------------------------------------------------------
leases = Table(
    "leases",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("holder", String(63), nullable=False),
    Column("expires_s", Float, nullable=False),
)
