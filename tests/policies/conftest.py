"""Most of it is said of one database only; what is about transactions is said of both (`database_url`)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.databases import SqliteBackend


@pytest.fixture(scope="session")
def sqlite_backend(tmp_path_factory: pytest.TempPathFactory) -> SqliteBackend:
    return SqliteBackend(tmp_path_factory.mktemp("sqlite-template"))


@pytest.fixture
def sqlite_url(sqlite_backend: SqliteBackend, tmp_path: Path) -> Iterator[str]:
    """A migrated SQLite database of this test."""
    with sqlite_backend.fresh(tmp_path) as url:
        yield url
