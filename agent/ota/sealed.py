"""Small state files that know whether they are whole: canonical JSON `{"body": …, "sha256": …}`, written durably.

A file that a bad disk tore or bit-flipped is recognised and reported as such, never half believed. The digest finds
damage, not forgery: who can write the state folder needs no forgery.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from shared import canonical, durable
from shared.errors import InvalidInput, StorageFailure

__all__ = ["load", "save"]

T = TypeVar("T", bound=msgspec.Struct)


class _Sealed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    body: dict[str, Any]
    sha256: str


def save(path: Path, body: msgspec.Struct) -> None:
    """Write `body` to `path`, atomically and durably; error `storage.write`."""
    plain = msgspec.to_builtins(body)
    durable.write_file(path, canonical.dumps({"body": plain, "sha256": _digest(plain)}))


def load(path: Path, kind: type[T], *, limit: int) -> T:
    """The body in `path`; errors `storage.missing`, `storage.damaged` (torn, flipped or of another shape)."""
    data = durable.read_file(path, limit=limit)
    try:
        sealed = canonical.loads_as(data, _Sealed, limit=limit, what=path.name)
        if _digest(sealed.body) != sealed.sha256:
            raise InvalidInput("json.malformed", "The digest does not match.")
        return msgspec.convert(sealed.body, kind)
    except (InvalidInput, msgspec.ValidationError) as error:
        raise StorageFailure("storage.damaged", f"{path.name} is damaged: {error}."[:300]) from error


def _digest(body: dict[str, Any]) -> str:
    return hashlib.sha256(canonical.dumps(body)).hexdigest()
