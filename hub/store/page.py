"""Keyset paging as a value, and as a condition in SQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, tuple_

from shared.errors import InvalidInput

__all__ = ["Key", "PageRequest", "after"]

Key = tuple[str | int | float, ...]


@dataclass(frozen=True, slots=True)
class PageRequest:
    """At most `limit` items whose sort key comes after `after`."""

    limit: int
    after: Key | None = None

    @property
    def fetch(self) -> int:
        """How many rows to fetch: one more than asked for, which says whether there is a next page."""
        return self.limit + 1


def after(
    columns: Sequence[ColumnElement[str] | ColumnElement[float] | ColumnElement[int]],
    page: PageRequest,
    *,
    descending: bool = False,
) -> list[ColumnElement[bool]]:
    """The condition (none for the first page) for rows after the page's key in the order of `columns`."""
    if page.after is None:
        return []
    kinds = [column.type.python_type for column in columns]
    if len(page.after) != len(kinds) or not all(
        isinstance(part, (int, float) if kind is float else kind) for part, kind in zip(page.after, kinds, strict=True)
    ):
        raise InvalidInput("request.cursor", "The cursor belongs to another list.", hint="Start without a cursor.")
    here, there = tuple_(*columns), tuple_(*page.after)
    return [here < there] if descending else [here > there]
