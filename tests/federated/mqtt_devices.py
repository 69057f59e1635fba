"""Devices that hear of rounds by MQTT and take part with the agent's own node, in a process of their own.

    python -m tests.federated.mqtt_devices PLAN

Each says what serves and what it has to train on, takes every offer up, and tells the hub what became of it. What it
calls training goes a step towards weights of its own. It writes the offers into `<folder>/offers`, a line each.
"""

from __future__ import annotations

import secrets
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import paho.mqtt.client as paho
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from paho.mqtt.enums import CallbackAPIVersion

from agent.training.flower_node import Answer, Order, join
from shared.federated.codec import Scheme, encode
from shared.tls import client_context
from shared.wire.training import SampleCount, TrainingOffer, TrainingReport, decode_offer
from shared.wire.up import Envelope, Heartbeat, ModelStatus, encode_body

__all__ = ["Device", "Plan"]

_BEAT_S = 1.0
_IDLE_S = 0.1
_LINGER_S = 20.0


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """One device: its files, its samples, and what it makes of offers (`joins`, `declines`)."""

    device_id: str
    key: str
    certificate: str
    samples: int
    behaviour: str = "joins"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Where to, who, and what serves there."""

    folder: str
    ca: str
    host: str
    port: int
    model: str
    version: int
    bundle_sha256: str
    sizes: tuple[int, ...]
    devices: list[Device]


class _Device:
    def __init__(self, plan: Plan, device: Device) -> None:
        self._plan = plan
        self._me = device
        self._epoch = secrets.token_hex(8)
        self._seq = 0
        self._lock = threading.Lock()
        self._node: threading.Thread | None = None
        context = client_context(Path(plan.ca))
        context.load_cert_chain(device.certificate, device.key)
        self._client = paho.Client(CallbackAPIVersion.VERSION2, device.device_id, clean_session=True)
        self._client.tls_set_context(context)
        self._client.reconnect_delay_set(1, 2)
        self._client.on_connect = self._connected
        self._client.on_message = lambda _client, _data, message: self._heard(message.topic, bytes(message.payload))

    def run(self) -> None:
        """Connect and say every second what there is, for ever."""
        self._client.connect_async(self._plan.host, self._plan.port, 30)
        self._client.loop_start()
        while True:
            if self._client.is_connected():
                self._beat()
            time.sleep(_BEAT_S)

    def _connected(self, *_: Any) -> None:
        self._client.subscribe(f"fleet/{self._me.device_id}/down/#", 0)

    def _beat(self) -> None:
        plan = self._plan
        status = ModelStatus(model=plan.model, version=plan.version, bundle_sha256=plan.bundle_sha256)
        samples = SampleCount(model=plan.model, kept=self._me.samples, seen=self._me.samples, classes=2)
        self._say("heartbeat", Heartbeat(agent_version="1", uptime_s=1, models=[status], samples=[samples]))

    def _say(self, kind: str, body: msgspec.Struct) -> None:
        with self._lock:
            self._seq += 1
            envelope = Envelope(
                device_id=self._me.device_id,
                epoch=self._epoch,
                first_seq=self._seq,
                seq=self._seq,
                created_s=time.time(),
                kind=kind,  # type: ignore[arg-type]
                body=encode_body(body),
            )
            self._client.publish(f"fleet/{self._me.device_id}/up/{kind}", msgspec.msgpack.encode(envelope), 1)

    def _heard(self, topic: str, payload: bytes) -> None:
        if not topic.endswith("/down/training"):
            return
        offer = decode_offer(payload)
        with (Path(self._plan.folder) / "offers").open("ab") as out:
            out.write(msgspec.json.encode(offer) + b"\n")
        if self._me.behaviour == "declines":
            self._answer(offer, "declined", "training.not_idle", retry_s=3600.0)
        elif self._me.behaviour == "joins":
            self._answer(offer, "accepted")
            if self._node is None or not self._node.is_alive():
                self._node = threading.Thread(target=self._serve, args=(offer,), daemon=True)
                self._node.start()

    def _answer(self, offer: TrainingOffer, state: str, code: str = "", retry_s: float = 0.0) -> None:
        report = TrainingReport(
            run=offer.run,
            round_no=offer.round_no,
            model=offer.model,
            state=state,  # type: ignore[arg-type]
            code=code,
            retry_s=retry_s,
        )
        self._say("training", report)

    def _serve(self, offer: TrainingOffer) -> None:
        key = load_pem_private_key(Path(self._me.key).read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        with join(offer.address, Path(self._plan.ca), key, retries=0) as node:
            last = time.monotonic()
            while time.monotonic() - last < _LINGER_S:
                if node.serve_one(self._work):
                    last = time.monotonic()
                else:
                    time.sleep(_IDLE_S)

    def _work(self, order: Order) -> Answer:
        if order.kind == "evaluate":
            measured = dict.fromkeys(("held_out_accuracy", "base_accuracy"), 0.9)
            return Answer(update=b"", examples=20, metrics=measured | {"held_out_loss": 0.1, "base_loss": 0.1})
        wanted = order.weights + np.float32(0.001 * (1 + len(self._me.device_id)))
        update, _ = encode((wanted - order.weights).astype(np.float32), self._plan.sizes, Scheme.INT8)
        return Answer(update=update, examples=self._me.samples, metrics={"held_out_accuracy": 0.9})


def main() -> int:
    """Be devices until somebody ends this process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Flower ends its process with it when one node is expelled
    plan = msgspec.json.decode(sys.argv[1].encode(), type=Plan)
    for device in plan.devices:
        threading.Thread(target=_Device(plan, device).run, daemon=True).start()
    threading.Event().wait()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
