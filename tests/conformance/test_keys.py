"""Keys, thresholds and signatures: what counts, what does not, and that rubbish beside right ones is harmless."""

from __future__ import annotations

import json
from typing import Any

import pytest
from securesystemslib.formats import encode_canonical

from tests.conformance.conftest import Client
from tests.conformance.simulator import TOP, Simulator, new_signer

SCHEMES = ["ed25519", "ecdsa-sha2-nistp256", "rsassa-pss-sha256", "rsa-pkcs1v15-sha256"]


def edited(data: bytes) -> Any:
    """Metadata as plain JSON, for what the library would not write."""
    return json.loads(data)


def put(repository: Simulator, role: str, document: Any) -> None:
    """Serve this as the newest of a role."""
    repository.history[role][-1] = json.dumps(document).encode()


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_fewer_signatures_than_the_threshold_are_refused(client: Client, repository: Simulator, role: str) -> None:
    for _ in range(2):
        repository.add_key(role)
    repository.root.roles[role].threshold = 3
    repository.publish("root", "targets", "snapshot", "timestamp")
    assert client.refresh() == 0
    repository.signers[role].pop()
    repository.publish_all()
    assert client.refresh() == 1
    assert client.version(role) == 2


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_a_threshold_beyond_the_number_of_keys_is_never_met(client: Client, repository: Simulator, role: str) -> None:
    for _ in range(4):
        repository.add_key(role)
    repository.root.roles[role].threshold = 6
    repository.publish("root", "targets", "snapshot", "timestamp")
    assert client.refresh() == 1
    assert client.version("root") == 2
    assert client.version(role) == 0


def test_one_key_named_many_times_counts_once(client: Client, repository: Simulator) -> None:
    repository.publish("root", "snapshot", "timestamp")
    root = edited(repository.history["root"][-1])
    keyid = root["signed"]["roles"]["snapshot"]["keyids"][0]
    root["signed"]["roles"]["snapshot"] |= {"keyids": [keyid] * 6, "threshold": 6}
    put(repository, "root", _signed_again(repository, root))
    snapshot = edited(repository.history["snapshot"][-1])
    snapshot["signatures"] *= 6
    put(repository, "snapshot", snapshot)
    assert client.refresh() == 1
    assert client.version("snapshot") == 0


def test_one_key_under_many_key_ids_counts_once(client: Client, repository: Simulator) -> None:
    """The specification asks for distinct keys; clients that count key ids must at least refuse ids that do not fit."""
    repository.publish("root", "snapshot", "timestamp")
    root = edited(repository.history["root"][-1])
    keyid = root["signed"]["roles"]["snapshot"]["keyids"][0]
    others = [f"{number:064x}" for number in range(2)]
    for other in others:
        root["signed"]["keys"][other] = root["signed"]["keys"][keyid]
    root["signed"]["roles"]["snapshot"] |= {"keyids": [keyid, *others], "threshold": 3}
    put(repository, "root", _signed_again(repository, root))
    snapshot = edited(repository.history["snapshot"][-1])
    snapshot["signatures"] += [snapshot["signatures"][0] | {"keyid": other} for other in others]
    put(repository, "snapshot", snapshot)
    assert client.refresh() == 1
    assert client.version("snapshot") == 0


@pytest.mark.parametrize("role", TOP)
def test_the_same_key_id_twice_among_the_signatures_is_refused(
    client: Client, repository: Simulator, role: str
) -> None:
    repository.publish("root", "targets", "snapshot", "timestamp")
    document = edited(repository.history[role][-1])
    document["signatures"].append(document["signatures"][0])
    put(repository, role, document)
    assert client.refresh() == 1
    assert client.version(role) == (1 if role == "root" else 0)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_schemes_of_the_specification_are_known(client: Client, repository: Simulator, scheme: str) -> None:
    signer = repository.add_key("root", signer=new_signer(scheme))
    repository.root.roles["root"].threshold = 2
    for role in ("timestamp", "snapshot", "targets"):
        repository.root.revoke_key(repository.root.roles[role].keyids[0], role)
        repository.signers[role] = []
        repository.add_key(role, signer=signer)
    repository.publish("root", "targets", "snapshot", "timestamp")
    assert client.refresh() == 0
    assert client.version("root") == 2
    repository.publish("root")
    document = edited(repository.history["root"][-1])
    for signature in document["signatures"]:
        if signature["keyid"] == signer.public_key.keyid:
            signature["sig"] = signature["sig"][:-4] + ("0000" if signature["sig"][-4:] != "0000" else "1111")
    put(repository, "root", document)
    assert client.refresh() == 1
    assert client.version("root") == 2


