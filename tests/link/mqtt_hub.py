"""The hub's end of MQTT on a real broker: takes what devices send, confirms it, publishes desired states."""

from __future__ import annotations

import ssl
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from agent.identity.keys import check_certificate, new_key
from agent.identity.store import Identity, IdentityStore
from agent.paths import AgentPaths
from shared.wire.down import DesiredState, encode
from shared.wire.training import TrainingOffer, encode_offer
from shared.wire.up import Envelope
from tests.link.broker import Broker
from tests.link.hub_side import Ledger


class MqttHub:
    """A broker with a hub behind it, for one device."""

    def __init__(self, folder: Path, device_id: str = "dev1") -> None:
        self.broker = Broker(folder)
        self.ledger = Ledger()
        self.device_id = device_id
        self._arrived = threading.Condition()

    def __enter__(self) -> Self:
        self.broker.start()
        self._store = self.broker.identity(self.broker.folder / "hub-identity", "hub")
        credentials = self._store.credentials()
        context = ssl.create_default_context(cafile=str(credentials.hub_ca))
        context.load_cert_chain(credentials.certificate, credentials.key)
        self._client = Client(CallbackAPIVersion.VERSION2, client_id="hub")
        self._client.tls_set_context(context)
        self._client.on_message = self._on_message
        subscribed = threading.Event()
        self._client.on_subscribe = lambda *_: subscribed.set()
        self._client.on_connect = lambda client, *_: client.subscribe(f"fleet/{self.device_id}/up/#", 1)
        self._client.connect("127.0.0.1", self.broker.mqtt_port)
        self._client.loop_start()
        assert subscribed.wait(10)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._client.disconnect()
        self._client.loop_stop()
        self.broker.stop()

    def adopt(self, paths: AgentPaths) -> None:
        """Give a device's folder an identity of this broker."""
        key = new_key()
        private = serialization.load_pem_private_key(key, None)
        assert isinstance(private, ec.EllipticCurvePrivateKey)
        certificate = self.broker.client_ca.issue(self.device_id, private.public_key()).encode()
        identity = Identity(
            device_id=self.device_id,
            hub_url="https://127.0.0.1:1",
            mqtt_host="127.0.0.1",
            mqtt_port=self.broker.mqtt_port,
            profile="x86-gateway",
        )
        valid = check_certificate(certificate, key, self.device_id)
        ca_pem = self.broker.server_ca.pem.encode()
        IdentityStore(paths.identity).install(identity, key, certificate, ca_pem, valid)

    def publish(self, desired: DesiredState) -> None:
        """A retained desired state, as the hub publishes it."""
        self._client.publish(f"fleet/{self.device_id}/down", encode(desired), qos=0, retain=True)

    def offer(self, offer: TrainingOffer) -> None:
        """An offer to train, as the hub publishes it."""
        self._client.publish(f"fleet/{self.device_id}/down/training", encode_offer(offer), qos=0)

    def wait_for(self, kind: str, count: int = 1) -> list[Envelope]:
        """The committed messages of a kind, once there are enough."""

        def found() -> list[Envelope]:
            return [envelope for envelope in self.ledger.received if envelope.kind == kind]

        with self._arrived:
            assert self._arrived.wait_for(lambda: len(found()) >= count, timeout=30), f"no {kind} came"
            return found()

    def _on_message(self, client: Client, userdata: Any, message: Any) -> None:
        del userdata
        with self._arrived:
            mark = self.ledger.take(bytes(message.payload))
            self._arrived.notify_all()
        client.publish(f"fleet/{self.device_id}/down/ack", encode(mark), qos=0)
