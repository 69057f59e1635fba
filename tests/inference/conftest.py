"""Two versions of the digits model, unpacked once per process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.inference.host import ModelHost
from tests.models import unpacked_digits

Slot = Callable[[int], Path]


@pytest.fixture(scope="session")
def slot(tmp_path_factory: pytest.TempPathFactory) -> Slot:
    """The folder of a version; each version predicts differently."""
    base = tmp_path_factory.mktemp("slots")

    def get(version: int) -> Path:
        directory = base / f"v{version}"
        if not directory.exists():
            unpacked_digits(directory, version)
        return directory

    return get


@pytest.fixture
def host(slot: Slot) -> Iterator[ModelHost]:
    """A host that serves version 1."""
    host = ModelHost()
    host.swap("digits", host.load("digits", slot(1)))
    yield host
    host.close()
