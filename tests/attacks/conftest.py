"""A hub, a device with version 1, and an attacker; the bundles of the model's versions are real."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.attacks.attacker import Attacker
from tests.attacks.victim import MODEL, Victim
from tests.ota.conftest import bundle
from tests.ota.device import Device
from tests.ota.hub_sim import DEVICE, HubSim
from tests.trust_kit import TrustKit

Assign = Callable[..., bytes]


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[TrustKit]:
    """A repository with the model `digits` (two of three reviewers)."""
    made = TrustKit(tmp_path / "kit")
    made.create_model(MODEL)
    yield made
    made.close()


@pytest.fixture
def hub(kit: TrustKit, tmp_path: Path) -> Iterator[HubSim]:
    """The hub that the device is enrolled at."""
    with HubSim(kit, tmp_path / "hub").serve() as running:
        yield running


@pytest.fixture
def assign(kit: TrustKit) -> Assign:
    """The hub's signed assignment of a version: `assign(version, counter)`."""

    def sign(version: int, counter: int = 2, device: str = DEVICE, **more: object) -> bytes:
        return kit.assignment(device, MODEL, version, counter=counter, **({"bake_s": 0} | more))  # type: ignore[arg-type]

    return sign


@pytest.fixture
def victim(kit: TrustKit, hub: HubSim, tmp_path: Path, assign: Assign) -> Iterator[Victim]:
    """A device; it has version 1 once it is `serving`."""

    def first() -> bytes:
        kit.approve(MODEL, 1, bundle(1))
        return assign(1, 1)

    with TemporaryDirectory(prefix="skerry-") as short:  # a Unix socket's path must be short
        yield Victim(Device(hub, tmp_path / "state"), Path(short) / "agent.sock", first)


@pytest.fixture
def attacker(kit: TrustKit, hub: HubSim) -> Attacker:
    """Somebody between the hub and the device."""
    return Attacker(kit, hub)
