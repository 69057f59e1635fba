"""The newest desired-state document, kept on disk as received, so that a device without network still knows it.

Rules: bounded and decoded before it is kept; a document for another device is refused; an older revision than the kept
one changes nothing. Trust is not decided here: each assignment in it carries its own signature.
"""

from __future__ import annotations

import logging
from pathlib import Path

from shared import durable, limits
from shared.errors import InvalidInput, NotFound, SkerryError, Untrusted
from shared.wire.down import DesiredState, decode_desired

__all__ = ["DesiredStore"]

_log = logging.getLogger(__name__)


class DesiredStore:
    """One file, read at start and replaced when a newer document comes."""

    def __init__(self, path: Path, device_id: str) -> None:
        self._path = path
        self._device_id = device_id
        self._data = b""
        self._current: DesiredState | None = None

    @property
    def current(self) -> DesiredState | None:
        """The newest document; None when none has ever come."""
        return self._current

    def load(self) -> DesiredState | None:
        """Read what was kept. A damaged file is as good as none: the hub sends the document again."""
        try:
            data = durable.read_file(self._path, limit=limits.MAX_DESIRED_STATE_BYTES)
            self._current, self._data = self._decode(data), data
        except NotFound:
            return None
        except (InvalidInput, Untrusted) as error:
            _log.warning("the kept desired state cannot be used: %s", error)
            return None
        except SkerryError as error:
            _log.error("the kept desired state cannot be read: %s", error)
            return None
        return self._current

    def accept(self, data: bytes) -> DesiredState | None:
        """Keep a received document durably and return it; None when it says nothing new.

        Errors: `wire.*` when malformed, `desired.other_device`, `storage.write`.
        """
        if data == self._data:
            return None
        desired = self._decode(data)
        if self._current is not None and desired.revision < self._current.revision:
            return None
        durable.write_file(self._path, data)
        self._current, self._data = desired, data
        return desired

    def _decode(self, data: bytes) -> DesiredState:
        desired = decode_desired(data)
        if desired.device_id != self._device_id:
            raise Untrusted("desired.other_device", f"The desired state is for {desired.device_id}.")
        return desired
