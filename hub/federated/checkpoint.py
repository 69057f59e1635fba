"""A run between two rounds as bytes: exactly what is needed to go on as if nothing had happened. Pure.

Rules: written only when a round is complete; read strictly (bounds first, then the digest over the bytes as received,
then the shape), and one fault refuses all of it (`federated.checkpoint`); vectors keep their type and every bit.

Form: `SKFC`, a byte for the version (1), the length of the head (4 bytes, big-endian), the head (canonical JSON, which
names the vectors in their order), the vectors (little-endian), and the SHA-256 of everything before it.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from hub.federated.standing import Standing
from shared import canonical, limits
from shared.errors import InvalidInput, SkerryError

__all__ = ["Checkpoint", "PrivacyState", "read_checkpoint", "write_checkpoint"]

_MAGIC = b"SKFC\x01"
_DIGEST = 32
_WEIGHTS = "weights"
_TYPES: dict[str, np.dtype[Any]] = {"f4": np.dtype("<f4"), "f8": np.dtype("<f8")}
Count = Annotated[int, Meta(ge=0, le=limits.MAX_SEQ)]


class PrivacyState(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a run knows of its privacy. releases: paid for. clip: of the next round; 0: the definition's.

    reach: the largest entry of an update that is added up securely.
    """

    releases: Count = 0
    clip: Annotated[float, Meta(ge=0, le=1e6)] = 0.0
    reach: Annotated[float, Meta(gt=0, le=1e9)] = 1.0


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """round_no: complete rounds (of a buffered run: steps of the model). definition: SHA-256 of the run's definition.

    memory: what the strategy remembers. Seed and `round_no` decide whom the next round asks.
    """

    run_id: str
    definition: str
    seed: int
    round_no: int
    weights: NDArray[np.float32]
    memory: dict[str, NDArray[Any]] = {}
    standings: list[Standing] = []
    privacy: PrivacyState = PrivacyState()


class _Vector(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: Annotated[str, Meta(max_length=64)]
    type: Literal["f4", "f8"]
    elements: Annotated[int, Meta(ge=0, le=limits.MAX_FEDERATED_WEIGHTS_COUNT)]


class _Head(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    run_id: Annotated[str, Meta(max_length=128)]
    definition: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    seed: Count
    round_no: Count
    vectors: Annotated[list[_Vector], Meta(max_length=8)]
    standings: Annotated[list[Standing], Meta(max_length=limits.MAX_FEDERATED_DEVICES_COUNT)]
    privacy: PrivacyState = PrivacyState()


def write_checkpoint(checkpoint: Checkpoint) -> bytes:
    """The bytes of a checkpoint; error `federated.checkpoint` for a vector that is not finite or of another type."""
    vectors = {_WEIGHTS: checkpoint.weights, **checkpoint.memory}
    parts, named = [], []
    for name, vector in vectors.items():
        kind = f"f{vector.dtype.itemsize}"
        if vector.dtype.kind != "f" or kind not in _TYPES or vector.ndim != 1 or not np.isfinite(vector).all():
            raise _refused(f"the vector {name} is not one of finite numbers")
        named.append({"name": name, "type": kind, "elements": vector.size})
        parts.append(vector.astype(_TYPES[kind]).tobytes())
    head = canonical.dumps(
        {
            "run_id": checkpoint.run_id,
            "definition": checkpoint.definition,
            "seed": checkpoint.seed,
            "round_no": checkpoint.round_no,
            "vectors": named,
            "standings": checkpoint.standings,
            "privacy": checkpoint.privacy,
        }
    )
    body = b"".join((_MAGIC, len(head).to_bytes(4, "big"), head, *parts))
    return body + hashlib.sha256(body).digest()


def read_checkpoint(data: bytes) -> Checkpoint:
    """The checkpoint in `data`; error `federated.checkpoint`."""
    start = len(_MAGIC) + 4
    if not start + _DIGEST <= len(data) <= limits.MAX_CHECKPOINT_BYTES or not data.startswith(_MAGIC):
        raise _refused("it is not a checkpoint of a version that is known, or too large")
    body, digest = data[:-_DIGEST], data[-_DIGEST:]
    if hashlib.sha256(body).digest() != digest:
        raise _refused("its digest does not hold")
    end = start + int.from_bytes(body[len(_MAGIC) : start], "big")
    if end > len(body):
        raise _refused("it is cut short")
    try:
        head = canonical.loads_as(body[start:end], _Head, limit=limits.MAX_CHECKPOINT_HEAD_BYTES, what="checkpoint")
    except SkerryError as error:
        raise _refused(error.message) from error
    vectors = _vectors(head, body[end:])
    return Checkpoint(
        run_id=head.run_id,
        definition=head.definition,
        seed=head.seed,
        round_no=head.round_no,
        weights=vectors.pop(_WEIGHTS),
        memory=vectors,
        standings=head.standings,
        privacy=head.privacy,
    )


def _vectors(head: _Head, data: bytes) -> dict[str, NDArray[Any]]:
    vectors: dict[str, NDArray[Any]] = {}
    at = 0
    for named in head.vectors:
        kind = _TYPES[named.type]
        end = at + named.elements * kind.itemsize
        if end > len(data) or named.name in vectors:
            raise _refused(f"the vector {named.name} is not there, or is there twice")
        vectors[named.name] = np.frombuffer(data[at:end], kind).astype(kind.newbyteorder("="))
        at = end
    weights = vectors.get(_WEIGHTS)
    if at != len(data) or weights is None or weights.dtype != np.float32:
        raise _refused("its vectors are not those that its head names")
    if any(vector.size != weights.size or not np.isfinite(vector).all() for vector in vectors.values()):
        raise _refused("a vector does not fit the weights, or is not finite")
    return vectors


def _refused(problem: str) -> InvalidInput:
    return InvalidInput("federated.checkpoint", f"The checkpoint cannot be used: {problem}."[:400])
