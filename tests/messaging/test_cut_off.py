"""A revoked device is off within 5 s and stays off; real sockets."""

from __future__ import annotations

import asyncio

import nats

from hub.messaging.config import HUB_USER, SYSTEM_USER
from hub.messaging.kick import ConnectionKicker
from hub.messaging.nats import NatsLink
from hub.messaging.runtime import MessagingRuntime
from hub.messaging.secrets import BrokerSecrets
from hub.store.connections import ConnectionStore
from shared.wire.down import DesiredState
from tests.messaging.rig import Rig, wait_for


async def test_a_revoked_device_is_cut_off_within_five_seconds_and_refused_afterwards(rig: Rig) -> None:
    identity, other = rig.enrol("dev1"), rig.enrol("dev2")

    def scene(runtime: MessagingRuntime) -> None:
        with (
            rig.client(runtime.mqtt_port, identity) as client,
            rig.client(runtime.mqtt_port, other) as bystander,
        ):
            client.connected()
            bystander.connected()
            rig.revoke("dev1")
            runtime.cut_off("dev1")
            wait_for(lambda: client.disconnections, 5)
            wait_for(lambda: client.connections[-1] is False or client.disconnections > 1)
            assert client.connections.count(True) == 1
            assert bystander.disconnections == 0

    async with rig.running() as runtime:
        await asyncio.to_thread(scene, runtime)


async def test_a_revoked_devices_retained_state_is_removed(rig: Rig) -> None:
    rig.enrol("dev1")
    rig.enrol("dev2")

    async with rig.running() as runtime:
        secrets = BrokerSecrets.create_or_load(rig.directory / "nats")
        hub = await nats.connect(runtime.broker_url, user=HUB_USER, password=secrets.hub_password)

        async def retained() -> int:
            return (await hub.jetstream().stream_info("$MQTT_rmsgs")).state.messages

        for device_id in ("dev1", "dev2"):
            rig.states.desire(DesiredState(device_id=device_id, revision=1))
        runtime.wake()
        await asyncio.to_thread(wait_for, lambda: len(rig.states.published) == 2)
        assert await retained() == 2
        rig.revoke("dev1")
        runtime.cut_off("dev1")
        async with asyncio.timeout(15):
            while True:
                if await retained() == 1:
                    break
                await asyncio.sleep(0.05)
        await hub.close()


async def test_a_device_whose_hub_died_between_revoking_and_kicking_is_found_by_the_sweep(rig: Rig) -> None:
    identity = rig.enrol("dev1")

    async with rig.running() as runtime:
        with rig.client(runtime.mqtt_port, identity) as client:
            await asyncio.to_thread(client.connected)
            rig.revoke("dev1")
            secrets = BrokerSecrets.create_or_load(rig.directory / "nats")
            system = await NatsLink.open(runtime.broker_url, SYSTEM_USER, secrets.system_password, "another hub")
            sweep = asyncio.create_task(ConnectionKicker(system, ConnectionStore(rig.database)).sweep_forever())
            await asyncio.to_thread(wait_for, lambda: client.disconnections)
            sweep.cancel()
            await system.close()
