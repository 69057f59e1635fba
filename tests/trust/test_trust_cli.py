"""The whole way of a release on the command line, against a real hub over HTTPS: keys, root, reviewers, signatures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tuf.api.metadata import Targets

from hub.trust import metadata
from hub.trust.key_files import create_key, open_key
from shared.assignment_keys import parse_assignment_keys
from tests.cli.rig import Skerry
from tests.trust.desk import PASSPHRASE, Desk, open_desk


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with open_desk(tmp_path_factory.mktemp("desk")) as made:
        yield made


@pytest.fixture(scope="module")
def released(desk: Desk) -> Desk:
    """Version 1 is approved."""
    desk.approve(1, "alice", "bob")
    return desk


def test_a_version_is_approved_by_two_reviewers_who_see_what_they_sign(desk: Desk) -> None:
    desk.register(2)
    command = ("versions", "sign", "digits", "2", "--check-bundle", "--yes", "--key")
    first = desk.skerry(*command, desk.key("alice"))
    assert first.code == 0, first.err
    digest = desk.skerry.json("versions", "show", "digits", "2")["bundle_sha256"]
    assert digest in first.err
    assert "downloaded and checked" in first.err
    assert "passed on" in first.err
    assert "waits for 1 more signature" in first.out
    assert desk.skerry.json("versions", "show", "digits", "2")["status"] == "gated"
    second = desk.skerry(*command, desk.key("bob"))
    assert "published" in second.out
    assert desk.skerry.json("versions", "show", "digits", "2")["status"] == "approved"


def test_signing_needs_an_answer(desk: Desk) -> None:
    said = desk.skerry("versions", "sign", "digits", "1", "--key", desk.key("carol"), "--json", stdin="")
    assert (said.code, said.error["code"]) == (2, "cli.not_confirmed")


def test_a_wrong_passphrase_signs_nothing(desk: Desk) -> None:
    words = ("versions", "sign", "digits", "1", "--key", desk.key("carol"), "--yes", "--json")
    said = desk.skerry(*words, SKERRY_PASSPHRASE="wrong passphrase")
    assert (said.code, said.error["code"]) == (3, "keys.wrong_passphrase")
    (desk.folder / "wrong.txt").write_text("another wrong one\n")
    said = desk.skerry(*words, "--passphrase-file", desk.folder / "wrong.txt")
    assert said.error["code"] == "keys.wrong_passphrase"


def test_someone_who_is_no_reviewer_is_told_so_before_the_passphrase(desk: Desk) -> None:
    said = desk.skerry("versions", "sign", "digits", "1", "--key", desk.key("anna"), "--yes", "--json")
    assert (said.code, said.error["code"]) == (3, "trust.unknown_key")


def test_a_hub_that_slips_another_bundle_into_a_release_is_caught_before_signing(released: Desk) -> None:
    desk = released
    desk.register(3)
    assert desk.skerry.json("versions", "show", "digits", "3")["status"] == "gated"
    staged = desk.hub.hub.trust.stage_release("digits", 3, "hub")
    evil = metadata.parse(staged.data, Targets)
    evil.signed.targets["digits/4.bundle"] = metadata.describe_file("digits/4.bundle", b"evil")
    with desk.hub.hub.db.write() as connection:
        connection.exec_driver_sql("UPDATE tuf_staged SET bytes = ? WHERE role = ?", (evil.to_bytes(), staged.role))
    said = desk.skerry("versions", "sign", "digits", "3", "--key", desk.key("alice"), "--yes", "--json")
    assert (said.code, said.error["code"]) == (6, "sign.unexpected_content")
    assert "digits/4.bundle" in json.dumps(said.error)
    assert desk.skerry("trust", "withdraw", "model-digits", "--yes").code == 0


def test_without_a_production_version_the_difference_to_the_one_approved_last_is_shown(released: Desk) -> None:
    desk = released
    desk.register(5)
    newest = max(item["version"] for item in desk.skerry.json("versions", "list", "digits") if item["approved_s"])
    said = desk.skerry("versions", "sign", "digits", "5", "--key", desk.key("alice"), "--yes")
    assert said.code == 0, said.err
    assert f"version {newest} (approved last)" in said.err
    assert desk.skerry("trust", "withdraw", "model-digits", "--yes").code == 0


def test_a_machine_that_knows_no_root_signs_nothing_until_one_is_pinned(released: Desk, tmp_path: Path) -> None:
    elsewhere = Skerry(tmp_path / "home", {**released.skerry.environ, "HOME": str(tmp_path)})
    words = ("trust", "sign", "root", "--key", released.key("anna"), "--json")
    assert elsewhere(*words).error["code"] == "trust.no_root"
    assert elsewhere("trust", "pin", released.folder / "root.json").code == 0
    assert elsewhere(*words).error["code"] == "trust.not_staged"


def test_a_hub_with_another_root_than_the_pinned_one_is_refused(released: Desk, tmp_path: Path) -> None:
    elsewhere = Skerry(tmp_path / "home", {**released.skerry.environ, "HOME": str(tmp_path)})
    root = json.loads((released.folder / "root.json").read_text())
    root["signed"]["expires"] = "2031-01-01T00:00:00Z"
    (tmp_path / "forged.json").write_text(json.dumps(root))
    said = elsewhere("trust", "pin", tmp_path / "forged.json", "--json")
    assert said.error["code"] == "trust.refused"
    assert elsewhere("trust", "pin", released.folder / "root.json").code == 0


def test_the_offline_keys_sign_on_separate_machines_one_after_the_other(released: Desk, tmp_path: Path) -> None:
    desk = released
    dora = create_key(tmp_path, "dora", PASSPHRASE.encode(), rounds=1)
    words = ("keys", "rotate", "root", "--add", tmp_path / "dora.pub", "--remove", desk.key("carla", "pub"))
    first = desk.skerry(*words, *desk.sign_with("anna"))
    assert "waits for 1 more signature" in first.out
    second = desk.skerry("trust", "sign", "root", "--key", desk.key("bert"), "--yes")
    assert second.code == 0, second.err
    assert dora.key.keyid in second.err, "the change is shown before it is signed"
    assert "published" in second.out
    roles = {role["role"]: role for role in desk.skerry.json("trust", "show")["roles"]}
    assert dora.key.keyid in roles["root"]["key_ids"]
    assert dora.key.keyid in roles["targets"]["key_ids"]


def test_the_online_keys_are_rotated(released: Desk) -> None:
    before = released.hub.hub.trust.online_keys()
    said = released.skerry("keys", "rotate", "online", *released.sign_with("anna", "bert"))
    assert said.code == 0, said.err
    said = released.skerry("keys", "rotate", "assignment", *released.sign_with("anna", "bert"))
    assert said.code == 0, said.err
    after = released.hub.hub.trust.online_keys()
    assert before.online != after.online
    assert before.assignment != after.assignment


def test_reviewers_are_replaced_and_sign_again_what_was_approved(released: Desk, tmp_path: Path) -> None:
    desk = released
    new = [create_key(tmp_path, name, PASSPHRASE.encode(), rounds=1) for name in ("erik", "fred")]
    words: list[str | Path] = [word for made in new for word in ("--add", tmp_path / f"{made.name}.pub")]
    words += [word for name in ("alice", "bob") for word in ("--remove", desk.key(name, "pub"))]
    said = desk.skerry("keys", "rotate", "reviewers", "digits", *words, *desk.sign_with("anna", "bert"))
    assert said.code == 0, said.err
    assert "model-digits" in said.out
    for made in new:
        said = desk.skerry("trust", "sign", "model-digits", "--key", tmp_path / f"{made.name}.key", "--yes")
        assert said.code == 0, said.err
    assert desk.skerry.json("trust", "show")["staged"] == []
    assert desk.hub.hub.trust.is_approved("digits", 1)
    back: list[str | Path] = [word for name in ("alice", "bob") for word in ("--add", desk.key(name, "pub"))]
    assert desk.skerry("keys", "rotate", "reviewers", "digits", *back, *desk.sign_with("anna", "bert")).code == 0


def test_roles_are_renewed_before_they_expire(released: Desk) -> None:
    before = {role["role"]: role["version"] for role in released.skerry.json("trust", "show")["roles"]}
    said = released.skerry("trust", "renew", "targets", *released.sign_with("anna", "bert"), "--expires-days", "20")
    assert said.code == 0, said.err
    after = {role["role"]: role["version"] for role in released.skerry.json("trust", "show")["roles"]}
    assert after["targets"] == before["targets"] + 1
    assert "targets expires" in released.skerry("trust", "show").err
    assert released.skerry("trust", "renew", "targets", *released.sign_with("anna", "bert")).code == 0


def test_an_exported_repository_serves_a_plain_tuf_client(released: Desk, tmp_path: Path) -> None:
    from tests.trust.client import FolderClient

    answer = released.skerry.json("trust", "export", tmp_path / "usb")
    assert answer["left_out"] == []
    client = FolderClient(tmp_path / "client", tmp_path / "usb", (released.folder / "root.json").read_bytes())
    digest = released.skerry.json("versions", "show", "digits", "1")["bundle_sha256"]
    info = client.updater().get_targetinfo("digits/1.bundle")
    assert info is not None
    assert info.hashes == {"sha256": digest}
    assert len(client.download("digits/1.bundle")) == info.length
    assert parse_assignment_keys(client.download("skerry/assignment-keys.json"))
    assert released.skerry("trust", "export", tmp_path / "usb").code == 0


def test_a_viewer_may_look_but_not_stage_sign_or_withdraw(released: Desk) -> None:
    token = released.skerry.json("tokens", "create", "eve", "--role", "viewer")["token"]
    assert released.skerry("trust", "show", SKERRY_TOKEN=token).code == 0
    for words in (
        ("versions", "sign", "digits", "1", "--key", released.key("alice"), "--yes"),
        ("trust", "renew", "targets", *released.sign_with("anna", "bert")),
        ("keys", "rotate", "online", *released.sign_with("anna", "bert")),
    ):
        said = released.skerry(*words, "--json", SKERRY_TOKEN=token)
        assert said.code in (3, 5)
        assert said.error["code"] in ("access.denied", "release.approved")


def test_keys_are_created_listed_and_shown(desk: Desk, tmp_path: Path) -> None:
    made = desk.skerry.json("keys", "create", "gina", "--dir", tmp_path)
    assert (tmp_path / "gina.key").stat().st_mode & 0o777 == 0o600
    assert b"ENCRYPTED" in (tmp_path / "gina.key").read_bytes() or b"OPENSSH" in (tmp_path / "gina.key").read_bytes()
    assert open_key(tmp_path / "gina.key", PASSPHRASE.encode()).public_key.keyid == made["key_id"]
    assert [item["name"] for item in desk.skerry.json("keys", "list", "--dir", tmp_path)] == ["gina"]
    assert desk.skerry.json("keys", "show", tmp_path / "gina.pub")["key_id"] == made["key_id"]
    again = desk.skerry("keys", "create", "gina", "--dir", tmp_path, "--json")
    assert (again.code, again.error["code"]) == (5, "keys.exists")


def test_without_a_terminal_and_a_passphrase_nothing_hangs(desk: Desk, tmp_path: Path) -> None:
    said = desk.skerry("keys", "create", "hans", "--dir", tmp_path, "--json", stdin="", SKERRY_PASSPHRASE="")
    assert (said.code, said.error["code"]) == (2, "cli.no_passphrase")
