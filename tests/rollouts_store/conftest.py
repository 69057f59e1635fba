"""The kit, on each database in turn."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rollouts_store.kit import RolloutKit


@pytest.fixture
def kit(tmp_path: Path, database_url: str) -> Iterator[RolloutKit]:
    kit = RolloutKit(tmp_path, database_url)
    yield kit
    kit.close()
