"""Groups from the command line, against a real hub."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from tests.cli.rig import RunningHub, Skerry


@pytest.fixture
def site(skerry: Skerry, running_hub: RunningHub) -> str:
    """A tag value that two devices of this test have: pi-SITE-0 and pi-SITE-1."""
    name = f"s{secrets.token_hex(3)}"
    for number in range(2):
        made = skerry.json("devices", "token", "--device", f"pi-{name}-{number}", "--tag", f"site={name}")
        running_hub.enrol(f"pi-{name}-{number}", made["token"])
    return name


def test_a_group_is_made_shown_listed_and_deleted(skerry: Skerry, site: str) -> None:
    said = skerry("groups", "create", f"g-{site}", "--filter", f"tag.site=={site}", "--description", "the first")
    assert said.code == 0, said.err
    assert "2 active devices" in said.out
    shown = skerry.json("groups", "show", f"g-{site}")
    assert (shown["devices"], shown["group"]["filter"]) == (2, f"tag.site=={site}")
    assert f"g-{site}" in skerry("groups", "list").out
    assert [item["device_id"] for item in skerry.json("groups", "devices", f"g-{site}")] == [
        f"pi-{site}-0",
        f"pi-{site}-1",
    ]
    assert [item["device_id"] for item in skerry.json("devices", "list", "-f", f"group==g-{site};id==*-1")] == [
        f"pi-{site}-1"
    ]
    assert skerry("groups", "delete", f"g-{site}", "--yes").code == 0
    assert skerry("groups", "show", f"g-{site}").code == 4


def test_a_dry_run_changes_nothing(skerry: Skerry, site: str) -> None:
    said = skerry("groups", "create", f"g-{site}", "-f", f"tag.site=={site}", "--dry-run")
    assert "would be made" in said.out
    assert skerry("groups", "show", f"g-{site}").code == 4
    skerry.json("groups", "create", f"g-{site}", "-f", f"tag.site=={site}")
    plan = skerry.json("groups", "update", f"g-{site}", "-f", f"id==pi-{site}-1", "--dry-run")
    assert (plan["devices"], plan["leaves"]) == (1, [f"pi-{site}-0"])
    assert skerry.json("groups", "show", f"g-{site}")["devices"] == 2


def test_a_list_grows_and_shrinks(skerry: Skerry, site: str, tmp_path: Path) -> None:
    file = tmp_path / "devices.txt"
    file.write_text(f"pi-{site}-0\n")
    assert skerry.json("groups", "create", f"l-{site}", "--devices-file", file)["devices"] == 1
    changed = skerry.json("groups", "update", f"l-{site}", "--add", f"pi-{site}-1", "--remove", f"pi-{site}-0")
    assert (changed["joins"], changed["leaves"]) == ([f"pi-{site}-1"], [f"pi-{site}-0"])


def test_a_group_with_neither_and_an_unknown_device_are_refused(skerry: Skerry, site: str) -> None:
    said = skerry("groups", "create", "empty", "--json")
    assert (said.code, said.error["code"]) == (2, "cli.group_content")
    said = skerry("groups", "create", f"l-{site}", "--device", "nobody-there", "--json")
    assert (said.code, said.error["code"]) == (4, "group.unknown_device")
    said = skerry("groups", "create", f"l-{site}", "--filter", "colour==red", "--json")
    assert (said.code, said.error["code"]) == (2, "filter.field")


def test_a_group_in_use_stays_and_deleting_asks(skerry: Skerry, site: str) -> None:
    skerry.json("groups", "create", f"a-{site}", "-f", f"tag.site=={site}")
    skerry.json("groups", "create", f"b-{site}", "-f", f"group==a-{site}")
    said = skerry("groups", "delete", f"a-{site}", "--yes", "--json")
    assert (said.code, said.error["code"]) == (5, "group.in_use")
    said = skerry("groups", "delete", f"b-{site}", "--json", stdin="")
    assert (said.code, said.error["code"]) == (2, "cli.not_confirmed")


def test_a_viewer_looks_and_changes_nothing(skerry: Skerry, site: str) -> None:
    token = skerry.json("tokens", "create", f"v-{site}", "--role", "viewer", "--days", "1")["token"]
    assert skerry("groups", "list", SKERRY_TOKEN=token).code == 0
    denied = skerry("groups", "create", f"x-{site}", "-f", "all", "--json", SKERRY_TOKEN=token)
    assert (denied.code, denied.error["code"]) == (3, "access.denied")
