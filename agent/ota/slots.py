"""The slots of one model and the pointer to the active one.

Rules:
- A slot is a folder `slots/<slot>` and a record `slots/<slot>.json` beside it. The record is written durably after all
  content is durable, and removed durably before the content is: a folder without a record is rubbish, never a version.
- The pointer `current` holds the name of the active slot and is replaced atomically. Only a slot that was just found
  whole becomes active, and the active slot is never removed.
- `proven` in the record says that the version was committed here; only a proven slot is somewhere to return to.
- Slots are named after version and content, so doing something twice gives the same slot.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from pathlib import Path
from typing import Any

import msgspec

from agent.ota import sealed
from agent.paths import ModelPaths
from shared import canonical, durable, limits
from shared.bundle.manifest import Manifest
from shared.errors import InvalidInput, NotFound, StorageFailure, TooLarge, Untrusted
from shared.wire.types import Count, ModelName, Sha256, Version

__all__ = ["MANIFEST", "SlotRecord", "Slots", "slot_name"]

MANIFEST = "manifest.json"
_SLOT = re.compile(r"^v[0-9]{1,10}-[0-9a-f]{16}\Z")
_UNFINISHED = ".unfinished-"
_BLOCK = 1024 * 1024


class SlotRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What makes a folder a version: which bundle it holds, and that it was whole. `counter` is the assignment's.

    proven: it was committed here. left: the device was then sent away from it, so it is a last resort only.
    """

    schema_version: int = 1
    slot: str
    model: ModelName
    version: Version
    bundle_sha256: Sha256
    bundle_bytes: Count
    counter: Count
    manifest_sha256: Sha256
    proven: bool = False
    left: bool = False


def slot_name(version: int, bundle_sha256: str) -> str:
    """The slot of a bundle."""
    return f"v{version}-{bundle_sha256[:16]}"


