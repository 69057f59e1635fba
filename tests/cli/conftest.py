"""One hub for all tests of the command line in one process; every test has a home of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.rig import RunningHub, Skerry


@pytest.fixture(scope="session")
def running_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    hub = RunningHub(tmp_path_factory.mktemp("hub"))
    hub.start()
    yield hub
    hub.stop()


@pytest.fixture
def stranger(tmp_path: Path) -> Skerry:
    """The command line of somebody who knows no hub."""
    return Skerry(tmp_path / "home", {})


@pytest.fixture
def skerry(tmp_path: Path, running_hub: RunningHub) -> Skerry:
    """The command line of an administrator."""
    environ = {
        "SKERRY_URL": running_hub.url,
        "SKERRY_TOKEN": running_hub.admin_token,
        "SKERRY_CA": str(running_hub.ca),
    }
    return Skerry(tmp_path / "home", environ)
