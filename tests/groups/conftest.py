"""The hub's services for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fleet_kit import FleetKit


@pytest.fixture
def kit(tmp_path: Path, database_url: str) -> Iterator[FleetKit]:
    kit = FleetKit(tmp_path, database_url)
    for number in range(4):
        kit.add_device(f"pi-{number}", tags={"site": "north" if number < 3 else "south"})
    kit.add_device("cam-0", profile="camera-armv7")
    kit.add_device("old-0", tags={"site": "north"}, status="revoked")
    yield kit
    kit.close()
