"""An alert over MQTT: from the verdict through the hub's publisher and a real broker to a listener, and nobody else."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hub.alerts.config import MqttRoute, load_config
from hub.alerts.delivery import deliver
from hub.messaging.runtime import MessagingRuntime
from hub.pki.listeners import issue_listener
from hub.store.drift import ResultRow
from hub.store.page import PageRequest
from shared.errors import Conflict, InvalidInput, SkerryError, Unavailable
from tests.alerts.test_rules_and_lifecycle import verdict
from tests.hub_kit import running_hub
from tests.messaging.rig import DeviceClient, Identity, Rig, free_ports, wait_for

ROUTES = """\
routes:
  pager: {kind: mqtt, topic: alerts/pager}
default_routes: [pager]
"""


def listening(folder: Path, name: str = "pager") -> Identity:
    return Identity(f"hub:listener:{name}", folder / "listener.crt", folder / "listener.key")


async def test_an_alert_reaches_a_listener_on_its_topic(tmp_path: Path) -> None:
    mqtt, _nats = free_ports()
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "alerts.yaml").write_text(ROUTES)
    with running_hub(tmp_path, mqtt_port=mqtt) as kit:
        made = _listener_command(tmp_path)
        messaging = asyncio.create_task(kit.hub.messaging.run())
        try:
            await asyncio.wait_for(kit.hub.messaging.ready.wait(), 60)
            await asyncio.to_thread(_told, kit.hub, mqtt, tmp_path / "pager")
        finally:
            messaging.cancel()
            await asyncio.wait([messaging])
        assert made["client_id"] == "hub:listener:pager"
        created = [row for row in kit.admin.get("/v1/audit").json()["items"] if row["action"] == "listener.create"]
        assert [row["subject"] for row in created] == ["hub:listener:pager"]


def _listener_command(folder: Path) -> dict[str, Any]:
    command = ["listener", "pager", "--out", str(folder / "pager"), "--data", str(folder / "hub"), "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "hub.main", *command], capture_output=True, text=True, timeout=90, check=True
    )
    made: dict[str, Any] = json.loads(done.stdout)
    return made


def _told(hub: Any, port: int, folder: Path) -> None:
    with DeviceClient(folder / "hub-ca.crt", port, listening(folder)) as listener:
        listener.connected()
        assert listener.subscribe("alerts/#") == [True]
        row = ResultRow(
            model="m", period_s=1, version=1, arm="", level="fleet", severity=4, rows=9, result=verdict(0.5)
        )
        with hub.db.write() as connection:
            hub.alerts.hear(connection, [row])
        assert hub.alerts.deliver_due() == 1
        wait_for(lambda: listener.received)
        (topic, payload, retained) = listener.received[0]
    assert (topic, retained) == ("alerts/pager", False)
    told = json.loads(payload)
    (alert,) = hub.alerts.page(("open",), None, PageRequest(limit=5))
    assert (told["event"], told["alert"]["rule"], told["alert"]["alert_id"]) == (
        "opened",
        "data-quality",
        alert.alert_id,
    )


async def test_a_listener_reads_alerts_and_nothing_else_and_devices_read_no_alerts(rig: Rig) -> None:
    issue_listener(rig.hub_ca, "pager", rig.directory / "pager", now_s=rig.clock.now(), lifetime_s=600)
    device = rig.enrol("dev1")
    foreign = ["#", "fleet/#", "fleet/dev1/down", "fleet/+/up/#", "$SYS/#", "$JS/#"]

    def clients(runtime: MessagingRuntime) -> None:
        identity = listening(rig.directory / "pager")
        with rig.client(runtime.mqtt_port, identity, f"{identity.name}:1") as listener:
            listener.connected()
            assert listener.subscribe(*foreign) == [False] * len(foreign)
            assert listener.subscribe("alerts/#") == [True]
            listener.client.publish("alerts/pager", b"forged", qos=1)
            with rig.client(runtime.mqtt_port, device) as other:
                other.connected()
                assert other.subscribe("alerts", "alerts/#") == [False, False]
                other.client.publish("alerts/pager", b"forged", qos=1)
            runtime.publish("alerts/pager", b"genuine")
            wait_for(lambda: listener.received)
            assert [payload for _topic, payload, _retain in listener.received] == [b"genuine"]

    async with rig.running() as runtime:
        await asyncio.to_thread(clients, runtime)
    with pytest.raises(Unavailable) as caught:
        runtime.publish("alerts", b"late")
    assert (caught.value.code, caught.value.retriable) == ("broker.unreachable", True)


async def test_a_device_cannot_become_a_listener_by_its_name(rig: Rig) -> None:
    rig.issue("climber", "hub:listener:x", authority=rig.device_ca)
    issue_listener(rig.hub_ca, "pager", rig.directory / "pager", now_s=rig.clock.now(), lifetime_s=600)
    pager = listening(rig.directory / "pager")

    def clients(runtime: MessagingRuntime) -> None:
        for identity, client_id in (
            (rig.identity("climber", "hub:listener:x"), None),
            (pager, "hub:publisher:1"),
            (pager, "hub:listener:pagers"),
        ):
            with rig.client(runtime.mqtt_port, identity, client_id) as client:
                wait_for(client.answered)
                assert not any(client.connections)

    async with rig.running() as runtime:
        await asyncio.to_thread(clients, runtime)


def test_without_a_broker_the_route_fails_and_may_be_tried_again() -> None:
    with pytest.raises(SkerryError) as caught:
        deliver(MqttRoute(), "{}", 1.0)
    assert (caught.value.code, caught.value.retriable) == ("alerts.not_delivered", True)


@pytest.mark.parametrize("topic", ["fleet/dev1/down", "alerts/#", "alerts/", "alerting", "$SYS", "alerts/+/x"])
def test_a_topic_outside_alerts_refuses_the_file(tmp_path: Path, topic: str) -> None:
    file = tmp_path / "alerts.yaml"
    file.write_text(f'routes: {{x: {{kind: mqtt, topic: "{topic}"}}}}\n')
    with pytest.raises(InvalidInput) as caught:
        load_config(file)
    assert caught.value.code == "alerts.invalid"


@pytest.mark.parametrize(("name", "code"), [("Pager", "listener.name"), ("a:b", "listener.name"), ("ok", "")])
def test_a_listeners_name_and_folder_are_checked(rig: Rig, name: str, code: str) -> None:
    out = rig.directory / "made"
    if code:
        with pytest.raises(InvalidInput) as caught:
            issue_listener(rig.hub_ca, name, out, now_s=rig.clock.now(), lifetime_s=60)
        assert caught.value.code == code
        return
    issue_listener(rig.hub_ca, name, out, now_s=rig.clock.now(), lifetime_s=60)
    with pytest.raises(Conflict) as again:
        issue_listener(rig.hub_ca, name, out, now_s=rig.clock.now(), lifetime_s=60)
    assert again.value.code == "listener.exists"
