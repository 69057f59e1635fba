"""From a finished run to a candidate version in the registry, and through its gate.

The candidate is the base version with other weights of its head. It goes the way of every version: registered by the
registry's own service, held to its model's gate, and then it waits for signatures as any other.

Rules: the same run is never registered twice, whenever the hub was killed (the registry itself is asked which version
names the run, and only the hub can register under its name); nothing is registered before all of it is made; a
candidate that fails its gate stays, rejected, so that one can look at it; errors that say `retriable` mean that
`finish` may be called again and goes on where it stood.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from pathlib import Path

from hub.blobs.store import BlobStore
from hub.federated.assembly import Assembly, assemble
from hub.federated.evaluation import dropped
from hub.federated.outcome import HandedOver, RunOutcome
from hub.federated.trial import Trial
from hub.gates.service import GateService
from hub.registry.versions import VersionService
from hub.store import blobs_index, registry
from hub.store.blobs_index import DatasetRow
from hub.store.database import Database
from hub.store.registry import GateRow, Status, VersionRow
from shared import canonical, limits
from shared.bundle.manifest import Manifest
from shared.errors import Conflict, SkerryError

__all__ = ["ACTOR", "HandOver", "refusal"]

ACTOR = "hub:federated"
_TRIES = 5
_PREFIX = "candidate-"
_LEFT_S = 3600.0


def refusal(outcome: RunOutcome) -> HandedOver | None:
    """Why the outcome is not worth a version by what devices measured; None when it is."""
    rule, found = outcome.definition.evaluation, outcome.evaluation
    if not outcome.definition.evaluates:
        return None
    answered = 0 if found is None else found.whole.devices
    if answered < rule.min_devices:
        return HandedOver(
            code="federated.not_evaluated",
            reason=f"{answered} devices evaluated the new weights; evaluation.min_devices is {rule.min_devices}.",
        )
    if found is not None and dropped(found) > rule.max_drop:
        whole = found.whole
        return HandedOver(
            code="federated.accuracy_dropped",
            reason=f"On the devices' held-out samples the accuracy is {whole.accuracy:.4f}, and that of version "
            f"{outcome.base_version} {whole.base_accuracy:.4f}; evaluation.max_drop is {rule.max_drop:g}.",
        )
    return None


class HandOver:
    """Makes candidates. `scratch`: a folder for what is unfinished."""

    def __init__(
        self,
        db: Database,
        blobs: BlobStore,
        versions: VersionService,
        gates: GateService,
        trial: Trial,
        scratch: Path,
    ) -> None:
        self._db = db
        self._blobs = blobs
        self._versions = versions
        self._gates = gates
        self._trial = trial
        self._scratch = scratch
        self._lock = threading.Lock()

    def stop(self) -> None:
        """End what runs, because the hub ends."""
        self._trial.stop()

    def finish(self, outcome: RunOutcome) -> HandedOver:
        """The candidate of a finished run, registered and gated; takes seconds, and minutes where the gate does.

        Called again with the same outcome it gives the same answer. Errors: `version.unknown`, `version.withdrawn`,
        `version.collected`, `federated.base`, `update.shape`, `update.not_finite`, `federated.trial_failed`,
        `federated.stopped`, `gate.busy`, `gate.policy_changed`, and those that say that a bundle cannot be run.
        """
        refused = refusal(outcome)
        if refused is not None:
            return refused
        with self._lock:
            row = self._known(outcome)
            if row is None:
                row = self._register(outcome)
            return self._gate(row, outcome)

    def _known(self, outcome: RunOutcome) -> VersionRow | None:
        """The version that this run has become already."""
        with self._db.read() as connection:
            numbers = registry.children(connection, outcome.definition.model, outcome.base_version, ACTOR)
            rows = [registry.get_version(connection, outcome.definition.model, number) for number in numbers]
        return next((row for row in rows if _run_of(row) == outcome.run_id), None)

    def _register(self, outcome: RunOutcome) -> VersionRow:
        model = outcome.definition.model
        for _ in range(_TRIES):
            base, dataset, version = self._start(outcome)
            upload = self._versions.receive()
            try:
                self._sweep()
                with tempfile.TemporaryDirectory(dir=self._scratch, prefix=_PREFIX) as folder:
                    assemble(self._assembly(outcome, base, dataset, version, Path(folder)), self._trial, upload)
                return self._versions.register(model, upload, ACTOR).version
            except Conflict as error:
                if error.code != "version.exists":
                    raise
            finally:
                upload.discard()
        raise Conflict(
            "version.exists", f"Others register versions of {model} all the time.", hint="Repeat.", retriable=True
        )

    def _sweep(self) -> None:
        """Remove what hand-overs have left behind whose hub was killed."""
        self._scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in self._scratch.glob(f"{_PREFIX}*"):
            if folder.stat().st_mtime < time.time() - _LEFT_S:
                shutil.rmtree(folder, ignore_errors=True)

    def _start(self, outcome: RunOutcome) -> tuple[VersionRow, DatasetRow | None, int]:
        model = outcome.definition.model
        with self._db.read() as connection:
            base = registry.get_version(connection, model, outcome.base_version)
            dataset = blobs_index.dataset_of_gates(connection, model, outcome.base_version)
            version = max(registry.parents(connection, model)) + 1
        if base.bundle_sha256 != outcome.base_bundle_sha256:
            raise Conflict("federated.base", f"Version {base.version} of {model} is not the bundle that was trained.")
        if base.status is Status.WITHDRAWN:
            raise Conflict("version.withdrawn", f"Version {base.version} of {model} is withdrawn.")
        if not base.available:
            raise Conflict("version.collected", "The bundle of the base version is gone.", hint="Register it again.")
        return base, dataset, version

    def _assembly(
        self, outcome: RunOutcome, base: VersionRow, dataset: DatasetRow | None, version: int, folder: Path
    ) -> Assembly:
        return Assembly(
            outcome=outcome,
            version=version,
            bundle=self._blobs.local_path(base.bundle_sha256),
            bundle_bytes=base.bundle_bytes,
            card=base.card,
            dataset=None if dataset is None else self._blobs.local_path(dataset.sha256),
            dataset_name="" if dataset is None else dataset.name,
            folder=folder,
        )

    def _gate(self, row: VersionRow, outcome: RunOutcome) -> HandedOver:
        with self._db.read() as connection:
            done = registry.latest_gate_result(connection, row.model, row.version)
            dataset = blobs_index.dataset_of_gates(connection, row.model, outcome.base_version)
        if done is not None:
            return _judged(row, done)
        if dataset is None:
            return HandedOver(
                version=row.version,
                bundle_sha256=row.bundle_sha256,
                code="federated.no_dataset",
                reason=f"No gate of {row.model} has been run on a data set that is still here; run one by hand.",
            )
        try:
            return _judged(row, self._gates.evaluate(row.model, row.version, dataset.sha256, ACTOR))
        except SkerryError as error:
            if error.retriable:
                raise
            return HandedOver(
                version=row.version, bundle_sha256=row.bundle_sha256, code=error.code, reason=error.message
            )


def _run_of(row: VersionRow) -> str:
    manifest = canonical.loads_as(row.manifest.encode(), Manifest, limit=limits.MAX_MANIFEST_BYTES, what="manifest")
    return manifest.lineage.training_run


def _judged(row: VersionRow, gate: GateRow) -> HandedOver:
    failed = [check["reason"] or f"{check['metric']} failed." for check in gate.checks if not check["passed"]]
    return HandedOver(
        version=row.version,
        bundle_sha256=row.bundle_sha256,
        gate_id=gate.gate_id,
        gate_passed=gate.passed,
        code="" if gate.passed else "federated.gate_failed",
        reason=" ".join(failed)[:400],
    )
