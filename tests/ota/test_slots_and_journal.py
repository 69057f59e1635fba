"""On the disk: slots that are whole or not there, a pointer that is never half, a journal that knows its damage."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import pytest

from agent.ota import history, journal, sealed
from agent.ota.journal import Journal
from agent.ota.machine import Event, State
from agent.ota.slots import MANIFEST, SlotRecord, Slots, slot_name
from agent.paths import ModelPaths
from shared import durable
from shared.errors import SkerryError, StorageFailure, Untrusted
from shared.wire.down import Assignment
from tests.models import unpacked_digits

ASSIGNMENT = Assignment(
    device_id="pi-1",
    model="digits",
    version=2,
    counter=7,
    target="digits/2.bundle",
    bundle_sha256="ab" * 32,
    bundle_bytes=10,
    issued_s=1.0,
    expires_s=2.0,
)


@pytest.fixture
def paths(tmp_path: Path) -> ModelPaths:
    durable.make_dir(tmp_path / "digits")
    return ModelPaths(tmp_path / "digits")


def add(slots: Slots, version: int, *, proven: bool = True, counter: int | None = None) -> str:
    """A real version as the worker would unpack it."""
    slot = slot_name(version, hashlib.sha256(bytes([version])).hexdigest())
    folder = slots.unfinished(slot)
    unpacked_digits(folder, version)
    record = SlotRecord(
        slot=slot,
        model="digits",
        version=version,
        bundle_sha256=hashlib.sha256(bytes([version])).hexdigest(),
        bundle_bytes=1,
        counter=version if counter is None else counter,
        manifest_sha256=hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest(),
        proven=proven,
    )
    slots.admit(folder, record)
    return slot


def code_of(caught: pytest.ExceptionInfo[SkerryError]) -> str:
    return caught.value.code


def test_an_admitted_slot_is_whole_and_can_be_active(paths: ModelPaths) -> None:
    slots = Slots(paths)
    slot = add(slots, 1)
    assert slots.verify(slot).version == 1
    slots.activate(slot)
    assert slots.active() == slot
    assert paths.current.read_text() == f"{slot}\n"


def test_a_folder_without_a_record_is_no_slot_and_is_swept(paths: ModelPaths) -> None:
    slots = Slots(paths)
    slot = add(slots, 1)
    (paths.slots / f"{slot}.json").unlink()
    with pytest.raises(SkerryError) as caught:
        slots.activate(slot)
    assert code_of(caught) == "slot.missing"
    slots.sweep(frozenset())
    assert not list(paths.slots.iterdir())


@pytest.mark.parametrize("victim", ["extractor", "manifest", "record", "shorter", "gone"])
def test_a_damaged_slot_never_becomes_active(paths: ModelPaths, victim: str) -> None:
    slots = Slots(paths)
    good, bad = add(slots, 1), add(slots, 2)
    slots.activate(good)
    extractor = slots.directory(bad) / slots.manifest(bad).extractor.path
    target = {"manifest": slots.directory(bad) / MANIFEST, "record": paths.slots / f"{bad}.json"}.get(victim, extractor)
    data = target.read_bytes()
    if victim == "gone":
        target.unlink()
    else:
        target.write_bytes(data[:-1] if victim == "shorter" else data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(Untrusted) as caught:
        slots.activate(bad)
    assert code_of(caught) == "slot.damaged"
    assert slots.active() == good


def test_a_link_in_the_place_of_a_file_is_damage(paths: ModelPaths, tmp_path: Path) -> None:
    slots = Slots(paths)
    slot = add(slots, 1)
    extractor = slots.directory(slot) / slots.manifest(slot).extractor.path
    (tmp_path / "elsewhere").write_bytes(extractor.read_bytes())
    extractor.unlink()
    extractor.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Untrusted):
        slots.verify(slot)


def test_the_active_slot_is_never_removed(paths: ModelPaths) -> None:
    slots = Slots(paths)
    first, second, third = add(slots, 1), add(slots, 2), add(slots, 3)
    slots.activate(first)
    slots.sweep(frozenset({second}))
    assert {record.slot for record in slots.records()} == {first, second}
    with pytest.raises(StorageFailure):
        slots.remove(first)
    assert not slots.directory(third).exists()


def test_an_unreadable_pointer_removes_nothing(paths: ModelPaths) -> None:
    slots = Slots(paths)
    slot = add(slots, 1)
    paths.current.write_bytes(b"\xff\x00torn")
    assert slots.active() is None
    slots.sweep(frozenset())
    assert slots.verify(slot)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "v1-zz", "/etc", "v1-0123456789abcdef/..", "v1-0123456789abcdef\n"]
)
def test_a_hostile_slot_name_is_refused(paths: ModelPaths, name: str) -> None:
    with pytest.raises(SkerryError) as caught:
        Slots(paths).directory(name)
    assert code_of(caught) == "slot.name"


def test_admitting_twice_gives_the_same_slot(paths: ModelPaths) -> None:
    slots = Slots(paths)
    assert add(slots, 1) == add(slots, 1)
    assert len(slots.records()) == 1


def test_a_journal_is_what_was_written(paths: ModelPaths) -> None:
    written = Journal(model="digits").assigned(ASSIGNMENT, b"envelope", "v1-0123456789abcdef")
    journal.save(paths.journal, written)
    found = journal.load(paths.journal, "digits")
    assert found == written
    assert (found.at, found.floor, found.fallback) == (State.ASSIGNED, 7, "v1-0123456789abcdef")


def test_no_journal_is_a_fresh_one(paths: ModelPaths) -> None:
    assert journal.load(paths.journal, "digits").at is State.IDLE


@pytest.mark.parametrize("damage", ["torn", "flipped", "empty", "other model", "not json", "huge"])
def test_a_damaged_journal_means_roll_back(paths: ModelPaths, damage: str) -> None:
    journal.save(paths.journal, Journal(model="digits").assigned(ASSIGNMENT, b"", ""))
    data = paths.journal.read_bytes()
    position = data.index(b'"assigned"') + 2
    paths.journal.write_bytes(
        {
            "torn": data[: len(data) // 2],
            "flipped": data[:position] + b"x" + data[position + 1 :],
            "empty": b"",
            "not json": b"\xff" * 100,
            "huge": b" " * 100_000,
            "other model": data,
        }[damage]
    )
    model = "letters" if damage == "other model" else "digits"
    found = journal.load(paths.journal, model)
    assert (found.at, found.reason_code) == (State.ROLLING_BACK, "journal.damaged")


def test_a_state_from_the_future_means_roll_back_and_unknown_fields_are_ignored(paths: ModelPaths) -> None:
    class Newer(msgspec.Struct):
        model: str = "digits"
        state: str = "teleporting"
        floor: int = 9
        flux: int = 1

    sealed.save(paths.journal, Newer())
    found = journal.load(paths.journal, "digits")
    assert (found.at, found.floor) == (State.ROLLING_BACK, 9)


def test_attempts_restarts_and_steps_are_counted() -> None:
    start = Journal(model="digits").assigned(ASSIGNMENT, b"", "")
    waited = start.after(Event.INTERRUPTED, "hub.unreachable", "away").after(Event.INTERRUPTED)
    assert (waited.attempt, waited.steps, waited.reason_code) == (2, 3, "hub.unreachable")
    restarted = waited.after(Event.RESTARTED).after(Event.RESTARTED)
    assert restarted.restarts == 2
    assert restarted.after(Event.SUCCEEDED).restarts == 0


def test_a_new_assignment_starts_afresh_but_never_lowers_the_floor() -> None:
    before = Journal(model="digits", floor=100, attempt=3, reason_code="x", reason="y", slot="s")
    fresh = before.assigned(ASSIGNMENT, b"", "")
    assert (fresh.floor, fresh.attempt, fresh.reason_code, fresh.slot) == (100, 0, "", "")


def test_history_is_bounded_and_forgives_damage(tmp_path: Path) -> None:
    path = tmp_path / "history.json"
    for counter in range(60):
        entry = history.HistoryEntry(
            model="digits", version=1, bundle_sha256="", assignment_counter=counter, state="committed", event=""
        )
        history.append(path, entry)
        history.append(path, entry)
    assert [entry.assignment_counter for entry in history.entries(path)] == list(range(10, 60))
    path.write_bytes(b"torn")
    assert history.entries(path) == []
