"""Which offers of a run are out, who is not to be asked for a while, and what is to be said again. Pure.

Rules: a device that declined and said when to ask again is not offered anything before (pace steering); an offer that
nobody has answered is made once more, because it goes by MQTT without a promise, and never after it has run out; who
still says nothing counts as not there, so that a round does not wait for it; only the newest offer of a device counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Heard", "OfferBook", "Offered"]

_AGAIN_SHARE = 1 / 4
_AGAIN_S = 15.0
_LOST_TIMES = 3
_GONE = frozenset({"declined", "failed"})


@dataclass(frozen=True, slots=True)
class Offered:
    """An offer to be sent now. valid_s: from now on."""

    device_id: str
    round_no: int
    valid_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What a device said to an offer. at_s: when it came."""

    device_id: str
    round_no: int
    state: str
    retry_s: float
    at_s: float


@dataclass(slots=True)
class _Out:
    round_no: int
    since_s: float
    told: int = 1
    answered: bool = False


class OfferBook:
    """The offers of one run. valid_s: how long an offer holds. Times are seconds of one clock."""

    def __init__(self, valid_s: float) -> None:
        self._valid_s = valid_s
        self._again_s = min(_AGAIN_S, valid_s * _AGAIN_SHARE)
        self._out: dict[str, _Out] = {}
        self._rests: dict[str, float] = {}

    def ask(self, round_no: int, device_ids: Iterable[str], now_s: float) -> tuple[list[Offered], list[str]]:
        """The offers for those who are to be asked, and those of them who rest."""
        offers, resting = [], []
        for device_id in device_ids:
            if self._rests.get(device_id, 0.0) > now_s:
                resting.append(device_id)
                continue
            self._out[device_id] = _Out(round_no, now_s)
            offers.append(Offered(device_id, round_no, self._valid_s))
        return offers, resting

    def hear(self, heard: Heard) -> bool:
        """Note an answer; True: the device will not take part in the round that it was asked for last."""
        if heard.state == "declined" and heard.retry_s > 0:
            self._rests[heard.device_id] = heard.at_s + heard.retry_s
        out = self._out.get(heard.device_id)
        if out is None or out.round_no != heard.round_no:
            return False
        out.answered = True
        return heard.state in _GONE

    def again(self, now_s: float) -> list[Offered]:
        """The offers that are to be made once more; each comes once."""
        due = []
        for device_id, out in self._out.items():
            waited = now_s - out.since_s
            if not out.answered and out.told == 1 and self._again_s <= waited < self._valid_s:
                out.told += 1
                due.append(Offered(device_id, out.round_no, self._valid_s - waited))
        return due

    def lost(self, now_s: float) -> list[str]:
        """Those who were offered a round twice and have said nothing for long: nobody waits for them; told once."""
        gone = []
        for device_id, out in self._out.items():
            if not out.answered and out.told > 1 and now_s - out.since_s >= _LOST_TIMES * self._again_s:
                out.answered = True
                gone.append(device_id)
        return gone

    def resting(self, now_s: float) -> set[str]:
        """Those who are not to be asked now."""
        self._rests = {device_id: until for device_id, until in self._rests.items() if until > now_s}
        return set(self._rests)

    def forget(self, device_id: str) -> None:
        """The device is out of the run."""
        self._out.pop(device_id, None)
