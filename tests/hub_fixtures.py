"""Fixtures: one running hub for the tests that only ask it, and a fresh one for those that change it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub_kit import HubKit, running_hub

__all__ = ["kit", "shared_kit"]


@pytest.fixture(scope="module")
def shared_kit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubKit]:
    with running_hub(tmp_path_factory.mktemp("hub")) as kit:
        yield kit


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[HubKit]:
    with running_hub(tmp_path) as kit:
        yield kit
