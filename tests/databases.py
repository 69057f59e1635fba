"""The databases that the store works with, for tests: SQLite files, and a private PostgreSQL server.

    def test_…(database_url: str)            # runs once on each; a fresh, migrated database
    with backend.fresh(folder) as url: …     # for databases of another lifetime than one test

The server belongs to the test process: its folder is its own, it listens on a Unix socket in it and on no port, and
it ends with the process however that ends. It needs PostgreSQL's programs; as root it runs as the user `postgres`,
because PostgreSQL refuses root.
"""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import LiteralString, Protocol

import psycopg
from psycopg import sql

from hub.store.database import Database
from hub.store.migrate import migrate

__all__ = ["Backend", "PostgresBackend", "SqliteBackend", "missing_for_postgres", "postgres_backend"]

_DEADLINE_S = 60.0
_TEMPLATE = "skerry_template"
_USER = "postgres"


class Backend(Protocol):
    """Makes databases that live as long as their block."""

    def empty(self, folder: Path) -> AbstractContextManager[str]:
        """The URL of a database without tables."""
        ...

    def fresh(self, folder: Path) -> AbstractContextManager[str]:
        """The URL of a database with all tables."""
        ...


class SqliteBackend:
    """Database files in the test's folder; fresh ones are copies of a migrated file in the backend's own folder."""

    def __init__(self, folder: Path) -> None:
        self._template = folder / "template.db"
        _migrated(f"sqlite:///{self._template}")

    @contextmanager
    def empty(self, folder: Path) -> Iterator[str]:
        yield f"sqlite:///{folder / 'hub.db'}"

    @contextmanager
    def fresh(self, folder: Path) -> Iterator[str]:
        shutil.copyfile(self._template, folder / "hub.db")
        with self.empty(folder) as url:
            yield url


class PostgresBackend:
    """Databases of one server; fresh ones are copies of a migrated template."""

    def __init__(self, socket_folder: Path) -> None:
        self._folder = socket_folder
        self._names = (f"test_{number}" for number in itertools.count(1))
        self._run("CREATE DATABASE {} TEMPLATE {}", _TEMPLATE, "template0")
        _migrated(self._url(_TEMPLATE))

    def empty(self, folder: Path) -> AbstractContextManager[str]:
        return self._copy("template0")

    def fresh(self, folder: Path) -> AbstractContextManager[str]:
        return self._copy(_TEMPLATE)

    @contextmanager
    def _copy(self, template: str) -> Iterator[str]:
        name = next(self._names)
        self._run("CREATE DATABASE {} TEMPLATE {}", name, template)
        try:
            yield self._url(name)
        finally:
            self._run("DROP DATABASE {} WITH (FORCE)", name)

    def _url(self, name: str) -> str:
        return f"postgresql://{_USER}@/{name}?host={self._folder}"

    def _run(self, statement: LiteralString, *names: str) -> None:
        with psycopg.connect(host=str(self._folder), user=_USER, dbname="postgres", autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


def _migrated(url: str) -> None:
    database = Database(url)
    try:
        migrate(database)
    finally:
        database.close()


def _programs() -> Path | None:
    """The folder with initdb and postgres: of the newest version that Debian's packages installed, or on the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    return None if on_path is None else Path(on_path).resolve().parent


def missing_for_postgres() -> str | None:
    """Why there can be no server here; None: nothing is missing."""
    if _programs() is None:
        return "PostgreSQL is not installed (Debian: apt-get install postgresql)"
    if shutil.which("setpriv") is None:
        return "setpriv is not installed (Debian: apt-get install util-linux)"
    return None


@contextmanager
def postgres_backend() -> Iterator[PostgresBackend]:
    """A server of this process."""
    programs = _programs()
    if programs is None:
        raise LookupError("initdb")
    folder = Path(tempfile.mkdtemp(prefix="skerry-pg-"))  # short, because the path of a socket is limited
    try:
        with _server(programs, folder):
            yield PostgresBackend(folder)
    finally:
        shutil.rmtree(folder)


def _as_other_user(folder: Path) -> list[str]:
    if os.geteuid() != 0:
        return []
    entry = pwd.getpwnam(_USER)
    os.chown(folder, entry.pw_uid, entry.pw_gid)
    return ["--reuid", _USER, "--regid", str(entry.pw_gid), "--init-groups"]


@contextmanager
def _server(programs: Path, folder: Path) -> Iterator[None]:
    start = ["setpriv", "--pdeathsig", "QUIT", *_as_other_user(folder)]
    data, log = folder / "data", folder / "server.log"
    init = ["--username", _USER, "--auth", "trust", "--encoding", "UTF8", "--no-sync", "--no-instructions"]
    # Another order of words than SQLite's, so that no test or query relies on one.
    order = ["--locale", "C.UTF-8", "--locale-provider", "icu", "--icu-locale", "en-US"]
    _run([*start, str(programs / "initdb"), *init, *order, "-D", str(data)], folder)
    options = {"listen_addresses": "", "unix_socket_directories": str(folder), "fsync": "off", "jit": "off"}
    settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*start, str(programs / "postgres"), "-D", str(data), *settings], cwd=folder, stdout=out, stderr=out
        )
    try:
        _wait_until_it_answers(process, folder, log)
        yield
    finally:
        process.send_signal(signal.SIGQUIT)
        process.wait(_DEADLINE_S)


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_DEADLINE_S, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{command} failed: {done.stderr[-2000:]}")


def _wait_until_it_answers(process: subprocess.Popen[bytes], folder: Path, log: Path) -> None:
    deadline = time.monotonic() + _DEADLINE_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            psycopg.connect(host=str(folder), user=_USER, dbname="postgres").close()
            return
        except psycopg.OperationalError:
            time.sleep(0.02)
    raise RuntimeError(f"PostgreSQL did not start: {log.read_text()[-2000:]}")
