"""Bounded field types that the wire structs share."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from shared import ids, limits

DeviceId = Annotated[str, Meta(pattern=ids.DEVICE_PATTERN)]
ModelName = Annotated[str, Meta(pattern=ids.MODEL_PATTERN)]
Version = Annotated[int, Meta(ge=1, le=ids.MAX_VERSION)]
Sha256 = Annotated[str, Meta(pattern=ids.SHA256_PATTERN)]
Seq = Annotated[int, Meta(ge=1, le=limits.MAX_SEQ)]
Count = Annotated[int, Meta(ge=0, le=limits.MAX_SEQ)]
TimeS = Annotated[float, Meta(ge=0, le=limits.MAX_CLOCK_S)]
"""Seconds since 1970 as the sender's clock says; a device's clock may be wrong."""
Code = Annotated[str, Meta(max_length=64)]
Text = Annotated[str, Meta(max_length=limits.MAX_REASON_CHARS)]
Word = Annotated[str, Meta(max_length=128)]
Traceparent = Annotated[str, Meta(pattern=r"^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}\Z")]
"""W3C Trace Context. A hint for people who look at traces; nothing is decided by it."""
Epoch = Annotated[str, Meta(pattern=r"^[0-9a-f]{16}\Z")]
