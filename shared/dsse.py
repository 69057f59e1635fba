"""Signed sentences: a DSSE envelope (Dead Simple Signing Envelope) around a payload of one type.

Used for assignments. The signature is over the type and the payload bytes together (PAE), so an envelope of one kind
is never accepted as another. `verify` bounds the length, then checks the signature over the received bytes, and only
then hands the payload out to be parsed. Needs `securesystemslib` and `cryptography`, nothing else.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import Meta
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import UnverifiedSignatureError, VerificationError
from securesystemslib.signer import Key, Signature, Signer

from shared import canonical
from shared.errors import InvalidInput, TooLarge, Untrusted

__all__ = ["MAX_SIGNATURES_COUNT", "sign", "signers", "verify"]

MAX_SIGNATURES_COUNT = 8


class _Signature(msgspec.Struct, frozen=True):
    keyid: Annotated[str, Meta(min_length=1, max_length=128)]
    sig: Annotated[str, Meta(max_length=1024)]


class _Envelope(msgspec.Struct, frozen=True):
    payload: str
    payload_type: Annotated[str, Meta(max_length=128)] = msgspec.field(name="payloadType")
    signatures: Annotated[list[_Signature], Meta(min_length=1, max_length=MAX_SIGNATURES_COUNT)]


def sign(payload: bytes, payload_type: str, signer: Signer) -> bytes:
    """The envelope (canonical JSON) of `payload`, signed by one key."""
    envelope = Envelope(payload, payload_type, {})
    envelope.sign(signer)
    return canonical.dumps(envelope.to_dict())


def verify(envelope: bytes, payload_type: str, keys: Mapping[str, Key], limit: int) -> bytes:
    """The payload of an envelope of at most `limit` bytes that one of `keys` (by key id) signed as `payload_type`.

    Errors: `dsse.too_large`, `dsse.malformed`, `dsse.wrong_type`, `dsse.unknown_key`, `dsse.bad_signature`.
    """
    if len(envelope) > limit:
        raise TooLarge("dsse.too_large", f"The envelope has {len(envelope)} bytes; at most {limit} are accepted.")
    parsed = _parse(envelope, limit)
    if parsed.payload_type != payload_type:
        raise Untrusted(
            "dsse.wrong_type", f"The envelope holds {parsed.payload_type[:64]!r}, but {payload_type!r} is expected."
        )
    known = [keys[keyid] for keyid in parsed.signatures if keyid in keys]
    if not known:
        raise Untrusted(
            "dsse.unknown_key",
            "The envelope is signed by none of the trusted keys.",
            hint="If the hub's key was rotated, refresh the trust metadata first.",
        )
    try:
        parsed.verify(known, 1)
    except (VerificationError, UnverifiedSignatureError) as error:
        raise Untrusted("dsse.bad_signature", "The envelope's signature does not match its content.") from error
    return parsed.payload


def signers(envelope: bytes, payload_type: str, keys: Mapping[str, Key], limit: int) -> list[str]:
    """The key ids of those of `keys` whose signature holds, sorted; errors as of `verify`."""
    found = []
    for keyid, key in sorted(keys.items()):
        try:
            verify(envelope, payload_type, {keyid: key}, limit)
        except Untrusted as error:
            if error.code not in ("dsse.unknown_key", "dsse.bad_signature"):
                raise
            continue
        found.append(keyid)
    return found


def _parse(envelope: bytes, limit: int) -> Envelope:
    try:
        raw = canonical.loads_as(envelope, _Envelope, limit=limit, what="envelope")
    except InvalidInput as error:
        raise InvalidInput("dsse.malformed", error.message) from error
    signatures = {entry.keyid: Signature(entry.keyid, _base64(entry.sig).hex()) for entry in raw.signatures}
    if len(signatures) != len(raw.signatures):
        raise InvalidInput("dsse.malformed", "The envelope has two signatures of the same key.")
    return Envelope(_base64(raw.payload), raw.payload_type, signatures)


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidInput("dsse.malformed", "The envelope has a field that is not base64.") from error
