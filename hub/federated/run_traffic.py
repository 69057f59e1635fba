"""Bytes of a run by class of link, with what they cost, as people ask for them."""

from __future__ import annotations

from collections.abc import Iterable

from hub.deployments.compatibility import Compatibility
from hub.federated.traffic import LinkTraffic, Moved, by_link
from hub.store import federated, federated_traffic
from hub.store.database import Database
from shared.errors import SkerryError
from shared.profiles import Link

__all__ = ["RunTraffic", "links_of"]


def links_of(profiles: Compatibility, names: Iterable[str]) -> dict[str, Link]:
    """The links of those profiles that the hub knows; the others are told apart by whoever adds up."""
    found: dict[str, Link] = {}
    for name in sorted(set(names)):
        try:
            found[name] = profiles.profile(name).link
        except SkerryError:
            continue
    return found


class RunTraffic:
    """Reads only."""

    def __init__(self, db: Database, profiles: Compatibility) -> None:
        self._db = db
        self._profiles = profiles

    def of_run(self, run_id: str) -> list[LinkTraffic]:
        """What a run has moved over each class of link; error `federated.unknown`."""
        with self._db.read() as connection:
            rows = federated_traffic.traffic_of_run(connection, federated.get_run(connection, run_id).run_no)
        moved = [
            Moved(profile=row.profile, devices=row.devices, bytes_down=row.bytes_down, bytes_up=row.bytes_up)
            for row in rows
        ]
        return by_link(moved, links_of(self._profiles, (row.profile for row in rows)))
