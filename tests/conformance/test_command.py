"""scripts/tuf_client as others call it: an executable, from anywhere, a new process per call, under a foreign clock."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from shared.assignment_keys import ASSIGNMENT_KEYS_PATH
from tests.conformance.conftest import COMMAND, Client, days, run_command
from tests.conformance.simulator import Simulator
from tests.trust_kit import TrustKit


def needs_faketime() -> None:
    """Skip where there is no faketime; in continuous integration it must be there."""
    if shutil.which("faketime") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("faketime is not installed")
        pytest.skip("faketime is not installed")


@pytest.fixture
def executable(client: Client, monkeypatch: pytest.MonkeyPatch) -> Client:
    """A client whose every call is a new process."""
    monkeypatch.setenv("SKERRY_TUF_CLIENT", "executable")
    return client


def test_the_command_is_an_executable_script() -> None:
    assert os.access(COMMAND, os.X_OK)
    assert COMMAND.read_bytes().startswith(b"#!")


def test_init_refresh_and_download(executable: Client, repository: Simulator) -> None:
    repository.add_file("folder/file", b"content")
    repository.publish_all()
    assert executable.init() == 0
    assert executable.refresh() == 0
    assert executable.download("folder/file") == 0
    assert executable.downloaded() == [b"content"]
    assert executable.download("missing") == 1
    assert executable.kept("targets") == repository.history["targets"][-1]


def test_relative_paths_are_relative_to_the_callers_folder(
    executable: Client, repository: Simulator, tmp_path: Path
) -> None:
    link = tmp_path / "link"
    link.symlink_to(COMMAND)
    arguments = ("--metadata-url", f"{repository.url}/metadata", "--metadata-dir", "metadata", "refresh")
    assert run_command(*arguments, cwd=tmp_path) == 0
    assert executable.version("targets") == 1
    assert not list(tmp_path.glob("*.json")) or list(tmp_path.glob("*.json")) == [executable.root]


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("refresh",),
        ("--metadata-dir", "metadata", "refresh"),
        ("--metadata-dir", "metadata", "init", "no-such-file"),
        ("--metadata-dir", "metadata", "dance"),
        ("--metadata-dir", "metadata", "--metadata-url", "ftp://127.0.0.1/", "refresh"),
        ("--metadata-dir", "metadata", "--metadata-url", "http://127.0.0.1:1/", "refresh"),
        ("--metadata-dir", "metadata", "--metadata-url", "http://127.0.0.1:1/", "download"),
    ],
)
def test_every_mistake_ends_with_one(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert run_command(*arguments, cwd=tmp_path) == 1


def test_metadata_expires_by_the_clock_of_the_call(executable: Client, repository: Simulator) -> None:
    needs_faketime()
    repository.timestamp.expires = days(7)
    repository.publish("timestamp")
    assert executable.refresh() == 0
    assert executable.refresh(at=days(8)) == 1
    repository.timestamp.expires = days(21)
    repository.publish("timestamp", "snapshot", "timestamp")
    assert executable.refresh(at=days(18)) == 0
    assert executable.versions() == {"root": 1, "snapshot": 2, "targets": 1, "timestamp": 4}
    assert executable.refresh(at=days(22)) == 1


class _Files(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def static(tmp_path: Path) -> Iterator[tuple[TrustKit, str]]:
    """A hub's exported repository as plain files behind a plain web server."""
    kit = TrustKit(tmp_path / "hub")
    kit.create_model("digits")
    kit.approve("digits", 1, b"bundle one")
    kit.repository.export(tmp_path / "static")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Files, directory=str(tmp_path / "static")))
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, name="static")
    thread.start()
    yield kit, f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()
    kit.close()


def test_a_hubs_exported_repository_is_accepted(static: tuple[TrustKit, str], tmp_path: Path) -> None:
    kit, url = static
    root = tmp_path / "root.json"
    root.write_bytes(kit.repository.published("1.root.json"))
    metadata = ("--metadata-dir", str(tmp_path / "d"))
    assert run_command(*metadata, "init", str(root)) == 0
    urls = ("--metadata-url", f"{url}/metadata", "--target-base-url", f"{url}/targets")
    where = (*urls, "--target-dir", str(tmp_path / "t"))
    names = ("--target-name", "digits/1.bundle", "--target-name", ASSIGNMENT_KEYS_PATH)
    assert run_command(*metadata, *where, *names, "download") == 0
    assert (tmp_path / "t" / "digits%2F1.bundle").read_bytes() == b"bundle one"