class Slots:
    """The slots of one model on disk."""

    def __init__(self, paths: ModelPaths) -> None:
        self._paths = paths

    def directory(self, slot: str) -> Path:
        """The folder of a slot; a hostile name is refused (`slot.name`)."""
        if not _SLOT.match(slot):
            raise InvalidInput("slot.name", f"{slot!r:.80} is not the name of a slot.")
        return self._paths.slots / slot

    def unfinished(self, slot: str) -> Path:
        """The folder in which a slot is unpacked before it has its name; emptied of what an earlier try left."""
        self.directory(slot)
        durable.make_dir(self._paths.slots)
        path = self._paths.slots / f"{_UNFINISHED}{slot}"
        _remove_tree(path)
        return path

    def admit(self, unfinished: Path, record: SlotRecord) -> None:
        """Give a completely written folder its name, then its record; from then on it is a version."""
        target = self.directory(record.slot)
        durable.remove(self._record_path(record.slot))
        _remove_tree(target)
        durable.rename(unfinished, target)
        sealed.save(self._record_path(record.slot), record)

    def record(self, slot: str) -> SlotRecord:
        """The record of a slot; errors `slot.missing`, `slot.damaged`."""
        try:
            record = sealed.load(self._record_path(slot), SlotRecord, limit=limits.MAX_JOURNAL_BYTES)
        except NotFound as error:
            raise NotFound("slot.missing", f"There is no slot {slot}.") from error
        except (StorageFailure, TooLarge) as error:
            raise Untrusted("slot.damaged", f"The record of slot {slot} cannot be read: {error.message}") from error
        if record.slot != slot:
            raise Untrusted("slot.damaged", f"The record of slot {slot} is of {record.slot}.")
        return record

    def records(self) -> list[SlotRecord]:
        """All readable records, the highest assignment counter first."""
        found = []
        for path in self._entries():
            if path.suffix == ".json" and _SLOT.match(path.stem):
                try:
                    found.append(self.record(path.stem))
                except (NotFound, Untrusted):
                    continue  # A slot that cannot be read is not one; whoever needs this very slot asks `verify`.
        return sorted(found, key=lambda record: record.counter, reverse=True)

    def may_be_proven(self) -> bool:
        """Whether some slot is proven, or one's record cannot be read now, so that nobody can say that none is."""
        for path in self._entries():
            if path.suffix == ".json" and _SLOT.match(path.stem):
                try:
                    if self.record(path.stem).proven:
                        return True
                except Untrusted:
                    return True
                except NotFound:
                    continue
        return False

    def verify(self, slot: str) -> SlotRecord:
        """The record of a slot after every file was read and its digest compared; `slot.missing`, `slot.damaged`."""
        record = self.record(slot)
        manifest = self._manifest(record)
        for entry in manifest.files:
            path = self.directory(slot) / entry.path
            if _digest(path, entry.bytes) != entry.sha256:
                raise Untrusted("slot.damaged", f"{entry.path} in slot {slot} is not what was installed.")
        return record

    def manifest(self, slot: str) -> Manifest:
        """The manifest of a slot, checked against the record; errors as of `verify`."""
        return self._manifest(self.record(slot))

    def active(self) -> str | None:
        """The slot that the pointer names; None when there is no pointer or it is unreadable."""
        try:
            text = durable.read_file(self._paths.current, limit=256).decode("ascii").strip()
        except (NotFound, StorageFailure, TooLarge, UnicodeDecodeError):
            return None
        return text if _SLOT.match(text) else None

    def activate(self, slot: str) -> None:
        """Point at `slot` after it was found whole; errors as of `verify`, `storage.write`."""
        self.verify(slot)
        if self.active() != slot:
            durable.write_file(self._paths.current, f"{slot}\n".encode("ascii"))

    def deactivate(self) -> None:
        """Point at nothing."""
        if self._paths.current.exists():
            durable.remove(self._paths.current)

    def prove(self, slot: str, counter: int) -> None:
        """Mark a slot as committed here under assignment `counter`."""
        record = self.record(slot)
        self._change(record, proven=True, left=False, counter=max(record.counter, counter))

    def leave(self, slot: str) -> None:
        """Mark a slot as one that a person or its own failure sent the device away from; a missing one is fine."""
        try:
            self._change(self.record(slot), left=True)
        except (NotFound, Untrusted):
            return  # What is no slot cannot be returned to.

    def _change(self, record: SlotRecord, **changes: Any) -> None:
        changed = msgspec.structs.replace(record, **changes)
        if changed != record:
            sealed.save(self._record_path(record.slot), changed)

    def remove(self, slot: str) -> None:
        """Remove a slot, its record first; the active one is refused (`slot.active`)."""
        if slot == self.active():
            raise StorageFailure("slot.active", f"Slot {slot} is active and is not removed.")
        durable.remove(self._record_path(slot))
        _remove_tree(self.directory(slot))

    def sweep(self, keep: frozenset[str]) -> None:
        """Remove every slot that is neither in `keep` nor active, and whatever was left unfinished.

        An unreadable pointer may name any slot, so then nothing is removed.
        """
        active = self.active()
        if active is None and self._paths.current.exists():
            return
        for path in self._entries():
            slot = path.stem if path.suffix == ".json" else path.name
            if not _SLOT.match(slot):
                _remove_tree(path)
            elif slot != active and slot not in keep:
                self.remove(slot)

    def _entries(self) -> list[Path]:
        return sorted(self._paths.slots.iterdir()) if self._paths.slots.is_dir() else []

    def _record_path(self, slot: str) -> Path:
        return self.directory(slot).with_name(f"{slot}.json")

    def _manifest(self, record: SlotRecord) -> Manifest:
        try:
            data = durable.read_file(self.directory(record.slot) / MANIFEST, limit=limits.MAX_MANIFEST_BYTES)
        except (NotFound, TooLarge, StorageFailure) as error:
            raise Untrusted("slot.damaged", f"The manifest of slot {record.slot} cannot be read.") from error
        if hashlib.sha256(data).hexdigest() != record.manifest_sha256:
            raise Untrusted("slot.damaged", f"The manifest of slot {record.slot} is not what was installed.")
        return canonical.loads_as(data, Manifest, limit=limits.MAX_MANIFEST_BYTES, what="manifest")


def _digest(path: Path, expected_bytes: int) -> str:
    """SHA-256 of a regular file of exactly that many bytes; anything else is `slot.damaged`."""
    digest, seen = hashlib.sha256(), 0
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(fd, "rb", buffering=0) as file:
            while block := file.read(_BLOCK):
                digest.update(block)
                seen += len(block)
                if seen > expected_bytes:
                    break
    except OSError as error:
        raise Untrusted("slot.damaged", f"{path.name} cannot be read: {error.strerror or error}.") from error
    if seen != expected_bytes:
        raise Untrusted("slot.damaged", f"{path.name} has {seen} bytes instead of {expected_bytes}.")
    return digest.hexdigest()


def _remove_tree(path: Path) -> None:
    """Remove a file or a folder with all that is in it, durably; a missing one is fine."""
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.is_symlink() or path.exists():
            path.unlink()
        else:
            return
        durable.fsync_dir(path.parent)
    except OSError as error:
        raise StorageFailure("storage.remove", f"Cannot remove {path.name}: {error.strerror or error}.") from error
