"""Counts of predictions in an application's own process, handed to the agent over its socket.

Rules: what the agent did not take stays and goes with the next; what it refuses (another version serves by now) is
given up; no prediction waits for more than one short request a minute, and none fails because of it.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path

import msgspec

from agent.drift.compiled import Compiled, load_reference
from agent.drift.monitor import Monitor
from agent.local_client import LocalAgent
from shared.bundle.manifest import Manifest
from shared.errors import SkerryError, Unavailable
from shared.wire.window import Window

__all__ = ["Handover"]

_LOG = logging.getLogger(__name__)
_INTERVAL_S = 60.0
_TIMEOUT_S = 2.0
_SERIES = "0" * 16


class Handover:
    """Watches the versions of one process (`agent.inference.watching.Watcher`)."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._monitor: Monitor | None = None
        self._sent_s = time.monotonic()
        self._since_s = time.time()

    def open(self, directory: Path, manifest: Manifest, labels: list[str] | None) -> Monitor | None:
        """A monitor for a version; None when its reference cannot be read."""
        try:
            found = load_reference(directory, manifest)
        except SkerryError as error:
            _LOG.error("drift of %s is not counted: %s", manifest.model, error)
            return None
        compiled = None if found is None else Compiled(found[0], manifest)
        return Monitor(manifest, labels, compiled, None if found is None else found[1], monotonic=time.monotonic)

    def serve(self, model: str, monitor: Monitor | None) -> None:
        """Count for this one from now on; hand over what the one before has."""
        if monitor is not None:
            old, self._monitor = self._monitor, monitor
            if old is not None:
                self._send(old)

    def send_if_due(self, now_s: float) -> None:
        """Hand over once a minute; `now_s` is of the monotonic clock."""
        if now_s - self._sent_s >= _INTERVAL_S:
            self._sent_s = now_s
            self.send()

    def send(self) -> None:
        """Hand over what was counted."""
        if self._monitor is not None:
            self._send(self._monitor)

    def _send(self, monitor: Monitor) -> None:
        manifest, now_s = monitor.manifest, time.time()
        empty = Window(
            model=manifest.model,
            version=manifest.version,
            series=_SERIES,
            window_id=1,
            started_s=self._since_s,
            ended_s=max(self._since_s, now_s),
            reference_sha256=monitor.digest,
        )
        window = monitor.take(empty)
        if window is None:
            return
        try:
            with LocalAgent(self._socket, timeout_s=_TIMEOUT_S) as agent:
                agent.send("/skerry/window", msgspec.msgpack.encode(window))
            self._since_s = now_s
        except Unavailable as error:
            _LOG.info("counts are kept for the next time: %s", error)
            monitor.add(window)
        except SkerryError as error:
            _LOG.warning("counts of %s %s are given up: %s", manifest.model, manifest.version, error)

    def push(self, model: str, name: str, kind: str, value: float, arm: str) -> None:
        """One value of a named metric; errors `agent.not_running`, `metrics.*`."""
        metric = {"name": name, "kind": kind, "value": value, "model": model, "arm": arm}
        with LocalAgent(self._socket, timeout_s=_TIMEOUT_S) as agent:
            agent.post("/v2/metrics", {"metrics": [metric]})
