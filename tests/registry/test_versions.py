"""Registering: the whole bundle holds or nothing is kept; a version never changes."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from hub.registry.models import ModelChange
from hub.store.page import PageRequest
from hub.store.registry import TRANSITIONS, Status
from shared.bundle.manifest import Lineage
from shared.errors import Conflict, InvalidInput, NotFound, SkerryError
from tests.fleet_kit import FleetKit, tiny_bundle


def files(kit: FleetKit) -> list[str]:
    return sorted(path.name for path in (kit.folder / "blobs").rglob("*") if path.is_file())


def code_of(function: Any, *arguments: Any) -> str:
    with pytest.raises(SkerryError) as caught:
        function(*arguments)
    return caught.value.code


def test_a_registered_version_says_what_its_bundle_says(kit: FleetKit) -> None:
    entry = kit.register("digits", 3, card=b"# Card", lineage=Lineage(parent_version=2, code_revision="abc"))
    row = entry.version
    assert entry.created
    assert (row.model, row.version, row.status) == ("digits", 3, Status.REGISTERED)
    assert (row.card, row.parent_version, row.created_by) == ("# Card", 2, "dana")
    assert '"code_revision":"abc"' in row.manifest
    assert files(kit) == [row.bundle_sha256]


def test_the_same_bytes_again_are_the_same_answer(kit: FleetKit) -> None:
    first = kit.register("digits", 1)
    again = kit.register("digits", 1)
    assert again.version == first.version
    assert not again.created
    assert len(kit.versions.page("digits", PageRequest(limit=10))) == 1


def test_other_bytes_under_a_used_number_are_refused_and_not_kept(kit: FleetKit) -> None:
    first = kit.register("digits", 1)
    with pytest.raises(Conflict) as caught:
        kit.register("digits", 1, extractor=b"something else")
    assert caught.value.code == "version.exists"
    assert files(kit) == [first.version.bundle_sha256]
    assert kit.versions.get("digits", 1) == first.version


@pytest.mark.parametrize("role", ["reference", "calibration"])
def test_a_bundle_whose_reference_devices_could_not_read_is_refused(kit: FleetKit, tmp_path: Path, role: str) -> None:
    kit.models.create("digits", ModelChange(), "dana")
    named: dict[str, Any] = {role: "golden/inputs.npy"}
    tiny_bundle(tmp_path / "x.bundle", 1, "digits", **named)
    assert code_of(kit.upload, tmp_path / "x.bundle") == "reference.malformed"
    assert files(kit) == []


def test_a_bundle_for_another_model_is_refused(kit: FleetKit, tmp_path: Path) -> None:
    kit.models.create("digits", ModelChange(), "dana")
    tiny_bundle(tmp_path / "x.bundle", 1, "faces")
    assert code_of(kit.upload, tmp_path / "x.bundle") == "version.wrong_model"
    assert files(kit) == []


def test_a_bundle_for_a_model_that_nobody_made_is_refused(kit: FleetKit, tmp_path: Path) -> None:
    tiny_bundle(tmp_path / "x.bundle", 1)
    with pytest.raises(NotFound) as caught:
        kit.upload(tmp_path / "x.bundle")
    assert caught.value.code == "model.unknown"


@pytest.mark.parametrize("damage", ["flip", "cut", "more", "empty", "noise"])
def test_a_damaged_bundle_is_refused_and_leaves_nothing(kit: FleetKit, tmp_path: Path, damage: str) -> None:
    kit.models.create("digits", ModelChange(), "dana")
    path = tmp_path / "x.bundle"
    tiny_bundle(path, 1)
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[data.index(b"not a model")] ^= 1
    damaged = {"cut": data[:-600], "more": data + b"x", "empty": bytearray(), "noise": bytearray(4096)}
    path.write_bytes(damaged.get(damage, data))
    with pytest.raises(SkerryError) as caught:
        kit.upload(path)
    assert caught.value.code.startswith("bundle.")
    assert files(kit) == []


def test_preprocessing_that_cannot_run_is_refused_at_once(kit: FleetKit) -> None:
    with pytest.raises(InvalidInput) as caught:
        kit.register("digits", 1, preprocessing=[{"op": "explode"}])
    assert caught.value.code.startswith("preprocess.")


def test_a_card_that_is_not_text_is_refused(kit: FleetKit) -> None:
    with pytest.raises(InvalidInput):
        kit.register("digits", 1, card=b"\xff\xfe")
    with pytest.raises(InvalidInput):
        kit.register("digits", 2, card=b"a\0b")


def test_many_who_register_the_same_bytes_at_once_all_succeed(kit: FleetKit, tmp_path: Path) -> None:
    kit.models.create("digits", ModelChange(), "dana")
    tiny_bundle(tmp_path / "x.bundle", 1)
    created: list[bool] = []
    failures: list[BaseException] = []

    def register() -> None:
        try:
            created.append(kit.upload(tmp_path / "x.bundle").created)
        except BaseException as error:  # noqa: BLE001 - shown by the assertion below
            failures.append(error)

    threads = [threading.Thread(target=register) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert sorted(created) == [False] * 5 + [True]


def test_only_legal_steps_of_status_are_taken(kit: FleetKit) -> None:
    paths = {
        Status.REGISTERED: (),
        Status.GATED: (Status.GATED,),
        Status.REJECTED: (Status.REJECTED,),
        Status.APPROVED: (Status.GATED, Status.APPROVED),
        Status.WITHDRAWN: (Status.WITHDRAWN,),
    }
    version = 0
    for start, path in paths.items():
        for to in Status:
            version += 1
            kit.register("digits", version)
            kit.set_status("digits", version, *path)
            if (start, to) in TRANSITIONS or start == to:
                kit.set_status("digits", version, to)
                assert kit.versions.get("digits", version).status == to
            else:
                with pytest.raises(Conflict) as caught:
                    kit.set_status("digits", version, to)
                assert caught.value.code == "version.transition"


def test_nothing_leads_back_from_withdrawn_and_only_the_gate_leads_to_approved() -> None:
    assert not [pair for pair in TRANSITIONS if pair[0] is Status.WITHDRAWN]
    assert {start for start, to in TRANSITIONS if to is Status.APPROVED} == {Status.GATED}


def test_only_a_gated_version_can_be_released(kit: FleetKit) -> None:
    kit.register("digits", 1)
    assert code_of(kit.guard.require_gated, "digits", 1) == "release.not_gated"
    kit.set_status("digits", 1, Status.REJECTED)
    assert code_of(kit.guard.require_gated, "digits", 1) == "release.not_gated"
    kit.set_status("digits", 1, Status.GATED)
    row = kit.guard.require_gated("digits", 1)
    assert row.bundle_sha256 == kit.versions.get("digits", 1).bundle_sha256


def test_signatures_cannot_approve_what_failed_its_gate_meanwhile(kit: FleetKit) -> None:
    kit.register("digits", 1)
    kit.set_status("digits", 1, Status.GATED, Status.REJECTED)
    with pytest.raises(Conflict) as caught, kit.db.write() as connection:
        kit.guard.mark_approved(connection, "digits", 1, "rita")
    assert caught.value.code == "version.transition"


def test_a_version_that_an_alias_names_cannot_be_withdrawn(kit: FleetKit) -> None:
    kit.release("digits", 1)
    kit.aliases.move("digits", "production", 1, "", "olga")
    assert code_of(kit.versions.withdraw, "digits", 1, "bad", "olga") == "version.in_use"
    kit.aliases.move("digits", "production", None, "", "olga")
    assert kit.versions.withdraw("digits", 1, "bad", "olga").status is Status.WITHDRAWN


def test_withdrawing_takes_a_version_back_from_devices_that_do_not_serve_it_yet(kit: FleetKit) -> None:
    kit.release("digits", 1)
    for device in ("pi-1", "pi-2"):
        kit.add_device(device)
    kit.deployments.create("digits", 1, "all", "", "olga")
    kit.report("pi-1", version=1, state="committed", counter=1)
    kit.versions.withdraw("digits", 1, "bad", "olga")
    assert kit.assigned("pi-1") is not None
    assert kit.assigned("pi-2") is None
    assert kit.device("pi-2")["desired_revision"] == 2


def test_comparing_names_every_difference(kit: FleetKit) -> None:
    kit.register("digits", 1, extractor=b"a" * 100, lineage=Lineage(code_revision="one"))
    two = Lineage(code_revision="two")
    kit.register("digits", 2, extractor=b"b" * 900, card=b"# Two", lineage=two, task="regression")
    found = kit.versions.compare("digits", 1, 2)
    assert found.bytes_difference > 0
    assert {(c.path, c.change) for c in found.files} == {("model.tflite", "changed"), ("card.md", "added")}
    assert found.files_unchanged == 2
    assert [(c.field, c.a, c.b) for c in found.lineage] == [("code_revision", "one", "two")]
    assert ("task", "classification", "regression") in [(c.field, c.a, c.b) for c in found.manifest]
    assert found.metrics == []
    assert not found.same_dataset


def test_lineage_follows_the_parents_and_ends_in_a_circle(kit: FleetKit) -> None:
    kit.register("digits", 2, lineage=Lineage(parent_version=1))
    kit.register("digits", 3, lineage=Lineage(parent_version=2))
    kit.register("digits", 4, lineage=Lineage(parent_version=2))
    found = kit.versions.lineage("digits", 3)
    assert [(a.version, a.registered) for a in found.ancestors] == [(2, True), (1, False)]
    assert found.complete
    assert kit.versions.lineage("digits", 2).children == [3, 4]
    kit.register("loop", 1, lineage=Lineage(parent_version=2))
    kit.register("loop", 2, lineage=Lineage(parent_version=1))
    assert not kit.versions.lineage("loop", 1).complete
