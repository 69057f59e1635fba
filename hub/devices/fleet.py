"""Devices as people see and change them: list, look, tag, revoke.

Revoking counts at once: the next request or connection is refused by `authenticator`, and the hooks end live
connections. A revoked device stays in the records; only a token that names it lets it in again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hub.audit.log import AuditLog
from hub.devices import rules
from hub.devices.hooks import DeviceHooks
from hub.filters.service import DeviceFilters
from hub.store import devices, fleet
from hub.store.database import Database
from hub.store.devices import CertificateRow
from hub.store.fleet import DeviceSummary, EventRow, ReportRow, StatusRow
from hub.store.page import PageRequest
from shared.clock import Clock
from shared.errors import InvalidInput, NotFound
from shared.limits import MAX_REASON_CHARS, MAX_TAGS_PER_DEVICE_COUNT

__all__ = ["DeviceDetail", "Fleet"]

_RECENT_COUNT = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceDetail:
    """One device in full. `reports` and `events`: the newest ones."""

    summary: DeviceSummary
    status: StatusRow | None
    inventory: dict[str, Any] | None
    inventory_s: float | None
    desired_revision: int
    certificates: list[CertificateRow]
    reports: list[ReportRow]
    events: list[EventRow]


class Fleet:
    """Reads and changes devices."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        audit: AuditLog,
        hooks: DeviceHooks,
        filters: DeviceFilters,
    ) -> None:
        self._db = db
        self._clock = clock
        self._audit = audit
        self._hooks = hooks
        self._filters = filters

    def summaries(self, filter_text: str | None, page: PageRequest) -> list[DeviceSummary]:
        """Devices by id, revoked ones too unless a filter is given; one more than the page's limit; `filter.*`."""
        with self._db.read() as connection:
            condition = None if filter_text is None else self._filters.condition(connection, filter_text)
            return fleet.list_summaries(connection, condition, page)

    def get(self, device_id: str) -> DeviceDetail:
        """One device; error `device.not_found`."""
        recent = PageRequest(limit=_RECENT_COUNT - 1)
        with self._db.read() as connection:
            summary = fleet.find_summary(connection, device_id)
            device = devices.find_device(connection, device_id)
            if summary is None or device is None:
                raise _not_found(device_id)
            return DeviceDetail(
                summary=summary,
                status=fleet.find_status(connection, device_id),
                inventory=device.inventory,
                inventory_s=device.inventory_s,
                desired_revision=device.desired_revision,
                certificates=devices.certificates_of(connection, device_id),
                reports=fleet.list_reports(connection, device_id, recent),
                events=fleet.list_events(connection, device_id, recent),
            )

    def reports(self, device_id: str, page: PageRequest) -> list[ReportRow]:
        """Install reports, newest first, one more than the page's limit; `device.not_found`."""
        with self._db.read() as connection:
            if devices.find_device(connection, device_id) is None:
                raise _not_found(device_id)
            return fleet.list_reports(connection, device_id, page)

    def events(self, device_id: str, page: PageRequest) -> list[EventRow]:
        """Events, newest first, one more than the page's limit; `device.not_found`."""
        with self._db.read() as connection:
            if devices.find_device(connection, device_id) is None:
                raise _not_found(device_id)
            return fleet.list_events(connection, device_id, page)

    def change_tags(self, device_id: str, changes: Mapping[str, str | None], actor: str) -> dict[str, str]:
        """Set tags (None takes one away); returns all. Errors `device.not_found`, `id.tag`, `device.too_many_tags`."""
        checked = rules.checked_tag_changes(changes)
        with self._db.write() as connection:
            if devices.find_device(connection, device_id) is None:
                raise _not_found(device_id)
            tags = devices.change_tags(connection, device_id, checked)
            if len(tags) > MAX_TAGS_PER_DEVICE_COUNT:
                raise InvalidInput(
                    "device.too_many_tags", f"A device has at most {MAX_TAGS_PER_DEVICE_COUNT} tags; take some away."
                )
            self._audit.append(connection, actor, "device.tags", device_id, {"changes": checked})
        return tags

    def revoke(self, device_id: str, reason: str, actor: str) -> None:
        """Shut a device out; again is no error. Errors `device.not_found`, `device.reason`."""
        if len(reason) > MAX_REASON_CHARS or not reason.isprintable():
            raise InvalidInput("device.reason", f"A reason has at most {MAX_REASON_CHARS} printable characters.")
        with self._db.write() as connection:
            if devices.find_device(connection, device_id) is None:
                raise _not_found(device_id)
            if devices.mark_revoked(connection, device_id, self._clock.now()):
                self._audit.append(connection, actor, "device.revoke", device_id, {"reason": reason})
        self._hooks.cut_off(device_id)


def _not_found(device_id: str) -> NotFound:
    return NotFound("device.not_found", f"There is no device {device_id!r:.80}.", hint="See `skerry devices list`.")
