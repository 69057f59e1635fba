"""Exactly once out of at least once. Pure: what is known of a device and what arrived go in, what to apply comes out.

Rules, per device:
- A message is applied when its range starts at or before the watermark + 1 and ends after the watermark. Everything
  at or below the watermark is a duplicate; everything beyond a gap is refused, and the device sends it again.
- Only a `dropped` range can overlap the watermark: messages of it that had arrived before stay applied, and the
  range counts only from the watermark on (`new_count`).
- Within a batch the order of arrival does not matter: the messages of an epoch are taken in the order of their end,
  because redelivery and several hubs on one queue may turn them round.
- An unknown epoch is a new start only when it begins at sequence number 1; until that arrives it stays at 0.
- An epoch that was left never comes back: its messages are stale, however often they are redelivered. So the past
  epochs of a device are remembered. A device that speaks in one (an old image of its storage was put back) hears that
  all of that epoch is confirmed, which it cannot have made, and so starts a new epoch; any other device ignores it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from shared.limits import MAX_SEQ

__all__ = ["Accepted", "Numbered", "Position", "Sequenced", "sequence"]


class Numbered(Protocol):
    """A message as far as sequencing looks at it; `first_seq` differs from `seq` only for a range that was dropped."""

    @property
    def epoch(self) -> str: ...
    @property
    def first_seq(self) -> int: ...
    @property
    def seq(self) -> int: ...


M = TypeVar("M", bound=Numbered)


@dataclass(frozen=True, slots=True)
class Position:
    """All up to and including `watermark` of `epoch` is applied; the epoch is empty before a device's first message."""

    epoch: str = ""
    watermark: int = 0


@dataclass(frozen=True, slots=True)
class Accepted(Generic[M]):
    """A message to apply; `new_count` of its sequence numbers were not applied before (1, or more for a range)."""

    message: M
    new_count: int


@dataclass(frozen=True, slots=True)
class Sequenced(Generic[M]):
    """What to do with one device's messages. `retired` are the positions of the epochs left in this batch.

    `answer` is what the device is told: its epoch and how far that is applied, also when nothing was accepted.
    """

    accepted: tuple[Accepted[M], ...]
    position: Position
    answer: Position
    retired: tuple[Position, ...]
    duplicates: int
    gaps: int
    stale: int


@dataclass(slots=True)
class _Count:
    duplicates: int = 0
    gaps: int = 0
    stale: int = 0


def sequence(position: Position, past: Collection[str], messages: Sequence[M]) -> Sequenced[M]:
    """What of `messages` (in order of arrival) to apply to a device at `position` that has left the epochs `past`."""
    by_epoch: dict[str, list[M]] = {}
    for message in messages:
        by_epoch.setdefault(message.epoch, []).append(message)
    accepted: list[Accepted[M]] = []
    retired: list[Position] = []
    count = _Count()
    current = by_epoch.pop(position.epoch, [])
    position = _advance(position, current, accepted, count)
    lost_in_past = by_epoch and not current and all(epoch in past for epoch in by_epoch)
    other = Position(next(reversed(by_epoch)), MAX_SEQ) if lost_in_past else None  # to answer instead of the position
    for epoch, group in by_epoch.items():
        if epoch in past:
            count.stale += len(group)
            continue
        reached = _advance(Position(epoch), group, accepted, count)
        if not reached.watermark:
            other = reached
            continue
        if position.epoch:
            retired.append(position)
        position, other = reached, None
    return Sequenced(
        tuple(accepted), position, other or position, tuple(retired), count.duplicates, count.gaps, count.stale
    )


def _advance(position: Position, group: Sequence[M], accepted: list[Accepted[M]], count: _Count) -> Position:
    """The position after one epoch's messages; at equal ends the single message goes before the range that holds it."""
    watermark = position.watermark
    for message in sorted(group, key=lambda m: (m.seq, -m.first_seq)):
        if message.seq <= watermark:
            count.duplicates += 1
        elif message.first_seq > watermark + 1:
            count.gaps += 1
        else:
            accepted.append(Accepted(message, message.seq - watermark))
            watermark = message.seq
    return Position(position.epoch, watermark)
