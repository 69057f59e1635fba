"""Certificates of programs that listen to alerts on the broker: `hub:listener:<name>`, under the hub's authority.

They may subscribe to the topics of alerts and to nothing else (`hub.messaging.callout`). None can be taken back by
itself, so they live short; the folder is new, so no key is ever overwritten.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from hub.pki.authority import Authority, key_pem, new_key
from shared import durable
from shared.errors import Conflict, InvalidInput

__all__ = ["LISTENER_PREFIX", "IssuedListener", "issue_listener"]

LISTENER_PREFIX = "hub:listener:"
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")


@dataclass(frozen=True, slots=True)
class IssuedListener:
    """client_id: what it connects as; with `:` and anything behind it, several may connect at once."""

    client_id: str
    serial: str
    not_after_s: float
    files: tuple[Path, Path, Path]


def issue_listener(authority: Authority, name: str, out: Path, *, now_s: float, lifetime_s: float) -> IssuedListener:
    """Certificate, key and the hub's CA in the new folder `out`; errors `listener.name|exists`, `storage.*`."""
    if not _NAME.fullmatch(name):
        raise InvalidInput("listener.name", "A listener's name has lower-case letters, digits and dashes; 40 at most.")
    if out.exists():
        raise Conflict("listener.exists", f"{out} is there already.", hint="Name a new folder.")
    durable.make_dir(out)
    key = new_key()
    issued = authority.issue_client(key.public_key(), f"{LISTENER_PREFIX}{name}", now_s=now_s, lifetime_s=lifetime_s)
    certificate, secret, ca = out / "listener.crt", out / "listener.key", out / "hub-ca.crt"
    durable.write_file(secret, key_pem(key))
    durable.write_file(certificate, (issued.pem + authority.pem).encode(), 0o644)
    durable.write_file(ca, authority.pem.encode(), 0o644)
    return IssuedListener(f"{LISTENER_PREFIX}{name}", issued.serial, issued.not_after_s, (certificate, secret, ca))
