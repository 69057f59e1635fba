"""The client workflow of the specification (5.3 to 5.6): what is asked for, what is kept, what is refused."""

from __future__ import annotations

import json

import pytest

from tests.conformance.conftest import Client
from tests.conformance.simulator import TOP, Simulator


def test_a_first_refresh_asks_for_each_file_once(client: Client, repository: Simulator) -> None:
    assert repository.requests == [], "init needs no network"
    assert client.refresh() == 0
    assert repository.requests == [("root", 2), ("timestamp", None), ("snapshot", 1), ("targets", 1)]
    assert client.versions() == dict.fromkeys(TOP, 1)


def test_metadata_is_kept_byte_for_byte(client: Client, repository: Simulator) -> None:
    for role in TOP:
        spaced = json.dumps(json.loads(repository.history[role][-1]), indent=3).encode() + b"\n"
        repository.history[role][-1] = spaced
    assert client.init() == 0
    assert client.refresh() == 0
    for role in TOP:
        assert client.kept(role) == repository.history[role][-1], role


def test_what_is_unchanged_is_not_asked_for_again(client: Client, repository: Simulator) -> None:
    assert client.refresh() == 0
    repository.requests.clear()
    assert client.refresh() == 0
    assert repository.requests == [("root", 2), ("timestamp", None)]
    repository.publish("timestamp")
    assert client.refresh() == 0
    assert repository.requests[2:] == [("root", 2), ("timestamp", None)]
    repository.publish("snapshot", "timestamp")
    assert client.refresh() == 0
    assert repository.requests[4:] == [("root", 2), ("timestamp", None), ("snapshot", 2)]


def test_a_failed_download_of_nothing_still_updates_the_metadata(client: Client, repository: Simulator) -> None:
    assert client.download("no such target") == 1
    assert repository.requests == [("root", 2), ("timestamp", None), ("snapshot", 1), ("targets", 1)]
    assert client.versions() == dict.fromkeys(TOP, 1)


def test_every_root_in_between_is_walked_through(client: Client, repository: Simulator) -> None:
    for _ in range(4):
        repository.publish("root")
    assert client.refresh() == 0
    assert repository.requests[:5] == [("root", version) for version in range(2, 7)]
    assert client.kept("root") == repository.history["root"][-1]


def test_roots_beyond_the_bound_are_left_for_the_next_time(client: Client, repository: Simulator) -> None:
    for _ in range(260):
        repository.publish("root")
    assert client.refresh() == 0
    assert client.version("root") == 257
    assert client.refresh() == 0
    assert client.version("root") == 261


@pytest.mark.parametrize("damage", ["without version", "unsigned", "torn", "other type", "empty"])
def test_nothing_is_asked_for_without_a_valid_first_root(fresh: Client, repository: Simulator, damage: str) -> None:
    data = json.loads(repository.history["root"][0])
    if damage == "without version":
        del data["signed"]["version"]
    elif damage == "unsigned":
        data["signatures"][0]["sig"] = "ab" * 64
    raw = {"torn": json.dumps(data)[:99], "other type": repository.history["targets"][0].decode(), "empty": ""}
    assert fresh.init(raw.get(damage, json.dumps(data)).encode()) == 1
    assert fresh.refresh() == 1
    assert repository.requests == []


def test_nothing_is_asked_for_before_init(fresh: Client, repository: Simulator) -> None:
    assert fresh.refresh() == 1
    assert repository.requests == []


def test_another_init_starts_anew(client: Client, repository: Simulator) -> None:
    repository.publish("root")
    assert client.refresh() == 0
    other = Simulator()
    assert client.init(other.history["root"][0]) == 0
    assert client.refresh() == 1
    assert client.init() == 0
    assert client.refresh() == 0
    assert client.version("root") == 2


@pytest.mark.parametrize("version", [1, 3])
def test_a_root_of_another_version_than_asked_for_is_refused(
    client: Client, repository: Simulator, version: int
) -> None:
    repository.root.version = version
    repository.publish("root", bump=False)
    repository.overrides["metadata/2.root.json"] = (200, repository.history["root"][-1])
    assert client.refresh() == 1
    assert client.kept("root") == repository.history["root"][0]
    assert "timestamp" not in client.versions()


def test_a_timestamp_with_the_same_version_is_not_taken(client: Client, repository: Simulator) -> None:
    assert client.refresh() == 0
    before = client.kept("timestamp")
    repository.timestamp.snapshot_meta.version = 100
    repository.publish("timestamp", bump=False)
    assert client.refresh() == 0
    assert client.kept("timestamp") == before


