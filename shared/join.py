"""The join string: all that a device needs in order to enrol, in one line that a person can paste.

`skerry-join:<base64url of JSON>` with the hub's URL, the one-time token, the SHA-256 of the hub's CA certificate (DER)
so that the first connection already knows whom it talks to, and optionally the SHA-256 of the TUF root metadata, put
there by someone who has the root from its signers and not from the hub.
"""

from __future__ import annotations

import base64
import binascii
from typing import Annotated

import msgspec
from msgspec import Meta

from shared import canonical
from shared.errors import InvalidInput
from shared.wire.types import Sha256

__all__ = ["Join", "decode_join", "encode_join"]

_PREFIX = "skerry-join:"
_LIMIT = 4096


class Join(msgspec.Struct, frozen=True, kw_only=True):
    """What the join string holds."""

    hub_url: Annotated[str, Meta(pattern=r"^https://[^\s/]+\Z", max_length=512)]
    token: Annotated[str, Meta(max_length=128)]
    ca_sha256: Sha256
    tuf_root_sha256: Sha256 | None = None


def encode_join(join: Join) -> str:
    """The join string."""
    return _PREFIX + base64.urlsafe_b64encode(canonical.dumps(join)).decode().rstrip("=")


def decode_join(text: str) -> Join:
    """The content of a join string; error `join.malformed`."""
    body = text.strip()
    if not body.startswith(_PREFIX) or len(body) > _LIMIT:
        raise InvalidInput(
            "join.malformed",
            "This is not a join string.",
            hint="Copy the whole line that `skerry devices token` printed; it starts with skerry-join:.",
        )
    encoded = body[len(_PREFIX) :]
    try:
        raw = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidInput("join.malformed", "The join string is damaged.", hint="Copy it again as a whole.") from error
    try:
        return canonical.loads_as(raw, Join, limit=_LIMIT, what="join string")
    except InvalidInput as error:
        raise InvalidInput("join.malformed", error.message, hint="Copy the join string again as a whole.") from error
