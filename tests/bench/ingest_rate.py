"""How many device messages a second reach the database, beside what the stream itself can deliver.

`python -m tests.bench.ingest_rate [MESSAGES] [--health]` prints JSON; with `--health` every second message says how a
version did, with 20 latency buckets, instead of a heartbeat. The limit in the same run: the same messages pulled and
acknowledged from the same stream, thrown away. SQLite with full sync, one nats-server, everything on this machine.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from sqlalchemy import Connection, func, insert, select

from hub.ingest.service import IngestService, Received
from hub.messaging.broker import Broker
from hub.messaging.config import HUB_USER, BrokerConfig
from hub.messaging.ingest import IngestLoop, IngestLoopSettings
from hub.messaging.nats import ConsumerSpec, NatsLink
from hub.messaging.secrets import BrokerSecrets
from hub.store.schema import blobs, device_status, devices, health_windows, models, versions
from shared.wire.down import Watermark
from shared.wire.health import Health, VersionHealth
from shared.wire.up import Envelope, Heartbeat, ModelStatus, encode_body, encode_envelope
from tests.messaging.rig import Rig

DEVICES, BATCH = 500, 500


class CountingCommit:
    """The real service; tells when all is committed, and how long commits alone took."""

    def __init__(self, service: IngestService, messages: int) -> None:
        self._service = service
        self._left = messages
        self._loop = asyncio.get_running_loop()
        self.seconds = 0.0
        self.batches = 0
        self.done = asyncio.Event()

    def commit(self, messages: Sequence[Received]) -> Mapping[str, Watermark]:
        started = time.perf_counter()
        watermarks = self._service.commit(messages)
        self.seconds += time.perf_counter() - started
        self.batches += 1
        self._left -= len(messages)
        if self._left <= 0:
            self._loop.call_soon_threadsafe(self.done.set)
        return watermarks


def heartbeat(seq: int) -> Heartbeat:
    model = ModelStatus(model="digits", version=1, state="committed", requests=seq, latency_p50_us=90)
    return Heartbeat(agent_version="1", uptime_s=seq, rss_bytes=60_000_000, models=[model])


def health(device: int) -> Health:
    latency = [(40 + bucket, 1 + device % 7) for bucket in range(20)]
    return Health(versions=[VersionHealth(model="digits", version=1, requests=200, errors=1, latency=latency)])


def message(device: int, seq: int, *, with_health: bool) -> bytes:
    speaks = with_health and seq % 2 == 0
    body = encode_body(health(device) if speaks else heartbeat(seq))
    return encode_envelope(
        Envelope(
            device_id=f"dev{device}",
            epoch="a" * 16,
            first_seq=seq,
            seq=seq,
            created_s=1.0,
            kind="health" if speaks else "heartbeat",
            body=body,
        )
    )


async def publish(link: NatsLink, messages: int, *, with_health: bool) -> None:
    """What `messages` messages of all devices in turn look like to the stream."""
    for number in range(messages):
        device, seq = number % DEVICES, number // DEVICES + 1
        await link.publish(f"fleet.dev{device}.up.heartbeat", message(device, seq, with_health=with_health))
        if number % 1000 == 0:
            await link.flush()
    await link.flush()


async def raw(link: NatsLink, messages: int) -> None:
    """Pull and acknowledge everything, and do nothing with it."""
    puller = await link.ensure_consumer(
        ConsumerSpec(stream="UP", name="raw", ack_wait_s=30, max_unacknowledged=8 * BATCH)
    )
    left = messages
    while left > 0:
        batch = await puller.batch(BATCH, 5.0)
        await puller.acknowledge(batch)
        left -= len(batch)
    await link.flush()
    await puller.close()


async def timed(work: Callable[[], Awaitable[object]]) -> float:
    started = time.perf_counter()
    await work()
    return time.perf_counter() - started


def register_version(connection: Connection) -> None:
    """Version 1 of `digits`, as far as the ingest asks for it."""
    who, digest = {"created_s": 1.0, "created_by": "bench"}, "1" * 64
    connection.execute(insert(models).values(model="digits", description="", gate={}, bake_s=0, **who))
    connection.execute(insert(blobs).values(sha256=digest, bytes=1, kind="bundle", created_s=1.0))
    release = {"status": "approved", "bundle_sha256": digest, "bundle_bytes": 1, "manifest": "", "card": ""}
    connection.execute(insert(versions).values(model="digits", version=1, **release, **who))


async def measure(directory: Path, messages: int, *, with_health: bool) -> dict[str, object]:
    rig = Rig(directory)
    with rig.database.write() as connection:
        connection.execute(
            insert(devices),
            [
                {"device_id": f"dev{n}", "status": "active", "profile": "x", "hardware_id": "", "enrolled_s": 1.0}
                for n in range(DEVICES)
            ],
        )
        register_version(connection)
    secrets = BrokerSecrets.create_or_load(directory / "nats")
    config = BrokerConfig(
        directory=directory / "nats",
        certificate=rig.pki / "broker.crt",
        key=rig.pki / "broker.key",
        client_cas=rig.pki / "client-cas.crt",
        mqtt_host="127.0.0.1",
        mqtt_port=0,
        nats_port=0,
    )
    broker = Broker(config, secrets)
    running = asyncio.create_task(broker.run())
    await broker.ready.wait()
    link = await NatsLink.open(broker.nats_url, HUB_USER, secrets.hub_password, "bench")
    try:
        return await compare(rig, link, messages, with_health=with_health)
    finally:
        await link.close()
        running.cancel()
        await asyncio.wait([running])
        rig.close()


async def compare(rig: Rig, link: NatsLink, messages: int, *, with_health: bool) -> dict[str, object]:
    commit = CountingCommit(IngestService(rig.database, rig.clock), messages)
    loop = IngestLoop(link, commit, IngestLoopSettings(batch_count=BATCH))
    await loop.prepare()
    await publish(link, messages, with_health=with_health)
    raw_s = await timed(lambda: raw(link, messages))
    ingest = asyncio.create_task(loop.run())
    ingest_s = await timed(commit.done.wait)
    ingest.cancel()
    await asyncio.wait([ingest])
    with rig.database.read() as connection:
        applied = connection.scalar(select(func.sum(device_status.c.messages)))
        spoken = connection.scalar(select(func.sum(health_windows.c.reports)))
    return {
        "benchmark": "ingest_rate",
        "messages": messages,
        "devices": DEVICES,
        "applied": applied,
        "health_counted": spoken or 0,
        "batches": commit.batches,
        "ingest_per_s": round(messages / ingest_s),
        "commit_per_s": round(messages / commit.seconds),
        "raw_pull_per_s": round(messages / raw_s),
        "ingest_of_raw": round(raw_s / ingest_s, 3),
        "cores": os.cpu_count(),
    }


def main() -> None:
    """Run it in a temporary folder."""
    words = [word for word in sys.argv[1:] if word != "--health"]
    messages = int(words[0]) if words else 20_000
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), messages, with_health="--health" in sys.argv)
        print(json.dumps(asyncio.run(figures), indent=2))


if __name__ == "__main__":
    main()
