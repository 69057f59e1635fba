"""Federated runs over a real database, without a server: `tests.fleet_kit` with a model that can be trained.

    kit = RunKit(tmp_path, database_url)
    kit.add_trainer("pi-1", samples=100)             # active, heard of, serves version 1, with a key
    run = kit.runs.create(kit.definition(), by="dana")
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
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
from hub.federated.outcome import HandedOver, RunOutcome
from hub.federated.runs import RunService
from hub.federated.stage import HandsOver, Places, Stage
from hub.store import federated, groups, schema
from hub.store.federated import RunRow
from hub.store.federated_devices import set_samples
from shared.wire.training import SampleCount, TrainingOffer, decode_offer
from tests.fleet_kit import ONLINE_S, FleetKit

__all__ = ["WEIGHTS", "Receiver", "RunKit", "until"]

DEADLINE_S = 60.0

WEIGHTS = {"w": np.arange(8, dtype=np.float32).reshape(2, 4), "b": np.array([8, 9], np.float32)}
"""In the vector's order: b, then w."""


def until(condition: Callable[[], object]) -> None:
    """Wait for it."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("it did not come")
        time.sleep(0.02)


class Receiver:
    """Takes outcomes over. fails: errors to raise, one call each."""

    def __init__(self, *fails: Exception) -> None:
        self.outcomes: list[RunOutcome] = []
        self._fails = list(fails)

    def finish(self, outcome: RunOutcome) -> HandedOver:
        self.outcomes.append(outcome)
        if self._fails:
            raise self._fails.pop(0)
        return HandedOver(version=2, gate_passed=True)

    def stop(self) -> None:
        return


class RunKit(FleetKit):
    """One hub's services, and those of federated runs; version 1 of digits is approved and can be trained."""

    def __init__(self, folder: Path, database_url: str) -> None:
        super().__init__(folder, database_url)
        self.members = RunMembers(self.clock, self.filters, Compatibility(), ONLINE_S)
        self.runs = RunService(self.db, self.clock, self.audit, self.blobs, self.members)
        self.release("digits", 1, weights=WEIGHTS)
        self.offers: list[TrainingOffer] = []

    def stage(self, *steps: str, holder: str = "one", handover: HandsOver | None = None) -> Stage:
        """What a run needs, with a worker that plays `steps` (`tests.federated.scripted_worker`)."""
        folder = self.folder / "played"
        folder.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "tests.federated.scripted_worker", str(folder), *steps]
        places = Places(
            host="127.0.0.1", public_host="hub.example", port=8450, certificate=Path("c"), key=Path("k"), ca=Path("ca"),
            folder=self.folder / "federated", command=command,
        )  # fmt: skip
        return Stage(
            db=self.db, clock=self.clock, audit=self.audit, blobs=self.blobs, members=self.members, places=places,
            holder=holder, tell=lambda _device_id, data: self.offers.append(decode_offer(data)), handover=handover,
        )  # fmt: skip

    def heard(self, *kinds: str) -> list[dict[str, Any]]:
        """What the scripted worker has heard, in order; only of these kinds, if any are named."""
        file = self.folder / "played" / "heard"
        lines = file.read_bytes().splitlines() if file.exists() else []
        return [line for line in map(msgspec.json.decode, lines) if not kinds or line["kind"] in kinds]

    def say(self, run_id: str, device_id: str, state: str, seq: int, round_no: int = 1, retry_s: float = 0.0) -> None:
        """A device's answer to an offer, as the ingest writes it."""
        with self.db.write() as connection:
            connection.execute(
                insert(schema.federated_answers).values(
                    device_id=device_id, epoch="e", seq=seq, run_id=run_id, round_no=round_no, state=state, code="",
                    reason="", seconds=0.0, retry_s=retry_s, received_s=self.clock.now(),
                )
            )  # fmt: skip

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

    def group(self, name: str, device_ids: set[str]) -> None:
        """A group that is a list of those of these devices that there are."""
        now_s = self.clock.now()
        row = groups.GroupRow(
            name=name, filter=None, description="", created_s=now_s, created_by="dana", changed_s=now_s,
            changed_by="dana",
        )  # fmt: skip
        with self.db.write() as connection:
            groups.insert_group(connection, row)
            groups.add_members(connection, name, groups.known_devices(connection, device_ids))

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