def test_a_snapshot_that_is_not_the_one_in_the_timestamp_is_refused(client: Client, repository: Simulator) -> None:
    repository.publish("snapshot", "timestamp")
    repository.overrides["metadata/2.snapshot.json"] = (200, repository.history["snapshot"][0])
    assert client.refresh() == 1
    assert "snapshot" not in client.versions()
    assert repository.requests[-1] == ("snapshot", 2)


def test_targets_that_are_not_those_in_the_snapshot_are_refused(client: Client, repository: Simulator) -> None:
    repository.publish_all()
    repository.overrides["metadata/2.targets.json"] = (200, repository.history["targets"][0])
    assert client.refresh() == 1
    assert "targets" not in client.versions()


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
@pytest.mark.parametrize("status", [404, 403, 500, 301])
def test_a_file_that_does_not_come_is_a_failure(
    client: Client, repository: Simulator, role: str, status: int
) -> None:
    assert client.refresh() == 0
    repository.publish_all()
    before = client.versions()
    name = "timestamp.json" if role == "timestamp" else f"2.{role}.json"
    repository.overrides[f"metadata/{name}"] = (status, repository.history[role][-1])
    assert client.refresh() == 1
    assert client.version(role) == before[role]


@pytest.mark.parametrize("status", [403, 404])
def test_a_root_that_is_not_there_is_the_end_of_the_chain(client: Client, repository: Simulator, status: int) -> None:
    repository.overrides["metadata/2.root.json"] = (status, b"")
    assert client.refresh() == 0


@pytest.mark.parametrize("status", [302, 429, 500])
def test_a_root_that_cannot_be_had_is_a_failure(client: Client, repository: Simulator, status: int) -> None:
    repository.overrides["metadata/2.root.json"] = (status, b"")
    assert client.refresh() == 1


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b'{"signed":1,"signed":2}', b"\xff\xfe", b"[" * 9999])
@pytest.mark.parametrize("path", ["2.root", "timestamp", "2.snapshot", "2.targets"])
def test_malformed_metadata_is_refused(client: Client, repository: Simulator, path: str, data: bytes) -> None:
    assert client.refresh() == 0
    repository.publish("root", "targets", "snapshot", "timestamp")
    repository.overrides[f"metadata/{path}.json"] = (200, data)
    assert client.refresh() == 1
    assert client.version(path.rpartition(".")[2]) == 1


@pytest.mark.parametrize(("role", "limit"), [("2.root", 512_000), ("timestamp", 16_384), ("2.snapshot", 2_000_000)])
def test_a_file_beyond_the_bound_is_refused(client: Client, repository: Simulator, role: str, limit: int) -> None:
    repository.publish("root", "snapshot", "timestamp")
    genuine = repository.history[role.rpartition(".")[2]][-1]
    repository.overrides[f"metadata/{role}.json"] = (200, genuine + b" " * (limit + 1 - len(genuine)))
    assert client.refresh() == 1
    repository.overrides[f"metadata/{role}.json"] = (200, genuine + b" " * (limit - len(genuine)))
    assert client.refresh() == 0


def test_a_role_in_place_of_another_is_refused(client: Client, repository: Simulator) -> None:
    repository.signers["snapshot"] += repository.signers["timestamp"]
    repository.publish("timestamp", "snapshot")
    repository.overrides["metadata/timestamp.json"] = (200, repository.history["snapshot"][-1])
    assert client.refresh() == 1
    assert client.versions() == {"root": 1}


def test_unknown_fields_are_signed_and_harmless(client: Client, repository: Simulator) -> None:
    for role in TOP:
        repository.signed[role].unrecognized_fields["x-note"] = {"a": [1, 2], "b": None}
    holders = repository.root.roles["root"]
    holders.unrecognized_fields["x-role"] = "value"
    repository.root.keys[holders.keyids[0]].unrecognized_fields["x-key"] = {"z": 1}
    repository.publish("root", *TOP[:0:-1])
    assert client.refresh() == 0
    assert client.kept("root") == repository.history["root"][-1]


@pytest.mark.parametrize(("spec", "code"), [("1.0.0", 0), ("1.0.99", 0), ("2.0.0", 1), ("0.9.0", 1), ("x", 1)])
@pytest.mark.parametrize("role", TOP)
def test_only_the_specification_that_is_known_is_taken(
    client: Client, repository: Simulator, role: str, spec: str, code: int
) -> None:
    repository.signed[role].spec_version = spec
    repository.publish("root", *TOP[:0:-1])
    assert client.refresh() == code
    assert client.version(role) == (2 if code == 0 else 1 if role == "root" else 0)
