"""The command under test, and a repository for it.

The command's own code runs in this process, which is quick; with SKERRY_TUF_CLIENT=executable every call is a new
process of scripts/tuf_client, under `faketime` where the test chooses the time, as an independent suite would do it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata

from scripts import tuf_client_command
from tests.conformance.simulator import Simulator
from tests.ota.repository import FixedClock

__all__ = ["COMMAND", "Client", "run_command"]

COMMAND = Path(__file__).resolve().parents[2] / "scripts" / "tuf_client"


def run_command(*arguments: str, at: datetime | None = None, cwd: Path | None = None) -> int:
    """Run the executable; its exit code."""
    timed = ["faketime", at.strftime("%Y-%m-%d %H:%M:%S"), str(COMMAND)] if at else [str(COMMAND)]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "TZ": "UTC"}
    return subprocess.run([*timed, *arguments], env=environment, cwd=cwd, check=False, timeout=120).returncode


class Client:
    """One device's folders; every call is one call of the command."""

    def __init__(self, repository: Simulator, folder: Path) -> None:
        self.repository = repository
        self.metadata, self.targets = folder / "metadata", folder / "targets"
        self.root = folder / "initial.json"
        self.metadata.mkdir()
        self.targets.mkdir()

    def run(self, *arguments: str, at: datetime | None = None) -> int:
        """The command's exit code."""
        full = ("--metadata-dir", str(self.metadata), *arguments)
        if os.environ.get("SKERRY_TUF_CLIENT") == "executable":
            return run_command(*full, at=at)
        return tuf_client_command.main(full, FixedClock(at.timestamp()) if at else None)

    def init(self, root: bytes | None = None) -> int:
        """Trust a root, or the repository's first one."""
        self.root.write_bytes(root if root is not None else self.repository.history["root"][0])
        return self.run("init", str(self.root))

    def refresh(self, *, at: datetime | None = None) -> int:
        """Update the metadata."""
        return self.run("--metadata-url", f"{self.repository.url}/metadata/", "refresh", at=at)

    def download(self, *names: str, at: datetime | None = None, slash: str = "/") -> int:
        """Fetch targets."""
        url = self.repository.url
        wanted = [argument for name in names for argument in ("--target-name", name)]
        where = ["--target-base-url", f"{url}/targets{slash}", "--target-dir", str(self.targets)]
        return self.run("--metadata-url", f"{url}/metadata{slash}", *wanted, *where, "download", at=at)

    def kept(self, role: str) -> bytes | None:
        """The bytes that are kept of a role."""
        path = self.metadata / f"{role}.json"
        return path.read_bytes() if path.exists() else None

    def version(self, role: str) -> int:
        """The version that is kept of a role; 0 when there is none."""
        data = self.kept(role)
        return int(Metadata.from_bytes(data).signed.version) if data is not None else 0

    def versions(self) -> dict[str, int]:
        """All roles that are kept."""
        return {path.stem: self.version(path.stem) for path in sorted(self.metadata.glob("*.json"))}

    def downloaded(self) -> list[bytes]:
        """The contents of the targets that are kept."""
        return sorted(path.read_bytes() for path in self.targets.rglob("*") if path.is_file())


@pytest.fixture
def repository() -> Iterator[Simulator]:
    """A repository that is served."""
    made = Simulator()
    with made.serve():
        yield made


@pytest.fixture
def fresh(repository: Simulator, tmp_path: Path) -> Client:
    """A client that trusts nothing yet."""
    return Client(repository, tmp_path)


@pytest.fixture
def client(fresh: Client) -> Client:
    """A client that trusts the repository's first root."""
    assert fresh.init() == 0
    return fresh


def days(number: float) -> datetime:
    """That many days from now."""
    return datetime.now(UTC).replace(microsecond=0) + timedelta(days=number)
