"""Putting a candidate's bundle together: the base's files, the new weights, and what the trial says of them.

The archive is composed here, from bytes that the hub has read and verified itself; the trial's child only adds what it
was asked for, and each of that is checked when the bundle is registered.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import msgspec
import numpy as np

from hub.federated.candidate import candidate_lineage, candidate_manifest, write_card
from hub.federated.outcome import RunOutcome
from hub.federated.trial import Trial, TrialResponse
from shared.bundle.archive import unpack_bundle, write_bundle
from shared.bundle.manifest import Manifest
from shared.errors import Conflict, InternalError, InvalidInput
from shared.federated.vector import unflatten
from shared.runtime.arrays import array_bytes, load_array, parse_array

__all__ = ["Assembly", "assemble"]

_CARD, _CALIBRATION = "card.md", "calibration.json"


class Assembly(msgspec.Struct, frozen=True, kw_only=True):
    """What goes into a candidate. bundle: the base's, as a file. dataset: what its gates use. folder: empty, for us."""

    outcome: RunOutcome
    version: int
    bundle: Path
    bundle_bytes: int
    card: str
    dataset: Path | None
    dataset_name: str
    folder: Path


class _Out(Protocol):
    def write(self, chunk: bytes, /) -> object: ...


def assemble(parts: Assembly, trial: Trial, out: _Out) -> Manifest:
    """Write the candidate's bundle to `out`; its manifest. Errors as `HandOver.finish`."""
    outcome, folder = parts.outcome, parts.folder / "bundle"
    base = unpack_bundle(
        parts.bundle, folder, expected_sha256=outcome.base_bundle_sha256, expected_bytes=parts.bundle_bytes
    )
    changed = _weights(base, folder, outcome)
    for path, data in changed.items():
        (folder / path).write_bytes(data)
    said = trial.run(folder, parts.dataset, parts.folder)
    changed[base.golden.outputs] = _golden(said, folder / base.golden.outputs)
    reference, named = _reference(base, said, changed, parts)
    named["card"] = base.card or _CARD
    changed[base.card or _CARD] = write_card(outcome, parts.version, parts.card).encode()
    manifest = candidate_manifest(base, parts.version, candidate_lineage(outcome, reference), changed, named)
    write_bundle(out, manifest, {e.path: changed.get(e.path, folder / e.path) for e in manifest.files})
    return manifest


def _weights(base: Manifest, folder: Path, outcome: RunOutcome) -> dict[str, bytes]:
    """The head's new weights by path, in the shapes of the old ones."""
    if base.head is None:
        raise Conflict("federated.base", f"Version {base.version} of {base.model} has no head that can be trained.")
    if not np.isfinite(outcome.weights).all():
        raise InvalidInput("update.not_finite", "The run's weights hold NaN or infinity.")
    shapes = {name: load_array(folder / path).shape for name, path in base.head.weights.items()}
    fresh = unflatten(outcome.weights, shapes)
    return {path: array_bytes(fresh[name]) for name, path in base.head.weights.items()}


def _golden(said: TrialResponse, old: Path) -> bytes:
    """The golden outputs; they must be such as the base's."""
    fresh = parse_array(said.golden, "golden outputs")
    if fresh.shape != load_array(old).shape or fresh.dtype != np.float32 or not np.isfinite(fresh).all():
        raise InternalError("federated.trial_failed", "The candidate's golden outputs are not like the base's.")
    return said.golden


def _reference(
    base: Manifest, said: TrialResponse, changed: dict[str, bytes], parts: Assembly
) -> tuple[str, dict[str, str | None]]:
    """What the reference is of, in words, and where it and the calibration stand; a new one goes into `changed`.

    A reference that cannot be counted anew stays, because it still says what the input should be. A calibration does
    not: it would be the old head's word about the new one's scores, and no estimate is better than a wrong one.
    """
    if base.reference is None:
        return "", {}
    if not said.reference:
        why = "" if said.kept is None else f" ({said.kept.code})"
        return f"of version {base.version}{why}", {"reference": base.reference, "calibration": None}
    changed[base.reference] = said.reference
    named: dict[str, str | None] = {"reference": base.reference, "calibration": None}
    if said.calibration:
        named["calibration"] = base.calibration or _CALIBRATION
        changed[base.calibration or _CALIBRATION] = said.calibration
    return f"input of version {base.version}; predictions on {parts.dataset_name}", named
