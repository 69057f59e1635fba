"""The rollback floor: the highest versions of release metadata that this device ever verified, and when.

Rules: kept in a file of its own, so that losing a metadata file does not lose the floor, and a lost floor is built
again from the metadata files. Versions of timestamp and snapshot (and what the snapshot lists) count only under the
keys that signed them: a root that changes those keys starts them anew, which is how a repository recovers from a
fast-forward attack (TUF specification 5.3.11). `verified_s` is a lower bound of the true time, noted when the
machine had been up for `uptime_s` since the start `boot`; `agent.ota.trusted_time` says how it grows.
"""

from __future__ import annotations

import msgspec

from shared.errors import Untrusted
from shared.wire.types import Count

__all__ = ["Floor", "check", "under_keys"]


class Floor(msgspec.Struct, frozen=True, kw_only=True):
    """Highest verified versions. `keys` names the timestamp's and snapshot's keys that they count under."""

    schema_version: int = 1
    root: Count = 0
    keys: str = ""
    timestamp: Count = 0
    snapshot: Count = 0
    meta: dict[str, Count] = {}
    verified_s: float = 0.0
    uptime_s: float = 0.0
    boot: str = ""


def under_keys(floor: Floor, keys: str) -> Floor:
    """The floor that holds under these keys: unchanged, or without what other keys signed."""
    if floor.keys == keys:
        return floor
    return msgspec.structs.replace(floor, keys=keys, timestamp=0, snapshot=0, meta={})


def check(role: str, version: int, least: int) -> None:
    """Refuse a version below the floor; error `trust.rollback`."""
    if version < least:
        raise Untrusted(
            "trust.rollback",
            f"The repository offers {role} version {version}; this device has verified version {least} before.",
            hint="An old mirror or an attack: the device keeps what it has.",
            retriable=True,
        )
