"""The version that a run begins from: which one it is, and its head's weights out of its bundle.

Rules: without a version in the definition it is the one that `production` names, else the newest approved one, because
that is what devices serve; every byte that is read is held against the manifest's digest.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hub.blobs.store import BlobStore
from hub.store import models, registry
from hub.store.blobs_index import require_bundle
from hub.store.database import Connection
from hub.store.models import PRODUCTION
from hub.store.page import PageRequest
from hub.store.registry import Status, VersionRow
from shared import limits
from shared.bundle.archive import parse_manifest
from shared.bundle.layout import spans
from shared.bundle.manifest import Manifest
from shared.errors import Conflict, StorageFailure
from shared.federated.vector import flatten, sizes
from shared.runtime.arrays import parse_array

__all__ = ["Base", "base_version", "load_base"]

Vector = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """A version whose head can be trained. weights: one flat vector; sizes: elements of each variable in it."""

    model: str
    version: int
    bundle_sha256: str
    manifest: Manifest
    sizes: tuple[int, ...]
    weights: Vector


def base_version(connection: Connection, model: str, version: int | None) -> VersionRow:
    """The version to begin from; errors `model.unknown`, `version.unknown`, `version.collected`, `federated.no_base`.

    `federated.withdrawn`: it is not to be deployed again, and neither is what comes of it.
    """
    models.get_model(connection, model)
    if version is None:
        version = models.alias_version(connection, model, PRODUCTION) or _newest_approved(connection, model)
    row = registry.get_version(connection, model, version)
    if row.status is Status.WITHDRAWN:
        raise Conflict("federated.withdrawn", f"Version {version} of {model} is withdrawn.", hint="Name another one.")
    require_bundle(connection, row.bundle_sha256)
    return row


def _newest_approved(connection: Connection, model: str) -> int:
    found = registry.list_versions(connection, model, PageRequest(limit=1), [Status.APPROVED])
    if not found:
        raise Conflict(
            "federated.no_base",
            f"No version of {model} is approved, so no device can have one to train.",
            hint="Approve and roll out a version with a trainable head first, or name one with `version`.",
        )
    return found[0].version


def load_base(blobs: BlobStore, row: VersionRow) -> Base:
    """The version with its head's weights; errors `federated.no_head`, `federated.too_large`, `blob.*`, `array.*`."""
    manifest = parse_manifest(row.manifest.encode())
    if manifest.head is None:
        raise Conflict(
            "federated.no_head",
            f"Version {row.version} of {row.model} has no head that could be trained.",
            hint="Build a version with a head: `skerry versions build --help`.",
        )
    found = {name: _weights(blobs, row, manifest, path) for name, path in manifest.head.weights.items()}
    lengths = sizes({name: array.shape for name, array in found.items()})
    if not 0 < sum(lengths) <= limits.MAX_FEDERATED_WEIGHTS_COUNT:
        raise Conflict(
            "federated.too_large",
            f"The head has {sum(lengths)} weights; a run can have {limits.MAX_FEDERATED_WEIGHTS_COUNT}.",
        )
    return Base(
        model=row.model,
        version=row.version,
        bundle_sha256=row.bundle_sha256,
        manifest=manifest,
        sizes=lengths,
        weights=flatten(found),
    )


def _weights(blobs: BlobStore, row: VersionRow, manifest: Manifest, path: str) -> NDArray[np.generic]:
    for span in spans(len(row.manifest.encode()), manifest.files):
        entry = span.entry
        if entry is None or entry.path != path:
            continue
        data = b"".join(blobs.open_range(row.bundle_sha256, span.content, span.content + entry.bytes - 1))
        if hashlib.sha256(data).hexdigest() == entry.sha256:
            return parse_array(data, path)
    raise StorageFailure(
        "blob.damaged", f"The bundle of {row.model}/{row.version} has another {path} than its manifest says."
    )
