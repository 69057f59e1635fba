"""Which samples stay: a uniform sample of what was seen, class by class, within bounds of all together. Pure.

Rules: within a class this is algorithm R: after `seen` samples each of them is kept with the same chance, capacity /
seen. When all classes together are over a bound, the class with most bytes gives one up at random, so a rare class is
never pushed out by a frequent one. What is too old is removed and `seen` shrinks in the same proportion, so the kept
ones stand for what was seen within the retention. A class that gave samples up to others fills again from what is new,
which is then a little more frequent than its share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

__all__ = ["ClassKey", "Reservoir"]

ClassKey: TypeAlias = tuple[str, str, int]
"""Model, label space, class."""


class Reservoir:
    """Ids with their sizes. `randrange(n)` gives a whole number in [0, n), uniformly."""

    def __init__(
        self, *, per_class_count: int, max_count: int, max_bytes: int, randrange: Callable[[int], int]
    ) -> None:
        self._per_class_count = per_class_count
        self._max_count = max_count
        self._max_bytes = max_bytes
        self._randrange = randrange
        self._members: dict[ClassKey, list[int]] = {}
        self._sizes: dict[int, int] = {}
        self._class_bytes: dict[ClassKey, int] = {}
        self.bytes = 0
        self.seen: dict[ClassKey, int] = {}
        """How many of a class were seen within the retention."""

    def __len__(self) -> int:
        return len(self._sizes)

    def load(self, key: ClassKey, member: int, size: int) -> None:
        """One that was kept before; call `fit` after the last."""
        self._put(key, member, size)

    def fit(self) -> list[int]:
        """Hold the bounds after a load (they may be narrower now); who had to go."""
        gone: list[int] = []
        for key, members in self._members.items():
            self.seen[key] = max(self.seen.get(key, 0), len(members))
            while len(members) > self._per_class_count:
                gone.append(self._remove(key, self._randrange(len(members))))
        gone.extend(self._make_room(0))
        self.seen = {key: count for key, count in self.seen.items() if self._members.get(key)}
        return gone

    def offer(self, key: ClassKey, member: int, size: int) -> tuple[bool, list[int]]:
        """A new sample: whether it is kept, and who goes for it."""
        members = self._members.get(key, [])
        self.seen[key] = max(self.seen.get(key, 0), len(members)) + 1
        if size > self._max_bytes:
            return False, []
        capacity = self._per_class_count
        full = len(self) + 1 > self._max_count or self.bytes + size > self._max_bytes
        if full and members and key == self._largest():
            capacity = min(capacity, len(members))
        slot = self._randrange(self.seen[key])
        if slot >= capacity:
            return False, []
        gone: list[int] = []
        if len(members) >= capacity:
            gone.append(self._remove(key, slot if slot < len(members) else self._randrange(len(members))))
        gone += self._make_room(size)
        self._put(key, member, size)
        return True, gone

    def expire(self, old: set[int]) -> None:
        """These are too old: each class has seen as many fewer, in proportion."""
        for key, members in self._members.items():
            stay = [member for member in members if member not in old]
            if len(stay) == len(members):
                continue
            seen = max(self.seen.get(key, 0), len(members))
            self.seen[key] = max(len(stay), round(seen * len(stay) / len(members)))
            for at in range(len(members) - 1, -1, -1):
                if members[at] in old:
                    self._remove(key, at)
        self._members = {key: members for key, members in self._members.items() if members}
        self.seen = {key: count for key, count in self.seen.items() if key in self._members}

    def counts(self) -> Iterator[tuple[ClassKey, int]]:
        """How many of each class are kept."""
        return ((key, len(members)) for key, members in sorted(self._members.items()) if members)

    def _largest(self) -> ClassKey:
        return max(self._class_bytes, key=lambda key: (self._class_bytes[key], key))

    def _make_room(self, size: int) -> list[int]:
        gone: list[int] = []
        new = 1 if size else 0
        while self._sizes and (len(self) + new > self._max_count or self.bytes + size > self._max_bytes):
            key = self._largest()
            gone.append(self._remove(key, self._randrange(len(self._members[key]))))
        return gone

    def _put(self, key: ClassKey, member: int, size: int) -> None:
        self._members.setdefault(key, []).append(member)
        self._sizes[member] = size
        self._class_bytes[key] = self._class_bytes.get(key, 0) + size
        self.bytes += size

    def _remove(self, key: ClassKey, at: int) -> int:
        members = self._members[key]
        members[at], members[-1] = members[-1], members[at]
        member = members.pop()
        size = self._sizes.pop(member)
        self._class_bytes[key] -= size
        self.bytes -= size
        return member
