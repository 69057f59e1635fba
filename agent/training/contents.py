"""What the sample file says: the samples that stay, where each stands in the file, and what was counted.

Rules: reading never fails for damage, which is counted, and never changes the file; records count in their order, so a
record that is missing costs what it said and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import msgspec

from agent.training.records import scan
from agent.training.reservoir import ClassKey
from agent.training.sample_key import SampleKey
from agent.training.samples import Sample
from shared import durable, limits
from shared.errors import NotFound, TooLarge

__all__ = ["Added", "Change", "Contents", "Stored", "class_key", "encode_record", "read_contents"]


class Added(msgspec.Struct, frozen=True, tag="a", array_like=True):
    """A sample came. at_s: when, in seconds since 1970; 0 while the clock could not be believed."""

    number: int
    at_s: float
    sample: Sample


class Change(msgspec.Struct, frozen=True, tag="c", array_like=True):
    """What else is new: who went, who got another time, and the counts of some classes and of all."""

    next_number: int
    removed: list[int]
    stamped: dict[int, float]
    seen: list[tuple[str, str, int, int]]
    lost: int
    dropped: int


Record: TypeAlias = Added | Change
_ENCODER = msgspec.msgpack.Encoder()
_DECODER: msgspec.msgpack.Decoder[Record] = msgspec.msgpack.Decoder(Added | Change)


class Stored:
    """A sample that stays: its class, its time (`said_s`: in its own record), and that record's place in the file."""

    __slots__ = ("at_s", "end", "key", "said_s", "start")

    def __init__(self, key: ClassKey, at_s: float, start: int, end: int) -> None:
        self.key = key
        self.at_s = self.said_s = at_s
        self.start = start
        self.end = end


class Contents:
    """`data`: the file as it was read. `damaged`: it should be written anew. `read_count`: samples in it,
    those included that went."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = data
        self.damaged = False
        self.stored: dict[int, Stored] = {}
        self.seen: dict[ClassKey, int] = {}
        self.next_number = 1
        self.read_count = 0
        self.lost = 0
        self.dropped = 0

    def apply(self, record: Record, start: int, end: int) -> None:
        """The next record."""
        if isinstance(record, Added):
            self.stored[record.number] = Stored(class_key(record.sample), record.at_s, start, end)
            self.next_number = max(self.next_number, record.number + 1)
            self.read_count += 1
            return
        for number in record.removed:
            self.stored.pop(number, None)
        for number, at_s in record.stamped.items():
            if number in self.stored:
                self.stored[number].at_s = at_s
        self.seen |= {(model, space, label): count for model, space, label, count in record.seen}
        self.next_number = max(self.next_number, record.next_number)
        self.lost, self.dropped = record.lost, record.dropped

    def samples(self, key: SampleKey) -> Iterator[tuple[Stored, Sample]]:
        """Those that stay, decrypted again."""
        for found in scan(self.data, key.secret, key.id):
            record = None if found is None else _decode(found.content)
            if found is None or not isinstance(record, Added):
                continue
            stored = self.stored.get(record.number)
            if stored is not None and stored.start == found.start:
                yield stored, record.sample


def class_key(sample: Sample) -> ClassKey:
    """The class that a sample belongs to."""
    return sample.model, sample.space, sample.label


def encode_record(record: Record) -> bytes:
    """The content of a record, not encrypted."""
    return _ENCODER.encode(record)


def _decode(content: bytes) -> Record | None:
    try:
        return _DECODER.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def read_contents(file: Path, key: SampleKey | None) -> Contents:
    """The file, empty when there is none; error `storage.read` when the disk does not give it."""
    try:
        data = durable.read_file(file, limit=2 * limits.MAX_SAMPLE_FILE_BYTES)
    except NotFound:
        return Contents()
    except TooLarge:
        data = b""
    contents = Contents(data if key is not None else b"")
    damage = 0
    for found in () if key is None else scan(data, key.secret, key.id):
        record = None if found is None else _decode(found.content)
        if found is None or record is None:
            damage += 1
        else:
            contents.apply(record, found.start, found.end)
    if key is None or not data:
        damage = 1  # nobody can read it any more
    contents.lost += damage
    contents.damaged = damage > 0
    return contents
