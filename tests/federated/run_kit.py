"""Federated runs over a real database, without a server: `tests.fleet_kit` with a model that can be trained.

    kit = RunKit(tmp_path, database_url)
    kit.add_trainer("pi-1", samples=100)             # active, heard of, serves version 1, with a key
    run = kit.runs.create(kit.definition(), by="dana")
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy import insert

from hub.deployments.compatibility import Compatibility
from hub.federated.definition import Rounds, RunDefinition, Training
from hub.federated.membership import RunMembers
from hub.federated.runs import RunService
from hub.store import federated, schema
from hub.store.federated import RunRow
from hub.store.federated_devices import set_samples
from shared.wire.training import SampleCount
from tests.fleet_kit import ONLINE_S, FleetKit

__all__ = ["WEIGHTS", "RunKit"]

WEIGHTS = {"w": np.arange(8, dtype=np.float32).reshape(2, 4), "b": np.array([8, 9], np.float32)}
"""In the vector's order: b, then w."""


class RunKit(FleetKit):
    """One hub's services, and those of federated runs; version 1 of digits is approved and can be trained."""

    def __init__(self, folder: Path, database_url: str) -> None:
        super().__init__(folder, database_url)
        self.members = RunMembers(self.clock, self.filters, Compatibility(), ONLINE_S)
        self.runs = RunService(self.db, self.clock, self.audit, self.blobs, self.members)
        self.release("digits", 1, weights=WEIGHTS)

    def definition(self, **more: Any) -> RunDefinition:
        """Two rounds of two devices unless said otherwise."""
        rounds = Rounds(count=2, goal=2, quorum=1, deadline_s=60, wait_s=60)
        made = RunDefinition(model="digits", rounds=rounds, training=Training(min_samples=10))
        return msgspec.structs.replace(made, **more)

    def add_trainer(self, device_id: str, samples: int = 100, version: int = 1, **more: Any) -> bytes:
        """An active device that was heard of just now; its public key."""
        self.add_device(device_id, **more)
        key = self.add_key(device_id, 1.0)
        with self.db.write() as connection:
            connection.execute(
                insert(schema.device_status).values(
                    device_id=device_id, last_seen_s=self.clock.now(), epoch="", watermark=0
                )
            )
        self.report(device_id, version=version)
        self.say_samples(device_id, samples)
        return key

    def add_key(self, device_id: str, issued_s: float) -> bytes:
        """One more certificate of a device; its public key."""
        public = ec.generate_private_key(ec.SECP256R1()).public_key()
        der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        with self.db.write() as connection:
            connection.execute(
                insert(schema.device_certificates).values(
                    fingerprint=der.hex()[-64:],
                    device_id=device_id,
                    serial=der.hex()[-60:],
                    issued_s=issued_s,
                    not_after_s=1e12,
                    public_key=der,
                )
            )
        return der

    def say_samples(self, device_id: str, kept: int, model: str = "digits") -> None:
        """What the device's heartbeat says it has."""
        with self.db.write() as connection:
            said = {device_id: [SampleCount(model=model, kept=kept, seen=2 * kept, classes=2)]}
            set_samples(connection, said, self.clock.now())

    def run(self, run_id: str) -> RunRow:
        """The run's row as it is now."""
        with self.db.read() as connection:
            return federated.get_run(connection, run_id)
