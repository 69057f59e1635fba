"""The sample buffer under cuts: what it said to have kept is there, nothing else is, and what was erased is gone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from random import Random

from agent.training.buffer import SampleBuffer
from agent.training.epoch import read_epoch
from agent.training.samples import Sample
from agent.training.settings import SampleSettings
from shared import durable
from shared.errors import SkerryError
from tests.faults.facts import Facts
from tests.faults.life import Broken
from tests.faults.marks import mark

__all__ = ["SamplesScenario"]

_SPACE = "0" * 16
_SETTINGS = SampleSettings(max_bytes=64 * 1024, per_class_count=12)
_BATCH = 5
_SIZE = 1200
_AFTER = 1000
_BEGAN_S = 1.8e9
_MONTH_S = 31 * 86400.0


class _Clock:
    """Time by hand."""

    def __init__(self, at_s: float) -> None:
        self.at_s = at_s

    def now(self) -> float:
        return self.at_s

    def monotonic(self) -> float:
        return self.at_s


def _sample(number: int) -> Sample:
    data = Random(number).randbytes(_SIZE)
    return Sample(
        model="digits", version=1, space=_SPACE, label=number % 3, dtype="uint8", shape=[number, _SIZE], data=data
    )


def _numbers(found: Iterable[Sample]) -> set[int]:
    """Which samples these are; `Broken` when one of them was never given."""
    numbers = set()
    for sample in found:
        number = sample.shape[0]
        if sample != _sample(number):
            raise Broken(f"sample {number} is not what was given")
        numbers.add(number)
    return numbers


def _buffer(root: Path, clock: _Clock) -> SampleBuffer:
    return SampleBuffer(root / "data", _SETTINGS, clock, Random(clock.at_s).randrange)


class SamplesScenario:
    """Batches, files written anew, expiry, erasure, and batches again.

    The file `now` holds the time. Marks: `adding A` before a batch that begins with number A; `kept N N …` for what is
    kept when a call returned; `leaving` before a month passes, `erasing` and `erased`.
    """

    async def act(self, facts: Facts, root: Path, warm: bool) -> None:
        clock = _Clock(_BEGAN_S)
        self._fill(root, clock, range(0, 60, _BATCH))
        clock.at_s += _MONTH_S
        mark(root, "leaving")
        durable.write_file(root / "now", str(clock.at_s).encode())
        mark(root, "kept")
        self._fill(root, clock, range(100, 110, _BATCH))
        _buffer(root, clock).add([])
        before = read_epoch(root / "data")
        mark(root, "erasing")
        _buffer(root, clock).erase()
        mark(root, "erased")
        if _buffer(root, clock).add([_sample(120)], epoch=before) is not None:
            raise Broken("what was on its way before the erasure was kept")
        self._fill(root, clock, range(200, 215, _BATCH))

    def _fill(self, root: Path, clock: _Clock, starts: range) -> None:
        for start in starts:
            mark(root, f"adding {start}")
            batch = [_sample(number) for number in range(start, start + _BATCH)]
            epoch = read_epoch(root / "data")
            _buffer(root, clock).add(batch, epoch=epoch)
            kept = _numbers(_buffer(root, clock).read("digits", _SPACE))
            mark(root, f"kept {' '.join(map(str, sorted(kept)))}".strip())

    def check(self, facts: Facts, root: Path, marks: Sequence[str]) -> None:
        """The file is read through recovery only; its bound holds at every instant."""
        file = root / "data" / "samples"
        if file.exists() and file.stat().st_size > _SETTINGS.max_bytes:
            raise Broken(f"the file has {file.stat().st_size} bytes")

    async def recover(self, facts: Facts, root: Path, marks: Sequence[str]) -> None:
        now = root / "now"
        clock = _Clock(float(now.read_bytes()) if now.exists() else _BEGAN_S)
        try:
            found = _numbers(_buffer(root, clock).read("digits", _SPACE))
            self._judge({number for number in found if number < _AFTER}, marks)
            new = _AFTER + len(found)
            _buffer(root, clock).add([_sample(new)], epoch=read_epoch(root / "data"))
            _buffer(root, clock).add([], epoch=read_epoch(root / "data"))
            after = _numbers(_buffer(root, clock).read("digits", _SPACE))
        except SkerryError as error:
            raise Broken(f"the buffer cannot be used: {error}") from error
        if not after <= found | {new} or len(found - after) > 1:
            raise Broken(f"{sorted(found)} became {sorted(after)}")
        self.check(facts, root, marks)

    def _judge(self, found: set[int], marks: Sequence[str]) -> None:
        if not marks:
            return
        kept, adding, leaving = set[int](), set[int](), False
        for text in marks:
            word, *numbers = text.split()
            match word:
                case "kept":
                    kept, adding, leaving = set(map(int, numbers)), set(), False
                case "adding":
                    adding = set(range(int(numbers[0]), int(numbers[0]) + _BATCH))
                case "leaving" | "erasing":
                    leaving = True
                case "erased":
                    kept, adding, leaving = set(), set(), False
        if not found <= kept | adding:
            raise Broken(f"{sorted(found - kept - adding)} came back")
        gone = len(kept - found)
        allowed = len(kept) if leaving else _BATCH + 1 if adding else 1
        if gone > allowed:
            raise Broken(f"{sorted(kept - found)} were kept and are gone")
