"""The hub's services for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fleet_kit import FleetKit


@pytest.fixture
def kit(tmp_path: Path, database_url: str) -> Iterator[FleetKit]:
    kit = FleetKit(tmp_path, database_url)
    yield kit
    kit.close()
