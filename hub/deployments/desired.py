"""Desired states: a device's assignments, signed, as one document with a revision.

Signing happens here, at publication, and not when something is assigned: a deployment to a large fleet stays one
statement. Counter and expiry are the row's, so the same revision says the same thing each time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec
from msgspec import UNSET, UnsetType

from hub.store import assignments as store
from hub.store.assignments import AssignmentRow, DeviceDesire
from hub.store.database import Database
from hub.tracing.spans import traceparent_of
from hub.trust.names import target_path
from shared.clock import Clock
from shared.errors import NotFound
from shared.wire.down import CONDITIONAL_SCHEMA, Assignment, DesiredState, Mode, ShadowRun, Window

__all__ = ["Conditions", "DesiredStates", "Signing"]

_MODES: Mapping[str, Mode | UnsetType] = {"live": UNSET, "hold": "hold", "shadow": "shadow"}


class Conditions(msgspec.Struct, frozen=True, kw_only=True):
    """What an assignment may be bound to; kept with it as JSON."""

    window: Window | UnsetType = UNSET
    shadow: ShadowRun | UnsetType = UNSET


_CONDITIONS = msgspec.json.Decoder(Conditions)


class Signing(Protocol):
    """Who signs (`hub.trust.repository.TrustRepository`)."""

    def assignment_signer(self) -> Signer:
        """A signer for a batch."""
        ...


class Signer(Protocol):
    """Signs assignments."""

    def sign(self, assignment: Assignment) -> bytes:
        """The DSSE envelope."""
        ...


class DesiredStates:
    """Builds desired states and remembers which were sent."""

    def __init__(self, db: Database, clock: Clock, signing: Signing, *, traced: bool = False) -> None:
        """traced: each assignment goes with a traceparent."""
        self._traced = traced
        self._db = db
        self._clock = clock
        self._signing = signing

    def revision(self, device_id: str) -> int:
        """The revision of a device's desired state, without signing anything; error `device.not_found`."""
        with self._db.read() as connection:
            revision = store.revision_of(connection, device_id)
        if revision is None:
            raise _not_found(device_id)
        return revision

    def desired_state(self, device_id: str) -> DesiredState:
        """What a device should have now; error `device.not_found`."""
        with self._db.read() as connection:
            found = store.desires_of(connection, [device_id])
        if not found:
            raise _not_found(device_id)
        return self._signed(found)[0]

    def signed_assignments(self, device_id: str) -> list[tuple[Assignment, bytes]]:
        """Each assignment of a device with its envelope, for a folder that is carried to it; `device.not_found`."""
        with self._db.read() as connection:
            found = store.desires_of(connection, [device_id])
        if not found:
            raise _not_found(device_id)
        assignments = [_assignment(device_id, row) for row in found[0].assignments]
        if not assignments:
            return []
        signer = self._signing.assignment_signer()
        return [(assignment, signer.sign(assignment)) for assignment in assignments]

    def pending_publications(self, limit: int) -> Sequence[DesiredState]:
        """Desired states that were not sent since they changed, at most `limit`."""
        with self._db.read() as connection:
            pending = store.desires_of(connection, store.pending_publications(connection, limit))
        return self._signed(pending) if pending else []

    def mark_published(self, states: Sequence[DesiredState]) -> None:
        """These were sent. One whose device has another revision by now is pending, even if that was sent before."""
        with self._db.write_rows() as connection:
            revisions = {state.device_id: state.revision for state in states}
            store.mark_published(connection, revisions, self._clock.now())

    def republish_all(self) -> int:
        """Send everything again, because the broker lost what it kept; returns how many devices."""
        with self._db.write() as connection:
            return store.republish_all(connection)

    def _signed(self, desires: Sequence[DeviceDesire]) -> list[DesiredState]:
        if not any(desire.assignments for desire in desires):
            return [DesiredState(device_id=desire.device_id, revision=desire.revision) for desire in desires]
        signer = self._signing.assignment_signer()
        return [
            DesiredState(
                device_id=desire.device_id,
                revision=desire.revision,
                assignments=[signer.sign(_assignment(desire.device_id, row)) for row in desire.assignments],
                traceparents=_traceparents(desire) if self._traced else UNSET,
            )
            for desire in desires
        ]


def _traceparents(desire: DeviceDesire) -> dict[str, str] | UnsetType:
    found = {
        row.model: traceparent_of(row.deployment_id, desire.device_id, row.model, row.counter)
        for row in desire.assignments
        if row.deployment_id
    }
    return found or UNSET


def _not_found(device_id: str) -> NotFound:
    return NotFound("device.not_found", f"There is no active device {device_id!r:.80}.")


def _assignment(device_id: str, row: AssignmentRow) -> Assignment:
    terms = _CONDITIONS.decode(row.conditions) if row.conditions else Conditions()
    conditional = row.mode != "live" or row.conditions != ""
    return Assignment(
        schema_version=CONDITIONAL_SCHEMA if conditional else 1,
        device_id=device_id,
        model=row.model,
        version=row.version,
        counter=row.counter,
        target=target_path(row.model, row.version),
        bundle_sha256=row.bundle_sha256,
        bundle_bytes=row.bundle_bytes,
        issued_s=row.issued_s,
        expires_s=row.expires_s,
        bake_s=row.bake_s,
        deployment=row.deployment_id,
        mode=_MODES[row.mode],
        shadow=terms.shadow,
        window=terms.window,
    )
