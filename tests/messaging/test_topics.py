"""What a device can reach at the broker, over real sockets: its own topics and nothing else."""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack

import pytest
from sqlalchemy import select

from hub.messaging.runtime import MessagingRuntime
from hub.pki.authority import Authority
from hub.store.schema import device_status
from shared.wire.down import DesiredState, Watermark, decode_desired, decode_watermark
from shared.wire.up import Envelope, Event, encode_body, encode_envelope
from tests.messaging.rig import Identity, Rig, wait_for

EPOCH = "a" * 16


def event(device: str, seq: int) -> bytes:
    body = encode_body(Event(code="x", message="y"))
    return encode_envelope(
        Envelope(device_id=device, epoch=EPOCH, first_seq=seq, seq=seq, created_s=1.0, kind="event", body=body)
    )


async def test_a_message_up_is_confirmed_by_a_watermark_down(rig: Rig) -> None:
    identity = rig.enrol("dev1")

    def device(runtime: MessagingRuntime) -> None:
        with rig.client(runtime.mqtt_port, identity) as client:
            client.connected()
            assert client.subscribe("fleet/dev1/down", "fleet/dev1/down/#") == [True, True]
            client.client.publish("fleet/dev1/up/event", event("dev1", 1), qos=1)
            wait_for(lambda: client.received)
            topic, payload, _retain = client.received[0]
            assert topic == "fleet/dev1/down/ack"
            mark = decode_watermark(payload)
            assert mark == Watermark(epoch=EPOCH, seq=1, hub_s=mark.hub_s)
            assert mark.hub_s == pytest.approx(time.time(), abs=60)

    async with rig.running() as runtime:
        await asyncio.to_thread(device, runtime)


async def test_a_desired_state_is_retained_for_a_device_that_comes_later(rig: Rig) -> None:
    identity = rig.enrol("dev1")

    def device(runtime: MessagingRuntime) -> None:
        rig.states.desire(DesiredState(device_id="dev1", revision=1))
        runtime.wake()
        wait_for(lambda: ("dev1", 1) in rig.states.published)
        with rig.client(runtime.mqtt_port, identity) as client:
            client.connected()
            client.subscribe("fleet/dev1/down", "fleet/dev1/down/#")
            wait_for(lambda: client.received)
            assert decode_desired(client.received[0][1]).revision == 1
            rig.states.desire(DesiredState(device_id="dev1", revision=2))
            runtime.wake()
            wait_for(lambda: decode_desired(client.received[-1][1]).revision == 2)

    async with rig.running() as runtime:
        await asyncio.to_thread(device, runtime)


async def test_a_device_cannot_write_under_another_name(rig: Rig) -> None:
    identity = rig.enrol("dev1")
    rig.enrol("dev2")

    def device(runtime: MessagingRuntime) -> None:
        with rig.client(runtime.mqtt_port, identity) as client:
            client.connected()
            client.subscribe("fleet/dev1/down/#")
            client.client.publish("fleet/dev2/up/event", event("dev2", 1), qos=1)  # another's topic
            client.client.publish("fleet/dev2/down", b"x", qos=0, retain=True)
            client.client.publish("fleet/dev1/down", b"x", qos=0, retain=True)  # the hub's topic
            client.client.publish("fleet/dev1/up/event", event("dev2", 1), qos=1)  # another's name inside
            client.client.publish("fleet/dev1/up/event", event("dev1", 1), qos=1)
            wait_for(lambda: client.received)
            assert [topic for topic, _payload, _retain in client.received] == ["fleet/dev1/down/ack"]

    async with rig.running() as runtime:
        await asyncio.to_thread(device, runtime)
    with rig.database.read() as connection:
        status = {row.device_id: row for row in connection.execute(select(device_status))}
    assert set(status) == {"dev1"}
    assert (status["dev1"].watermark, status["dev1"].malformed) == (1, 1)


