"""What the hub says about a delta to a device that holds other bundles, JSON."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from shared import limits
from shared.wire.types import Sha256

__all__ = ["DeltaOffer"]


class DeltaOffer(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /v1/deltas/<to>?from=…`: the delta from one of the bundles named, and what to fetch.

    `sha256` and `bytes` are the delta's own. They only help to carry it: what it gives is held to the signed release.
    """

    schema_version: int = 1
    from_sha256: Sha256
    to_sha256: Sha256
    sha256: Sha256
    bytes: Annotated[int, Meta(ge=1, le=limits.MAX_BUNDLE_BYTES)]
