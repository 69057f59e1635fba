"""A hub's messaging on real parts for a test: a database file, both authorities, certificates, and device clients."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from cryptography.hazmat.primitives.asymmetric import ec
from paho.mqtt.enums import CallbackAPIVersion
from sqlalchemy import insert, update

from hub.devices.authenticator import DeviceAuthenticator
from hub.ingest.service import IngestService
from hub.messaging.config import BrokerConfig
from hub.messaging.ingest import IngestLoopSettings, MessageCommit
from hub.messaging.runtime import MessagingRuntime, MessagingSettings
from hub.pki.authority import Authority, Issued, key_pem, new_key
from hub.store.connections import ConnectionStore
from hub.store.database import Database
from hub.store.schema import device_certificates, devices, metadata
from shared.clock import SystemClock
from shared.tls import client_context
from shared.wire.down import DesiredState
from tests import ports

DEADLINE_S = 30.0


@dataclass(frozen=True, slots=True)
class Identity:
    """A client's name and files."""

    name: str
    certificate: Path
    key: Path


class States:
    """Desired states in memory, with the promises of the deployment service."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pending: dict[str, DesiredState] = {}
        self._sent: dict[str, DesiredState] = {}
        self.published: list[tuple[str, int]] = []

    def republish_all(self) -> int:
        with self._lock:
            self._pending = self._sent | self._pending
            return len(self._sent)

    def desire(self, state: DesiredState) -> None:
        with self._lock:
            self._pending[state.device_id] = state

    def pending_publications(self, limit: int) -> Sequence[DesiredState]:
        with self._lock:
            return list(self._pending.values())[:limit]

    def mark_published(self, states: Sequence[DesiredState]) -> None:
        with self._lock:
            for state in states:
                self.published.append((state.device_id, state.revision))
                self._sent[state.device_id] = state
                if self._pending.get(state.device_id) == state:
                    del self._pending[state.device_id]


@dataclass
class Rig:
    """One hub in a folder. Everything can be opened again over the same folder by another process."""

    directory: Path
    mqtt_port: int = 0
    nats_port: int = 0
    ack_wait_s: float = 30.0
    url: str = ""
    clock: SystemClock = field(default_factory=SystemClock)

    def __post_init__(self) -> None:
        self.pki = self.directory / "pki"
        self.database = Database(f"sqlite:///{self.directory / 'hub.db'}")
        if not self.pki.exists():
            self._provision()
        self.hub_ca = Authority.load(self.pki, "hub-ca")
        self.device_ca = Authority.load(self.pki, "device-ca")
        self.states = States()

    def _provision(self) -> None:
        self.pki.mkdir(parents=True)
        metadata.create_all(self.database.engine)
        now = self.clock.now()
        hub_ca = Authority.create("Test hub CA", self.pki, "hub-ca", now_s=now, days=10)
        device_ca = Authority.create("Test device CA", self.pki, "device-ca", now_s=now, days=10)
        (self.pki / "client-cas.crt").write_text(hub_ca.pem + device_ca.pem)
        key = new_key()
        names = ["localhost", "127.0.0.1"]
        server = hub_ca.issue_server(key.public_key(), "localhost", names, now_s=now, lifetime_s=86_400)
        self._write("broker", server, key)
        self.issue("publisher", "hub:publisher", authority=hub_ca)

    def _write(self, name: str, issued: Issued, key: ec.EllipticCurvePrivateKey) -> None:
        (self.pki / f"{name}.crt").write_text(issued.pem)
        (self.pki / f"{name}.key").write_bytes(key_pem(key))

    def issue(self, file: str, common_name: str, *, authority: Authority, lifetime_s: float = 86_400) -> Issued:
        """A client certificate in `pki/<file>.crt`."""
        key = new_key()
        issued = authority.issue_client(key.public_key(), common_name, now_s=self.clock.now(), lifetime_s=lifetime_s)
        self._write(file, issued, key)
        return issued

    def identity(self, file: str, name: str | None = None) -> Identity:
        return Identity(name or file, self.pki / f"{file}.crt", self.pki / f"{file}.key")

    def enrol(self, device_id: str, lifetime_s: float = 86_400) -> Identity:
        """A device with a certificate that the hub knows."""
        issued = self.issue(device_id, device_id, authority=self.device_ca, lifetime_s=lifetime_s)
        with self.database.write() as connection:
            connection.execute(
                insert(devices).values(
                    device_id=device_id, status="active", profile="x", hardware_id="", enrolled_s=self.clock.now()
                )
            )
            connection.execute(
                insert(device_certificates).values(
                    fingerprint=issued.fingerprint,
                    device_id=device_id,
                    serial=issued.serial,
                    issued_s=self.clock.now(),
                    not_after_s=issued.not_after_s,
                )
            )
        return self.identity(device_id)

    def revoke(self, device_id: str) -> None:
        self._set_status(device_id, "revoked")

    def reinstate(self, device_id: str) -> None:
        self._set_status(device_id, "active")

    def _set_status(self, device_id: str, status: str) -> None:
        with self.database.write() as connection:
            connection.execute(update(devices).where(devices.c.device_id == device_id).values(status=status))

    def runtime(self, commit: MessageCommit | None = None) -> MessagingRuntime:
        settings = MessagingSettings(
            broker=BrokerConfig(
                directory=self.directory / "nats",
                certificate=self.pki / "broker.crt",
                key=self.pki / "broker.key",
                client_cas=self.pki / "client-cas.crt",
                mqtt_host="127.0.0.1",
                mqtt_port=self.mqtt_port,
                nats_port=self.nats_port,
            ),
            hub_ca=self.pki / "hub-ca.crt",
            device_ca=self.pki / "device-ca.crt",
            publisher_certificate=self.pki / "publisher.crt",
            publisher_key=self.pki / "publisher.key",
            url=self.url,
            ingest=IngestLoopSettings(ack_wait_s=self.ack_wait_s),
        )
        return MessagingRuntime(
            settings,
            devices=DeviceAuthenticator(self.database, self.clock),
            register=ConnectionStore(self.database),
            commit=commit or IngestService(self.database, self.clock),
            states=self.states,
        )

    @asynccontextmanager
    async def running(self, commit: MessageCommit | None = None) -> AsyncIterator[MessagingRuntime]:
        """Messaging that devices can reach; ended in order afterwards."""
        runtime = self.runtime(commit)
        task = asyncio.create_task(runtime.run())
        ready = asyncio.create_task(runtime.ready.wait())
        await asyncio.wait([task, ready], return_when=asyncio.FIRST_COMPLETED, timeout=DEADLINE_S)
        if task.done():
            ready.cancel()
            await task
        try:
            yield runtime
        finally:
            task.cancel()
            _done, late = await asyncio.wait([task], timeout=DEADLINE_S)
            assert not late, "messaging does not end"

    def client(self, port: int, identity: Identity, client_id: str | None = None) -> DeviceClient:
        """A device's MQTT client that trusts this hub."""
        return DeviceClient(self.pki / "hub-ca.crt", port, identity, client_id)

    def close(self) -> None:
        self.database.close()


