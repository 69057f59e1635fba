"""From the stream to the database and back: pull, commit, acknowledge, tell the devices.

Rules: the broker is told that a message is done only after the database has it; a hub that dies in between gets the
message again and finds a duplicate. Every device of a batch hears its watermark, also when nothing new was in it, so
that it sends again what is missing. While the database is away nothing is acknowledged. All hubs share one consumer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from hub.ingest.service import Received
from hub.messaging.nats import ConsumerSpec, NatsLink, Pulled, Puller, StreamSpec
from shared.errors import SkerryError
from shared.wire.down import Watermark, encode

__all__ = ["IngestLoop", "IngestLoopSettings", "MessageCommit"]

_LOG = logging.getLogger(__name__)
_STREAM, _CONSUMER = "UP", "ingest"
_BACKOFF_S = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class MessageCommit(Protocol):
    """Where messages go."""

    def commit(self, messages: Sequence[Received]) -> Mapping[str, Watermark]:
        """Apply a batch and return the watermarks to send. Blocks."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestLoopSettings:
    """Bounds. The stream only bridges the hub's absence: what falls out of it is still in the devices' outboxes."""

    stream_bytes: int = 512 * 1024**2
    stream_age_s: float = 24 * 3600.0
    replicas: int = 1
    batch_count: int = 500
    wait_s: float = 1.0
    ack_wait_s: float = 30.0


class IngestLoop:
    """Runs until cancelled."""

    def __init__(self, link: NatsLink, commit: MessageCommit, settings: IngestLoopSettings) -> None:
        self._link = link
        self._commit = commit
        self._settings = settings

    async def prepare(self) -> None:
        """Make the stream, so that nothing that is published from now on is missed."""
        await self._link.ensure_stream(
            StreamSpec(
                name=_STREAM,
                subjects=("fleet.*.up.>",),
                max_bytes=self._settings.stream_bytes,
                max_age_s=self._settings.stream_age_s,
                replicas=self._settings.replicas,
            )
        )

    async def run(self) -> None:
        """Apply what comes; a broker or database that goes away is waited for."""
        failures = 0
        while True:
            try:
                puller = await self._consumer()
                try:
                    while True:
                        await self._step(puller)
                        failures = 0
                finally:
                    await puller.close()
            except Exception as error:  # noqa: BLE001 - nothing is acknowledged yet, so nothing is lost by going on
                pause = _BACKOFF_S[min(failures, len(_BACKOFF_S) - 1)]
                failures += 1
                unexpected = not isinstance(error, SkerryError)
                _LOG.warning("ingest waits %.1f s: %s", pause, error, exc_info=unexpected)
                await asyncio.sleep(pause)

    async def _consumer(self) -> Puller:
        await self.prepare()
        spec = ConsumerSpec(
            stream=_STREAM,
            name=_CONSUMER,
            ack_wait_s=self._settings.ack_wait_s,
            max_unacknowledged=8 * self._settings.batch_count,
        )
        return await self._link.ensure_consumer(spec)

    async def _step(self, puller: Puller) -> None:
        batch = await puller.batch(self._settings.batch_count, self._settings.wait_s)
        if not batch:
            return
        watermarks = await asyncio.to_thread(self._commit.commit, [_received(message) for message in batch])
        await puller.acknowledge(batch)
        for device_id, watermark in watermarks.items():
            await self._link.publish(f"fleet.{device_id}.down.ack", encode(watermark))


def _received(message: Pulled) -> Received:
    # `fleet.<device>.up.<kind>`: the broker lets a device publish under its own name only.
    return Received(message.subject.split(".", 2)[1], message.data)
