"""The hub's services for the tests of this folder, with versions that are large enough to be worth a delta."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from hub.deltas.maker import DeltaMaker
from hub.deltas.protocol import Limits
from hub.deltas.service import DeltaService
from tests.fleet_kit import FleetKit


class DeltaKit(FleetKit):
    """`service` is what is tested; `digest(version)` names a bundle."""

    def __init__(self, folder: Path, database_url: str) -> None:
        super().__init__(folder, database_url)
        self.maker = DeltaMaker(folder / "scratch", Limits(user=""))
        self.service = DeltaService(self.db, self.clock, self.blobs, self.maker)
        self.rung = 0
        self.service.on_wanted(self._ring)

    def _ring(self) -> None:
        self.rung += 1

    def versions_like(self, *numbers: int, model: str = "digits") -> None:
        """Approved versions whose model differs in a few bytes."""
        for number in numbers:
            weights = bytearray(Random(1).randbytes(50_000))
            weights[number * 10] ^= 0xFF
            self.release(model, number, extractor=bytes(weights))

    def digest(self, version: int, model: str = "digits") -> str:
        return self.versions.get(model, version).bundle_sha256

    def make_all(self) -> int:
        """Make what is wanted; how many."""
        count = 0
        while self.service.make_next():
            count += 1
        return count


@pytest.fixture
def kit(tmp_path: Path, database_url: str) -> Iterator[DeltaKit]:
    kit = DeltaKit(tmp_path, database_url)
    yield kit
    kit.close()
