"""The identity of the hardware, so that a token can be bound to one machine before it first speaks.

A board's serial number where there is one; else a digest of the machine id, which must itself not leave the machine
(machine-id(5)).
"""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

__all__ = ["hardware_id"]

_SERIALS = (Path("/sys/firmware/devicetree/base/serial-number"), Path("/proc/device-tree/serial-number"))
_MACHINE = Path("/etc/machine-id")


def hardware_id(serials: tuple[Path, ...] = _SERIALS, machine: Path = _MACHINE) -> str:
    """A stable name of this machine, at most 64 characters; empty when it has none."""
    for path in serials:
        text = _read(path)
        if text:
            return text[:64]
    text = _read(machine)
    return hmac.new(text.encode(), b"skerry hardware id", hashlib.sha256).hexdigest()[:32] if text else ""


def _read(path: Path) -> str:
    try:
        text = path.read_bytes()[:256].decode("ascii", errors="ignore").strip("\x00 \n")
    except OSError:
        return ""
    return text if text.isprintable() else ""
