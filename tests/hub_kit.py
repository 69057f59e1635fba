"""A real hub for tests: its own data folder, real TLS on a port that the system chose, real clients.

with running_hub(tmp_path) as kit:                     # trust is initialised, the clock is the kit's own
    kit.admin.get("/v1/devices")                       # httpx.Client with the first administrator's token
    device = kit.enrol("pi-1")                         # token, key, CSR, certificate
    device.client.get("/v1/device/desired")            # httpx.Client with the device's certificate
    kit.person(Role.VIEWER).get("/v1/devices")
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from securesystemslib.signer import CryptoSigner

from hub.access.permissions import Role
from hub.api.server import HttpsServer
from hub.pki.authority import key_pem, new_key
from hub.provision import provision
from hub.settings import HubSettings
from hub.trust import metadata
from hub.wiring import Hub, build_hub
from shared.assignment_keys import ASSIGNMENT_KEYS_PATH, build_assignment_keys

__all__ = ["HubKit", "KitDevice", "MovableClock", "csr_pem", "data_hub", "initialise_trust", "running_hub"]

DEADLINE_S = 20.0
YEAR_S = 365 * 86_400


class MovableClock:
    """The real time plus what the test adds."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def now(self) -> float:
        return time.time() + self.ahead_s

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead_s


def csr_pem(key: ec.EllipticCurvePrivateKey, common_name: str = "whatever the device says") -> str:
    """A certificate request signed by `key`."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, SHA256())
    return request.public_bytes(Encoding.PEM).decode()


def initialise_trust(hub: Hub) -> None:
    """Publish a first root and targets, signed by two fresh offline keys."""
    roots = [CryptoSigner.generate_ed25519() for _ in range(2)]
    quorum = metadata.Quorum(tuple(signer.public_key for signer in roots), 2)
    online = hub.trust.online_keys()
    files = {ASSIGNMENT_KEYS_PATH: build_assignment_keys([online.assignment])}
    expires_s = hub.clock.now() + YEAR_S
    root = metadata.build_root(quorum, quorum, online.online, version=1, expires_s=expires_s)
    targets = metadata.build_targets(files, {}, version=1, expires_s=expires_s)
    hub.trust.bootstrap(metadata.sign(root, *roots), metadata.sign(targets, *roots), files, "test")


@dataclass(frozen=True)
class KitDevice:
    """An enrolled device with its files and an HTTPS client that shows its certificate."""

    device_id: str
    key: ec.EllipticCurvePrivateKey
    certificate_pem: str
    certificate_file: Path
    key_file: Path
    client: httpx.Client


class HubKit:
    """One hub, its settings and clients."""

    def __init__(self, hub: Hub, clock: MovableClock, folder: Path, exits: ExitStack) -> None:
        self.hub = hub
        self.clock = clock
        self.folder = folder
        self._exits = exits
        self._people = 0
        self.admin_token = hub.settings.admin_token_path.read_text().strip()
        self.admin = self.client(self.admin_token)

    @property
    def url(self) -> str:
        """The hub's address."""
        return self.hub.settings.url

    def tls(self, certificate: Path | None = None, key: Path | None = None) -> ssl.SSLContext:
        """A client's context that trusts the hub's CA, with a certificate of its own or without."""
        context = ssl.create_default_context(cafile=self.hub.pki.hub_ca_file)
        if certificate is not None:
            context.load_cert_chain(certificate, key)
        return context

    def client(self, token: str | None = None, tls: ssl.SSLContext | None = None) -> httpx.Client:
        """An HTTPS client, closed with the kit."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        client = httpx.Client(base_url=self.url, verify=tls or self.tls(), headers=headers, timeout=DEADLINE_S)
        return self._exits.enter_context(client)

    def token(self, role: Role, models: list[str] | None = None) -> str:
        """A fresh API token's secret."""
        self._people += 1
        made = self.hub.tokens.create(
            actor="test", name=f"{role.value}-{self._people}", role=role, days=1, models=models
        )
        return made.secret

    def person(self, role: Role, models: list[str] | None = None) -> httpx.Client:
        """A client with a fresh token."""
        return self.client(self.token(role, models))

    def enrolment_token(self, **wish: Any) -> str:
        """A fresh enrolment token's secret."""
        answer = self.admin.post("/v1/enrolment-tokens", json=wish)
        answer.raise_for_status()
        return str(answer.json()["token"])

    def enrol_request(
        self, token: str, key: ec.EllipticCurvePrivateKey, device_id: str | None = None, **fields: Any
    ) -> httpx.Response:
        """Ask for enrolment, as a device does."""
        body = {"token": token, "csr_pem": csr_pem(key), "profile": "raspberry-pi-4", **fields}
        if device_id is not None:
            body["device_id"] = device_id
        return self.client().post("/v1/device/enrol", json=body)

    def enrol(self, device_id: str, /, **wish: Any) -> KitDevice:
        """A device, enrolled over HTTPS with a token for `wish`."""
        key = new_key()
        answer = self.enrol_request(self.enrolment_token(**wish), key, device_id)
        answer.raise_for_status()
        return self.device(device_id, key, answer.json()["certificate_pem"])

    def device(self, device_id: str, key: ec.EllipticCurvePrivateKey, certificate_pem: str) -> KitDevice:
        """A device with this key and certificate."""
        folder = self.folder / f"{device_id}-{len(list(self.folder.iterdir()))}"
        folder.mkdir()
        certificate_file, key_file = folder / "device.crt", folder / "device.key"
        certificate_file.write_text(certificate_pem)
        key_file.write_bytes(key_pem(key))
        client = self.client(tls=self.tls(certificate_file, key_file))
        return KitDevice(device_id, key, certificate_pem, certificate_file, key_file, client)


@contextmanager
def data_hub(folder: Path, *, trust: bool = True, **settings: Any) -> Iterator[tuple[Hub, MovableClock]]:
    """A hub without a server, for tests of services."""
    clock = MovableClock()
    chosen = HubSettings(data_dir=str(folder / "hub"), **settings)
    provision(chosen, clock)
    hub = build_hub(chosen, clock)
    try:
        if trust:
            initialise_trust(hub)
        yield hub, clock
    finally:
        hub.close()


@contextmanager
def running_hub(folder: Path, *, trust: bool = True, **settings: Any) -> Iterator[HubKit]:
    """A hub that answers on a port of its own."""
    devices = folder / "devices"
    devices.mkdir(parents=True)
    with ExitStack() as exits:
        sock = exits.enter_context(socket.create_server(("127.0.0.1", 0)))
        port = sock.getsockname()[1]
        hub, clock = exits.enter_context(data_hub(folder, trust=trust, port=port, **settings))
        exits.enter_context(_serving(hub, sock))
        yield HubKit(hub, clock, devices, exits)


@contextmanager
def _serving(hub: Hub, sock: socket.socket) -> Iterator[None]:
    ready = threading.Event()
    server = HttpsServer(hub, sock)
    failures: list[BaseException] = []

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(server.run(), name="https")
            await server.wait_started()
            ready.set()

    def run() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:  # noqa: BLE001 - raised again below, in the test's own thread
            failures.append(error)
            ready.set()

    thread = threading.Thread(target=run, name="hub-server")
    thread.start()
    try:
        if not ready.wait(DEADLINE_S):
            raise TimeoutError("the hub's server did not start")
        yield
    finally:
        server.stop()
        thread.join(DEADLINE_S)
        if failures:
            raise failures[0]
