"""A run through the real worker process and Flower, with devices in a process of their own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from numpy.typing import NDArray

from hub.federated.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from hub.federated.definition import RunDefinition
from hub.federated.flower.superlink import Tls
from hub.federated.protocol import (
    Ask,
    Begin,
    Complete,
    Ended,
    Evaluated,
    FromWorker,
    Listening,
    Participant,
    Reserved,
)
from hub.federated.report import RoundReport
from hub.federated.run import definition_digest
from hub.federated.runner import RunProcess
from tests.federated.devices import Plan, Share
from tests.federated.network import initial, sizes
from tests.federated.secure_kit import authority

__all__ = ["Federation"]

Vector = NDArray[np.float32]


class Federation:
    """The hub's part and the devices' in a test. What the hub would store is in `kept`, `reports` and `asks`."""

    def __init__(self, folder: Path, tls: Tls, command: Sequence[str], dims: tuple[int, ...]) -> None:
        self._folder = folder
        self._tls = tls
        self._dims = dims
        self.process = RunProcess(command, folder / "worker", self._heard)
        self.participants: list[Participant] = []
        self._shares: list[Share] = []
        self._devices: list[subprocess.Popen[bytes]] = []
        self.kept: list[bytes] = []
        self.reports: list[RoundReport] = []
        self.asks: list[Ask] = []
        self.listened = 0
        self.evaluated: list[Evaluated] = []
        self.reserved: list[bytes] = []

    def add(self, x: Vector, y: NDArray[np.int64], behaviour: str = "honest") -> None:
        """One more device with these samples; `absent`: it is known and never comes."""
        device_id = f"d-{len(self.participants)}"
        key = ec.generate_private_key(ec.SECP256R1())
        key_file, samples = self._folder / f"{device_id}.key", self._folder / f"{device_id}.npz"
        key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        certificate = self._folder / f"{device_id}.crt"
        certificate.write_bytes(authority().certify(device_id, key.public_key()))
        np.savez(samples, x=x, y=y)
        public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.participants.append(Participant(device_id=device_id, public_key=public, samples=len(x)))
        if behaviour != "absent":
            share = Share(
                device_id=device_id,
                key=str(key_file),
                certificate=str(certificate),
                samples=str(samples),
                behaviour=behaviour,
            )
            self._shares.append(share)

    def run(self, definition: RunDefinition, port: int, kept: bytes | None = None) -> Ended:
        """The whole run on this port, from the beginning or from a checkpoint."""
        start = kept or write_checkpoint(
            Checkpoint(
                run_id="f-1",
                definition=definition_digest(definition),
                seed=definition.seed,
                round_no=0,
                weights=initial(self._dims, definition.seed),
            )
        )
        begin = Begin(
            definition=definition,
            sizes=sizes(self._dims),
            checkpoint=start,
            participants=self.participants,
            host="127.0.0.1",
            port=port,
            certificate=str(self._tls.certificate),
            key=str(self._tls.key),
            ca=str(self._tls.ca),
            device_ca=authority().der,
        )
        try:
            return self.process.run(begin)
        finally:
            self._leave()

    @property
    def weights(self) -> Vector:
        """Those of the last complete round."""
        return read_checkpoint(self.kept[-1]).weights

    def _heard(self, message: FromWorker) -> None:
        match message:
            case Listening(port=port):
                self.listened += 1
                self._leave()
                self._come(port)
            case Ask():
                self.asks.append(message)
            case Evaluated():
                self.evaluated.append(message)
            case Reserved(checkpoint=checkpoint):
                self.reserved.append(checkpoint)
            case Complete(report=report, checkpoint=checkpoint):
                self.reports.append(report)
                self.kept.append(checkpoint)

    def _come(self, port: int) -> None:
        """The devices take the offer up."""
        plan = Plan(dims=self._dims, address=f"127.0.0.1:{port}", ca=str(self._tls.ca), shares=self._shares)
        command = [sys.executable, "-m", "tests.federated.devices", msgspec.json.encode(plan).decode()]
        self._devices.append(
            subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        )

    def _leave(self) -> None:
        for devices in self._devices:
            devices.kill()
            devices.wait()
        self._devices.clear()
