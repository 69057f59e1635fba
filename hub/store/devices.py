"""Devices and their certificates in the database. What a device reports itself is written by the ingest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, bindparam, delete, exists, insert, select, update
from sqlalchemy.exc import IntegrityError

from hub.store.rollout_marks import add_arrivals
from hub.store.schema import device_certificates, device_tags, devices
from shared.errors import Conflict

__all__ = [
    "CertificateRow",
    "DeviceRow",
    "KnownCertificate",
    "certificates_of",
    "find_certificate",
    "find_device",
    "insert_certificate",
    "insert_device",
    "mark_revoked",
    "reactivate_device",
    "change_tags",
    "supersede",
    "supersede_before",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRow:
    """The identity of a device. `status`: active or revoked."""

    device_id: str
    status: str
    profile: str
    hardware_id: str
    enrolled_s: float
    revoked_s: float | None
    inventory: dict[str, Any] | None
    inventory_s: float | None
    assignment_counter: int
    desired_revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateRow:
    """One certificate that was issued to a device. `fingerprint`: SHA-256 of the DER, in hex.

    public_key: SubjectPublicKeyInfo (DER); None: issued by a hub that did not keep it.
    """

    fingerprint: str
    device_id: str
    serial: str
    issued_s: float
    not_after_s: float
    superseded_s: float | None
    public_key: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownCertificate:
    """What one look-up says about a connection. `replaces`: an older certificate of the device is still valid."""

    device_id: str
    status: str
    issued_s: float
    not_after_s: float
    superseded_s: float | None
    replaces: bool


_IDENTITY = [devices.c[field.name] for field in fields(DeviceRow)]


def _known_certificate() -> Select[tuple[str, str, float, float, float | None, bool]]:
    mine, older = device_certificates, device_certificates.alias("older")
    replaces = exists().where(
        older.c.device_id == mine.c.device_id, older.c.superseded_s.is_(None), older.c.issued_s < mine.c.issued_s
    )
    return (
        select(
            mine.c.device_id,
            devices.c.status,
            mine.c.issued_s,
            mine.c.not_after_s,
            mine.c.superseded_s,
            replaces.label("replaces"),
        )
        .join(devices, devices.c.device_id == mine.c.device_id)
        .where(mine.c.fingerprint == bindparam("fingerprint"))
    )


_KNOWN = _known_certificate()  # built once: it runs with each request of a device, and building costs more than running


def _device(row: Row[Any]) -> DeviceRow:
    return DeviceRow(**row._mapping)


def _certificate(row: Row[Any]) -> CertificateRow:
    return CertificateRow(**row._mapping)


def find_device(connection: Connection, device_id: str) -> DeviceRow | None:
    """The device, whatever its status."""
    row = connection.execute(select(*_IDENTITY).where(devices.c.device_id == device_id)).one_or_none()
    return None if row is None else _device(row)


def insert_device(connection: Connection, *, device_id: str, profile: str, hardware_id: str, now_s: float) -> None:
    """A new active device; `Conflict` (`device.exists`) when another transaction was first."""
    values = insert(devices).values(
        device_id=device_id, status="active", profile=profile, hardware_id=hardware_id, enrolled_s=now_s
    )
    try:
        connection.execute(values)
        add_arrivals(connection, [device_id])
    except IntegrityError as error:
        raise Conflict(
            "device.exists",
            f"There is a device {device_id} already.",
            hint="Choose another id, or use a token that names this device: `skerry devices token --device ID`.",
        ) from error


def reactivate_device(connection: Connection, *, device_id: str, profile: str, hardware_id: str, now_s: float) -> None:
    """An existing device enrols again: active, with nothing but its new certificate (the caller issues it)."""
    connection.execute(
        update(devices)
        .where(devices.c.device_id == device_id)
        .values(status="active", profile=profile, hardware_id=hardware_id, enrolled_s=now_s, revoked_s=None)
    )
    connection.execute(
        update(device_certificates)
        .where(device_certificates.c.device_id == device_id, device_certificates.c.superseded_s.is_(None))
        .values(superseded_s=now_s)
    )
    add_arrivals(connection, [device_id])


def mark_revoked(connection: Connection, device_id: str, now_s: float) -> bool:
    """Revoke an active device; False when it was not active."""
    done = connection.execute(
        update(devices)
        .where(devices.c.device_id == device_id, devices.c.status == "active")
        .values(status="revoked", revoked_s=now_s)
    )
    add_arrivals(connection, [device_id])
    return done.rowcount == 1


def find_certificate(connection: Connection, fingerprint: str) -> KnownCertificate | None:
    """Certificate, device and whether older certificates are to be superseded: one indexed query per connection."""
    row = connection.execute(_KNOWN, {"fingerprint": fingerprint}).one_or_none()
    return None if row is None else KnownCertificate(**{**row._mapping, "replaces": bool(row.replaces)})


def certificates_of(connection: Connection, device_id: str) -> list[CertificateRow]:
    """Every certificate of a device, oldest first."""
    query = select(device_certificates).where(device_certificates.c.device_id == device_id)
    return [_certificate(row) for row in connection.execute(query.order_by(device_certificates.c.issued_s))]


def insert_certificate(connection: Connection, certificate: CertificateRow) -> None:
    """Remember a certificate that was issued."""
    connection.execute(
        insert(device_certificates).values(
            fingerprint=certificate.fingerprint,
            device_id=certificate.device_id,
            serial=certificate.serial,
            issued_s=certificate.issued_s,
            not_after_s=certificate.not_after_s,
            public_key=certificate.public_key,
        )
    )


def supersede_before(connection: Connection, device_id: str, issued_s: float, now_s: float) -> int:
    """The device has used a newer certificate: those issued before it end. Returns how many."""
    done = connection.execute(
        update(device_certificates)
        .where(
            device_certificates.c.device_id == device_id,
            device_certificates.c.superseded_s.is_(None),
            device_certificates.c.issued_s < issued_s,
        )
        .values(superseded_s=now_s)
    )
    return done.rowcount


def supersede(connection: Connection, fingerprints: Sequence[str], now_s: float) -> None:
    """End these certificates."""
    connection.execute(
        update(device_certificates)
        .where(device_certificates.c.fingerprint.in_(fingerprints))
        .values(superseded_s=now_s)
    )


def change_tags(connection: Connection, device_id: str, changes: Mapping[str, str | None]) -> dict[str, str]:
    """Set tags (None takes one away) and return all that the device has then."""
    mine = device_tags.c.device_id == device_id
    connection.execute(delete(device_tags).where(and_(mine, device_tags.c.key.in_(list(changes)))))
    values = [{"device_id": device_id, "key": key, "value": value} for key, value in changes.items() if value]
    if values:
        connection.execute(insert(device_tags), values)
    add_arrivals(connection, [device_id])
    rows = connection.execute(select(device_tags.c.key, device_tags.c.value).where(mine).order_by(device_tags.c.key))
    return {row.key: row.value for row in rows}
