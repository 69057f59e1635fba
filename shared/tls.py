"""TLS to a server that one CA vouches for. Standard library only.

A socket whose handshake fails is closed at once: paho-mqtt drops it open, and a device that meets the wrong broker for
a week would run out of descriptors.
"""

from __future__ import annotations

import ssl
from pathlib import Path

__all__ = ["client_context"]


class _ClosingSocket(ssl.SSLSocket):
    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()
            raise


def client_context(ca: Path) -> ssl.SSLContext:
    """TLS 1.2 or newer to a server that `ca` (PEM) vouches for, name checked; `OSError` for a bad file."""
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.sslsocket_class = _ClosingSocket
    return context
