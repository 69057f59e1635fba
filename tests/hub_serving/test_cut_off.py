"""A whole hub with its broker: what a revocation over the API does to a device that is connected."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from hub.serving import serve
from hub.settings import NatsSettings
from hub.wiring import Hub
from tests.hub_kit import HubKit, KitDevice, data_hub
from tests.ports import free_port

DEADLINE_S = 60.0
CUT_OFF_S = 5.0


@contextmanager
def serving(hub: Hub, sock: socket.socket) -> Iterator[None]:
    ready = threading.Event()
    stops: list[Any] = []
    failures: list[BaseException] = []

    async def main() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        stops.append(lambda: loop.call_soon_threadsafe(stop.set))
        await serve(hub, sock, stop, ready.set)

    def run() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:  # noqa: BLE001 - raised again below, in the test's own thread
            failures.append(error)
            ready.set()

    thread = threading.Thread(target=run, name="whole-hub")
    thread.start()
    try:
        assert ready.wait(DEADLINE_S)
        if not failures:
            yield
    finally:
        if not failures:
            stops[0]()
        thread.join(DEADLINE_S)
        if failures:
            raise failures[0]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubKit]:
    folder: Path = tmp_path_factory.mktemp("whole")
    (folder / "devices").mkdir()
    with ExitStack() as exits:
        sock = exits.enter_context(socket.create_server(("127.0.0.1", 0)))
        settings = {"port": sock.getsockname()[1], "mqtt_port": free_port(), "nats": NatsSettings(port=free_port())}
        hub, clock = exits.enter_context(data_hub(folder, **settings))
        exits.enter_context(serving(hub, sock))
        yield HubKit(hub, clock, folder / "devices", exits)


class Connected:
    """A device's MQTT connection and what happened to it."""

    def __init__(self, kit: HubKit, device: KitDevice) -> None:
        self.subscribed = threading.Event()
        self.gone = threading.Event()
        self.refused = threading.Event()
        self._topic = f"fleet/{device.device_id}/down"
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=device.device_id, reconnect_on_failure=False)
        client.tls_set_context(kit.tls(device.certificate_file, device.key_file))
        client.on_connect = self._on_connect
        client.on_subscribe = lambda *_: self.subscribed.set()
        client.on_disconnect = lambda *_: self.gone.set()
        client.connect("127.0.0.1", kit.hub.settings.mqtt_port)
        client.loop_start()
        self.client = client

    def _on_connect(self, client: mqtt.Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            self.refused.set()
        else:
            client.subscribe(self._topic)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


def test_a_revocation_over_the_api_ends_the_live_connection_and_refuses_the_next(whole: HubKit) -> None:
    device, other = whole.enrol("pi-1"), whole.enrol("pi-2")
    live, bystander = Connected(whole, device), Connected(whole, other)
    try:
        assert live.subscribed.wait(DEADLINE_S)
        assert bystander.subscribed.wait(DEADLINE_S)
        assert whole.admin.post("/v1/devices/pi-1/revoke", json={"reason": "stolen"}).status_code == 204
        assert live.gone.wait(CUT_OFF_S)
        assert not bystander.gone.is_set()
    finally:
        live.close()
        bystander.close()
    again = Connected(whole, device)
    try:
        assert again.refused.wait(DEADLINE_S) or again.gone.wait(1)
        assert not again.subscribed.is_set()
    finally:
        again.close()
    assert device.client.get("/v1/device/desired").json()["error"]["code"] == "device.revoked"
