"""Databases for all tests: what is said of one holds on SQLite and on PostgreSQL. Figures are told at the end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.databases import Backend, SqliteBackend, missing_for_postgres, postgres_backend


@pytest.fixture(scope="session")
def postgres() -> Iterator[Backend]:
    """A PostgreSQL server; where there is none the test is skipped, but in continuous integration it fails."""
    missing = missing_for_postgres()
    if missing is not None and os.environ.get("CI") == "true":
        pytest.fail(missing)
    if missing is not None:
        pytest.skip(missing)
    with postgres_backend() as made:
        yield made


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Backend:
    """Makes databases, of each kind in turn."""
    if request.param == "sqlite":
        return SqliteBackend(tmp_path_factory.mktemp("template"))
    made: Backend = request.getfixturevalue("postgres")
    return made


@pytest.fixture
def database_url(backend: Backend, tmp_path: Path) -> Iterator[str]:
    """A migrated database of this test."""
    with backend.fresh(tmp_path) as url:
        yield url


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests recorded as `figures`, wherever they ran."""
    told = [
        str(value)
        for outcome in ("passed", "failed")
        for report in terminalreporter.getreports(outcome)
        for name, value in report.user_properties
        if name == "figures"
    ]
    if told:
        terminalreporter.section("figures")
        for line in sorted(told):
            terminalreporter.write_line(line)