@pytest.mark.parametrize("rubbish", ["", "zz", "00" * 64, "ab"])
@pytest.mark.parametrize("role", TOP)
def test_a_wrong_signature_beside_enough_right_ones_is_harmless(
    client: Client, repository: Simulator, role: str, rubbish: str
) -> None:
    wrong = repository.add_key(role).public_key.keyid
    repository.publish("root", "targets", "snapshot", "timestamp")
    document = edited(repository.history[role][-1])
    for signature in document["signatures"]:
        if signature["keyid"] == wrong:
            signature["sig"] = rubbish
    put(repository, role, document)
    assert client.refresh() == 0
    assert client.version(role) == 2


def test_signatures_of_strangers_are_harmless_and_count_for_nothing(client: Client, repository: Simulator) -> None:
    stranger = new_signer()
    repository.signers["snapshot"].append(stranger)
    repository.publish("snapshot", "timestamp")
    assert client.refresh() == 0
    repository.signers["snapshot"] = [stranger]
    repository.publish("snapshot", "timestamp")
    assert client.refresh() == 1
    assert client.version("snapshot") == 2


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_a_role_signed_by_the_key_of_another_role_is_refused(client: Client, repository: Simulator, role: str) -> None:
    repository.signers[role] = [*repository.signers["root"]]
    repository.publish_all()
    assert client.refresh() == 1
    assert client.version(role) == 0


@pytest.mark.parametrize("role", TOP)
def test_content_that_was_changed_after_signing_is_refused(client: Client, repository: Simulator, role: str) -> None:
    repository.publish("root", "targets", "snapshot", "timestamp")
    document = edited(repository.history[role][-1])
    document["signed"]["expires"] = "2099-01-01T00:00:00Z"
    put(repository, role, document)
    assert client.refresh() == 1
    assert client.version(role) == (1 if role == "root" else 0)


@pytest.mark.parametrize("threshold", [0, -1])
def test_a_threshold_of_nobody_is_refused(client: Client, repository: Simulator, threshold: int) -> None:
    repository.publish("root")
    root = edited(repository.history["root"][-1])
    root["signed"]["roles"]["timestamp"]["threshold"] = threshold
    put(repository, "root", _signed_again(repository, root))
    assert client.refresh() == 1
    assert client.version("root") == 1


def test_odd_hints_beside_a_key_are_not_part_of_the_rules(client: Client, repository: Simulator) -> None:
    keyid = repository.root.roles["snapshot"].keyids[0]
    repository.root.keys[keyid].unrecognized_fields["keyid_hash_algorithms"] = ["md5"]
    repository.publish("root", "snapshot", "timestamp")
    assert client.refresh() == 0
    assert client.version("snapshot") == 2


def test_a_key_of_an_unknown_kind_is_refused_and_not_guessed_at(client: Client, repository: Simulator) -> None:
    repository.publish("root")
    root = edited(repository.history["root"][-1])
    root["signed"]["keys"]["f" * 64] = {"keytype": "future", "scheme": "future", "keyval": {"public": "00"}}
    root["signed"]["roles"]["timestamp"]["keyids"].append("f" * 64)
    put(repository, "root", _signed_again(repository, root))
    assert client.refresh() == 1
    assert client.version("root") == 1


def _signed_again(repository: Simulator, document: Any) -> Any:
    """The same document with right signatures of the root's keys over what it says now."""
    payload = str(encode_canonical(document["signed"])).encode()
    document["signatures"] = [signer.sign(payload).to_dict() for signer in repository.signers["root"]]
    return document
