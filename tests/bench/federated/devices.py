"""Devices in one process, a thread and a connection for each: `python -m tests.bench.federated.devices PLAN`.

A line of standard input names the devices that were offered a round, as the hub's offers over MQTT do. A device then
asks for its task at the agent's own pace, is silent until the next offer, and leaves after a minute without one.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from agent.training.flower_node import join
from agent.training.pace import Pace
from tests.bench.federated.device import Device

__all__ = ["Plan", "Share"]

_EXPECT_S, _LINGER_S = 120.0, 60.0


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """One device: its key, its samples (an .npz with x and y), and how it behaves."""

    device_id: str
    key: str
    samples: str
    behaviour: str = "honest"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Where to, with which bundle (unpacked), who, and where times are written."""

    address: str
    ca: str
    bundle: str
    folder: str
    log: str
    shares: list[Share]


class _Offers:
    """The newest offer to each device."""

    def __init__(self, device_ids: Iterable[str]) -> None:
        self.events = {device_id: threading.Event() for device_id in device_ids}

    def listen(self) -> None:
        """Until the other end closes."""
        for line in sys.stdin.buffer:
            for device_id in msgspec.json.decode(line, type=list[str]):
                if device_id in self.events:
                    self.events[device_id].set()


def _serve(plan: Plan, share: Share, offered: threading.Event) -> None:
    key = load_pem_private_key(Path(share.key).read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    folder = Path(plan.folder) / share.device_id
    folder.mkdir(exist_ok=True)
    with Device.lock:
        device = Device(
            share.device_id, Path(plan.bundle), Path(share.samples), folder, share.behaviour, Path(plan.log)
        )
    while True:
        offered.wait()
        with join(plan.address, Path(plan.ca), key, retries=3) as node:
            while offered.wait(_LINGER_S):
                offered.clear()
                pace = Pace(time.monotonic(), _EXPECT_S)
                while pace.expects(time.monotonic()) and not node.serve_one(device.work):
                    offered.wait(pace.wait_s(time.monotonic()))


def main() -> int:
    """Serve until somebody ends this process."""
    plan = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Plan)
    offers = _Offers(share.device_id for share in plan.shares)
    for share in plan.shares:
        arguments = (plan, share, offers.events[share.device_id])
        threading.Thread(target=_serve, args=arguments, daemon=True).start()
    offers.listen()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