async def test_a_device_cannot_listen_outside_its_own_topics(rig: Rig) -> None:
    identity = rig.enrol("dev1")
    rig.enrol("dev2")
    foreign = ["#", "+/#", "fleet/#", "fleet/+/down", "fleet/dev2/down", "fleet/dev2/down/#", "fleet/dev1/#", "$SYS/#"]
    foreign += ["$MQTT/#", "$MQTT/sub/#", "$MQTT/rmsgs/#", "$JS/#", "$share/x/fleet/dev2/down", "_INBOX/#"]

    def device(runtime: MessagingRuntime) -> None:
        with rig.client(runtime.mqtt_port, identity) as client:
            client.connected()
            assert client.subscribe(*foreign) == [False] * len(foreign)
            assert client.subscribe("fleet/dev1/down", "fleet/dev1/down/#") == [True, True]
            rig.states.desire(DesiredState(device_id="dev2", revision=1))
            rig.states.desire(DesiredState(device_id="dev1", revision=1))
            runtime.wake()
            wait_for(lambda: client.received)
            wait_for(lambda: len(rig.states.published) == 2)
            assert {topic for topic, _payload, _retain in client.received} == {"fleet/dev1/down"}

    async with rig.running() as runtime:
        await asyncio.to_thread(device, runtime)


async def test_only_its_own_certificate_and_name_let_a_client_in(rig: Rig) -> None:
    known = rig.enrol("dev1")
    rig.enrol("dev2")
    rig.issue("stranger", "dev3", authority=rig.device_ca)
    rig.issue("impostor", "dev2", authority=rig.device_ca)  # right authority and name, but not a certificate of dev2
    rig.issue("climber", "hub:publisher", authority=rig.device_ca)
    rig.issue("office", "dev1", authority=rig.hub_ca)
    foreign = Authority.create("Other CA", rig.directory, "other-ca", now_s=rig.clock.now(), days=1)
    rig.issue("foreign", "dev1", authority=foreign)
    refused: list[tuple[Identity, str | None]] = [
        (known, "dev2"),
        (known, "hub:publisher:0"),
        (rig.identity("stranger", "dev3"), None),
        (rig.identity("impostor", "dev2"), None),
        (rig.identity("climber", "hub:publisher:1"), None),
        (rig.identity("office", "dev1"), None),
        (rig.identity("publisher", "dev1"), None),
        (rig.identity("foreign", "dev1"), None),
    ]

    def clients(runtime: MessagingRuntime) -> None:
        with ExitStack() as exits:
            tried = [exits.enter_context(rig.client(runtime.mqtt_port, *who)) for who in refused]
            for client, who in zip(tried, refused, strict=True):
                wait_for(client.answered)
                assert not any(client.connections), who
        with rig.client(runtime.mqtt_port, known) as client:
            client.connected()

    async with rig.running() as runtime:
        await asyncio.to_thread(clients, runtime)


async def test_the_publisher_may_only_publish_downwards(rig: Rig) -> None:
    rig.enrol("dev1")

    def publisher(runtime: MessagingRuntime) -> None:
        with rig.client(runtime.mqtt_port, rig.identity("publisher", "hub:publisher:test")) as client:
            client.connected()
            assert client.subscribe("fleet/dev1/down", "fleet/+/up/#", "#") == [False] * 3

    async with rig.running() as runtime:
        await asyncio.to_thread(publisher, runtime)


async def test_the_nats_port_lets_nobody_in_without_the_hubs_password(rig: Rig) -> None:
    async with rig.running() as runtime:
        host, port = runtime.broker_url.removeprefix("nats://").split(":")
        for options in (b"{}", b'{"user":"hub","pass":"guess"}', b'{"user":"dev1"}'):
            reader, writer = await asyncio.open_connection(host, int(port))
            await reader.readline()
            writer.write(b"CONNECT " + options + b"\r\nPING\r\n")
            assert (await asyncio.wait_for(reader.readline(), 15)).startswith(b"-ERR 'Authorization Violation'")
            writer.close()
            await writer.wait_closed()


async def test_a_connection_ends_when_its_certificate_does(rig: Rig) -> None:
    identity = rig.enrol("dev1", lifetime_s=3)

    def device(runtime: MessagingRuntime) -> None:
        with rig.client(runtime.mqtt_port, identity) as client:
            client.connected()
            wait_for(lambda: client.disconnections)

    async with rig.running() as runtime:
        await asyncio.to_thread(device, runtime)
