"""A lost or stolen key is taken out of every role that names it, and no role is ever left without enough keys."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner

from hub.trust import metadata
from hub.trust.key_files import create_key
from hub.trust.staging import TOGETHER
from tests.trust.client import Client
from tests.trust.desk import PASSPHRASE, Desk, open_desk
from tests.trust_kit import TrustKit


def test_a_change_that_waited_for_another_is_published_with_it(kit: TrustKit, tmp_path: Path) -> None:
    """The targets carry a signature of the key that goes; signed again, they are valid under the old root as well."""
    first, second, third = kit.roots
    kit.propose("targets", metadata.renew(kit.current("targets"), expires_s=kit.year_s), [first, third])
    with kit.serve() as url:
        client = Client(tmp_path / "client", url, kit.root)
        client.updater()
        left = metadata.Quorum((first.public_key, second.public_key), 2)
        root = metadata.revise_root(kit.root, root=left, targets=left, expires_s=kit.year_s)
        staged = kit.propose("root", root, [first, second])
        assert (staged.published, staged.missing) == (False, 0)
        again = metadata.renew(kit.current("targets"), expires_s=kit.year_s)
        assert kit.propose("targets", again, [first, second]).published
        assert kit.repository.status().staged == (), "the root went out with the targets that it waited for"
        assert metadata.parse_any(kit.root).signed.version == 2
        client.updater()


def test_what_is_for_new_signers_is_not_published_before_they_are_appointed(kit: TrustKit) -> None:
    """The old holders' signatures would do for the targets too, and then count no more under the new root."""
    old, new = kit.roots, [kit.roots[0], CryptoSigner.generate_ed25519()]
    quorum = metadata.Quorum(tuple(signer.public_key for signer in new), 2)
    root = metadata.revise_root(kit.root, root=quorum, targets=quorum, expires_s=kit.year_s)
    kit.propose("root", root, old[:2])
    again = metadata.renew(kit.current("targets"), expires_s=kit.year_s)
    targets = kit.propose("targets", again, old[:2], context={TOGETHER: True})
    assert not targets.published
    assert metadata.parse_any(kit.current("targets")).signed.version == 1
    assert not kit.sign(kit.repository.staged("targets"), new[1]).published
    assert kit.sign(kit.repository.staged("root"), new[1]).published
    assert kit.repository.status().staged == ()
    assert metadata.parse_any(kit.current("targets")).signed.version == 2
    assert metadata.carries(kit.current("targets"), quorum)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with open_desk(tmp_path / "desk") as made:
        yield made


def roles(desk: Desk) -> dict[str, dict[str, Any]]:
    return {role["role"]: role for role in desk.skerry.json("trust", "show")["roles"]}


def test_keys_are_taken_out_of_every_role_and_the_fleet_follows(desk: Desk) -> None:
    desk.approve(1, "alice", "bob")
    keys: list[str | Path] = ["--dir", desk.folder / "keys"]
    listed = {item["name"]: item for item in desk.skerry.json("keys", "list", *keys)}
    assert [use["role"] for use in listed["carla"]["roles"]] == ["root", "targets"]
    assert listed["alice"]["roles"] == [{"role": "model-digits", "threshold": 2, "keys": 3}]

    # a holder: root and targets at once
    said = desk.skerry("keys", "revoke", "carla", *keys, *desk.sign_with("anna", "bert"), "--yes")
    assert said.code == 0, said.err
    assert "no further key may be lost" in said.err
    assert "root is published without the key" in said.out
    assert all(listed["carla"]["key_id"] not in role["key_ids"] for role in roles(desk).values())

    # another one would leave root unsignable: refused before anything is proposed
    words: list[str | Path] = ["keys", "revoke", "bert", *keys]
    refused = desk.skerry(*words, *desk.sign_with("anna"), "--yes", "--json")
    assert refused.error["code"] == "keys.unsignable"
    assert "--replace-with" in refused.error["hint"]
    assert desk.skerry.json("trust", "show")["staged"] == []

    # with a successor it goes, on separate machines: who must sign is said by name
    dora = create_key(desk.folder / "keys", "dora", PASSPHRASE.encode(), rounds=1)
    first = desk.skerry(*words, "--replace-with", desk.key("dora", "pub"), *desk.sign_with("anna"), "--yes")
    assert first.code == 0, first.err
    assert "dora (" in first.out
    assert "`skerry trust sign root --key NAME.key`" in first.out
    for name in ("bert", "dora"):  # the key is lost to nobody yet: its holder helps to replace it
        for role in ("root", "targets"):
            desk.skerry("trust", "sign", role, "--key", desk.key(name), "--yes")
    after = roles(desk)
    assert desk.skerry.json("trust", "show")["staged"] == []
    assert dora.key.keyid in after["root"]["key_ids"]
    assert listed["bert"]["key_id"] not in after["root"]["key_ids"] + after["targets"]["key_ids"]

    # a reviewer whose signature the release carries: those who are left sign what was approved again
    said = desk.skerry("keys", "revoke", listed["bob"]["key_id"][:12], *keys, *desk.sign_with("anna", "dora"), "--yes")
    assert said.code == 0, said.err
    assert "model-digits waits for" in said.out
    for name in ("alice", "carol"):
        signed = desk.skerry("trust", "sign", "model-digits", "--key", desk.key(name), "--yes")
        assert signed.code == 0, signed.err
    assert desk.skerry.json("trust", "show")["staged"] == []
    assert listed["bob"]["key_id"] not in roles(desk)["model-digits"]["key_ids"]
    assert desk.hub.hub.trust.is_approved("digits", 1)


def test_a_key_that_nobody_uses_or_that_is_the_hubs_is_said_so(desk: Desk) -> None:
    unknown = CryptoSigner.generate_ed25519().public_key.keyid
    assert desk.skerry("keys", "revoke", unknown, "--yes", "--json").error["code"] == "keys.not_used"
    online = desk.skerry.json("trust", "online-keys")["online"]["key_id"]
    assert desk.skerry("keys", "revoke", online, "--yes", "--json").error["code"] == "keys.online"
    assert desk.skerry("keys", "revoke", "nobody", "--yes", "--json").error["code"] == "keys.missing"


def test_without_a_hub_the_list_is_of_the_folder_and_says_so(desk: Desk) -> None:
    environ = {"SKERRY_URL": "https://127.0.0.1:1"}
    said = desk.skerry("keys", "list", "--dir", desk.folder / "keys", **environ)
    assert said.code == 0
    assert "is not known" in said.err
    assert "alice" in said.out
    everyone = desk.skerry.json("keys", "list", "--all")
    assert {use["role"] for item in everyone for use in item["roles"]} >= {"root", "targets", "snapshot", "timestamp"}
