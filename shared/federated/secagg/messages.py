"""What hub and devices say to each other in secure aggregation: MessagePack, bounded and strict. Pure.

Each question names its session, sixteen random bytes of the hub for one attempt at one round; keys and signatures are
bound to it, so nothing of one round fits another.
"""

from __future__ import annotations

from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from shared import limits
from shared.errors import InvalidInput
from shared.federated.secagg.fixed import Scale
from shared.wire.types import DeviceId

__all__ = [
    "Advert",
    "Open",
    "Question",
    "Reveal",
    "Roster",
    "Sealed",
    "Shares",
    "Unmask",
    "advert_body",
    "decode",
    "decode_question",
    "encode",
]

Session = Annotated[bytes, Meta(min_length=16, max_length=16)]
Key = Annotated[bytes, Meta(min_length=32, max_length=32)]
Share = Annotated[bytes, Meta(min_length=33, max_length=33)]
Certificate = Annotated[bytes, Meta(max_length=4096)]
Signature = Annotated[bytes, Meta(min_length=8, max_length=160)]
Text = Annotated[bytes, Meta(max_length=512)]
_MANY = Meta(max_length=limits.MAX_FEDERATED_DEVICES_COUNT)


class Advert(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A device's fresh keys, to seal shares for it and to agree on masks with it, and a digest of its mask's seed."""

    sealing: Key
    masking: Key
    commitment: Key
    certificate: Certificate
    signature: Signature = bytes(8)


class Open(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag=True):
    """Stage 1: make keys for this session. Answer: `Advert`."""

    session: Session


class Roster(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag=True):
    """Stage 2: all members by the SHA-256 of their adverts, and the adverts of the neighbours. Answer: `Shares`.

    authority: the certificate (DER) of the authority that issued the devices' certificates.
    """

    session: Session
    members: Annotated[dict[DeviceId, Key], _MANY]
    neighbours: Annotated[dict[DeviceId, Advert], _MANY]
    authority: Certificate


class Shares(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """For each neighbour its two shares, sealed."""

    sealed: Annotated[dict[DeviceId, Text], _MANY]


class Sealed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag=True):
    """Stage 3, beside the training task: the shares from each neighbour that takes part. Answer: the masked words."""

    session: Session
    scale: Scale
    sealed: Annotated[dict[DeviceId, Text], _MANY]


class Unmask(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag=True):
    """Stage 4: who of the neighbourhood answered, and who did not. Answer: `Reveal`."""

    session: Session
    answered: Annotated[list[DeviceId], _MANY]
    missing: Annotated[list[DeviceId], _MANY]


class Reveal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Shares: of the own masks' seeds of those who answered, of the mask keys of those who did not."""

    seeds: Annotated[dict[DeviceId, Share], _MANY]
    keys: Annotated[dict[DeviceId, Share], _MANY]


Question = Open | Roster | Sealed | Unmask
M = TypeVar("M")
_QUESTION: msgspec.msgpack.Decoder[Question] = msgspec.msgpack.Decoder(Question)


def advert_body(session: bytes, advert: Advert) -> bytes:
    """What an advert's signature is over."""
    return b"skerry secagg advert" + session + advert.sealing + advert.masking + advert.commitment + advert.certificate


def encode(message: msgspec.Struct) -> bytes:
    """MessagePack."""
    return msgspec.msgpack.encode(message)


def decode_question(data: bytes) -> Question:
    """A question of the hub; error `secure.malformed`."""
    return _decoded(data, _QUESTION)


def decode(data: bytes, kind: type[M]) -> M:
    """A device's answer of one kind; error `secure.malformed`."""
    return _decoded(data, msgspec.msgpack.Decoder(kind))


def _decoded(data: bytes, decoder: msgspec.msgpack.Decoder[M]) -> M:
    if len(data) > limits.MAX_SECURE_MESSAGE_BYTES:
        raise InvalidInput("secure.malformed", f"A message of secure aggregation has {len(data)} bytes: too many.")
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(
            "secure.malformed", f"A message of secure aggregation is malformed: {error}."[:300]
        ) from error