class DeviceClient:
    """A plain MQTT 3.1.1 client with a certificate; keeps all that happens to it."""

    def __init__(self, ca: Path, port: int, identity: Identity, client_id: str | None = None) -> None:
        self.received: list[tuple[str, bytes, bool]] = []
        self.connections: list[bool] = []
        self.disconnections = 0
        self.subscribed: dict[int, list[bool]] = {}
        self.acknowledged: set[int] = set()
        self.on_message: Callable[[str, bytes], None] = lambda _topic, _payload: None
        context = client_context(ca)
        context.load_cert_chain(identity.certificate, identity.key)
        self._port = port
        self.client = paho.Client(CallbackAPIVersion.VERSION2, client_id or identity.name, clean_session=True)
        self.client.tls_set_context(context)
        self.client.reconnect_delay_set(1, 1)
        self.client.max_inflight_messages_set(1000)
        self.client.on_connect = self._on_connect
        self.client.on_connect_fail = self._on_connect_fail
        self.client.on_disconnect = self._on_disconnect
        self.client.on_subscribe = self._on_subscribe
        self.client.on_publish = self._on_publish
        self.client.on_message = self._on_message

    def __enter__(self) -> DeviceClient:
        self.client.connect_async("127.0.0.1", self._port, 30)
        self.client.loop_start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def subscribe(self, *topics: str) -> list[bool]:
        """Whether the broker granted each subscription."""
        _result, mid = self.client.subscribe([(topic, 0) for topic in topics])
        assert mid is not None
        wait_for(lambda: mid in self.subscribed)
        return self.subscribed[mid]

    def answered(self) -> bool:
        """Whether the broker has let the client in or turned it away."""
        return bool(self.connections or self.disconnections)

    def connected(self) -> DeviceClient:
        wait_for(lambda: self.connections and self.connections[-1])
        return self

    def _on_connect(self, _c: Any, _u: Any, _f: Any, reason: Any, _p: Any) -> None:
        self.connections.append(not reason.is_failure)

    def _on_connect_fail(self, _c: Any, _u: Any) -> None:
        self.connections.append(False)

    def _on_disconnect(self, _c: Any, _u: Any, _f: Any, _reason: Any, _p: Any) -> None:
        self.disconnections += 1

    def _on_subscribe(self, _c: Any, _u: Any, mid: int, reasons: Any, _p: Any) -> None:
        self.subscribed[mid] = [not reason.is_failure for reason in reasons]

    def _on_publish(self, _c: Any, _u: Any, mid: int, _reason: Any, _p: Any) -> None:
        self.acknowledged.add(mid)

    def _on_message(self, _c: Any, _u: Any, message: Any) -> None:
        self.received.append((message.topic, message.payload, message.retain))
        self.on_message(message.topic, message.payload)


def free_ports() -> tuple[int, int]:
    """Two ports that are free now."""
    one, two = ports.free_ports(2)
    return one, two


def wait_for(condition: Callable[[], object], seconds: float = DEADLINE_S) -> None:
    """Return once the condition holds; fails the test after the deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.01)
