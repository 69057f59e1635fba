"""Who looks on when versions are loaded, serve and leave, and counts what they see (`agent.drift.keeper`)."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from agent.drift.monitor import Monitor
from shared.bundle.manifest import Manifest

__all__ = ["Watcher"]


class Watcher(Protocol):
    """Both may be called from every thread, and never fail."""

    def open(self, directory: Path, manifest: Manifest, labels: list[str] | None) -> Monitor | None:
        """A monitor for a version that was loaded; None: it is not watched."""
        ...

    def serve(self, model: str, monitor: Monitor | None) -> None:
        """This monitor's version serves from now on; None: the model is gone, or is not watched."""
        ...
