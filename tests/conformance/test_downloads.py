"""Targets: only the bytes that were signed, from the address that the specification says, and never twice (5.7)."""

from __future__ import annotations

import hashlib

import pytest

from tests.conformance.conftest import Client
from tests.conformance.simulator import Simulator

PATH, DATA = "folder/file.txt", b"content of the target"


@pytest.fixture
def filled(client: Client, repository: Simulator) -> Client:
    repository.add_file(PATH, DATA)
    repository.publish_all()
    return client


def test_a_refresh_downloads_no_target(filled: Client, repository: Simulator) -> None:
    assert filled.refresh() == 0
    assert (filled.downloaded(), repository.downloads) == ([], [])


def test_a_target_comes_under_its_hash(filled: Client, repository: Simulator) -> None:
    assert filled.download(PATH) == 0
    assert filled.downloaded() == [DATA]
    assert repository.downloads == [f"folder/{hashlib.sha256(DATA).hexdigest()}.file.txt"]


def test_base_addresses_may_lack_the_slash(filled: Client) -> None:
    assert filled.download(PATH, slash="") == 0
    assert filled.downloaded() == [DATA]


def test_a_target_without_consistent_snapshots_comes_under_its_name(client: Client, repository: Simulator) -> None:
    repository.root.consistent_snapshot = False
    repository.add_file(PATH, DATA)
    repository.delegate("targets", "delegated", paths=["other"])
    repository.publish("root", "delegated", "targets", "snapshot", "timestamp")
    assert client.download(PATH) == 0
    assert client.download("other") == 1
    assert repository.downloads == [PATH]
    top = [("root", 2), ("root", 3), ("timestamp", None), ("snapshot", None), ("targets", None)]
    assert repository.requests == [*top, ("root", 3), ("timestamp", None), ("delegated", None)]


def test_what_is_there_is_not_downloaded_again(filled: Client, repository: Simulator) -> None:
    assert [filled.download(PATH) for _ in range(3)] == [0, 0, 0]
    assert len(repository.downloads) == 1
    (kept,) = (path for path in filled.targets.rglob("*") if path.is_file())
    kept.write_bytes(b"damaged")
    assert filled.download(PATH) == 0
    assert (filled.downloaded(), len(repository.downloads)) == ([DATA], 2)


def test_a_new_content_takes_the_place_of_the_old(filled: Client, repository: Simulator) -> None:
    for number in range(3):
        data = f"content {number}".encode()
        repository.add_file(PATH, data)
        repository.publish_all()
        assert filled.download(PATH) == 0
        assert filled.downloaded() == [data]


def test_several_targets_come_with_one_refresh_until_one_fails(filled: Client, repository: Simulator) -> None:
    for name in ("one", "two", "three"):
        repository.add_file(name, name.encode())
    repository.publish_all()
    assert filled.download("one", "two") == 0
    assert repository.requests.count(("timestamp", None)) == 1
    assert filled.downloaded() == [b"one", b"two"]
    assert filled.download("one", "missing", "three") == 1
    assert filled.downloaded() == [b"one", b"two"]


@pytest.mark.parametrize("substitute", [b"Content of the target", DATA + b"!", DATA[:-1], b"", b"x" * 100_000])
def test_other_bytes_are_refused(filled: Client, repository: Simulator, substitute: bytes) -> None:
    repository.files[PATH] = substitute
    assert filled.download(PATH) == 1
    assert filled.downloaded() == []
    assert not [path for path in filled.targets.rglob("*") if path.is_file()], "no leftovers either"


def test_other_bytes_do_not_take_the_place_of_right_ones(filled: Client, repository: Simulator) -> None:
    assert filled.download(PATH) == 0
    repository.add_file(PATH, b"the next content")
    repository.publish_all()
    repository.files[PATH] = b"malicious bytes!"
    assert filled.download(PATH) == 1
    assert filled.downloaded() == [DATA]


@pytest.mark.parametrize("algorithms", [("sha256",), ("sha512",), ("sha256", "sha512"), ("sha512", "sha256")])
def test_the_usual_hash_algorithms_are_known(
    client: Client, repository: Simulator, algorithms: tuple[str, ...]
) -> None:
    repository.add_file(PATH, DATA, algorithms=algorithms)
    repository.publish_all()
    assert client.download(PATH) == 0
    assert client.downloaded() == [DATA]
    digests = {hashlib.new(name, DATA).hexdigest() for name in algorithms}
    assert repository.downloads[0].split("/")[1].partition(".")[0] in digests


def test_every_hash_that_is_given_must_be_right(client: Client, repository: Simulator) -> None:
    repository.add_file(PATH, DATA, algorithms=("sha256", "sha512"))
    repository.targets.targets[PATH].hashes["sha512"] = "ab" * 64
    repository.publish_all()
    assert client.download(PATH) == 1
    assert client.downloaded() == []


def test_an_unknown_hash_algorithm_is_refused(client: Client, repository: Simulator) -> None:
    repository.add_file(PATH, DATA)
    repository.targets.targets[PATH].hashes = {"unknown": hashlib.sha256(DATA).hexdigest()}
    repository.publish_all()
    assert client.download(PATH) == 1
    assert client.downloaded() == []


@pytest.mark.parametrize("path", ["a%20b", "a%2Fb", "a+b&c=d;e,f", "deep/er/still/x", "x.y.z", "(1)@!*'~", "a?b", ":x"])
def test_a_target_path_is_a_url_as_it_is(client: Client, repository: Simulator, path: str) -> None:
    repository.add_file(path, DATA)
    repository.publish_all()
    assert client.download(path) == 0
    assert client.downloaded() == [DATA]


def test_no_target_path_leaves_the_folder(client: Client, repository: Simulator) -> None:
    for path in ("../evil", "/etc/evil", "a/../../evil", "..", "."):
        repository.add_file(path, DATA)
    repository.publish_all()
    for path in ("../evil", "/etc/evil", "a/../../evil", "..", "."):
        assert client.download(path) in (0, 1)
    everything = {path for path in client.targets.parent.rglob("*") if path.is_file()}
    allowed = {client.root, *client.metadata.rglob("*"), *client.targets.rglob("*")}
    assert everything <= allowed


def test_an_empty_target_is_a_target(client: Client, repository: Simulator) -> None:
    repository.add_file("empty", b"")
    repository.publish_all()
    assert client.download("empty") == 0
    assert client.downloaded() == [b""]
