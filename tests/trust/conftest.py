"""A repository per test, closed afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.trust_kit import TrustKit


@pytest.fixture
def kit(tmp_path: Path, database_url: str) -> Iterator[TrustKit]:
    made = TrustKit(tmp_path / "hub", database_url=database_url)
    yield made
    made.close()
