"""Whether an assignment is genuine, for this device, new, and in agreement with the signed release.

Order: length, signature over the received bytes, parse, device, target path, counter, expiry, release. What fails up to
and including the counter may come from anybody: it is not this device's business and changes nothing. What fails
later is the hub's own assignment and ends as a failed installation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from securesystemslib.signer import Key

from shared import canonical, dsse, limits
from shared.errors import InvalidInput, Untrusted
from shared.wire.down import ASSIGNMENT_PAYLOAD_TYPE, CONDITIONAL_SCHEMA, Assignment

__all__ = [
    "Release",
    "check_counter",
    "check_fresh",
    "check_release",
    "open_assignment",
]


@dataclass(frozen=True, slots=True)
class Release:
    """What the release metadata says of a target: its length in bytes and SHA-256."""

    target: str
    bytes: int
    sha256: str


def open_assignment(envelope: bytes, keys: Mapping[str, Key], device_id: str) -> Assignment:
    """The assignment in a DSSE envelope, if one of `keys` signed it for this device.

    Errors: `dsse.*`, `assignment.malformed`, `assignment.other_device`, `assignment.target`.
    """
    payload = dsse.verify(envelope, ASSIGNMENT_PAYLOAD_TYPE, keys, limits.MAX_ASSIGNMENT_BYTES)
    try:
        assignment = canonical.loads_as(payload, Assignment, limit=limits.MAX_ASSIGNMENT_BYTES, what="assignment")
    except InvalidInput as error:
        raise InvalidInput("assignment.malformed", error.message) from error
    if assignment.schema_version not in (1, CONDITIONAL_SCHEMA):
        raise InvalidInput("assignment.malformed", "The assignment is of a schema that this agent does not know.")
    if assignment.device_id != device_id:
        raise Untrusted("assignment.other_device", f"The assignment is for {assignment.device_id}, not this device.")
    expected = f"{assignment.model}/{assignment.version}.bundle"
    if assignment.target != expected:
        raise Untrusted("assignment.target", f"The assignment names {assignment.target!r:.80} instead of {expected}.")
    return assignment


def check_counter(assignment: Assignment, floor: int) -> None:
    """Refuse what is not newer than the highest counter accepted for the model; error `assignment.replayed`."""
    if assignment.counter <= floor:
        raise Untrusted(
            "assignment.replayed",
            f"The assignment's counter {assignment.counter} is not above {floor}, which was accepted before.",
        )


def check_fresh(assignment: Assignment, now_s: float) -> None:
    """Refuse to start what has expired by `now_s`, the trusted time; error `assignment.expired`."""
    if now_s >= assignment.expires_s:
        raise Untrusted(
            "assignment.expired",
            f"The assignment of version {assignment.version} expired before its installation began.",
            hint="Deploy again; if this repeats, check the device's clock.",
        )


def check_release(assignment: Assignment, release: Release | None) -> None:
    """Require that reviewers released exactly the assigned bytes.

    Errors: `release.not_approved`, `release.mismatch`.
    """
    if release is None:
        raise Untrusted(
            "release.not_approved",
            f"Version {assignment.version} of {assignment.model} is not released by its reviewers.",
            hint="Have enough reviewers sign it with `skerry versions sign`.",
        )
    named = (assignment.target, assignment.bundle_bytes, assignment.bundle_sha256)
    if (release.target, release.bytes, release.sha256) != named:
        raise Untrusted(
            "release.mismatch",
            f"The assignment of {assignment.target} names other bytes than the reviewers signed.",
            hint="Somebody may hold the hub's online key: check the audit log.",
        )
