"""Bundles made once per process, and per test a hub and a device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import pytest

from tests.models import digits_bundle
from tests.ota.device import Device
from tests.ota.hub_sim import HubSim
from tests.trust_kit import TrustKit


@cache
def bundle(version: int, model: str = "digits", broken: bool = False) -> bytes:
    """The bytes of a real bundle."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "bundle"
        digits_bundle(path, version, model, broken=broken)
        return path.read_bytes()


class Release(Protocol):
    """Approve a version (see `release`)."""

    def __call__(
        self, version: int, *, model: str = "digits", broken: bool = False, content: bytes | None = None
    ) -> bytes: ...


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[TrustKit]:
    """A repository with the model `digits`."""
    made = TrustKit(tmp_path / "kit")
    made.create_model("digits")
    yield made
    made.close()


@pytest.fixture
def hub(kit: TrustKit, tmp_path: Path) -> Iterator[HubSim]:
    """A hub that serves."""
    with HubSim(kit, tmp_path / "hub").serve() as running:
        yield running


@pytest.fixture
def release(kit: TrustKit) -> Release:
    """Approve real bundles by their reviewers: `release(2)` gives the bytes."""

    def approve(version: int, *, model: str = "digits", broken: bool = False, content: bytes | None = None) -> bytes:
        data = bundle(version, model, broken) if content is None else content
        kit.approve(model, version, data)
        return data

    return approve


@pytest.fixture
def assign(kit: TrustKit) -> Callable[..., bytes]:
    """Sign assignments: `assign(version, counter)`."""

    def sign(version: int, counter: int, *, model: str = "digits", **more: Any) -> bytes:
        return kit.assignment("pi-1", model, version, counter=counter, **({"bake_s": 0} | more))

    return sign


@pytest.fixture
def device(hub: HubSim, tmp_path: Path) -> Device:
    """An enrolled device with nothing installed."""
    return Device(hub, tmp_path / "state")
