"""Messaging as the whole hub wires it: enrolled over HTTPS, heard over MQTT, revoked over HTTPS."""

from __future__ import annotations

import asyncio
from pathlib import Path

from shared.wire.down import decode_watermark
from shared.wire.up import Envelope, Event, encode_body, encode_envelope
from tests.hub_kit import HubKit, KitDevice, running_hub
from tests.messaging.rig import DeviceClient, Identity, free_ports, wait_for


async def test_a_device_is_heard_until_it_is_revoked(tmp_path: Path) -> None:
    mqtt, _nats = free_ports()
    with running_hub(tmp_path, mqtt_port=mqtt) as kit:
        messaging = asyncio.create_task(kit.hub.messaging.run())
        try:
            await asyncio.wait_for(kit.hub.messaging.ready.wait(), 30)
            await asyncio.to_thread(_heard_until_revoked, kit, kit.enrol("pi-1"), mqtt)
        finally:
            messaging.cancel()
            await asyncio.wait([messaging])


def _heard_until_revoked(kit: HubKit, enrolled: KitDevice, port: int) -> None:
    identity = Identity("pi-1", enrolled.certificate_file, enrolled.key_file)
    with DeviceClient(kit.hub.pki.hub_ca_file, port, identity) as device:
        device.connected()
        device.subscribe("fleet/pi-1/down", "fleet/pi-1/down/#")
        device.client.publish("fleet/pi-1/up/event", _event("pi-1"), qos=1)
        wait_for(lambda: any(topic.endswith("/ack") for topic, _payload, _retain in device.received))
        marks = [decode_watermark(payload) for topic, payload, _retain in device.received if topic.endswith("/ack")]
        assert [(mark.epoch, mark.seq) for mark in marks] == [("a" * 16, 1)]
        events = kit.admin.get("/v1/devices/pi-1/events").raise_for_status().json()["items"]
        assert [item["code"] for item in events] == ["door.open"]
        kit.admin.post("/v1/devices/pi-1/revoke", json={"reason": "stolen"}).raise_for_status()
        wait_for(lambda: device.disconnections, 5)
        wait_for(lambda: device.connections[-1] is False or device.disconnections > 1)
        assert device.connections.count(True) == 1


def _event(device_id: str) -> bytes:
    body = encode_body(Event(code="door.open", message="The door is open."))
    return encode_envelope(
        Envelope(device_id=device_id, epoch="a" * 16, first_seq=1, seq=1, created_s=1.0, kind="event", body=body)
    )
