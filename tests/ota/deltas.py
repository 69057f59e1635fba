"""A `HubSim` that offers a delta: what a device asks, the offer, and the delta's own address."""

from __future__ import annotations

import hashlib
import io
import tempfile
from dataclasses import dataclass
from pathlib import Path

import msgspec

from shared.delta.encode import encode_delta
from shared.wire.delta import DeltaOffer
from tests.ota.hub_sim import HubSim

__all__ = ["DELTAS", "Offered", "offer_delta"]

DELTAS = "/v1/deltas/"


@dataclass(frozen=True)
class Offered:
    """What a hub offers. `ask`, `get`: the paths."""

    ask: str
    get: str
    delta: bytes


def offer_delta(
    hub: HubSim, old: bytes, new: bytes, *, delta: bytes | None = None, asked_from: tuple[bytes, ...] = ()
) -> Offered:
    """Offer a delta (or `delta` in its place) to devices that ask with the bundles `asked_from`, or `old` alone."""
    data = _encoded(old, new) if delta is None else delta
    old_sha, new_sha = _sha256(old), _sha256(new)
    query = "&".join(f"from={_sha256(one)}" for one in asked_from or (old,))
    offered = Offered(f"{DELTAS}{new_sha}?{query}", f"{DELTAS}{new_sha}/{old_sha}", data)
    offer = DeltaOffer(from_sha256=old_sha, to_sha256=new_sha, sha256=_sha256(data), bytes=len(data))
    hub.replace[offered.ask] = msgspec.json.encode(offer)
    hub.replace[offered.get] = data
    return offered


def _encoded(old: bytes, new: bytes) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        paths = Path(folder) / "old", Path(folder) / "new"
        for path, data in zip(paths, (old, new), strict=True):
            path.write_bytes(data)
        out = io.BytesIO()
        encode_delta(*paths, out)
        return out.getvalue()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
