"""What survives a power cut: one small file a model, replaced atomically, with a digest that finds damage.

The order that makes a window count once: the file says "window k is finished, its counters are these, the next is k+1"
before the window is handed to the outbox; after a cut it is handed over again, under the same id, and the hub counts an
id once. A file that is gone or damaged begins a new series, so no id is ever used for two windows.
"""

from __future__ import annotations

import hashlib
import secrets
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from shared import durable, limits
from shared.errors import NotFound, SkerryError, StorageFailure
from shared.wire.types import Epoch
from shared.wire.window import Window

__all__ = ["MAX_PENDING_COUNT", "Snapshot", "load_snapshot", "new_snapshot", "save_snapshot"]

MAX_PENDING_COUNT = 16
_DIGEST_BYTES = 32
_MAX_BYTES = 2 * limits.MIB


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """series: one life of this file. next_id: of the window under way. partial: what it has counted, as a window.
    sequences: state of the detectors. pending: finished windows that the outbox may not have."""

    schema_version: int = 1
    series: Epoch
    next_id: Annotated[int, Meta(ge=1, le=limits.MAX_SEQ)] = 1
    partial: Window | None = None
    sequences: Annotated[bytes, Meta(max_length=limits.MIB)] = b""
    pending: Annotated[list[Window], Meta(max_length=MAX_PENDING_COUNT)] = []


_DECODER = msgspec.msgpack.Decoder(Snapshot)


def new_snapshot() -> Snapshot:
    """The beginning of a series."""
    return Snapshot(series=secrets.token_hex(8))


def save_snapshot(path: Path, snapshot: Snapshot) -> None:
    """Write the file durably; error `storage.write`."""
    body = msgspec.msgpack.encode(snapshot)
    durable.write_file(path, hashlib.sha256(body).digest() + body)


def load_snapshot(path: Path) -> Snapshot | None:
    """What was saved; None when nothing was. Errors `storage.damaged`, `storage.read`."""
    try:
        data = durable.read_file(path, limit=_MAX_BYTES)
    except NotFound:
        return None
    except SkerryError as error:
        raise StorageFailure("storage.damaged", f"{path.name} is damaged: {error.message}") from error
    body = data[_DIGEST_BYTES:]
    if hashlib.sha256(body).digest() != data[:_DIGEST_BYTES]:
        raise StorageFailure("storage.damaged", f"{path.name} is damaged: its digest does not match.")
    try:
        return _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StorageFailure("storage.damaged", f"{path.name} is damaged: {error}."[:300]) from error
