"""Rollback and fast-forward: nothing goes back, except under new online keys (5.3.11, 5.4.3, 5.5.5)."""

from __future__ import annotations

import pytest

from tests.conformance.conftest import Client
from tests.conformance.simulator import Simulator

HASHES = pytest.mark.parametrize("with_hashes", [False, True], ids=["versions", "hashes"])


def test_an_older_timestamp_is_refused(client: Client, repository: Simulator) -> None:
    repository.publish("timestamp")
    assert client.refresh() == 0
    repository.restart("timestamp")
    repository.publish("timestamp")
    assert client.refresh() == 1
    assert client.version("timestamp") == 2
    assert repository.requests[-1] == ("timestamp", None)


@HASHES
def test_an_older_snapshot_is_refused(client: Client, repository: Simulator, with_hashes: bool) -> None:
    repository.with_hashes = with_hashes
    repository.publish("snapshot", "timestamp")
    assert client.refresh() == 0
    repository.restart("snapshot")
    repository.publish("snapshot", "timestamp")
    assert client.refresh() == 1
    assert (client.version("timestamp"), client.version("snapshot")) == (2, 2)
    assert repository.requests[-1] == ("timestamp", None)


@HASHES
def test_older_targets_are_refused(client: Client, repository: Simulator, with_hashes: bool) -> None:
    repository.with_hashes = with_hashes
    repository.publish_all()
    assert client.refresh() == 0
    repository.restart("targets")
    repository.publish_all()
    assert client.refresh() == 1
    assert (client.version("snapshot"), client.version("targets")) == (2, 2)


def test_an_older_delegated_role_is_refused(client: Client, repository: Simulator) -> None:
    repository.delegate("targets", "delegated")
    repository.publish_all("delegated")
    repository.publish_all("delegated")
    assert client.download("missing") == 1
    assert client.version("delegated") == 2
    repository.restart("delegated")
    repository.publish_all("delegated")
    assert client.refresh() == 1
    assert (client.version("snapshot"), client.version("delegated")) == (3, 2)


def test_a_role_may_not_vanish_from_the_snapshot(client: Client, repository: Simulator) -> None:
    repository.delegate("targets", "delegated")
    repository.publish_all("delegated")
    assert client.refresh() == 0
    del repository.snapshot.meta["delegated.json"]
    repository.publish("snapshot", "timestamp")
    assert client.refresh() == 1
    assert client.version("snapshot") == 2


@pytest.mark.parametrize("lost", ["timestamp.json", "snapshot.json", "targets.json", "rollback.floor"])
def test_a_lost_local_file_opens_no_way_back(client: Client, repository: Simulator, lost: str) -> None:
    before = {role: list(history) for role, history in repository.history.items()}
    repository.publish_all()
    assert client.refresh() == 0
    (client.metadata / lost).unlink()
    for role in ("timestamp", "snapshot", "targets"):
        repository.history[role] = before[role]
    assert client.refresh() == 1
    repository.publish_all()
    assert repository.signed["timestamp"].version == 3
    assert client.refresh() == 0


@pytest.mark.parametrize("rotated", [("timestamp",), ("timestamp", "snapshot")])
def test_new_keys_bring_a_timestamp_back_from_a_fast_forward(
    client: Client, repository: Simulator, rotated: tuple[str, ...]
) -> None:
    repository.timestamp.version = 1000
    repository.publish("timestamp")
    assert client.refresh() == 0
    for role in rotated:
        repository.rotate(role)
    repository.restart("timestamp")
    repository.publish("root", "snapshot", "timestamp")
    assert client.refresh() == 0
    assert client.version("timestamp") == 1


def test_new_keys_bring_a_snapshot_back_from_a_fast_forward(client: Client, repository: Simulator) -> None:
    repository.snapshot.version = 1000
    repository.publish("snapshot", "timestamp")
    assert client.refresh() == 0
    repository.rotate("snapshot")
    repository.rotate("timestamp")
    repository.restart("snapshot")
    repository.publish("root", "targets", "snapshot", "timestamp")
    assert client.refresh() == 0
    assert client.version("snapshot") == 1


def test_a_new_snapshot_key_brings_targets_back_from_a_fast_forward(client: Client, repository: Simulator) -> None:
    repository.delegate("targets", "delegated")
    repository.publish("delegated")
    repository.targets.version = 1000
    repository.publish_all()
    assert client.refresh() == 0
    assert client.version("targets") == 1001
    repository.rotate("snapshot")
    repository.restart("targets")
    del repository.snapshot.meta["delegated.json"]
    repository.publish("root", "targets", "snapshot", "timestamp")
    assert client.refresh() == 0
    assert client.version("targets") == 1


def test_a_fast_forward_stays_without_new_keys(client: Client, repository: Simulator) -> None:
    repository.timestamp.version = 1000
    repository.publish("timestamp")
    assert client.refresh() == 0
    repository.restart("timestamp")
    repository.publish("root", "timestamp")
    assert client.refresh() == 1
    assert client.version("timestamp") == 1001
