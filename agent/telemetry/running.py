"""Whether the agent's last run ended as it should, and which versions served when it did not.

Rules:
- A marker file stands while the agent runs and goes with an orderly end. One that is found at a start of the same
  boot of the machine says that the agent died: a crash of every version that the pointers name as active.
- A machine that was switched off or restarted is no crash of a version, because that is how devices in the field end.
- A crash waits in the marker until it is told. It is taken from there first and told then, so that no restart tells it
  twice; a death between the two loses it.
- A disk that cannot be written keeps nothing from serving.
"""

from __future__ import annotations

import logging
from typing import Annotated

import msgspec
from msgspec import Meta

from agent.ota import sealed
from agent.ota.slots import Slots
from agent.ota.trusted_time import system_uptime
from agent.paths import AgentPaths
from shared import durable, ids, limits
from shared.errors import InvalidInput, NotFound, SkerryError
from shared.wire.types import ModelName, Version

__all__ = ["Crash", "RunMarker"]

_LOG = logging.getLogger(__name__)
_MAX_COUNT = 10**6


class Crash(msgspec.Struct, frozen=True, kw_only=True):
    """How often the agent died while a version served."""

    model: ModelName
    version: Version
    count: Annotated[int, Meta(ge=1, le=_MAX_COUNT)] = 1


class _Marker(msgspec.Struct, frozen=True, kw_only=True):
    """boot: the machine's name for its start; empty: the agent is not running. crashes: not told yet."""

    schema_version: int = 1
    boot: str = ""
    crashes: Annotated[list[Crash], Meta(max_length=limits.MAX_HEALTH_VERSIONS_COUNT)] = []


class RunMarker:
    """The marker of one state folder."""

    def __init__(self, paths: AgentPaths, boot: str | None = None) -> None:
        """`boot`: the machine's name for its start; by default the kernel's."""
        self._paths = paths
        self._boot = system_uptime().boot if boot is None else boot
        self._marker = _Marker()

    def begin(self) -> None:
        """The agent starts: note what the last end was, and that it runs. To be called before anything is loaded."""
        found = self._read()
        crashes = list(found.crashes)
        if found.boot and found.boot == self._boot:
            crashes = _added(crashes, self._active())
        self._save(_Marker(boot=self._boot, crashes=crashes))

    def take(self) -> list[Crash]:
        """The crashes that are to be told now; each is given once. Nothing while the disk cannot be written."""
        crashes = self._marker.crashes
        if crashes and not self._save(_Marker(boot=self._boot)):
            return []
        return crashes

    def end(self) -> None:
        """The agent ends as it should."""
        if self._marker.crashes:
            self._save(_Marker(crashes=self._marker.crashes))
            return
        try:
            durable.remove(self._paths.running)
        except (SkerryError, OSError) as error:
            _LOG.error("the marker of the running agent cannot be removed: %s", error)

    def _read(self) -> _Marker:
        try:
            return sealed.load(self._paths.running, _Marker, limit=limits.MAX_JOURNAL_BYTES)
        except NotFound:
            return _Marker()
        except (SkerryError, OSError) as error:
            _LOG.error("the marker of the last run cannot be read: %s", error)
            return _Marker()

    def _save(self, marker: _Marker) -> bool:
        try:
            sealed.save(self._paths.running, marker)
        except (SkerryError, OSError) as error:
            _LOG.error("the marker of the running agent cannot be written: %s", error)
            return False
        self._marker = marker
        return True

    def _active(self) -> list[Crash]:
        """What the pointers on the disk name, which is what served or was about to."""
        found = []
        folders = sorted(self._paths.models.iterdir()) if self._paths.models.is_dir() else []
        for folder in folders:
            try:
                slots = Slots(self._paths.model(ids.parse_model_name(folder.name)))
                slot = slots.active()
                if slot is not None:
                    record = slots.record(slot)
                    found.append(Crash(model=record.model, version=record.version))
            except (InvalidInput, SkerryError):
                continue  # What cannot be read is the recovery's business, and nobody's crash.
        return found


def _added(known: list[Crash], new: list[Crash]) -> list[Crash]:
    counts: dict[tuple[str, int], int] = {}
    for crash in (*known, *new):
        key = (crash.model, crash.version)
        counts[key] = min(counts.get(key, 0) + crash.count, _MAX_COUNT)
    crashes = [Crash(model=model, version=version, count=count) for (model, version), count in counts.items()]
    return crashes[: limits.MAX_HEALTH_VERSIONS_COUNT]
