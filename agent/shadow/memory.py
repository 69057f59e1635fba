"""Whether there is memory for a candidate's process beside what serves."""

from __future__ import annotations

from pathlib import Path

from shared import limits
from shared.bundle.manifest import Manifest
from shared.errors import Conflict
from shared.profiles import Profile

__all__ = ["PROCESS_BYTES", "available_bytes", "check_memory"]

PROCESS_BYTES = 56 * limits.MIB
"""What a process with the runtime takes before any model, measured (`tests/bench/shadow.py`)."""
_MODEL_ROLES = frozenset({"model", "head", "weights"})


def available_bytes(meminfo: Path = Path("/proc/meminfo")) -> int:
    """Memory that programs may still take without swapping, as the kernel estimates; 0 where it does not say."""
    try:
        lines = meminfo.read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, StopIteration, IndexError):
        return 0


def check_memory(manifest: Manifest, profile: Profile, available: int) -> None:
    """Return if there is room, else raise `shadow.no_memory`.

    The whole process must fit into what the profile gives to models: the agent's memory cap reserves that twice.
    """
    files = sum(entry.bytes for entry in manifest.files if entry.role in _MODEL_ROLES)
    need = PROCESS_BYTES + max(manifest.requirements.memory_bytes, files)
    if need > profile.model_memory_bytes:
        raise _no_memory(
            f"A candidate's process needs {need} bytes; {profile.name} gives {profile.model_memory_bytes}."
        )
    if need > available:
        raise _no_memory(f"A candidate's process needs {need} bytes; the device has {available} left.")


def _no_memory(message: str) -> Conflict:
    return Conflict("shadow.no_memory", message, hint="Try it on another class of device, or without a shadow.")
