"""TLS to a server that one CA vouches for. Standard library only.

A socket whose handshake fails is closed at once: paho-mqtt drops it open, and a device that meets the wrong broker for
a week would run out of descriptors. A machine whose clock shows a time that has passed for sure (1970, an empty
battery) cannot judge whether a certificate is valid yet or still: there the dates are left out, and all the rest stays.
"""

from __future__ import annotations

import ssl
import time
from pathlib import Path

__all__ = ["client_context", "excuse_clock"]

_NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME, which the standard library has no name for


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


def excuse_clock(context: ssl.SSLContext, known_s: float) -> None:
    """Leave the dates of certificates out if the clock is before `known_s`, which has passed (seconds since 1970)."""
    if time.time() < known_s:
        context.verify_flags |= _NO_CHECK_TIME
