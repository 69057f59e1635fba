"""The child nats-server: private files, restarts, and an end together with its hub."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import stat
import sys
from pathlib import Path

import pytest

from hub.messaging.broker import Broker
from hub.messaging.config import BrokerConfig
from hub.messaging.renewal import watch_file
from hub.messaging.secrets import BrokerSecrets
from shared.errors import StorageFailure, Unavailable
from shared.wire.down import DesiredState, decode_desired
from tests.messaging.rig import Identity, Rig, wait_for


def config(rig: Rig) -> BrokerConfig:
    return BrokerConfig(
        directory=rig.directory / "nats",
        certificate=rig.pki / "broker.crt",
        key=rig.pki / "broker.key",
        client_cas=rig.pki / "client-cas.crt",
        mqtt_host="127.0.0.1",
        mqtt_port=0,
        nats_port=0,
    )


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


async def test_files_with_secrets_are_for_the_hubs_user_only(rig: Rig) -> None:
    async with rig.running():
        for name in ("nats-server.conf", "secrets.json"):
            assert stat.S_IMODE((rig.directory / "nats" / name).stat().st_mode) == 0o600


async def test_secrets_are_kept_and_damaged_ones_are_named(tmp_path: Path) -> None:
    first = BrokerSecrets.create_or_load(tmp_path)
    assert BrokerSecrets.create_or_load(tmp_path) == first
    (tmp_path / "secrets.json").write_text("{}")
    with pytest.raises(StorageFailure) as raised:
        BrokerSecrets.create_or_load(tmp_path)
    assert raised.value.code == "broker.secrets"


async def test_a_killed_server_comes_back_and_devices_and_hub_go_on(rig: Rig) -> None:
    identity = rig.enrol("dev1")
    async with rig.running() as runtime:
        broker = runtime.broker
        assert broker is not None
        assert broker.pid is not None
        with rig.client(runtime.mqtt_port, identity) as client:
            await asyncio.to_thread(client.connected)
            os.kill(broker.pid, signal.SIGKILL)
            await asyncio.to_thread(wait_for, lambda: client.connections.count(True) > 1)
            await asyncio.to_thread(client.subscribe, "fleet/dev1/down")
            rig.states.desire(DesiredState(device_id="dev1", revision=7))
            runtime.wake()
            await asyncio.to_thread(wait_for, lambda: client.received)
            assert decode_desired(client.received[0][1]).revision == 7


async def test_a_hub_that_is_killed_leaves_no_server_behind(rig: Rig) -> None:
    hub = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.messaging.hub_process", str(rig.directory)), stdout=asyncio.subprocess.PIPE
    )
    assert hub.stdout is not None
    async with asyncio.timeout(30):
        _ready, pid = (await hub.stdout.readline()).split()
    assert alive(int(pid))
    hub.kill()
    await hub.wait()
    await asyncio.to_thread(wait_for, lambda: not alive(int(pid)))


async def test_the_server_ends_in_order_with_the_hub(rig: Rig) -> None:
    async with rig.running() as runtime:
        broker = runtime.broker
        assert broker is not None
        pid = broker.pid
        assert pid is not None
    assert not alive(pid)


async def test_a_server_that_does_not_start_is_an_error_with_its_own_words(rig: Rig) -> None:
    (rig.pki / "broker.key").write_text("not a key")
    broker = Broker(config(rig), BrokerSecrets.create_or_load(rig.directory / "nats"), start_s=0.5)
    with pytest.raises(Unavailable) as raised:
        await broker.run()
    assert raised.value.code == "broker.start"
    assert "broker.key" in raised.value.hint or "certificate" in raised.value.hint


async def test_retained_states_that_a_cut_may_have_taken_are_sent_again(rig: Rig) -> None:
    identity = rig.enrol("dev1")
    rig.states.desire(DesiredState(device_id="dev1", revision=7))
    async with rig.running():
        await asyncio.to_thread(wait_for, lambda: rig.states.published)
    async with rig.running() as runtime:  # ended in order: nothing to do
        await asyncio.to_thread(_receives, rig, runtime.mqtt_port, identity)
        assert rig.states.published == [("dev1", 7)]
    for lost in (rig.directory / "nats" / "jetstream", rig.directory / "nats" / "ended-in-order"):
        shutil.rmtree(lost) if lost.is_dir() else lost.unlink()
    async with rig.running() as runtime:
        await asyncio.to_thread(_receives, rig, runtime.mqtt_port, identity)


def _receives(rig: Rig, port: int, identity: Identity) -> None:
    with rig.client(port, identity) as client:
        client.connected()
        client.subscribe("fleet/dev1/down")
        wait_for(lambda: client.received)


async def test_renewed_certificate_files_are_noticed(tmp_path: Path) -> None:
    file, noticed = tmp_path / "x.crt", asyncio.Event()
    file.write_text("one")
    watching = asyncio.create_task(watch_file(file, noticed.set, look_s=0.01))
    await asyncio.sleep(0)
    file.write_text("two")
    async with asyncio.timeout(15):
        await noticed.wait()
    watching.cancel()
