"""The public keys that may sign assignments: a TUF target of the top-level role, so that only offline keys change them.

Target path `skerry/assignment-keys.json`, content `{"schema_version": 1, "keys": {key id: TUF key}}` in canonical JSON.
An agent reads it through its TUF client before it believes an assignment.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from securesystemslib.signer import Key

from shared import canonical
from shared.errors import InvalidInput

__all__ = ["ASSIGNMENT_KEYS_PATH", "MAX_ASSIGNMENT_KEYS_BYTES", "build_assignment_keys", "parse_assignment_keys"]

ASSIGNMENT_KEYS_PATH = "skerry/assignment-keys.json"
MAX_ASSIGNMENT_KEYS_BYTES = 64 * 1024
KeyId = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]


class _Document(msgspec.Struct, frozen=True, kw_only=True):
    schema_version: Literal[1]
    keys: Annotated[dict[KeyId, dict[str, Any]], Meta(min_length=1, max_length=16)]


def build_assignment_keys(keys: Iterable[Key]) -> bytes:
    """The document that lists these keys."""
    return canonical.dumps({"schema_version": 1, "keys": {key.keyid: key.to_dict() for key in keys}})


def parse_assignment_keys(data: bytes) -> dict[str, Key]:
    """Keys by key id; error `trust.assignment_keys`."""
    try:
        document = canonical.loads_as(data, _Document, limit=MAX_ASSIGNMENT_KEYS_BYTES, what="list of assignment keys")
        return {keyid: Key.from_dict(keyid, dict(key)) for keyid, key in document.keys.items()}
    except (InvalidInput, KeyError, TypeError, ValueError) as error:
        raise InvalidInput("trust.assignment_keys", f"The list of assignment keys is malformed: {error}") from error
