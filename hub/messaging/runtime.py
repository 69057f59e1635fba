"""All of messaging as one object with one task: broker, callout, ingest, publisher, kicks.

Rules: `ready` is set when devices can connect and are heard; the first start fails loudly, later failures of the
broker are waited for. `cut_off` and `wake` may be called from any thread, also before `run` and after it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509

from hub.messaging.broker import Broker
from hub.messaging.callout import Callout, KnownDevices
from hub.messaging.config import HUB_USER, SYSTEM_USER, BrokerConfig
from hub.messaging.ingest import IngestLoop, IngestLoopSettings, MessageCommit
from hub.messaging.kick import ConnectionKicker, ConnectionRegister
from hub.messaging.mqtt import MqttPublisher, unreachable
from hub.messaging.nats import NatsLink
from hub.messaging.publisher import DesiredStates, Publisher, Sent
from hub.messaging.renewal import watch_file
from hub.messaging.secrets import BrokerSecrets
from hub.messaging.tokens import CalloutSigner
from shared.errors import SkerryError, Unavailable

__all__ = ["MessagingRuntime", "MessagingSettings"]

_LOG = logging.getLogger(__name__)
_CALLOUT_SUBJECT = "$SYS.REQ.USER.AUTH"
_CUT_OFF_TRIES = 3
_FIRST_CONNECTION_S = 30.0
_UNTOLD_COUNT = 20_000
_PUBLISH_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MessagingSettings:
    """Where the broker is and which certificates are used.

    `broker` is the child to run. With `url` (NATS URLs, separated by commas) no child is run: the cluster there has
    the accounts and users of `config.render` with the secrets in the broker's directory, and serves MQTT at
    `mqtt_host` and `mqtt_port`.
    """

    broker: BrokerConfig
    hub_ca: Path
    device_ca: Path
    publisher_certificate: Path
    publisher_key: Path
    publisher_name: str = "hub:publisher"
    url: str = ""
    mqtt_host: str = "127.0.0.1"
    ingest: IngestLoopSettings = field(default_factory=IngestLoopSettings)


class MessagingRuntime:
    """The hub's side of the broker."""

    def __init__(
        self,
        settings: MessagingSettings,
        *,
        devices: KnownDevices,
        register: ConnectionRegister,
        commit: MessageCommit,
        states: DesiredStates,
    ) -> None:
        self._settings = settings
        self._devices = devices
        self._register = register
        self._commit = commit
        self._states = states
        self._loop: asyncio.AbstractEventLoop | None = None
        self._cut_off: asyncio.Queue[str] = asyncio.Queue()
        self._untold: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue(_UNTOLD_COUNT)
        self._publisher: Publisher | None = None
        self._client: MqttPublisher | None = None
        self._sent: Sent | None = None
        self.broker: Broker | None = None
        self.ready = asyncio.Event()

    @property
    def mqtt_port(self) -> int:
        """The port that devices reach; with a configured port of 0 it is known once `ready` is set."""
        return self.broker.mqtt_port if self.broker else self._settings.broker.mqtt_port

    def on_sent(self, sent: Sent) -> None:
        """Have `sent` told of each desired state that the broker has taken; before `run`."""
        self._sent = sent

    def wake(self) -> None:
        """Desired states are pending: send them now. Any thread."""
        self._call(lambda: self._publisher.wake() if self._publisher else None)

    def cut_off(self, device_id: str) -> None:
        """End a device's live connections, within 5 s. Any thread."""
        self._call(lambda: self._cut_off.put_nowait(device_id))

    def publish(self, topic: str, payload: bytes) -> None:
        """Publish a message that is not kept; returns when the broker has taken it. Any thread but the loop's own.

        Error `broker.unreachable` (retriable).
        """
        loop, client = self._loop, self._client
        if loop is None or client is None:
            raise unreachable()
        sending = client.publish(topic, payload, retain=False, timeout_s=_PUBLISH_S)
        try:
            asyncio.run_coroutine_threadsafe(sending, loop).result(_PUBLISH_S + 5.0)
        except (RuntimeError, TimeoutError, CancelledError) as error:  # the loop has ended, or ends now
            sending.close()
            raise unreachable() from error

    def tell(self, device_id: str, topic: str, data: bytes) -> None:
        """Send a device a message on `fleet/<device>/down/<topic>`, without a promise: QoS 0, not kept. Any thread."""
        self._call(lambda: self._put(f"fleet.{device_id}.down.{topic}", data))

    def _put(self, subject: str, data: bytes) -> None:
        if self._untold.full():
            _LOG.warning("a message for %s is given up: too many wait for the broker", subject)
            return
        self._untold.put_nowait((subject, data))

    async def run(self) -> None:
        """Serve until cancelled; errors of the first start: `broker.missing|start|unreachable|stream|mqtt|secrets`."""
        self._loop = asyncio.get_running_loop()
        secrets = await asyncio.to_thread(BrokerSecrets.create_or_load, self._settings.broker.directory)
        try:
            async with asyncio.TaskGroup() as group:
                if not self._settings.url:
                    self.broker = Broker(self._settings.broker, secrets)
                    group.create_task(self.broker.run(), name="nats-server")
                    await self.broker.ready.wait()
                await self._serve(secrets, self._settings.url or self.broker_url)
        except* SkerryError as errors:
            raise _first(errors) from errors
        finally:
            self.ready.clear()
            self._loop = self._client = None

    @property
    def broker_url(self) -> str:
        """The NATS URL of the child."""
        return self.broker.nats_url if self.broker else ""

    async def _serve(self, secrets: BrokerSecrets, url: str) -> None:
        hub = await NatsLink.open(url, HUB_USER, secrets.hub_password, "hub")
        try:
            system = await NatsLink.open(url, SYSTEM_USER, secrets.system_password, "hub-system")
            try:
                await self._serve_connected(secrets, hub, system)
            finally:
                await system.close()
        finally:
            await hub.close()

    async def _serve_connected(self, secrets: BrokerSecrets, hub: NatsLink, system: NatsLink) -> None:
        # First, because devices may be knocking already; the server itself gives up after 5 s.
        await hub.serve(_CALLOUT_SUBJECT, self._callout(secrets).answer, patience_s=4.0)
        ingest = IngestLoop(hub, self._commit, self._settings.ingest)
        await ingest.prepare()
        mqtt = self._client = self._mqtt()
        interrupted = self.broker.interrupted if self.broker else asyncio.Event()
        publisher = self._publisher = Publisher(mqtt, self._states, interrupted, self._sent)
        kicker = ConnectionKicker(system, self._register)
        mqtt.start()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(ingest.run(), name="ingest")
                group.create_task(publisher.run(), name="publisher")
                group.create_task(kicker.sweep_forever(), name="connection sweep")
                group.create_task(self._serve_cut_offs(kicker, publisher), name="cut-offs")
                group.create_task(self._serve_told(hub), name="messages down")
                group.create_task(watch_file(self._settings.publisher_certificate, mqtt.reload), name="own certificate")
                if self.broker:
                    watching = watch_file(self._settings.broker.certificate, self.broker.restart)
                    group.create_task(watching, name="broker certificate")
                await _first_connection(mqtt)
                self.ready.set()
        finally:
            await mqtt.stop()

    def _callout(self, secrets: BrokerSecrets) -> Callout:
        return Callout(
            CalloutSigner(secrets.callout_seed),
            self._devices,
            device_ca=x509.load_pem_x509_certificate(self._settings.device_ca.read_bytes()),
            hub_ca=x509.load_pem_x509_certificate(self._settings.hub_ca.read_bytes()),
            publisher_name=self._settings.publisher_name,
        )

    def _mqtt(self) -> MqttPublisher:
        settings = self._settings
        return MqttPublisher(
            settings.mqtt_host,
            self.mqtt_port,
            name=settings.publisher_name,
            ca=settings.hub_ca,
            certificate=settings.publisher_certificate,
            key=settings.publisher_key,
        )

    async def _serve_cut_offs(self, kicker: ConnectionKicker, publisher: Publisher) -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                device_id = await self._cut_off.get()
                group.create_task(self._cut(kicker, publisher, device_id), name=f"cut off {device_id}")

    async def _serve_told(self, hub: NatsLink) -> None:
        while True:
            subject, data = await self._untold.get()
            try:
                await hub.publish(subject, data)
            except SkerryError as error:
                _LOG.warning("a message for %s is lost: %s", subject, error)

    async def _cut(self, kicker: ConnectionKicker, publisher: Publisher, device_id: str) -> None:
        """Kick, then forget the retained state when the device is gone for good; a lost broker is tried again."""
        for attempt in range(1, _CUT_OFF_TRIES + 1):
            try:
                closed = await kicker.cut_off(device_id)
                _LOG.info("closed %d connections of device %s", closed, device_id)
                if await asyncio.to_thread(self._register.revoked_among, [device_id]):
                    await publisher.forget(device_id)
                return
            except SkerryError as error:
                _LOG.warning("cutting off %s, try %d: %s", device_id, attempt, error)
                await asyncio.sleep(attempt)

    def _call(self, function: Callable[[], None]) -> None:
        loop = self._loop
        if loop is None:
            return
        try:
            loop.call_soon_threadsafe(function)
        except RuntimeError:  # the loop closed between these lines: the hub is going down, and connections with it
            _LOG.info("messaging has ended")


async def _first_connection(mqtt: MqttPublisher) -> None:
    """The hub's own client comes in the way that devices do, so its first connection proves the whole path."""
    try:
        async with asyncio.timeout(_FIRST_CONNECTION_S):
            await mqtt.connected.wait()
    except TimeoutError as error:
        raise Unavailable(
            "broker.mqtt",
            "The hub's own MQTT client cannot connect to the broker.",
            hint="Look at the log of nats-server; with a broker of your own check mqtt_host, mqtt_port and its CAs.",
        ) from error


def _first(errors: BaseExceptionGroup[SkerryError]) -> SkerryError:
    found: BaseException = errors
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found if isinstance(found, SkerryError) else SkerryError("broker.failed", str(found))
