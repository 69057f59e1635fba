"""Delegations: the order of the search, where it ends, and which paths a role may speak for (5.6.7)."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any
from urllib.parse import quote

import pytest

from tests.conformance.conftest import Client
from tests.conformance.simulator import Simulator

PY = {"paths": ["*.py"]}
LAST: dict[str, Any] = {"terminating": True}
GRAPHS: dict[str, tuple[list[tuple[str, str, dict[str, Any]]], str]] = {
    "one": ([("targets", "A", {})], "A"),
    "two beside each other": ([("targets", "A", {}), ("targets", "B", {})], "AB"),
    "two levels": ([("targets", "A", {}), ("targets", "B", {}), ("B", "C", {})], "ABC"),
    "depth first": ([("targets", "A", {}), ("targets", "B", {}), ("A", "C", {}), ("A", "D", {})], "ACDB"),
    "three levels": ([("targets", "A", {}), ("targets", "B", {}), ("A", "C", {}), ("C", "D", {})], "ACDB"),
    "terminating": ([("targets", "A", {}), ("targets", "B", {}), ("A", "C", LAST), ("A", "D", {})], "AC"),
    "terminating, then on": ([("targets", "A", {}), ("targets", "B", {}), ("A", "C", LAST), ("C", "D", {})], "ACD"),
    "terminating at the top": ([("targets", "A", LAST), ("targets", "B", {}), ("A", "C", {})], "AC"),
    "terminating elsewhere": ([("targets", "A", LAST | PY), ("targets", "B", {})], "B"),
    "another path": ([("targets", "A", PY), ("targets", "B", {}), ("A", "C", {})], "B"),
    "another path below": ([("targets", "A", {}), ("targets", "B", {}), ("A", "C", PY), ("C", "D", {})], "AB"),
    "a circle": (
        [("targets", "A", {}), ("targets", "B", {}), ("B", "C", {}), ("C", "D", {}), ("D", "B", {})],
        "ABCD",
    ),
    "one that delegates to itself": ([("targets", "A", {}), ("A", "A", {}), ("targets", "B", {})], "AB"),
    "two ways to one": ([("targets", "A", {}), ("targets", "B", {}), ("B", "C", {}), ("A", "C", {})], "ACB"),
    "one of two ways": ([("targets", "A", {}), ("targets", "B", {}), ("B", "C", {}), ("A", "C", PY)], "ABC"),
}


def visited(repository: Simulator) -> list[str]:
    """The delegated roles that were asked for, in order."""
    return [role for role, _ in repository.requests if role not in ("root", "timestamp", "snapshot", "targets")]


@pytest.mark.parametrize(("edges", "order"), GRAPHS.values(), ids=GRAPHS.keys())
def test_the_order_of_the_search(
    client: Client, repository: Simulator, edges: Sequence[tuple[str, str, dict[str, Any]]], order: str
) -> None:
    for delegator, name, fields in edges:
        repository.delegate(delegator, name, **fields)
    repository.publish_all(*sorted({name for _, name, _ in edges}))
    assert client.download("missing") == 1
    assert visited(repository) == list(order)
    assert repository.requests[4:] == [(role, 1) for role in order]


@pytest.mark.parametrize(
    ("path", "found", "order"),
    [
        ("file", True, ""),
        ("README.md", True, "A"),
        ("releases/x/v1", True, "BC"),
        ("releases/y/v1.zip", True, "BD"),
        ("releases/z/v1.zip", False, "B"),
        ("releases/y/v1.tar", False, "B"),
        ("releases/x/deep/v1", False, ""),
    ],
)
def test_only_the_paths_that_every_delegator_gives(
    client: Client, repository: Simulator, path: str, found: bool, order: str
) -> None:
    repository.add_file("file", b"of targets")
    repository.delegate("targets", "A", paths=["*.doc", "*.md"])
    repository.delegate("targets", "B", paths=["releases/*/*"])
    repository.delegate("B", "C", paths=["releases/x/*"])
    repository.delegate("B", "D", paths=["releases/y/*.zip"])
    repository.add_file("README.md", b"of A", "A")
    repository.add_file("releases/x/v1", b"of C", "C")
    repository.add_file("releases/x/deep/v1", b"of C", "C")
    for name in ("releases/y/v1.zip", "releases/z/v1.zip", "releases/y/v1.tar"):
        repository.add_file(name, b"of D", "D")
    repository.publish_all("A", "B", "C", "D")
    assert client.download(path) == (0 if found else 1)
    assert client.downloaded() == ([repository.files[path]] if found else [])
    assert visited(repository) == list(order)


def test_the_most_trusted_role_decides(client: Client, repository: Simulator) -> None:
    for role, data in (("A", b"of A"), ("B", b"of B")):
        repository.delegate("targets", role)
        repository.add_file("file", data, role)
    repository.files["file"] = b"of A"
    repository.publish_all("A", "B")
    assert client.download("file") == 0
    assert client.downloaded() == [b"of A"]
    assert visited(repository) == ["A"]


def test_hash_prefixes_choose_the_role(client: Client, repository: Simulator) -> None:
    digests = {path: sha256(path.encode()).hexdigest() for path in (f"file-{number}" for number in range(40))}
    low = next(path for path, digest in digests.items() if digest[0] in "01234567")
    high = next(path for path, digest in digests.items() if digest[0] in "89abcdef")
    repository.delegate("targets", "low", path_hash_prefixes=list("01234567"))
    prefixes = [f"{digit}{x:x}" for digit in "89abcdef" for x in range(16)]
    repository.delegate("targets", "high", path_hash_prefixes=prefixes)
    repository.add_file(low, b"low", "low")
    repository.add_file(high, b"high", "high")
    repository.publish_all("low", "high")
    assert client.download(high) == 0
    assert visited(repository) == ["high"]
    assert client.download(low) == 0
    assert client.downloaded() == [b"high", b"low"]


def test_hash_bins_choose_the_role(client: Client, repository: Simulator) -> None:
    bins = repository.delegate_bins("targets", 3, "bin")
    path = "some/file"
    index = int(sha256(path.encode()).hexdigest()[:8], 16) >> 29
    repository.add_file(path, b"content", bins[index])
    repository.publish_all(*bins)
    assert client.download(path) == 0
    assert visited(repository) == [bins[index]]
    assert client.downloaded() == [b"content"]


@pytest.mark.parametrize(
    "name", ["?", "#", "/delegated", "../delegated", "a b", "%2F", "ü", ".", "..", "1.root", "a+b&c"]
)
def test_unusual_names_of_roles_stay_in_the_folder(client: Client, repository: Simulator, name: str) -> None:
    repository.delegate("targets", name, paths=["d/*"])
    repository.add_file("d/file", b"content", name)
    repository.publish_all(name)
    assert client.download("d/file") == 0
    assert (quote(name, ""), 1) in repository.requests
    assert len(client.versions()) == 5
    assert {path.parent for path in client.metadata.rglob("*.json")} == {client.metadata}
    repository.requests.clear()
    assert client.download("d/file") == 0
    assert visited(repository) == []


def test_a_role_that_the_snapshot_does_not_know_ends_the_search(client: Client, repository: Simulator) -> None:
    repository.delegate("targets", "A")
    repository.delegate("targets", "B")
    repository.add_file("file", b"of B", "B")
    repository.publish_all("A", "B")
    del repository.snapshot.meta["A.json"]
    repository.publish("snapshot", "timestamp")
    assert client.download("file") == 1
    assert client.downloaded() == []


@pytest.mark.parametrize("damage", ["unsigned", "missing", "another version", "other type"])
def test_a_role_that_is_not_right_ends_the_search(client: Client, repository: Simulator, damage: str) -> None:
    repository.delegate("targets", "A")
    repository.delegate("targets", "B")
    repository.add_file("file", b"of B", "B")
    if damage == "unsigned":
        repository.signers["A"] = repository.signers["B"]
    repository.publish_all("A", "B")
    if damage == "missing":
        repository.overrides["metadata/1.A.json"] = (404, b"")
    elif damage == "another version":
        repository.publish("A")
        repository.overrides["metadata/1.A.json"] = (200, repository.history["A"][-1])
    elif damage == "other type":
        repository.overrides["metadata/1.A.json"] = (200, repository.history["snapshot"][-1])
    assert client.download("file") == 1
    assert client.downloaded() == []
    assert "A" not in client.versions()


def test_a_role_needs_its_threshold_by_each_delegator(client: Client, repository: Simulator) -> None:
    repository.delegate("targets", "A")
    second = repository.add_key("A", "targets")
    delegations = repository.targets.delegations
    assert delegations is not None
    assert delegations.roles is not None
    delegations.roles["A"].threshold = 2
    repository.add_file("file", b"content", "A")
    repository.publish_all("A")
    assert client.download("file") == 0
    repository.signers["A"].remove(second)
    repository.publish_all("A")
    assert client.download("file") == 1
    assert client.version("A") == 1


def test_the_search_ends_after_its_bound(client: Client, repository: Simulator) -> None:
    names = [f"role-{number:02}" for number in range(40)]
    for name in names:
        repository.delegate("targets", name)
    repository.add_file("far", b"far", names[-1])
    repository.add_file("near", b"near", names[30])
    repository.publish_all(*names)
    assert client.download("near") == 0
    assert client.download("far") == 1
    assert visited(repository) == names[:32]
