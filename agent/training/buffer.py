"""The sample buffer: labelled raw inputs that a device keeps to train on, encrypted, bounded, safe from power cuts.

Rules: one file, to which records are added and which is written anew beside the old one when it is full, damaged, or
holds what should be gone (a day after it expired at the latest); the file is never larger than `max_bytes`, so half of
that is for samples; damage is dropped and counted and keeps nothing from going on; after an erasure nothing that was
kept before can be read, and nothing that was on its way is kept. Callers hold no lock: each call takes the folder's.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from agent.lock import exclusive
from agent.telemetry.process import disk_bytes
from agent.training.ageing import aged, stamp_s
from agent.training.contents import Added, Change, Contents, class_key, encode_record, read_contents
from agent.training.epoch import EPOCH, read_epoch
from agent.training.records import OVERHEAD_BYTES, head, seal
from agent.training.reservoir import ClassKey, Reservoir
from agent.training.sample_key import SampleKey, destroy_key, load_key, make_key
from agent.training.samples import MAX_CLASSES_COUNT, Kept, Sample
from agent.training.settings import SampleSettings
from shared import durable
from shared.clock import Clock
from shared.errors import StorageFailure

__all__ = ["ClassCount", "SampleBuffer"]

_DAY_S = 86400.0


@dataclass(frozen=True, slots=True)
class ClassCount:
    """One class of one model. oldest_s, newest_s: seconds since 1970; 0 while no clock could be believed."""

    model: str
    space: str
    label: int
    samples: int
    seen: int
    bytes: int
    oldest_s: float
    newest_s: float


class _Open:
    """The buffer, read and bounded, for the length of one call."""

    def __init__(self, contents: Contents, key: SampleKey | None, reservoir: Reservoir, retention_s: float) -> None:
        self.contents = contents
        self.key = key
        self.reservoir = reservoir
        self.retention_s = retention_s
        self.removed: list[int] = []
        self.stamped: set[int] = set()
        self.added: dict[int, bytes] = {}

    def remove(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            if self.added.pop(number, None) is None:
                self.removed.append(number)
            self.contents.stored.pop(number, None)

    def tend(self, now_s: float) -> None:
        """Let the old go."""
        times = {number: stored.at_s for number, stored in self.contents.stored.items()}
        old, self.stamped = aged(times, now_s, self.retention_s)
        self.reservoir.expire(old)
        self.remove(sorted(old))
        for number in self.stamped:
            self.contents.stored[number].at_s = now_s

    def live(self) -> Iterator[bytes]:
        """The records that stay, as they stand in the file, then the new ones."""
        for stored in self.contents.stored.values():
            yield self.contents.data[stored.start : stored.end]
        yield from self.added.values()


class SampleBuffer:
    """The buffer in `folder`. `randrange(n)` gives a whole number in [0, n), uniformly."""

    def __init__(
        self,
        folder: Path,
        settings: SampleSettings,
        clock: Clock,
        randrange: Callable[[int], int] = secrets.randbelow,
    ) -> None:
        self._folder = folder
        self._file = folder / "samples"
        self._key_file = folder / "key"
        self._settings = settings
        self._clock = clock
        self._randrange = randrange

    def add(
        self, samples: Sequence[Sample], *, epoch: str = "", dropped: int = 0, min_free_bytes: int = 0
    ) -> Kept | None:
        """Offer samples, durably; without any, only let the old go. None: they are older than the last erasure.

        Errors `samples.disk_full`, `storage.*`: nothing of this was kept, and what was kept before is as it was.
        """
        durable.make_dir(self._folder)
        with exclusive(self._folder):
            if read_epoch(self._folder) != epoch:
                return None
            opened = self._opened()
            now_s = self._clock.now()
            before = dict(opened.reservoir.seen)
            opened.tend(now_s)
            self._check_room(samples, min_free_bytes)
            opened.contents.dropped += dropped
            if samples:
                opened.key = opened.key or self._new_key(opened.contents)
                self._offer(opened, opened.key, samples, stamp_s(now_s))
            changed = {name for name, count in opened.reservoir.seen.items() if before.get(name) != count}
            self._write(opened, changed, thorough=not samples)
            return self._kept(opened)

    def read(self, model: str, space: str) -> list[Sample]:
        """The samples of a model whose class numbers mean this; none when nothing is kept. Errors `storage.*`."""
        with self._reading() as opened:
            if opened is None or opened.key is None:
                return []
            found = opened.contents.samples(opened.key)
            return [sample for stored, sample in found if stored.key[:2] == (model, space)]

    def counts(self) -> tuple[list[ClassCount], Kept]:
        """What is kept, by class, and in all; errors `storage.*`."""
        with self._reading() as opened:
            if opened is None:
                return [], Kept()
            return [_count(opened, key) for key, _ in opened.reservoir.counts()], self._kept(opened)

    def erase(self) -> None:
        """Destroy everything: what was kept cannot be read again by anybody. Errors `samples.erase`, `storage.*`."""
        durable.make_dir(self._folder)
        with exclusive(self._folder):
            durable.write_file(self._folder / EPOCH, secrets.token_hex(8).encode())
            destroy_key(self._key_file)
            durable.sweep(self._folder)
            durable.remove(self._file)

    @contextmanager
    def _reading(self) -> Iterator[_Open | None]:
        if not self._folder.is_dir():
            yield None
            return
        with exclusive(self._folder):
            opened = self._opened()
            opened.tend(self._clock.now())
            yield opened

    def _opened(self) -> _Open:
        settings = self._settings
        key = load_key(self._key_file)
        contents = read_contents(self._file, key)
        reservoir = Reservoir(
            per_class_count=settings.per_class_count,
            max_count=settings.max_count,
            max_bytes=settings.max_bytes // 2,
            randrange=self._randrange,
        )
        reservoir.seen = dict(contents.seen)
        for number, stored in contents.stored.items():
            reservoir.load(stored.key, number, stored.end - stored.start)
        opened = _Open(contents, key, reservoir, settings.retention_days * _DAY_S)
        opened.remove(reservoir.fit())
        return opened

    def _new_key(self, contents: Contents) -> SampleKey:
        """A key where there is none; the file is then written anew, whatever it holds."""
        durable.sweep(self._folder)
        contents.damaged = True
        return make_key(self._key_file)

    def _check_room(self, samples: Sequence[Sample], min_free_bytes: int) -> None:
        need = sum(len(sample.data) + OVERHEAD_BYTES for sample in samples)
        free, total = disk_bytes(self._folder)
        if samples and total and free < min_free_bytes + need:
            raise StorageFailure(
                "samples.disk_full",
                f"Samples are not kept: {free} bytes are free on the disk, and {min_free_bytes} must stay so.",
                hint="Free some space, or choose another profile.",
                retriable=True,
            )

    def _offer(self, opened: _Open, key: SampleKey, samples: Sequence[Sample], at_s: float) -> None:
        contents = opened.contents
        for sample in samples:
            number = contents.next_number
            content = encode_record(Added(number, at_s, sample))
            kept, gone = opened.reservoir.offer(class_key(sample), number, len(content) + OVERHEAD_BYTES)
            opened.remove(gone)
            if kept:
                contents.next_number += 1
                opened.added[number] = seal(key.secret, key.id, content)

    def _write(self, opened: _Open, changed: set[ClassKey], *, thorough: bool) -> None:
        contents, key = opened.contents, opened.key
        if key is None:
            if contents.damaged:
                durable.remove(self._file)  # nobody can read it any more
            return
        stale = contents.read_count > len(contents.stored)
        news = b"".join(opened.added.values()) + self._change(opened, key, changed)
        full = len(contents.data) + len(news) > self._settings.max_bytes
        if contents.damaged or not contents.data or full or (thorough and stale):
            self._write_anew(opened, key)
        elif not thorough or opened.stamped:
            durable.append(self._file, news)
            contents.data += news

    def _write_anew(self, opened: _Open, key: SampleKey) -> None:
        durable.sweep(self._folder)
        change = self._change(opened, key, set(opened.reservoir.seen), whole=True)
        data = b"".join((head(key.id), *opened.live(), change))
        durable.write_file(self._file, data)
        opened.contents.data = data

    def _change(self, opened: _Open, key: SampleKey, names: set[ClassKey], *, whole: bool = False) -> bytes:
        """The record that says what is new; for a file that is written anew, all that its samples do not say."""
        contents, seen = opened.contents, opened.reservoir.seen
        change = Change(
            next_number=contents.next_number,
            removed=[] if whole else opened.removed,
            stamped={
                number: stored.at_s
                for number, stored in contents.stored.items()
                if (stored.at_s != stored.said_s if whole else number in opened.stamped)
            },
            seen=[(*name, seen[name]) for name in sorted(names)],
            lost=contents.lost,
            dropped=contents.dropped,
        )
        return seal(key.secret, key.id, encode_record(change))

    def _kept(self, opened: _Open) -> Kept:
        return Kept(
            samples=len(opened.reservoir),
            bytes=opened.reservoir.bytes,
            file_bytes=len(opened.contents.data),
            lost=opened.contents.lost,
            dropped=opened.contents.dropped,
            classes=[
                (*key, count, max(count, opened.reservoir.seen.get(key, 0)))
                for key, count in islice(opened.reservoir.counts(), MAX_CLASSES_COUNT)
            ],
        )


def _count(opened: _Open, key: ClassKey) -> ClassCount:
    mine = [stored for stored in opened.contents.stored.values() if stored.key == key]
    times = [stored.at_s for stored in mine if stored.at_s] or [0.0]
    return ClassCount(
        model=key[0],
        space=key[1],
        label=key[2],
        samples=len(mine),
        seen=opened.reservoir.seen.get(key, 0),
        bytes=sum(stored.end - stored.start for stored in mine),
        oldest_s=min(times),
        newest_s=max(times),
    )
