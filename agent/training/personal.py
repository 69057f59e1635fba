"""A head that this device keeps for itself beside the one of the version: what it is, and when it serves. Never sent.

Rules: it serves only if it names more of the held-out samples rightly than the version's own head, by a margin, on
enough of them; once it serves it stays until it is worse. It belongs to one bundle, and to what is kept since the last
erasure of the samples; with either it goes. A file that is damaged or does not fit is none.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta

from shared import durable, limits
from shared.errors import SkerryError
from shared.federated.vector import Vector
from shared.wire.types import ModelName, Sha256, Version

__all__ = ["PersonalHead", "choose", "drop_personal", "read_personal", "write_personal"]

_DIGEST_BYTES = 32
_LIMIT_BYTES = 4 * limits.MAX_FEDERATED_WEIGHTS_COUNT + 64 * limits.KIB
Accuracy = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=0)]


class PersonalHead(msgspec.Struct, frozen=True, kw_only=True):
    """weights: as bytes of one float32 vector. accuracy, bundle_accuracy: of this head and of the version's own on the
    `held_out` samples. serves: it is the better one. epoch: of the samples (`agent.training.epoch`)."""

    schema_version: int = 1
    model: ModelName
    version: Version
    bundle_sha256: Sha256
    run: str
    round_no: Count
    accuracy: Accuracy
    bundle_accuracy: Accuracy
    held_out: Count
    serves: bool
    epoch: str
    weights: Annotated[bytes, Meta(max_length=4 * limits.MAX_FEDERATED_WEIGHTS_COUNT)]

    def vector(self, total: int) -> Vector | None:
        """The weights; None when they do not fit a head of `total`, or are not finite."""
        if len(self.weights) != 4 * total:
            return None
        vector = np.frombuffer(self.weights, "<f4").astype(np.float32)
        return vector if np.isfinite(vector).all() else None


_DECODER = msgspec.msgpack.Decoder(PersonalHead)


def choose(*, serves: bool, own: float, bundle: float, held_out: int, min_samples: int, margin: float) -> bool:
    """Whether the own head is to serve, given whether it does, both accuracies, and on how many samples."""
    if held_out < min_samples:
        return False
    return own >= bundle if serves else own >= bundle + margin


def _file(folder: Path, model: str) -> Path:
    return folder / f"personal-{model}"


def write_personal(folder: Path, head: PersonalHead) -> None:
    """Keep it, durably, instead of the one before; error `storage.write`."""
    data = msgspec.msgpack.encode(head)
    durable.write_file(_file(folder, head.model), hashlib.sha256(data).digest() + data)


def read_personal(folder: Path, model: str, bundle_sha256: str, epoch: str) -> PersonalHead | None:
    """The head that belongs to this bundle and this epoch of the samples; None when there is none that is whole."""
    try:
        data = durable.read_file(_file(folder, model), limit=_LIMIT_BYTES)
    except SkerryError:
        return None
    digest, body = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
    if hashlib.sha256(body).digest() != digest:
        return None
    try:
        head = _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return head if (head.model, head.bundle_sha256, head.epoch) == (model, bundle_sha256, epoch) else None


def drop_personal(folder: Path, model: str) -> None:
    """Keep none, durably; fine when there is none. Error `storage.remove`."""
    if _file(folder, model).exists():
        durable.remove(_file(folder, model))
