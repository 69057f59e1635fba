"""What each version answered since somebody last asked, also of versions that no longer serve; nothing is told twice.

A version is written by threads while it is read here, so its counts may be a step apart: more slow answers than
requests, say. What does not fit together yet is left for the next time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from agent.inference.handle import ModelHandle
from agent.inference.statistics import Statistics

__all__ = ["Answered", "Ledger", "fitting"]


@dataclass(frozen=True, slots=True)
class Answered:
    """What one version did."""

    model: str
    version: int
    counts: Statistics


@dataclass(slots=True)
class _Page:
    model: str
    handle: ModelHandle
    told: Statistics = field(default_factory=Statistics)


class Ledger:
    """Follows every version that ever served, until it is freed and told."""

    def __init__(self) -> None:
        self._pages: list[_Page] = []

    def follow(self, model: str, handle: ModelHandle) -> None:
        """From now on this version serves."""
        self._pages.append(_Page(model, handle))

    def take(self) -> list[Answered]:
        """What each version did since the last call; a version that did nothing is left out."""
        found = list(self._taken())
        self._pages = [page for page in self._pages if not _is_over(page)]
        return found

    def _taken(self) -> Iterator[Answered]:
        for page in self._pages:
            counts = fitting(page.handle.statistics().after(page.told))
            page.told += counts
            if counts != _NOTHING:
                yield Answered(page.model, page.handle.manifest.version, counts)


_NOTHING = Statistics()


def fitting(counts: Statistics) -> Statistics:
    """As much of `counts` as fits together: every slow answer and every error is a request."""
    errors = min(counts.errors, counts.requests)
    over_budget = min(counts.over_budget, counts.requests - errors)
    return Statistics(counts.requests, errors, counts.rejected, over_budget, counts.buckets)


def _is_over(page: _Page) -> bool:
    return page.handle.freed and page.handle.statistics() == page.told
