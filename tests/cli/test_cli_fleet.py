"""Devices, API tokens and the audit log from the command line, against a real hub."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from shared.join import decode_join
from tests.cli.rig import RunningHub, Skerry


@pytest.fixture
def device(skerry: Skerry, running_hub: RunningHub) -> str:
    name = f"pi-{secrets.token_hex(4)}"
    made = skerry.json("devices", "token", "--device", name, "--tag", "site=north", "--ttl", "2h")
    running_hub.enrol(name, made["token"])
    return name


def test_a_join_string_lets_a_device_in_once(skerry: Skerry, running_hub: RunningHub, tmp_path: Path) -> None:
    root = tmp_path / "root.json"
    root.write_text("{}")
    said = skerry("devices", "token", "--profile", "x86-gateway", "--count", "2", "--root", root)
    joins = [decode_join(line) for line in said.out.split()]
    assert len(joins) == 2
    assert {join.hub_url for join in joins} == {running_hub.url}
    assert all(join.tuf_root_sha256 is not None for join in joins)
    assert "skerry-agent enrol" in said.err


def test_devices_are_found_by_filter(skerry: Skerry, device: str) -> None:
    found = skerry.json("devices", "list", "--filter", f"id=={device};tag.site==north")
    assert [item["device_id"] for item in found] == [device]
    assert skerry.json("devices", "list", "--filter", f"id=={device};tag.site==south") == []
    assert device in skerry("devices", "list").out
    assert "No device matches" in skerry("devices", "list", "-f", "id==nobody").out


def test_a_wrong_filter_says_what_is_wrong(skerry: Skerry) -> None:
    said = skerry("devices", "list", "--filter", "colour==red", "--json")
    assert said.code == 2
    assert "colour" in said.error["message"]


def test_a_device_is_shown(skerry: Skerry, device: str) -> None:
    said = skerry("devices", "show", device)
    assert said.code == 0, said.err
    assert device in said.out
    assert "x86-gateway" in said.out
    assert "site=north" in said.out
    assert skerry.json("devices", "show", device)["tags"] == {"site": "north"}
    for command in ("reports", "events"):
        assert skerry("devices", command, device).code == 0


def test_an_unknown_device_has_its_exit_code(skerry: Skerry) -> None:
    said = skerry("devices", "show", "nobody")
    assert said.code == 4
    assert "nobody" in said.err


def test_an_id_is_checked_before_it_becomes_a_path(skerry: Skerry) -> None:
    said = skerry("devices", "show", "../tokens", "--json")
    assert (said.code, said.error["code"]) == (2, "id.device")


def test_tags_are_set_and_removed(skerry: Skerry, device: str) -> None:
    assert skerry.json("devices", "tag", device, "ring=canary", "site=south") == {"ring": "canary", "site": "south"}
    assert skerry.json("devices", "tag", device, "--remove", "ring") == {"site": "south"}
    assert skerry.json("devices", "tag", device) == {"site": "south"}
    assert skerry("devices", "tag", device, "ring", "--json").error["code"] == "cli.pair"


def test_revoking_asks_first(skerry: Skerry, device: str) -> None:
    said = skerry("devices", "revoke", device, "--json", stdin="")
    assert (said.code, said.error["code"]) == (2, "cli.not_confirmed")
    assert skerry("devices", "revoke", device, "--yes", "--reason", "stolen").code == 0
    assert skerry.json("devices", "show", device)["status"] == "revoked"


def test_enrolment_tokens_are_listed_and_taken_back(skerry: Skerry) -> None:
    token = skerry.json("devices", "token")["token_id"]
    assert token in skerry("devices", "tokens").out
    assert skerry("devices", "token-delete", token).code == 0
    assert token not in {item["token_id"] for item in skerry.json("devices", "tokens")}
    assert skerry("devices", "token-delete", token).code == 4


def test_api_tokens_have_the_rights_of_their_role(skerry: Skerry) -> None:
    made = skerry.json("tokens", "create", "ci", "--role", "viewer", "--days", "1")
    assert skerry("devices", "list", SKERRY_TOKEN=made["token"]).code == 0
    denied = skerry("tokens", "list", "--json", SKERRY_TOKEN=made["token"])
    assert (denied.code, denied.error["code"]) == (3, "access.denied")
    assert skerry("tokens", "revoke", made["details"]["token_id"]).code == 0
    gone = skerry("devices", "list", "--json", SKERRY_TOKEN=made["token"])
    assert (gone.code, gone.error["code"]) == (3, "auth.revoked_token")
    assert "revoked" in skerry("tokens", "list").out


def test_a_new_token_is_all_that_goes_to_standard_output(skerry: Skerry) -> None:
    said = skerry("tokens", "create", "script", "--role", "viewer")
    assert said.out.strip().startswith("sk_")
    assert len(said.out.split()) == 1


def test_changes_are_in_the_audit_log(skerry: Skerry, device: str) -> None:
    entries = skerry.json("audit", "list", "--subject", device, "--since", "1h")
    assert entries
    assert device in skerry("audit", "list").out
    assert skerry("audit", "list", "--since", "soon", "--json").error["code"] == "cli.duration"


def test_the_audit_log_is_verified(skerry: Skerry, device: str) -> None:
    verdict = skerry.json("audit", "verify")
    assert verdict["intact"]
    head = ("--seq", str(verdict["head_seq"]), "--hash")
    assert skerry("audit", "verify", *head, verdict["head_hash"]).code == 0
    broken = skerry("audit", "verify", *head, "0" * 64)
    assert broken.code == 6
    assert "failed" in broken.out
