"""What fault tests need of the machine, and a folder in memory: the images are many, and their syncs mean nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.faults.io_faults import missing_for_io_faults
from tests.faults.trace import missing_for_traces

_MEMORY = Path("/dev/shm")


def _require(missing: str | None) -> None:
    if missing is not None and os.environ.get("CI") == "true":
        pytest.fail(missing)
    if missing is not None:
        pytest.skip(missing)


@pytest.fixture(scope="session")
def strace() -> None:
    """strace may trace; without it the test is skipped, but in continuous integration it fails."""
    _require(missing_for_traces())


@pytest.fixture(scope="session")
def fiu() -> None:
    """fiu-run is there; without it the test is skipped, but in continuous integration it fails."""
    _require(missing_for_io_faults())


@pytest.fixture
def area(tmp_path: Path) -> Iterator[Path]:
    """A folder for images, in memory where there is one."""
    with TemporaryDirectory(dir=_MEMORY if os.access(_MEMORY, os.W_OK) else tmp_path, prefix="faults-") as folder:
        yield Path(folder)
