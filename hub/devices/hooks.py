"""Who wants to know when a device has come or gone: called after the commit, each for itself.

A listener that fails stops neither the others nor the change, which stands by then; the failure is logged.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

__all__ = ["DeviceHooks"]

_LOG = logging.getLogger("skerry.hub.devices")
Listener = Callable[[str], None]


class DeviceHooks:
    """Listeners by occasion; each is called with the device id, from the thread that made the change."""

    def __init__(self) -> None:
        self._enrolled: list[Listener] = []
        self._cut_off: list[Listener] = []

    def on_enrolled(self, listener: Listener) -> None:
        """Call `listener` when a device has enrolled, for the first time or again."""
        self._enrolled.append(listener)

    def on_cut_off(self, listener: Listener) -> None:
        """Call `listener` when live connections of a device must end: it was revoked, or enrols again."""
        self._cut_off.append(listener)

    def enrolled(self, device_id: str) -> None:
        """Tell that a device has enrolled."""
        self._tell(self._enrolled, device_id)

    def cut_off(self, device_id: str) -> None:
        """Tell that a device's live connections must end."""
        self._tell(self._cut_off, device_id)

    @staticmethod
    def _tell(listeners: list[Listener], device_id: str) -> None:
        for listener in listeners:
            try:
                listener(device_id)
            except Exception:  # noqa: BLE001 - a listener's defect must not undo or hide a committed change
                _LOG.exception("a listener failed for device %s", device_id)
