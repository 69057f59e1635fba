"""No acknowledged message is lost or counted twice, however often the hub is killed in the middle of ingest.

Real nats-server, real MQTT over mTLS, devices that keep what is not confirmed and go back to it, a hub process that is
killed with -9 while thousands of messages are under way; in the end every count is exact.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial

import pytest
from sqlalchemy import func, select

from hub.ingest.service import IngestService, Received
from hub.messaging.broker import Broker
from hub.messaging.config import BrokerConfig
from hub.messaging.secrets import BrokerSecrets
from hub.store.schema import device_events, device_models, device_status
from shared.wire.down import Watermark, decode_watermark
from shared.wire.up import Envelope, Event, Heartbeat, ModelStatus, encode_body, encode_envelope
from tests.messaging.rig import Identity, Rig, free_ports, wait_for

DEVICES, MESSAGES, WINDOW, KILLS = 4, 1500, 300, 5
EPOCH = "a" * 16
STALLED_S = 1.0


class SendingDevice(threading.Thread):
    """A device with an outbox: sends a window, forgets what the watermark confirms, goes back when it stalls."""

    def __init__(self, rig: Rig, port: int, identity: Identity, count: int) -> None:
        super().__init__(name=identity.name, daemon=True)
        self.confirmed = 0
        self._count = count
        self._client = rig.client(port, identity)
        self._client.on_message = self._heard
        self._news = threading.Event()

    def _heard(self, topic: str, payload: bytes) -> None:
        mark = decode_watermark(payload)
        if mark.epoch == EPOCH and mark.seq > self.confirmed:
            self.confirmed = mark.seq
            self._news.set()

    def _message(self, seq: int) -> bytes:
        body: Event | Heartbeat = Event(code=f"n.{seq}", message="")
        if seq % 3 == 0:
            models = [ModelStatus(model="digits", version=1, requests=seq)]
            body = Heartbeat(agent_version="1", uptime_s=seq, models=models)
        kind = "event" if isinstance(body, Event) else "heartbeat"
        return encode_envelope(
            Envelope(
                device_id=self.name,
                epoch=EPOCH,
                first_seq=seq,
                seq=seq,
                created_s=1.0,
                kind=kind,  # type: ignore[arg-type]
                body=encode_body(body),
            )
        )

    def run(self) -> None:
        down = f"fleet/{self.name}/down/ack"
        sent, session, moved = 0, 0, time.monotonic()
        with self._client as client:
            while self.confirmed < self._count:
                up = client.connections.count(True)
                if not client.client.is_connected():
                    self._news.wait(0.05)
                    continue
                if up != session:
                    session, sent = up, self.confirmed
                    client.client.subscribe(down, 0)
                if self._news.is_set():
                    self._news.clear()
                    moved = time.monotonic()
                elif time.monotonic() - moved > STALLED_S:
                    sent, moved = self.confirmed, time.monotonic()
                for seq in range(max(sent, self.confirmed) + 1, min(self.confirmed + WINDOW, self._count) + 1):
                    client.client.publish(f"fleet/{self.name}/up/x", self._message(seq), qos=1)
                    sent = seq
                self._news.wait(0.05)


@asynccontextmanager
async def hub_process(rig: Rig, mqtt: int, nats: int, url: str) -> AsyncIterator[None]:
    """A hub that is killed with -9 at the end of the block."""
    arguments = (str(rig.directory), str(mqtt), str(nats), *([url] if url else []))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.messaging.hub_process", *arguments), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(60):
            assert (await process.stdout.readline()).startswith(b"ready")
        yield
    finally:
        process.kill()
        await process.wait()


def has_applied(rig: Rig, goal: int) -> bool:
    with rig.database.read() as connection:
        return (connection.scalar(select(func.sum(device_status.c.messages))) or 0) >= goal


@asynccontextmanager
async def broker_of_its_own(rig: Rig, mqtt: int, nats: int) -> AsyncIterator[str]:
    """A broker that lives on when the hub is killed."""
    config = BrokerConfig(
        directory=rig.directory / "nats",
        certificate=rig.pki / "broker.crt",
        key=rig.pki / "broker.key",
        client_cas=rig.pki / "client-cas.crt",
        mqtt_host="127.0.0.1",
        mqtt_port=mqtt,
        nats_port=nats,
    )
    broker = Broker(config, BrokerSecrets.create_or_load(rig.directory / "nats"))
    task = asyncio.create_task(broker.run())
    try:
        async with asyncio.timeout(30):
            await broker.ready.wait()
        yield broker.nats_url
    finally:
        task.cancel()
        await asyncio.wait([task])


async def kill_and_finish(rig: Rig, mqtt: int, nats: int, url: str) -> None:
    devices = [SendingDevice(rig, mqtt, rig.enrol(f"dev{n}"), MESSAGES) for n in range(DEVICES)]
    for device in devices:
        device.start()
    for kill in range(1, KILLS + 1):
        goal = kill * DEVICES * MESSAGES // (KILLS + 1)
        async with hub_process(rig, mqtt, nats, url):
            await asyncio.to_thread(wait_for, partial(has_applied, rig, goal), 60)
    async with hub_process(rig, mqtt, nats, url):
        await asyncio.to_thread(wait_for, lambda: all(d.confirmed == MESSAGES for d in devices), 90)
        for device in devices:
            device.join(10)


def assert_exact(rig: Rig, devices: int, messages: int) -> None:
    heartbeats = range(3, messages + 1, 3)
    with rig.database.read() as connection:
        for row in connection.execute(select(device_status)):
            assert (row.watermark, row.messages, row.malformed) == (messages, messages, 0)
        for row in connection.execute(select(device_models)):
            assert row.requests == sum(heartbeats)
        counts = connection.execute(
            select(device_events.c.device_id, func.count(func.distinct(device_events.c.code)), func.count()).group_by(
                device_events.c.device_id
            )
        ).all()
    expected = messages - len(heartbeats)
    assert sorted(tuple(row) for row in counts) == [(f"dev{n}", expected, expected) for n in range(devices)]


@pytest.mark.slow
async def test_nothing_is_lost_or_counted_twice_when_hub_and_broker_are_killed_together(rig: Rig) -> None:
    mqtt, nats = free_ports()
    await kill_and_finish(rig, mqtt, nats, "")
    assert_exact(rig, DEVICES, MESSAGES)


@pytest.mark.slow
async def test_nothing_is_lost_or_counted_twice_when_the_broker_outlives_the_hub(rig: Rig) -> None:
    mqtt, nats = free_ports()
    async with broker_of_its_own(rig, mqtt, nats) as url:
        await kill_and_finish(rig, mqtt, nats, url)
    assert_exact(rig, DEVICES, MESSAGES)


class CommitsThenFails:
    """A hub that dies after its commit and before its acknowledgement, the first few times."""

    def __init__(self, inner: IngestService, failures: int) -> None:
        self._inner = inner
        self._failures = failures

    def commit(self, messages: Sequence[Received]) -> Mapping[str, Watermark]:
        watermarks = self._inner.commit(messages)
        if self._failures:
            self._failures -= 1
            raise OSError("cut between commit and acknowledgement")
        return watermarks


async def test_what_was_committed_but_not_acknowledged_is_delivered_again_and_ignored(rig: Rig) -> None:
    rig.ack_wait_s = 0.5
    service = IngestService(rig.database, rig.clock)
    identity = rig.enrol("dev0")
    async with rig.running(CommitsThenFails(service, 3)) as runtime:
        device = SendingDevice(rig, runtime.mqtt_port, identity, 30)
        device.start()
        await asyncio.to_thread(wait_for, lambda: device.confirmed == 30)
        await asyncio.to_thread(wait_for, lambda: service.totals.duplicates >= 30)
    assert_exact(rig, 1, 30)
