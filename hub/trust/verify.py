"""Would a client accept this? python-tuf's own client rules, run over bytes before anything is published.

The check starts at the root that clients trust now, so a new root must chain from it. Time is read once, by the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

from tuf.api.exceptions import RepositoryError
from tuf.ngclient._internal.trusted_metadata_set import TrustedMetadataSet
from tuf.ngclient.config import EnvelopeType

from shared.errors import Untrusted

__all__ = ["Candidate", "check_candidate"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Candidate:
    """The repository as it would be. `releases` are the delegated roles to check, by role name."""

    trusted_root: bytes
    new_root: bytes | None
    timestamp: bytes
    snapshot: bytes
    targets: bytes
    releases: Mapping[str, bytes]


def check_candidate(candidate: Candidate, now_s: float) -> None:
    """Return if a client would accept all of it at `now_s`; else `trust.would_be_refused`, `detail.role` says where."""
    trusted = _step("root", lambda: TrustedMetadataSet(candidate.trusted_root, EnvelopeType.METADATA))
    trusted.reference_time = datetime.fromtimestamp(now_s, tz=UTC)
    if (new_root := candidate.new_root) is not None:
        _step("root", lambda: trusted.update_root(new_root))
    _step("timestamp", lambda: trusted.update_timestamp(candidate.timestamp))
    _step("snapshot", lambda: trusted.update_snapshot(candidate.snapshot))
    _step("targets", lambda: trusted.update_targets(candidate.targets))
    for role, data in candidate.releases.items():
        _step(role, partial(trusted.update_delegated_targets, data, role, "targets"))


def _step(role: str, action: Callable[[], T]) -> T:
    try:
        return action()
    except (RepositoryError, ValueError) as error:
        raise Untrusted(
            "trust.would_be_refused",
            f"Clients would refuse the {role} metadata: {error}.",
            detail={"role": role},
        ) from error
