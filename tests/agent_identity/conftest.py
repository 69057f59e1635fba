"""A tiny hub per test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent_identity.tiny_hub import TinyHub


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[TinyHub]:
    folder = tmp_path / "hub"
    folder.mkdir()
    tiny = TinyHub(folder)
    yield tiny
    tiny.close()
