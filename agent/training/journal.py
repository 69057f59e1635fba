"""What became of the last offers, for people who look at this device. In memory: a restart forgets it."""

from __future__ import annotations

from collections import deque

import msgspec

from shared.wire.training import TrainingReport

__all__ = ["HeadStatus", "OfferEntry", "TrainingJournal", "TrainingStatus"]

_ENTRIES_COUNT = 32


class OfferEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One offer. at_s: when the last thing happened to it (seconds since 1970). seconds: of its training."""

    run: str
    round_no: int
    model: str
    state: str
    code: str
    reason: str
    at_s: float
    seconds: float


class HeadStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A head of this device's own. serves: it answers instead of the version's. Accuracies: on the held-out share."""

    model: str
    version: int
    serves: bool
    accuracy: float
    bundle_accuracy: float
    held_out: int


class TrainingStatus(msgspec.Struct, frozen=True, kw_only=True):
    """For `skerry-agent training show`. running: the run in which the device takes part now. peak_bytes: the most
    memory that a training process had."""

    enabled: bool = False
    installed: bool = False
    running: str = ""
    offers: list[OfferEntry] = []
    refused: int = 0
    dropped: int = 0
    rounds: int = 0
    failures: int = 0
    peak_bytes: int = 0
    heads: list[HeadStatus] = []


class TrainingJournal:
    """The newest entries, one for each offer, and counts since the start."""

    def __init__(self) -> None:
        self.rounds = 0
        self.failures = 0
        self.peak_bytes = 0
        self._entries: deque[OfferEntry] = deque(maxlen=_ENTRIES_COUNT)

    def note(self, report: TrainingReport, at_s: float) -> None:
        """What was told the hub."""
        self.rounds += report.state == "done"
        self.failures += report.state == "failed"
        entry = OfferEntry(
            run=report.run,
            round_no=report.round_no,
            model=report.model,
            state=report.state,
            code=report.code,
            reason=report.reason,
            at_s=at_s,
            seconds=report.seconds,
        )
        for at, known in enumerate(self._entries):
            if (known.run, known.round_no) == (report.run, report.round_no):
                self._entries[at] = entry
                return
        self._entries.append(entry)

    def newest(self) -> list[OfferEntry]:
        """The newest first."""
        return list(reversed(self._entries))
