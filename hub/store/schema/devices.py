"""Devices: who they are, how they do, what they reported. The hot row (`device_status`) stands apart from the
identity, so that check-ins never contend with administration."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Column, Float, ForeignKey, Index, Integer, LargeBinary, String, Table

from hub.store.hashing import hash31
from hub.store.schema.base import DIGEST, ID, metadata
from shared.software_version import KEY_CHARS

__all__ = [
    "device_certificates",
    "device_epochs",
    "device_events",
    "device_models",
    "device_status",
    "device_tags",
    "devices",
    "enrolment_tokens",
    "install_reports",
]


def _hash31(context: Any) -> int:
    return hash31(context.get_current_parameters()["device_id"])


enrolment_tokens = Table(
    "enrolment_tokens",
    metadata,
    Column("token_id", String(32), primary_key=True),
    Column("secret_sha256", DIGEST, nullable=False, unique=True),
    Column("device_id", ID),  # fixed id, or NULL: the device may wish
    Column("hardware_id", String(128)),  # pre-authorised hardware, or NULL: any
    Column("profile", String(63)),
    Column("tags", JSON, nullable=False),
    Column("created_s", Float, nullable=False),
    Column("created_by", String(63), nullable=False),
    Column("expires_s", Float, nullable=False),
    Column("used_s", Float),
    Column("used_by", ID),
    Column("used_key_sha256", DIGEST),  # of the public key: the same device may ask again when it lost the answer
)

devices = Table(
    "devices",
    metadata,
    Column("device_id", ID, primary_key=True),
    Column("status", String(16), nullable=False),  # active | revoked; nearly all are active, so no index
    Column("profile", String(63), nullable=False, index=True),
    Column("hardware_id", String(128), nullable=False),
    Column("enrolled_s", Float, nullable=False),
    Column("revoked_s", Float),
    Column("inventory", JSON),
    Column("inventory_s", Float),
    # What filters ask of the inventory; NULL: not said, or no version. The keys sort as `shared.software_version` says.
    Column("agent_version", String(128)),
    Column("agent_version_key", String(KEY_CHARS), index=True),
    Column("runtime", String(128)),
    Column("runtime_version", String(128)),
    Column("runtime_version_key", String(KEY_CHARS)),
    Column("arch", String(128)),
    Column("os", String(128)),
    Column("python", String(128)),
    Column("python_key", String(KEY_CHARS)),
    Column("cpu_count", BigInteger),
    Column("memory_bytes", BigInteger),
    Column("storage_bytes", BigInteger),
    Column("assignment_counter", BigInteger, nullable=False, default=0),
    Column("desired_revision", BigInteger, nullable=False, default=0),
    Column("published_revision", BigInteger, nullable=False, default=0),  # behind desired_revision: still to be sent
    Column("hash31", BigInteger, nullable=False, default=_hash31, server_default="0"),  # its place in every wave
)
Index(  # what is still to be sent, found without looking at all that was sent
    "ix_devices_unsent",
    devices.c.device_id,
    sqlite_where=devices.c.desired_revision > devices.c.published_revision,
    postgresql_where=devices.c.desired_revision > devices.c.published_revision,
)

device_certificates = Table(
    "device_certificates",
    metadata,
    Column("fingerprint", DIGEST, primary_key=True),  # sha256 of the DER
    Column("device_id", ID, ForeignKey("devices.device_id"), nullable=False, index=True),
    Column("serial", String(64), nullable=False, unique=True),
    Column("issued_s", Float, nullable=False),
    Column("not_after_s", Float, nullable=False),
    Column("superseded_s", Float),
    Column("public_key", LargeBinary),  # SubjectPublicKeyInfo (DER); NULL: issued by a hub that did not keep it
)

device_tags = Table(
    "device_tags",
    metadata,
    Column("device_id", ID, ForeignKey("devices.device_id"), primary_key=True),
    Column("key", String(32), primary_key=True),
    Column("value", String(128), nullable=False),
    Index("ix_device_tags_key_value", "key", "value"),
)

device_status = Table(
    "device_status",
    metadata,
    Column("device_id", ID, ForeignKey("devices.device_id"), primary_key=True),
    Column("last_seen_s", Float, nullable=False),
    Column("epoch", String(16), nullable=False),
    Column("watermark", BigInteger, nullable=False),
    Column("heartbeat", JSON),
    Column("heartbeat_s", Float),
    # what filters ask of the heartbeat
    Column("disk_free_bytes", BigInteger),
    Column("rss_bytes", BigInteger),
    Column("cpu_percent", Float),
    Column("outbox_count", BigInteger),
    Column("messages", BigInteger, nullable=False, default=0),
    Column("dropped", BigInteger, nullable=False, default=0),
    Column("malformed", BigInteger, nullable=False, default=0),
    Index("ix_device_status_last_seen_s", "last_seen_s"),
)

device_epochs = Table(  # outbox epochs that a device has left: a replay of one is never taken for a new start
    "device_epochs",
    metadata,
    Column("device_id", ID, ForeignKey("devices.device_id"), primary_key=True),
    Column("epoch", String(16), primary_key=True),
    Column("watermark", BigInteger, nullable=False),
    Column("retired_s", Float, nullable=False),
)

device_models = Table(
    "device_models",
    metadata,
    Column("device_id", ID, ForeignKey("devices.device_id"), primary_key=True),
    Column("model", ID, primary_key=True),
    Column("version", Integer),  # what serves now, by the device's own word
    Column("bundle_sha256", DIGEST),
    Column("previous_version", Integer),  # what a rollback on the device would give
    Column("state", String(32), nullable=False),
    Column("target_version", Integer),  # what the last report was about
    Column("counter", BigInteger, nullable=False, default=0),
    Column("served_counter", BigInteger, nullable=False, default=0, server_default="0"),  # the last that went live
    Column("reason_code", String(64), nullable=False, default=""),
    Column("reason", String(500), nullable=False, default=""),
    Column("requests", BigInteger, nullable=False, default=0),
    Column("errors", BigInteger, nullable=False, default=0),
    Column("latency_p50_us", BigInteger, nullable=False, default=0),
    Column("latency_p99_us", BigInteger, nullable=False, default=0),
    Column("bytes_downloaded", BigInteger),  # over the network, for what the last report was about
    Column("updated_s", Float, nullable=False),
    Index("ix_device_models_model_version", "model", "version"),
)

install_reports = Table(
    "install_reports",
    metadata,
    Column("device_id", ID, ForeignKey("devices.device_id"), primary_key=True),
    Column("epoch", String(16), primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("model", ID, nullable=False),
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
    Column("device_id", ID, ForeignKey("devices.device_id"), primary_key=True),
    Column("epoch", String(16), primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("code", String(64), nullable=False),
    Column("severity", String(16), nullable=False),
    Column("message", String(500), nullable=False),
    Column("model", ID),
    Column("count", BigInteger, nullable=False),
    Column("device_s", Float, nullable=False),
    Column("received_s", Float, nullable=False),
)
