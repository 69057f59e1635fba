"""A registry with a base version whose head is worse than it could be, and the outcome of a run that made it better."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hub.federated.definition import RunDefinition
from hub.federated.evaluation import DeviceEvaluation, Evaluation, summarise
from hub.federated.handover import HandOver
from hub.federated.outcome import RunOutcome
from hub.federated.trial import Trial
from hub.gates.datasets import DatasetService
from hub.gates.protocol import Limits
from hub.gates.runner import GateRunner
from hub.gates.service import GateService
from hub.registry.models import ModelChange
from hub.store import registry
from hub.store.blobs_index import DatasetRow
from hub.store.page import PageRequest
from hub.store.registry import GateRow, VersionRow
from shared.bundle.archive import read_bundle
from shared.bundle.manifest import Manifest
from shared.drift.build import ReferenceData
from shared.federated.vector import flatten
from tests.fleet_kit import FleetKit
from tests.models import digits_bundle, digits_model, load_digits

__all__ = ["HandOverKit", "changed_paths", "evaluation", "finished"]

_LIMITS = Limits(timeout_s=90.0)
COHORT = ("cam-1", "cam-2", "cam-3")


def evaluation(accuracy: float, base: float, devices: int = 3) -> Evaluation | None:
    """Devices that all measured the same."""
    found = [
        DeviceEvaluation(
            device_id=f"cam-{n}", examples=20, accuracy=accuracy, loss=0.5, base_accuracy=base, base_loss=0.6
        )
        for n in range(1, devices + 1)
    ]
    return summarise(4, found, dict.fromkeys(COHORT, "pi"), {"hall": ["cam-1"]})


def finished(**more: Any) -> RunOutcome:
    """A finished run, whose weights are those of a good head."""
    arguments: dict[str, Any] = {
        "run_id": "f-0123456789ab",
        "definition": RunDefinition(model="digits"),
        "base_version": 1,
        "weights": flatten(digits_model(1).weights),
        "rounds": 30,
        "cohort": COHORT,
        "bytes_up": 1000,
        "bytes_down": 2000,
        "evaluation": evaluation(0.9, 0.7),
    }
    return RunOutcome(**{**arguments, **more})


class HandOverKit(FleetKit):
    """The services of a hand-over. Version 1 is the base; its weights are those of a good head, shaken."""

    def __init__(self, folder: Path, database_url: str) -> None:
        super().__init__(folder, database_url)
        self.datasets = DatasetService(self.db, self.clock, self.audit, self.blobs)
        runner = GateRunner(folder / "scratch", _LIMITS)
        self.gates = GateService(self.db, self.clock, self.audit, self.blobs, runner, 0.8)
        self.trial = Trial(_LIMITS)
        self.models.create("digits", ModelChange(), "dana")

    def base(self, version: int = 1, **more: Any) -> VersionRow:
        """Register the base."""
        good = digits_model(1).weights
        rng = np.random.default_rng(0)
        shaken = {k: (v + rng.normal(0, 0.4, v.shape)).astype(np.float32) for k, v in good.items()}
        data = load_digits()
        arguments: dict[str, Any] = {"seed": 1, "weights": shaken}
        arguments["reference"] = ReferenceData(data.train_x[:200], data.train_y[:200])
        path = self.folder / f"base-{version}.bundle"
        digits_bundle(path, version, **{**arguments, **more})
        return self.upload(path).version

    def outcome(self, **more: Any) -> RunOutcome:
        """A finished run on version 1."""
        return finished(**{"base_bundle_sha256": self.versions.get("digits", 1).bundle_sha256, **more})

    def hand_over(self, **parts: Any) -> HandOver:
        """The service; `parts` replace those that work."""
        arguments = {"versions": self.versions, "gates": self.gates, "trial": self.trial, **parts}
        return HandOver(self.db, self.blobs, scratch=self.folder / "scratch", **arguments)

    def dataset(self, rows: int = 540) -> DatasetRow:
        """Keep the digits' test data, on which version 1 passed a gate once."""
        data, path = load_digits(), self.folder / "held-out.npz"
        np.savez_compressed(path, x=data.test_x[:rows], y=data.test_y[:rows])
        upload = self.datasets.receive()
        try:
            upload.write(path.read_bytes())
            row = self.datasets.add(upload, "held-out", "dana")
        finally:
            upload.discard()
        passed = GateRow(
            gate_id=0, model="digits", version=1, dataset_sha256=row.sha256, dataset_name=row.name, passed=True,
            metrics={}, checks=[], at_s=self.clock.now(), by="dana",
        )  # fmt: skip
        with self.db.write() as connection:
            registry.insert_gate_result(connection, passed)
        return row

    def all_versions(self) -> list[int]:
        """The numbers that are registered."""
        return sorted(row.version for row in self.versions.page("digits", PageRequest(limit=50)))

    def contents(self, version: int) -> tuple[Manifest, dict[str, bytes]]:
        """A registered bundle, read whole."""
        found: dict[str, bytes] = {}
        path = self.blobs.local_path(self.versions.get("digits", version).bundle_sha256)
        manifest = read_bundle(path, lambda entry, chunks: found.update({entry.path: b"".join(chunks)}))
        return manifest, found


def changed_paths(before: dict[str, bytes], after: dict[str, bytes]) -> Sequence[str]:
    """The files that differ."""
    return sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
