"""How many device messages a second reach the database, beside what the stream itself can deliver.

`python -m tests.bench.ingest_rate [MESSAGES] [--health | --windows]` prints JSON; with `--health` every second message
says how a version did, with 20 latency buckets, instead of a heartbeat; with `--windows` every message is a window of
32 features, checked against its reference and added up. The limit in the same run: the same messages pulled and
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

import numpy as np
from sqlalchemy import Connection, func, insert, select

from hub.ingest.service import IngestService, Received
from hub.ingest.windows import WindowBook
from hub.messaging.broker import Broker
from hub.messaging.config import HUB_USER, BrokerConfig
from hub.messaging.ingest import IngestLoop, IngestLoopSettings
from hub.messaging.nats import ConsumerSpec, NatsLink
from hub.messaging.secrets import BrokerSecrets
from hub.monitoring.references import Watched
from hub.monitoring.sums import shape_of
from hub.store.schema import blobs, device_status, devices, drift_sums, health_windows, models, versions
from shared.drift.counts import pack_counts
from shared.drift.layout import BINS, CELLS, SCORE_BINS
from shared.wire.down import Watermark
from shared.wire.health import Health, VersionHealth
from shared.wire.up import Envelope, Heartbeat, ModelStatus, encode_body, encode_envelope
from shared.wire.window import Window
from tests.drift.kit import columns_reference
from tests.messaging.rig import Rig
from tests.monitoring.kit import Kept

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


def watched() -> tuple[Watched, bytes]:
    """A version of 30 inputs and two answers, and the counts of 200 rows of it, packed."""
    random = np.random.default_rng(1)
    reference, _, _ = columns_reference(random.normal(0, 1, (1000, 30)).astype(np.float32))
    cells = np.zeros((len(reference.features), CELLS), np.int64)
    cells[:, :BINS] = random.multinomial(200, np.full(BINS, 1 / BINS), len(reference.features))
    return Watched(reference, "ab" * 32, None, shape_of(reference)), pack_counts(cells)


def window(seq: int, cells: bytes, scores: bytes) -> Window:
    return Window(
        model="digits", version=1, series="5" * 16, window_id=seq, started_s=1.0, ended_s=2.0, cells=cells,
        scores=scores, reference_sha256="ab" * 32, rows=200, predicted=200,
    )  # fmt: skip


def window_message(device: int, seq: int, cells: bytes, scores: bytes) -> bytes:
    body = encode_body(window(seq, cells, scores))
    return encode_envelope(
        Envelope(
            device_id=f"dev{device}", epoch="a" * 16, first_seq=seq, seq=seq, created_s=1.0, kind="window", body=body
        )
    )


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


async def publish(link: NatsLink, messages: int, *, with_health: bool, cells: bytes = b"") -> None:
    """What `messages` messages of all devices in turn look like to the stream."""
    scores = pack_counts([10] * SCORE_BINS + [0] * SCORE_BINS)
    for number in range(messages):
        device, seq = number % DEVICES, number // DEVICES + 1
        data = window_message(device, seq, cells, scores) if cells else message(device, seq, with_health=with_health)
        await link.publish(f"fleet.dev{device}.up.{'window' if cells else 'heartbeat'}", data)
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


async def measure(directory: Path, messages: int, *, with_health: bool, with_windows: bool) -> dict[str, object]:
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
        return await compare(rig, link, messages, with_health=with_health, with_windows=with_windows)
    finally:
        await link.close()
        running.cancel()
        await asyncio.wait([running])
        rig.close()


async def compare(
    rig: Rig, link: NatsLink, messages: int, *, with_health: bool, with_windows: bool
) -> dict[str, object]:
    version, cells = watched()
    book = WindowBook(Kept({("digits", 1): version}))
    commit = CountingCommit(IngestService(rig.database, rig.clock, book), messages)
    loop = IngestLoop(link, commit, IngestLoopSettings(batch_count=BATCH))
    await loop.prepare()
    await publish(link, messages, with_health=with_health, cells=cells if with_windows else b"")
    raw_s = await timed(lambda: raw(link, messages))
    ingest = asyncio.create_task(loop.run())
    ingest_s = await timed(commit.done.wait)
    ingest.cancel()
    await asyncio.wait([ingest])
    with rig.database.read() as connection:
        applied = connection.scalar(select(func.sum(device_status.c.messages)))
        counted = connection.scalar(select(func.sum(drift_sums.c.windows)))
        spoken = connection.scalar(select(func.sum(health_windows.c.reports)))
    return {
        "benchmark": "ingest_rate",
        "messages": messages,
        "devices": DEVICES,
        "applied": applied,
        "health_counted": spoken or 0,
        "windows_counted": counted or 0,
        "batches": commit.batches,
        "ingest_per_s": round(messages / ingest_s),
        "commit_per_s": round(messages / commit.seconds),
        "raw_pull_per_s": round(messages / raw_s),
        "ingest_of_raw": round(raw_s / ingest_s, 3),
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 1),
    }


def main() -> None:
    """Run it in a temporary folder."""
    words = [word for word in sys.argv[1:] if not word.startswith("--")]
    messages = int(words[0]) if words else 20_000
    with tempfile.TemporaryDirectory() as folder:
        health, windows = "--health" in sys.argv, "--windows" in sys.argv
        figures = measure(Path(folder), messages, with_health=health, with_windows=windows)
        print(json.dumps(asyncio.run(figures), indent=2))


if __name__ == "__main__":
    main()
