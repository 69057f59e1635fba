"""A model with approved versions on a hub of one's own: keys, a model, its gate, its signatures, before it serves.

Rules: nothing is left out. The models are small but real (dense, int8, made without training); the gate measures them
on separable data; a reviewer's key signs. So a real agent may join the simulated fleet and install the same versions.
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from securesystemslib.signer import CryptoSigner

from hub.modelkit import dense_relu, quantise_int8, softmax_head
from hub.provision import provision
from hub.registry.models import ModelChange
from hub.settings import HubSettings
from hub.trust import metadata
from hub.wiring import Hub, build_hub
from shared.assignment_keys import ASSIGNMENT_KEYS_PATH, build_assignment_keys
from shared.bundle.build import build_bundle
from shared.bundle.manifest import TensorSpec

__all__ = ["MODEL", "prepare_hub"]

MODEL = "simulated"
_WHO = "fleet-sim"
_YEAR_S = 365 * 86_400
_INPUTS, _CLASSES = 64, 4
Floats = NDArray[np.float32]


def prepare_hub(settings: HubSettings, *, versions: int, bake_s: int, bundle_bytes: int) -> None:
    """Make the data folder, publish trust, and approve `versions` versions of about `bundle_bytes` each."""
    provision(settings)
    hub = build_hub(settings)
    try:
        root, reviewer = CryptoSigner.generate_ed25519(), CryptoSigner.generate_ed25519()
        _publish_trust(hub, root)
        hub.models.create(MODEL, ModelChange(description="For the fleet simulator.", bake_s=bake_s), _WHO)
        _appoint(hub, root, reviewer)
        dataset = _held_out(hub)
        for version in range(1, versions + 1):
            _release(hub, reviewer, version, dataset, bundle_bytes)
    finally:
        hub.close()


def _publish_trust(hub: Hub, root: CryptoSigner) -> None:
    online, quorum = hub.trust.online_keys(), metadata.Quorum((root.public_key,), 1)
    files = {ASSIGNMENT_KEYS_PATH: build_assignment_keys([online.assignment])}
    expires_s = hub.clock.now() + _YEAR_S
    first = metadata.build_root(quorum, quorum, online.online, version=1, expires_s=expires_s)
    targets = metadata.build_targets(files, {}, version=1, expires_s=expires_s)
    hub.trust.bootstrap(metadata.sign(first, root), metadata.sign(targets, root), files, _WHO)


def _appoint(hub: Hub, root: CryptoSigner, reviewer: CryptoSigner) -> None:
    current = hub.trust.current("targets")
    if current is None:
        raise LookupError("the hub published no targets")
    quorum = metadata.Quorum((reviewer.public_key,), 1)
    data = metadata.revise_targets(current, models={MODEL: quorum}, expires_s=hub.clock.now() + _YEAR_S)
    hub.trust.propose("targets", metadata.sign(data, root), _WHO)


def _release(hub: Hub, reviewer: CryptoSigner, version: int, dataset: str, bundle_bytes: int) -> None:
    path = Path(hub.settings.data_dir) / f"{MODEL}-{version}.bundle"
    _write_bundle(path, version, bundle_bytes)
    upload = hub.versions.receive()
    try:
        upload.write(path.read_bytes())
        hub.versions.register(MODEL, upload, _WHO)
    finally:
        upload.discard()
        path.unlink()
    gate = hub.gates.evaluate(MODEL, version, dataset, _WHO)
    if not gate.passed:
        raise RuntimeError(f"the simulated model failed its gate: {gate.checks}")
    staged = hub.trust.stage_release(MODEL, version, _WHO)
    signature = metadata.make_signature(staged.data, reviewer)
    hub.trust.add_signature(staged.role, staged.version, signature.keyid, signature.signature, _WHO)


def _samples(count: int) -> tuple[Floats, NDArray[np.int64]]:
    """Rows whose class is the quarter of the inputs that is bright."""
    random = np.random.default_rng(7)
    y = random.integers(0, _CLASSES, count)
    x = random.uniform(0.0, 0.4, (count, _INPUTS)).astype(np.float32)
    for row, quarter in enumerate(y):
        x[row, quarter * _INPUTS // _CLASSES : (quarter + 1) * _INPUTS // _CLASSES] += 0.6
    return x, y.astype(np.int64)


def _held_out(hub: Hub) -> str:
    x, y = _samples(200)
    file = BytesIO()
    np.savez_compressed(file, x=x, y=y)
    upload = hub.datasets.receive()
    try:
        upload.write(file.getvalue())
        return hub.datasets.add(upload, "simulated", _WHO).sha256
    finally:
        upload.discard()


def _write_bundle(path: Path, version: int, bundle_bytes: int) -> None:
    """Sums over the quarters, and as much that does nothing as makes up the size (other bytes in every version)."""
    random = np.random.default_rng(version)
    width = max(8, bundle_bytes // _INPUTS)
    w = random.normal(0.0, 0.05, (_INPUTS, width)).astype(np.float32)
    head = np.zeros((_CLASSES, width), np.float32)
    for quarter in range(_CLASSES):
        w[:, quarter] = 0.0
        w[quarter * _INPUTS // _CLASSES : (quarter + 1) * _INPUTS // _CLASSES, quarter] = 0.2
        head[quarter, quarter] = 4.0
    x, _ = _samples(64)
    build_bundle(
        path,
        model=MODEL,
        version=version,
        extractor=quantise_int8(dense_relu([(w, np.zeros(width, np.float32))]), x),
        head=softmax_head(width, _CLASSES),
        weights={"w": head, "b": np.zeros(_CLASSES, np.float32)},
        input=TensorSpec(name="x", dtype="float32", shape=[_INPUTS]),
        output=TensorSpec(name="probs", dtype="float32", shape=[_CLASSES]),
        preprocessing=[],
        labels=[f"quarter {number + 1}" for number in range(_CLASSES)],
        golden_inputs=x[:4],
        card=f"# Simulated {version}\n\nFor the fleet simulator.\n",
    )
