"""The MQTT adapter against a real broker over mutual TLS."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from agent.identity.store import IdentityStore
from agent.link.connection import Connection
from agent.link.mqtt import MqttConnector
from shared.errors import SkerryError, Unavailable, Untrusted
from tests.agent_identity.authority import Authority
from tests.link.broker import Broker
from tests.ports import free_port

CONNECTOR = MqttConnector(timeout_s=10, keepalive_s=30)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with Broker(tmp_path_factory.mktemp("broker")) as running:
        yield running


class Inbox:
    """What came down, as it came."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()

    def receive(self, topic: str, payload: bytes) -> None:
        self.messages.put_nowait((topic, payload))

    async def next(self) -> tuple[str, bytes]:
        async with asyncio.timeout(10):
            return await self.messages.get()


@asynccontextmanager
async def connected(store: IdentityStore, inbox: Inbox) -> AsyncIterator[Connection]:
    connection = await CONNECTOR.connect(store.load(), store.credentials(), inbox.receive)
    try:
        yield connection
    finally:
        await connection.close()


async def test_messages_go_up_and_come_down_once(broker: Broker, tmp_path: Path) -> None:
    """The broker maps topics only, so a second client whose id is the topic's upper part can stand in for the hub."""
    store = broker.identity(tmp_path / "dev1", "dev1")
    inbox = Inbox()
    async with connected(store, inbox) as connection:
        connection.publish("down", b"document")
        connection.publish("down/ack", b"watermark")
        connection.publish("down/ack", b"last")
        got = [await inbox.next() for _ in range(3)]
    assert got == [("down", b"document"), ("down/ack", b"watermark"), ("down/ack", b"last")]


async def test_many_large_messages_pass_without_blocking(broker: Broker, tmp_path: Path) -> None:
    store = broker.identity(tmp_path / "dev2", "dev2")
    inbox = Inbox()
    payloads = [bytes([number]) * 200_000 for number in range(40)]
    async with connected(store, inbox) as connection:
        for payload in payloads:
            connection.publish("down/ack", payload)
        assert [(await inbox.next())[1] for _ in payloads] == payloads


async def test_a_broker_that_dies_ends_the_connection(tmp_path: Path) -> None:
    with Broker(tmp_path / "broker") as own:
        store = own.identity(tmp_path / "dev1", "dev1")
        async with connected(store, Inbox()) as connection:
            own.stop()
            async with asyncio.timeout(10):
                assert await connection.closed()
            with pytest.raises(Unavailable):
                connection.publish("up/event", b"x")


async def refusal(store: IdentityStore, **changes: object) -> SkerryError:
    identity = msgspec.structs.replace(store.load(), **changes)
    with pytest.raises(SkerryError) as refused:
        await CONNECTOR.connect(identity, store.credentials(), Inbox().receive)
    return refused.value


async def test_a_device_with_a_foreign_certificate_is_refused(broker: Broker, tmp_path: Path) -> None:
    store = broker.identity(tmp_path / "dev1", "dev1", Authority("somebody else"))
    assert isinstance(await refusal(store), Unavailable)


async def test_a_broker_with_a_foreign_certificate_is_not_trusted(broker: Broker, tmp_path: Path) -> None:
    store = broker.identity(tmp_path / "dev1", "dev1")
    (tmp_path / "dev1" / "hub-ca.crt").write_text(Authority().pem)
    error = await refusal(store)
    assert isinstance(error, Untrusted)
    assert error.code == "link.certificate"


async def test_a_broker_under_another_name_is_not_trusted(broker: Broker, tmp_path: Path) -> None:
    store = broker.identity(tmp_path / "dev1", "dev1")
    assert isinstance(await refusal(store, mqtt_host="127.0.0.2"), SkerryError)


async def test_nobody_there_is_unavailable(broker: Broker, tmp_path: Path) -> None:
    store = broker.identity(tmp_path / "dev1", "dev1")
    error = await refusal(store, mqtt_port=free_port())
    assert isinstance(error, Unavailable)
    assert error.retriable


async def test_a_peer_that_never_answers_is_given_up(broker: Broker, tmp_path: Path) -> None:
    store = broker.identity(tmp_path / "dev1", "dev1")

    with socket.create_server(("127.0.0.1", 0)) as silent:
        identity = msgspec.structs.replace(store.load(), mqtt_port=silent.getsockname()[1])
        with pytest.raises(Unavailable):
            await MqttConnector(timeout_s=0.3, keepalive_s=30).connect(identity, store.credentials(), Inbox().receive)
