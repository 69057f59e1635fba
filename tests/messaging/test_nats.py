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


async def test_a_cancellation_that_comes_together_with_an_answer_is_not_lost(rig: Rig) -> None:
    """The moment is hit by chance, so it is tried at many; what misses a cancellation asks for ever."""

    async def for_ever(link: NatsLink) -> None:
        while True:
            await link.ask("test.echo", b"x", 15)
            await link.flush()

    async def echo(data: bytes) -> bytes:
        return data

    async with linked(rig) as link, asyncio.timeout(60):
        await link.serve("test.echo", echo, patience_s=15)
        for moment in range(400):
            asking = asyncio.create_task(for_ever(link))
            for _ in range(moment % 80):
                await asyncio.sleep(0)
            asking.cancel()
            _done, late = await asyncio.wait([asking], timeout=15)
            assert not late, moment


async def test_a_link_that_is_cancelled_while_it_opens_leaves_no_connection(rig: Rig) -> None:
    async with rig.running() as runtime, asyncio.timeout(60):
        password = BrokerSecrets.create_or_load(rig.directory / "nats").hub_password
        tasks = asyncio.all_tasks()
        for moment in range(60):
            opening = asyncio.create_task(NatsLink.open(runtime.broker_url, HUB_USER, password, "test"))
            for _ in range(moment):
                await asyncio.sleep(0)
            opening.cancel()
            await asyncio.wait([opening])
            if not opening.cancelled():
                await opening.result().close()
        if left := asyncio.all_tasks() - tasks:
            _done, late = await asyncio.wait(left, timeout=15)
            assert not late
