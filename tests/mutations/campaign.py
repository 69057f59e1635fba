"""A number of mutations by seed: each is tried within a deadline, outcomes are counted, failures are kept.

The mutation `index` of a subject depends on nothing but seed, subject and index, so that one failure is repeated by
`python -m tests.mutations.soak --only <subject> --seed <seed> --first <index> --count 1`.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from tests.mutations.subjects import Assignments, Bundles, Desired, Metadata, Subject

__all__ = ["SUBJECTS", "Tally", "run"]

SUBJECTS = ("bundles", "metadata", "assignments", "desired", "models")
_IN_PROCESS: dict[str, Callable[[Path], Subject]] = {
    "bundles": Bundles,
    "metadata": Metadata,
    "assignments": Assignments,
    "desired": Desired,
}
_DEADLINE_S = 20.0
_MODELS_DEADLINE_S = 7200.0


class Hung(BaseException):
    """One mutation took longer than anything should."""


@dataclass
class Tally:
    """What became of the mutations of one subject. `failures`: index and what went wrong."""

    subject: str
    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[int, str]] = field(default_factory=list)

    @property
    def refused(self) -> int:
        """How many were refused with a code."""
        return sum(count for outcome, count in self.outcomes.items() if "refused " in outcome or "ignored" in outcome)


def run(subject: str, *, seed: int, first: int, count: int) -> Tally:
    """Try `count` mutations from `first` on."""
    with tempfile.TemporaryDirectory(prefix="skerry-mutations-", dir=_fast_folder()) as name:
        if subject == "models":
            return _models(Path(name), seed, first, count)
        return _in_process(subject, Path(name), seed, first, count)


def _fast_folder() -> str | None:
    """Memory instead of a disk: durability is not what is tested here, and waiting for it would be most of the time."""
    memory = Path("/dev/shm")
    return str(memory) if memory.is_dir() and os.access(memory, os.W_OK) else None


def _in_process(subject: str, folder: Path, seed: int, first: int, count: int) -> Tally:
    tally, tried = Tally(subject), _IN_PROCESS[subject](folder)
    for index in range(first, first + count):
        try:
            with _deadline():
                tally.outcomes[tried.try_one(random.Random(f"{seed}:{subject}:{index}"))] += 1
        except (Exception, Hung) as error:  # noqa: BLE001 - anything that gets here is a finding
            tally.failures.append((index, f"{type(error).__name__}: {error}"[:300]))
    return tally


def _models(folder: Path, seed: int, first: int, count: int) -> Tally:
    """In a process of its own, which must be small and have one thread because it forks."""
    tally = Tally("models")
    done = subprocess.run(
        [sys.executable, "-m", "tests.mutations.models", str(folder), str(seed), str(first), str(count)],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        timeout=_MODELS_DEADLINE_S,
        check=False,
    )
    outcomes = done.stdout.splitlines()
    tally.outcomes.update(outcomes)
    if done.returncode != 0 or len(outcomes) != count:
        tally.failures.append((first + len(outcomes), done.stderr[-300:]))
    return tally


@contextmanager
def _deadline() -> Iterator[None]:
    def over(number: int, frame: FrameType | None) -> None:
        raise Hung(f"longer than {_DEADLINE_S:g} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, _DEADLINE_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
