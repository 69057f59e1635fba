"""The hub's services over a real database and real files, without a server, trust keys or models.

    kit = FleetKit(tmp_path, database_url)
    kit.add_device("pi-1", profile="raspberry-pi-4", tags={"site": "north"})
    kit.register("digits", 1); kit.approve("digits", 1)   # a tiny bundle whose models nobody loads
    kit.deployments.create("digits", 1, "all", "", "olga")
    kit.report("pi-1", "digits", version=1, state="committed")

Signatures are at a seam (`Approvals`, `Signatures`), everything else is what the hub runs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import insert, select, update

from hub.audit.log import AuditLog
from hub.blobs.files import FileBlobs
from hub.deployments.assignments import AssignmentService
from hub.deployments.compatibility import Compatibility
from hub.deployments.desired import DesiredStates
from hub.deployments.service import DeploymentService
from hub.filters.service import DeviceFilters
from hub.registry.aliases import AliasService
from hub.registry.models import ModelChange, ModelService
from hub.registry.releases import ReleaseGuard
from hub.registry.versions import RegistryEntry, VersionService
from hub.store import registry, schema
from hub.store.database import Database
from hub.store.registry import Status
from shared.bundle.archive import write_bundle
from shared.bundle.manifest import FileEntry, Golden, Head, Lineage, Manifest, ModelFile, Requirements, TensorSpec
from shared.errors import Conflict
from shared.runtime.arrays import array_bytes
from shared.wire.down import Assignment

__all__ = ["Approvals", "FleetKit", "ManualClock", "Signatures", "tiny_bundle"]

LIFETIME_S = 1000.0
ONLINE_S = 300.0


class ManualClock:
    """Stands still until the test moves it."""

    def __init__(self, now_s: float = 1_000_000.0) -> None:
        self.now_s = now_s

    def now(self) -> float:
        return self.now_s

    def monotonic(self) -> float:
        return self.now_s


class Approvals:
    """Which releases have enough signatures."""

    def __init__(self) -> None:
        self.releases: dict[tuple[str, int], tuple[str, int]] = {}

    def require_approved(self, model: str, version: int) -> tuple[str, int]:
        if (model, version) not in self.releases:
            raise Conflict("release.not_approved", f"{model} version {version} is not approved.")
        return self.releases[model, version]


class Signatures:
    """Signs with a marker and remembers what was signed."""

    def __init__(self) -> None:
        self.signed: list[Assignment] = []

    def assignment_signer(self) -> Signatures:
        return self

    def sign(self, assignment: Assignment) -> bytes:
        self.signed.append(assignment)
        return f"signed:{assignment.model}/{assignment.version}#{assignment.counter}".encode()


def tiny_bundle(
    path: Path,
    version: int,
    model: str = "digits",
    *,
    extractor: bytes = b"not a model",
    card: bytes | None = None,
    requirements: Requirements | None = None,
    lineage: Lineage | None = None,
    weights: Mapping[str, Any] | None = None,
    **more: Any,
) -> tuple[str, int]:
    """A bundle that is right in form; its digest and bytes. weights: arrays of a head that can be trained, by name."""
    files = {"model.tflite": extractor, "golden/inputs.npy": b"in", "golden/outputs.npy": b"out"}
    roles: dict[str, Any] = {"model.tflite": "model"}
    if card is not None:
        files["card.md"] = card
        roles["card.md"] = "card"
    if weights is not None:
        paths = {name: f"weights/{number}.npy" for number, name in enumerate(sorted(weights))}
        files |= {"head.tflite": b"no head", **{paths[name]: array_bytes(array) for name, array in weights.items()}}
        roles |= {"head.tflite": "head", **dict.fromkeys(paths.values(), "weights")}
        more["head"] = Head(path="head.tflite", weights=paths)
    entries = [
        FileEntry(path=p, bytes=len(data), sha256=hashlib.sha256(data).hexdigest(), role=roles.get(p, "golden"))
        for p, data in files.items()
    ]
    manifest = Manifest(
        model=model,
        version=version,
        input=TensorSpec(name="x", dtype="float32", shape=[4]),
        output=TensorSpec(name="y", dtype="float32", shape=[2]),
        extractor=ModelFile(path="model.tflite"),
        golden=Golden(inputs="golden/inputs.npy", outputs="golden/outputs.npy"),
        card=None if card is None else "card.md",
        requirements=requirements or Requirements(),
        lineage=lineage or Lineage(),
        files=entries,
        **more,
    )
    with path.open("wb") as out:
        return write_bundle(out, manifest, files)


class FleetKit:
    """One hub's services."""

    def __init__(self, folder: Path, database_url: str) -> None:
        self.folder = folder
        self.clock = ManualClock()
        self.db = Database(database_url)
        self.audit = AuditLog(self.db, self.clock)
        self.blobs = FileBlobs(folder / "blobs")
        self.models = ModelService(self.db, self.clock, self.audit)
        self.versions = VersionService(self.db, self.clock, self.audit, self.blobs)
        self.aliases = AliasService(self.db, self.clock, self.audit)
        self.guard = ReleaseGuard(self.db, self.clock, self.audit)
        self.approvals = Approvals()
        self.signatures = Signatures()
        self.woken = 0
        self.filters = DeviceFilters(self.clock, ONLINE_S)
        self.assignments = AssignmentService(self.db, self.clock, LIFETIME_S)
        self.deployments = DeploymentService(
            self.db, self.clock, self.audit, self.approvals, self.assignments, Compatibility(), self.filters, self._wake
        )
        self.desired = DesiredStates(self.db, self.clock, self.signatures)

    def _wake(self) -> None:
        self.woken += 1

    def close(self) -> None:
        self.db.close()

    # --- registry -----------------------------------------------------------------------------------------------------
    def upload(self, path: Path, model: str = "digits", actor: str = "dana") -> RegistryEntry:
        """Register the bundle in a file."""
        writer = self.versions.receive()
        try:
            writer.write(path.read_bytes())
            return self.versions.register(model, writer, actor)
        finally:
            writer.discard()

    def register(self, model: str, version: int, **bundle: Any) -> RegistryEntry:
        """Register a tiny bundle; the model is made if it is new."""
        with self.db.read() as connection:
            known = connection.execute(select(schema.models.c.model).where(schema.models.c.model == model)).first()
        if known is None:
            self.models.create(model, ModelChange(), "dana")
        path = self.folder / f"{model}-{version}.bundle"
        tiny_bundle(path, version, model, **bundle)
        return self.upload(path, model)

    def set_status(self, model: str, version: int, *steps: Status) -> None:
        """Take legal steps."""
        for step in steps:
            with self.db.write() as connection:
                row = registry.get_version(connection, model, version)
                registry.set_status(connection, row, step, self.clock.now())

    def approve(self, model: str, version: int) -> None:
        """Gate and approve, as the gate and the signatures would."""
        self.set_status(model, version, Status.GATED)
        row = self.versions.get(model, version)
        with self.db.write() as connection:
            self.guard.mark_approved(connection, model, version, "rita")
        self.approvals.releases[model, version] = (row.bundle_sha256, row.bundle_bytes)

    def release(self, model: str, *versions: int, **bundle: Any) -> None:
        """Register and approve versions."""
        for version in versions:
            self.register(model, version, **bundle)
            self.approve(model, version)

    # --- devices ------------------------------------------------------------------------------------------------------
    def add_device(
        self,
        device_id: str,
        profile: str = "raspberry-pi-4",
        tags: Mapping[str, str] | None = None,
        status: str = "active",
    ) -> None:
        """A device that is enrolled."""
        with self.db.write() as connection:
            connection.execute(
                insert(schema.devices).values(
                    device_id=device_id, status=status, profile=profile, hardware_id="", enrolled_s=0.0
                )
            )
            for key, value in (tags or {}).items():
                connection.execute(insert(schema.device_tags).values(device_id=device_id, key=key, value=value))

    def report(self, device_id: str, model: str = "digits", **columns: Any) -> None:
        """What the device says of a model, as the ingest would have written it."""
        table = schema.device_models
        same = (table.c.device_id == device_id, table.c.model == model)
        with self.db.write() as connection:
            if "version" in columns and columns["version"] is not None and "bundle_sha256" not in columns:
                row = registry.find_version(connection, model, columns["version"])
                columns["bundle_sha256"] = row.bundle_sha256 if row is not None else None
            columns["updated_s"] = self.clock.now()
            if connection.execute(select(table.c.model).where(*same)).first() is None:
                values = {"state": "idle", **columns}
                connection.execute(insert(table).values(device_id=device_id, model=model, **values))
            else:
                connection.execute(update(table).where(*same).values(**columns))

    def device(self, device_id: str) -> Mapping[str, Any]:
        """The device's row."""
        with self.db.read() as connection:
            query = select(schema.devices).where(schema.devices.c.device_id == device_id)
            return dict(connection.execute(query).one()._mapping)

    def assigned(self, device_id: str, model: str = "digits") -> Mapping[str, Any] | None:
        """The device's assignment for a model."""
        table = schema.assignments
        with self.db.read() as connection:
            row = connection.execute(
                select(table).where(table.c.device_id == device_id, table.c.model == model)
            ).one_or_none()
            return None if row is None else dict(row._mapping)
