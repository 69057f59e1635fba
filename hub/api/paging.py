"""Keyset pages: `?limit=&cursor=` in, `{"items": [...], "next": cursor or null}` out.

A cursor is the sort key of the last item, opaque to the caller and believed for nothing: it only says where to go on.
Services fetch one row more than asked for; that row says whether there is a next page.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Depends, Query
from pydantic import BaseModel

from hub.store.page import Key, PageRequest
from shared import canonical
from shared.errors import InvalidInput
from shared.limits import DEFAULT_PAGE_COUNT, MAX_PAGE_COUNT

__all__ = ["Listing", "Page", "decode_cursor", "encode_cursor", "paged"]

_MAX_CURSOR_BYTES = 1024
T = TypeVar("T")


class Listing(BaseModel, Generic[T]):
    """One page. `next`: the cursor of the page after it; null on the last one."""

    items: list[T]
    next: str | None


def encode_cursor(key: Key) -> str:
    """The cursor that goes on after `key`."""
    return base64.urlsafe_b64encode(canonical.dumps(list(key))).decode().rstrip("=")


def decode_cursor(text: str) -> Key:
    """The key in a cursor, or `InvalidInput` (`request.cursor`)."""
    try:
        if len(text) > _MAX_CURSOR_BYTES:
            raise ValueError("too long")
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        key = canonical.loads(raw, limit=_MAX_CURSOR_BYTES, what="cursor")
        if not isinstance(key, list) or not all(isinstance(part, str | int | float) for part in key):
            raise ValueError("not a key")
    except (ValueError, binascii.Error, InvalidInput) as error:
        raise InvalidInput(
            "request.cursor", "The cursor is not valid.", hint="Use `next` of the page before, unchanged."
        ) from error
    return tuple(key)


def _page(
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE_COUNT, description="Items per page.")] = DEFAULT_PAGE_COUNT,
    cursor: Annotated[str | None, Query(description="`next` of the page before.")] = None,
) -> PageRequest:
    return PageRequest(limit=limit, after=None if cursor is None else decode_cursor(cursor))


Page = Annotated[PageRequest, Depends(_page)]


def paged(rows: Sequence[T], page: PageRequest, key: Callable[[T], Key], item: Callable[[T], Any]) -> dict[str, Any]:
    """The answer for `rows` (up to `page.limit + 1` of them)."""
    shown = rows[: page.limit]
    more = len(rows) > page.limit
    return {"items": [item(row) for row in shown], "next": encode_cursor(key(shown[-1])) if more else None}
