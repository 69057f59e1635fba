"""What the whole simulated fleet did, counted as it happens."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Figures"]


@dataclass(slots=True)
class Figures:
    """Plain counters; one event loop writes them, so nothing is locked.

    published: messages handed to the broker, repetitions included. posted: those that the devices made.
    """

    connected: int = 0
    connects: int = 0
    refused_connects: int = 0
    posted: int = 0
    published: int = 0
    published_bytes: int = 0
    documents: int = 0
    watermarks: int = 0
    received_bytes: int = 0
    http_requests: int = 0
    downloads: int = 0
    downloaded_bytes: int = 0
    resumed: int = 0
    fallbacks: int = 0
    crashes: int = 0
    problems: dict[str, int] = field(default_factory=dict)

    def problem(self, code: str) -> None:
        """Count something that went wrong on a device, by its code."""
        self.problems[code] = self.problems.get(code, 0) + 1
