"""What the test itself looks up in the midst of a life under faults: none of it may fail, and none of it is counted.

A fault that met the onlooker would be one that the agent did not meet.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["aside", "is_aside"]

_local = threading.local()


@contextmanager
def aside() -> Iterator[None]:
    """In this thread, for the block; nothing may be awaited in it."""
    _local.depth = getattr(_local, "depth", 0) + 1
    try:
        yield
    finally:
        _local.depth -= 1


def is_aside() -> bool:
    """Whether this thread is the onlooker now."""
    return getattr(_local, "depth", 0) > 0
