"""Lengths and hashes of metadata in the snapshot and the timestamp: optional, and binding where they are given."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.conftest import Client
from tests.conformance.simulator import Simulator

FIELDS = {"both": {}, "only the length": {"hashes": None}, "only the hash": {"length": None}}


@pytest.mark.parametrize("fields", FIELDS.values(), ids=FIELDS.keys())
def test_each_of_them_may_be_left_out(client: Client, repository: Simulator, fields: dict[str, Any]) -> None:
    repository.with_hashes = True
    repository.publish("targets")
    for name, value in fields.items():
        setattr(repository.snapshot.meta["targets.json"], name, value)
    repository.publish("snapshot")
    for name, value in fields.items():
        setattr(repository.timestamp.snapshot_meta, name, value)
    repository.publish("timestamp")
    assert client.refresh() == 0
    assert client.versions() == {"root": 1, "snapshot": 2, "targets": 2, "timestamp": 2}


@pytest.mark.parametrize("wrong", ["hash", "length", "unknown algorithm"])
@pytest.mark.parametrize("role", ["snapshot", "targets", "delegated"])
def test_each_of_them_binds(client: Client, repository: Simulator, role: str, wrong: str) -> None:
    assert client.refresh() == 0
    repository.with_hashes = True
    repository.delegate("targets", "delegated")
    repository.publish("delegated", "targets")
    if role != "snapshot":
        _spoil(repository.snapshot.meta[f"{role}.json"], wrong)
    repository.publish("snapshot")
    if role == "snapshot":
        _spoil(repository.timestamp.snapshot_meta, wrong)
    repository.publish("timestamp")
    assert client.download("missing") == 1
    assert client.version(role) == (0 if role == "delegated" else 1)
    assert client.version("timestamp") == 2


def _spoil(meta: Any, wrong: str) -> None:
    if wrong == "hash":
        meta.hashes = {"sha256": "ab" * 32}
    elif wrong == "length":
        meta.length -= 1
    else:
        meta.hashes = {"unknown": "ab"}


def test_local_metadata_is_taken_by_its_hash_too(client: Client, repository: Simulator) -> None:
    repository.with_hashes = True
    repository.publish_all()
    assert client.refresh() == 0
    repository.requests.clear()
    path = client.metadata / "targets.json"
    path.write_bytes(path.read_bytes() + b" ")
    assert client.refresh() == 0
    assert repository.requests == [("root", 2), ("timestamp", None), ("targets", 2)]
    assert client.kept("targets") == repository.history["targets"][-1]


def test_a_changed_file_under_the_old_version_is_refused(client: Client, repository: Simulator) -> None:
    repository.with_hashes = True
    repository.publish_all()
    repository.targets.targets.clear()
    repository.targets.unrecognized_fields["x"] = "changed"
    known = repository.snapshot.meta["targets.json"]
    repository.publish("targets", bump=False)
    repository.snapshot.meta["targets.json"] = known
    repository.publish("snapshot", "timestamp")
    assert client.refresh() == 1
    assert client.version("targets") == 0
