"""The adapter to NATS against a real server: storms and streams that go away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from hub.messaging.config import HUB_USER
from hub.messaging.nats import ConsumerSpec, NatsLink, StreamSpec
from hub.messaging.secrets import BrokerSecrets
from shared.errors import Unavailable
from tests.messaging.rig import Rig


@asynccontextmanager
async def linked(rig: Rig) -> AsyncIterator[NatsLink]:
    async with rig.running() as runtime:
        secrets = BrokerSecrets.create_or_load(rig.directory / "nats")
        link = await NatsLink.open(runtime.broker_url, HUB_USER, secrets.hub_password, "test")
        yield link
        await link.close()


async def test_requests_that_waited_too_long_are_left_for_those_that_still_wait(rig: Rig) -> None:
    handled: list[bytes] = []
    busy, free = asyncio.Event(), asyncio.Event()

    async def handler(data: bytes) -> bytes:
        handled.append(data)
        if data == b"early":
            if handled.count(b"early") == 16:
                busy.set()
            await free.wait()
        return data

    async with linked(rig) as link, asyncio.timeout(30):
        await link.serve("test.storm", handler, patience_s=0.2)
        for _ in range(16):
            await link.publish("test.storm", b"early")
        await busy.wait()
        asking = asyncio.create_task(link.ask("test.storm", b"given up", 0.5))
        with pytest.raises(Unavailable):
            await asking
        free.set()
        assert await link.ask("test.storm", b"late", 15) == b"late"
    assert b"given up" not in handled


async def test_what_is_not_acknowledged_is_pulled_again(rig: Rig) -> None:
    async with linked(rig) as link:
        await link.ensure_stream(StreamSpec(name="T", subjects=("t.>",), max_bytes=1 << 20, max_age_s=60))
        puller = await link.ensure_consumer(ConsumerSpec(stream="T", name="c", ack_wait_s=0.5, max_unacknowledged=10))
        for number in range(3):
            await link.publish("t.x", b"%d" % number)
        first = await puller.batch(10, 15)
        while len(first) < 3:
            first += await puller.batch(10, 15)
        await puller.acknowledge(first[:2])
        again = await puller.batch(10, 15)
        assert [message.data for message in again] == [b"2"]


async def test_a_wrong_password_is_a_clear_error(rig: Rig) -> None:
    async with rig.running() as runtime:
        with pytest.raises(Unavailable) as raised:
            await NatsLink.open(runtime.broker_url, HUB_USER, "wrong", "test", timeout_s=0.5)
        assert raised.value.code == "broker.unreachable"
