"""An approval that was taken back: by the reviewers' threshold only, for good, and the device's own client obeys."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.ota.release import decide
from agent.ota.update_client import UpdateClient
from hub.store.registry import Status
from shared.clock import SystemClock
from shared.errors import NotFound, SkerryError
from tests.fleet_kit import FleetKit
from tests.trust.desk import Desk, open_desk
from tests.trust_kit import KitVersion, TrustKit


class Device:
    """The agent's own client and decision, over the kit's repository."""

    def __init__(self, kit: TrustKit, folder: Path) -> None:
        self.kit = kit
        self.instead: dict[str, bytes] = {}
        self._folder = folder
        self._root = kit.root
        self._bundle = kit.registry.gated["digits", 2]
        self._counter = 0

    def get(self, path: str, limit: int) -> bytes:
        try:
            return self.instead.get(path) or self.kit.fetch(f"/v1/tuf/{path}")
        except NotFound as error:
            raise NotFound("hub.not_found", path) from error

    def refuses(self, bundle: KitVersion | None = None) -> str:
        """Why it refuses a new assignment of version 2; empty: it would install it."""
        self._counter += 1
        client = UpdateClient(self._folder, self, SystemClock(), bootstrap=self._root)
        envelope = self.kit.assignment("pi-1", "digits", 2, counter=self._counter, bundle=bundle or self._bundle)
        try:
            checked = decide(client, envelope, "pi-1", {})
        except SkerryError as error:
            return error.code
        return checked.refusal.code if checked.refusal is not None else ""


@pytest.fixture
def approved(kit: TrustKit) -> TrustKit:
    """Versions 1 and 2 are approved."""
    kit.create_model("digits")
    kit.approve("digits", 1, b"one")
    kit.approve("digits", 2, b"two")
    return kit


def test_the_device_refuses_a_version_whose_approval_was_taken_back(approved: TrustKit, tmp_path: Path) -> None:
    device = Device(approved, tmp_path / "tuf")
    assert device.refuses() == ""
    assert approved.revoke("digits", 2).published
    assert device.refuses() == "release.not_approved"
    assert approved.registry.revoked == [("digits", 2)]
    assert not approved.repository.is_approved("digits", 2)
    assert approved.repository.is_approved("digits", 1)


def test_one_reviewer_alone_takes_nothing_back(approved: TrustKit, tmp_path: Path) -> None:
    device = Device(approved, tmp_path / "tuf")
    staged = approved.revoke("digits", 2, signatures=1)
    assert (staged.published, staged.missing) == (False, 1)
    assert staged.context["revokes"] is True
    assert (staged.context["model"], staged.context["version"]) == ("digits", 2)
    assert device.refuses() == ""
    assert approved.sign(staged, approved.reviewers["digits"][2]).published
    assert device.refuses() == "release.not_approved"


def test_a_hub_that_shows_the_old_release_again_is_caught(approved: TrustKit, tmp_path: Path) -> None:
    device = Device(approved, tmp_path / "tuf")
    old = {name: approved.repository.published(name) for name in ("timestamp.json", "2.model-digits.json")}
    assert approved.revoke("digits", 2).published
    assert device.refuses() == "release.not_approved"
    device.instead = old
    assert device.refuses() == "trust.rollback"
    device.instead = {"3.model-digits.json": old["2.model-digits.json"]}
    (tmp_path / "tuf" / "model-digits.json").unlink()
    assert device.refuses().rpartition(".")[2] in ("mismatch", "rollback")


def test_what_was_taken_back_is_not_put_before_the_reviewers_again(approved: TrustKit) -> None:
    approved.revoke("digits", 2)
    with pytest.raises(SkerryError) as caught:
        approved.stage("digits", 2)
    assert caught.value.code == "release.not_gated"


# --- the registry -----------------------------------------------------------------------------------------------------
@pytest.fixture
def fleet(tmp_path: Path, database_url: str) -> Iterator[FleetKit]:
    made = FleetKit(tmp_path, database_url)
    yield made
    made.close()


def test_devices_that_do_not_serve_a_revoked_version_lose_the_assignment(fleet: FleetKit) -> None:
    fleet.release("digits", 1)
    for device in ("pi-1", "pi-2"):
        fleet.add_device(device)
    fleet.deployments.create("digits", 1, "all", "", "olga")
    fleet.report("pi-1", version=1, state="committed", counter=1)
    fleet.report("pi-2", version=None, state="downloading", counter=1)
    with fleet.db.write() as connection:
        fleet.guard.mark_revoked(connection, "digits", 1, "rita")
    assert fleet.versions.get("digits", 1).status is Status.WITHDRAWN
    assert fleet.assigned("pi-1") is not None, "what serves goes on serving"
    assert fleet.assigned("pi-2") is None
    assert fleet.desired.desired_state("pi-2").assignments == []


# --- the command ------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with open_desk(tmp_path_factory.mktemp("desk")) as made:
        made.approve(1, "alice", "bob")
        yield made


def test_two_reviewers_take_an_approval_back_and_see_what_they_sign(desk: Desk) -> None:
    words = ("versions", "revoke", "digits", "1", "--reason", "wrong labels", "--yes", "--key")
    stranger = desk.skerry(*words, desk.key("anna"), "--json")
    assert stranger.error["code"] == "trust.unknown_key"
    digest = desk.skerry.json("versions", "show", "digits", "1")["bundle_sha256"]
    first = desk.skerry(*words, desk.key("alice"))
    assert first.code == 0, first.err
    assert "`skerry versions revoke digits 1 --key NAME.key`" in first.out
    assert desk.skerry.json("versions", "show", "digits", "1")["status"] == "approved"
    second = desk.skerry(*words, desk.key("carol"))
    assert second.code == 0, second.err
    assert digest in second.err
    assert "wrong labels" in second.err
    assert "1 of 2 so far" in second.err
    assert "published" in second.out
    assert desk.skerry.json("versions", "show", "digits", "1")["status"] == "withdrawn"
    assert desk.skerry("deploy", "digits", "1", "--all", "--json").code == 5
    again = desk.skerry(*words, desk.key("bob"), "--json")
    assert again.error["code"] == "release.not_approved"
    entries = desk.skerry.json("audit", "list")
    assert "version.revoke" in str(entries)
