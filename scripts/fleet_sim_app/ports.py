"""Ports of the loopback for a hub of one's own.

They are below the range from which the system takes ports for outgoing connections, so that none of the thousands that
a simulation makes can sit on one between the choice and the server's start.
"""

from __future__ import annotations

import random
import socket

__all__ = ["free_ports"]

_FIRST, _LAST = 10_000, 32_000
_RANDOM = random.SystemRandom()


def free_ports(count: int) -> list[int]:
    """That many different ports of 127.0.0.1 on which nobody listens."""
    found: list[int] = []
    while len(found) < count:
        port = _RANDOM.randint(_FIRST, _LAST)
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue  # taken
        if port not in found:
            found.append(port)
    return found
