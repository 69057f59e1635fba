"""Freeze attacks: what has expired is refused, but still protects against going back (5.3.10, 5.4.4, 5.5.6, 5.6.5)."""

from __future__ import annotations

import pytest

from tests.conformance.conftest import Client, days
from tests.conformance.simulator import Simulator


def test_an_expired_root_is_kept_but_nothing_after_it(client: Client, repository: Simulator) -> None:
    assert client.refresh() == 0
    repository.publish("root")
    repository.root.expires = days(-1)
    repository.publish("root", "targets", "snapshot", "timestamp")
    repository.requests.clear()
    assert client.refresh() == 1
    assert client.versions() == {"root": 3, "timestamp": 1, "snapshot": 1, "targets": 1}
    repository.root.expires = days(1)
    repository.publish("root")
    assert client.refresh() == 0


def test_an_expired_root_in_between_is_only_a_step(client: Client, repository: Simulator) -> None:
    repository.root.expires = days(-1)
    repository.publish("root")
    repository.root.expires = days(1)
    repository.publish("root")
    assert client.refresh() == 0
    assert client.version("root") == 3


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_an_expired_role_is_refused(client: Client, repository: Simulator, role: str) -> None:
    assert client.refresh() == 0
    repository.signed[role].expires = days(-5)
    repository.publish_all()
    assert client.refresh() == 1
    assert client.version(role) == 1
    repository.signed[role].expires = days(5)
    repository.publish_all()
    assert client.refresh() == 0
    assert client.version(role) == 3


@pytest.mark.parametrize("role", ["root", "timestamp", "snapshot", "targets"])
def test_what_was_kept_is_refused_once_it_expires(client: Client, repository: Simulator, role: str) -> None:
    repository.signed[role].expires = days(7)
    repository.publish("root", "targets", "snapshot", "timestamp")
    assert client.refresh() == 0
    assert client.refresh(at=days(6)) == 0
    assert client.refresh(at=days(8)) == 1


def test_expired_local_metadata_is_the_way_to_newer(client: Client, repository: Simulator) -> None:
    repository.timestamp.expires = days(7)
    repository.publish("timestamp")
    assert client.refresh() == 0
    repository.publish("targets", "snapshot")
    repository.timestamp.expires = days(21)
    repository.publish("timestamp")
    assert client.refresh(at=days(18)) == 0
    assert client.versions() == {"root": 1, "snapshot": 2, "targets": 2, "timestamp": 3}


def test_an_expired_timestamp_still_guards_against_going_back(client: Client, repository: Simulator) -> None:
    repository.timestamp.expires = days(7)
    repository.publish("timestamp")
    assert client.refresh() == 0
    repository.restart("timestamp")
    repository.timestamp.expires = days(21)
    repository.publish("timestamp")
    assert client.refresh(at=days(18)) == 1
    assert client.version("timestamp") == 2


def test_an_expired_snapshot_still_guards_against_going_back(client: Client, repository: Simulator) -> None:
    repository.publish("targets")
    repository.snapshot.expires = days(7)
    repository.publish("snapshot", "timestamp")
    assert client.refresh() == 0
    repository.restart("targets")
    repository.snapshot.expires = days(21)
    repository.publish("targets", "snapshot", "timestamp")
    assert client.refresh(at=days(18)) == 1
    assert client.versions()["snapshot"] == 2


def test_a_delegated_role_that_comes_expired_is_refused(client: Client, repository: Simulator) -> None:
    repository.delegate("targets", "delegated", expires=days(-1), paths=["d/*"])
    repository.add_file("d/file", b"content", "delegated")
    repository.publish_all("delegated")
    assert client.refresh() == 0
    assert client.download("d/file") == 1
    assert client.downloaded() == []
    assert client.versions() == {"root": 1, "snapshot": 2, "targets": 2, "timestamp": 2}


def test_a_delegated_role_that_expired_here_is_refused_until_there_is_a_newer(
    client: Client, repository: Simulator
) -> None:
    repository.delegate("targets", "delegated", expires=days(7), paths=["d/*"])
    repository.add_file("d/first", b"first", "delegated")
    repository.add_file("d/second", b"second", "delegated")
    repository.publish_all("delegated")
    assert client.download("d/first") == 0
    assert client.download("d/second", at=days(18)) == 1
    assert client.downloaded() == [b"first"]
    repository.role("delegated").expires = days(21)
    repository.publish_all("delegated")
    assert client.download("d/second", at=days(18)) == 0
    assert client.downloaded() == [b"first", b"second"]


def test_a_clock_that_goes_back_brings_no_expired_metadata_back(client: Client, repository: Simulator) -> None:
    repository.timestamp.expires = days(10)
    repository.publish("timestamp")
    assert client.refresh(at=days(9)) == 0
    repository.timestamp.expires = days(5)
    repository.publish("timestamp")
    assert client.refresh() == 1, "nine days from now have been seen already"
    repository.timestamp.expires = days(20)
    repository.publish("timestamp")
    assert client.refresh() == 0
