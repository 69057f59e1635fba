"""A sample buffer over a folder, with time and chance that the test owns."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

from agent.training.buffer import SampleBuffer
from agent.training.samples import Sample
from agent.training.settings import SampleSettings

__all__ = ["NOW_S", "SPACE", "Clock", "buffer_at", "sample"]

NOW_S = 1_800_000_000.0
SPACE = "0" * 16


class Clock:
    """Time that the test owns."""

    def __init__(self, at_s: float = NOW_S) -> None:
        self.at_s = at_s

    def now(self) -> float:
        return self.at_s

    def monotonic(self) -> float:
        return self.at_s


def sample(number: int, label: int = 0, size: int = 32, model: str = "digits", space: str = SPACE) -> Sample:
    """A sample that can be told from the others."""
    data = number.to_bytes(4, "big") * (size // 4)
    return Sample(model=model, version=1, space=space, label=label, dtype="uint8", shape=[size], data=data)


def buffer_at(folder: Path, clock: Clock | None = None, seed: int = 1, **settings: Any) -> SampleBuffer:
    """The buffer in this folder, as another process would open it."""
    return SampleBuffer(folder, SampleSettings(**settings), clock or Clock(), Random(seed).randrange)
