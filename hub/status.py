"""The fleet's status in one answer: who is there, what serves where, what fails and why."""

from __future__ import annotations

from dataclasses import dataclass

from hub.store import deployments, status
from hub.store.database import Database
from hub.store.deployments import DeploymentRow
from hub.store.page import PageRequest
from hub.store.status import DeviceCounts, InstallFailure, ProfileCounts, VersionCounts
from shared.clock import Clock

__all__ = ["FleetStatus", "FleetSummary"]

_FAILURES_COUNT = 50
_RECENT_COUNT = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetSummary:
    """All of it, at `at_s`. `requests` and `errors` as the devices reported them, over all models."""

    at_s: float
    devices: DeviceCounts
    profiles: list[ProfileCounts]
    versions: list[VersionCounts]
    failures: list[InstallFailure]
    requests: int
    errors: int
    deployments: list[DeploymentRow]


class FleetStatus:
    """Counts. A device is online if it was heard of within `offline_after_s`."""

    def __init__(self, db: Database, clock: Clock, offline_after_s: float) -> None:
        self._db = db
        self._clock = clock
        self._offline_after_s = offline_after_s

    def summary(self) -> FleetSummary:
        """The numbers now, all of one moment."""
        now_s = self._clock.now()
        since_s = now_s - self._offline_after_s
        with self._db.read() as connection:
            versions = status.version_counts(connection)
            return FleetSummary(
                at_s=now_s,
                devices=status.device_counts(connection, since_s),
                profiles=status.profile_counts(connection, since_s),
                versions=versions,
                failures=status.install_failures(connection, _FAILURES_COUNT),
                requests=sum(row.requests for row in versions),
                errors=sum(row.errors for row in versions),
                deployments=deployments.list_deployments(connection, PageRequest(limit=_RECENT_COUNT))[:_RECENT_COUNT],
            )
