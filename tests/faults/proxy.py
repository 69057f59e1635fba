"""A TCP proxy between agent and hub that cuts, stalls, slows or refuses, by rule and in order of the connections."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

__all__ = ["Line", "Proxy", "proxied"]

_BLOCK = 4096


@dataclass(frozen=True)
class Line:
    """One connection's fate: bytes towards the agent until it is cut or stalls, and bytes per second meanwhile."""

    cut_after: int | None = None
    stall_after: int | None = None
    bytes_per_s: int | None = None


@dataclass
class Proxy:
    """`lines` are the fates of the next connections; those that follow are good. `down`: connections are refused."""

    port: int
    hub_port: int
    lines: list[Line] = field(default_factory=list)
    down: bool = False
    connections: int = 0
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        """Where the agent finds the hub."""
        return f"https://127.0.0.1:{self.port}"

    def serve(self, listener: socket.socket) -> None:
        """Accept until the end."""
        while not self.ended.is_set():
            try:
                agent, _ = listener.accept()
            except TimeoutError:
                continue
            self.connections += 1
            if self.down:
                agent.close()
                continue
            line = self.lines.pop(0) if self.lines else Line()
            hub = socket.create_connection(("127.0.0.1", self.hub_port), timeout=10)
            for source, target, fate in ((agent, hub, Line()), (hub, agent, line)):
                threading.Thread(target=self._carry, args=(source, target, fate), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket, line: Line) -> None:
        carried = 0
        with contextlib.suppress(OSError):
            while data := source.recv(_BLOCK):
                if line.cut_after is not None and carried >= line.cut_after:
                    break
                if line.stall_after is not None and carried >= line.stall_after:
                    self.ended.wait(30)
                    break
                if line.bytes_per_s is not None:
                    time.sleep(len(data) / line.bytes_per_s)
                target.sendall(data)
                carried += len(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@contextlib.contextmanager
def proxied(hub_url: str) -> Iterator[Proxy]:
    """A proxy before the hub at `hub_url`."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.05)
    proxy = Proxy(listener.getsockname()[1], int(hub_url.rpartition(":")[2]))
    thread = threading.Thread(target=proxy.serve, args=(listener,), name="proxy")
    thread.start()
    try:
        yield proxy
    finally:
        proxy.ended.set()
        thread.join()
        listener.close()
