"""What the device is: read once at start."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from agent.telemetry.process import disk_bytes, memory_bytes
from shared import __version__
from shared.wire.up import Inventory

__all__ = ["take_inventory"]

_WORD_CHARS = 128


def take_inventory(state: Path, *, profile: str, runtime: str, runtime_version: str, hardware_id: str) -> Inventory:
    """The inventory of this machine; `runtime` and its version come from the runtime adapter."""
    machine = os.uname()
    return Inventory(
        profile=profile,
        agent_version=__version__,
        runtime=runtime,
        runtime_version=runtime_version,
        arch=machine.machine[:_WORD_CHARS],
        os=_system(machine)[:_WORD_CHARS],
        python=".".join(str(part) for part in sys.version_info[:3]),
        cpu_count=os.cpu_count() or 1,
        memory_bytes=memory_bytes(),
        storage_bytes=disk_bytes(state)[1],
        hardware_id=hardware_id,
    )


def _system(machine: os.uname_result) -> str:
    """The distribution's own name, else the kernel's."""
    try:
        lines = Path("/etc/os-release").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith("PRETTY_NAME="):
            return line.removeprefix("PRETTY_NAME=").strip().strip('"')
    return f"{machine.sysname} {machine.release}"
