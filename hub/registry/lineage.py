"""Where a version comes from: the lineage fields of its manifest and the chain of its parents. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from hub.store.registry import VersionRow

__all__ = ["Ancestor", "Ancestry", "ancestry"]

_MAX_ANCESTORS_COUNT = 100


class Ancestor(msgspec.Struct, frozen=True, kw_only=True):
    """A version that this one comes from; `registered` False: this hub has never seen it."""

    version: int
    registered: bool


class Ancestry(msgspec.Struct, frozen=True, kw_only=True):
    """`lineage` as in the manifest; `ancestors` from the parent on; `children`: versions made from this one.

    `complete` False: the chain is longer than what is shown, or it runs in a circle.
    """

    model: str
    version: int
    bundle_sha256: str
    lineage: dict[str, Any]
    ancestors: list[Ancestor]
    children: list[int]
    complete: bool


def ancestry(row: VersionRow, parents: Mapping[int, int | None]) -> Ancestry:
    """The lineage of a version, from the parents of all versions of its model."""
    chain: list[Ancestor] = []
    seen = {row.version}
    at = row.parent_version
    while at is not None and at not in seen and len(chain) < _MAX_ANCESTORS_COUNT:
        chain.append(Ancestor(version=at, registered=at in parents))
        seen.add(at)
        at = parents.get(at)
    return Ancestry(
        model=row.model,
        version=row.version,
        bundle_sha256=row.bundle_sha256,
        lineage=json.loads(row.manifest).get("lineage", {}),
        ancestors=chain,
        children=sorted(version for version, parent in parents.items() if parent == row.version),
        complete=at is None,
    )
