"""A whole device for tests: an identity, an installed digits model, and the daemon as a real process."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from agent.identity.keys import check_certificate, new_key
from agent.identity.store import Identity, IdentityStore
from agent.local_client import LocalAgent
from agent.ota.slots import MANIFEST, SlotRecord, Slots, slot_name
from agent.paths import AgentPaths
from shared.bundle.archive import unpack_bundle
from shared.errors import Unavailable
from tests.agent_identity.authority import Authority
from tests.models import digits_bundle, load_digits

PROFILE = "x86-gateway"
SETTINGS = {"SKERRY_AGENT_LINK__RETRY_CAP_S": "0.2", "SKERRY_AGENT_LINK__RETRY_BASE_S": "0.05"}


def give_identity(paths: AgentPaths, device_id: str = "dev1", mqtt_port: int = 1) -> None:
    """An identity as enrolment leaves it, of a hub that is not there."""
    hub_ca, device_ca, key = Authority("hub ca"), Authority("device ca"), new_key()
    private = serialization.load_pem_private_key(key, None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    certificate = device_ca.issue(device_id, private.public_key()).encode()
    identity = Identity(
        device_id=device_id,
        hub_url="https://127.0.0.1:1",
        mqtt_host="127.0.0.1",
        mqtt_port=mqtt_port,
        profile=PROFILE,
    )
    valid = check_certificate(certificate, key, device_id)
    IdentityStore(paths.identity).install(identity, key, certificate, hub_ca.pem.encode(), valid)


def install_digits(paths: AgentPaths, version: int = 1, **more: Any) -> None:
    """A committed version of the digits model, as the installer leaves it; `more` goes to `build_bundle`."""
    bundle = paths.root / f"digits-{version}.bundle"
    paths.root.mkdir(parents=True, exist_ok=True)
    built = digits_bundle(bundle, version, **more)
    slots, slot = Slots(paths.model("digits")), slot_name(version, built.sha256)
    folder = slots.unfinished(slot)
    unpack_bundle(bundle, folder, expected_sha256=built.sha256, expected_bytes=built.bytes)
    record = SlotRecord(
        slot=slot,
        model="digits",
        version=version,
        bundle_sha256=built.sha256,
        bundle_bytes=built.bytes,
        counter=version,
        manifest_sha256=_sha256(folder / MANIFEST),
        proven=True,
    )
    slots.admit(folder, record)
    slots.activate(slot)
    bundle.unlink()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class RunningAgent:
    """The daemon's process and its socket."""

    def __init__(self, paths: AgentPaths, process: subprocess.Popen[bytes], log: Path) -> None:
        self.paths = paths
        self.process = process
        self._log = log

    def ask(self, path: str, body: Any = None) -> Any:
        """JSON of a request over the socket, once the agent answers."""
        deadline = time.monotonic() + 30
        while True:
            try:
                with LocalAgent(self.paths.socket) as agent:
                    return agent.get(path) if body is None else agent.post(path, body)
            except Unavailable:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise AssertionError(self.log()) from None
                time.sleep(0.005)

    def predict(self, index: int = 0) -> int:
        """The class that the agent sees in a held-out digit."""
        image = load_digits().test_x[index]
        tensor = {"name": "image", "datatype": "FP32", "shape": [1, 8, 8], "data": image.ravel().tolist()}
        outputs = self.ask("/v2/models/digits/infer", {"inputs": [tensor]})["outputs"]
        values = outputs[0]["data"]
        return int(max(range(10), key=values.__getitem__))

    def log(self) -> str:
        return self._log.read_text()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End the process; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(30)


def launch(
    paths: AgentPaths, *arguments: str, settings: Mapping[str, str] = MappingProxyType(SETTINGS)
) -> RunningAgent:
    """Start `python -m agent`; it need not answer yet."""
    log = paths.root.parent / "agent.log"
    command = [sys.executable, "-m", "agent", "--state", str(paths.root), *arguments]
    with log.open("ab") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, env={**os.environ, **settings})
    return RunningAgent(paths, process, log)


@contextmanager
def running(paths: AgentPaths, *arguments: str) -> Iterator[RunningAgent]:
    """The daemon, ended with the block."""
    agent = launch(paths, *arguments)
    try:
        yield agent
    finally:
        agent.stop(signal.SIGKILL)
