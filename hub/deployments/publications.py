"""The bell between deciding and sending: whoever changes desired states rings, whoever sends them listens.

A lost ring costs a poll's delay, never a publication: what is still to be sent stands in the database.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Publications"]


class Publications:
    """Rings every listener. Listeners return at once and may be called from any thread."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[], None]] = []

    def on_wake(self, listener: Callable[[], None]) -> None:
        """Call `listener` after something new is to be published."""
        self._listeners.append(listener)

    def wake(self) -> None:
        """Something new is to be published."""
        for listener in self._listeners:
            listener()
