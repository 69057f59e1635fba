"""Which devices' predictions went wrong: HDDM_W and ADWIN over the truths of each; who is behind a rise. Pure.

Rules:
- A detector is an occasion to look, not a verdict: with many devices one of them fires by chance. From then on a
  device's truths are counted anew, and it is told once these are more often wrong than before by more than chance
  allows among all devices of the period (exact binomial test, Benjamini and Hochberg, 5 %).
- It is told until a period is back to normal. What is not borne out within `_WAIT` periods is forgotten.
- The rate before is the device's own; while it has told too few truths, that of the calibration.
- What is known of a device is a few hundred bytes, whatever it has told.
- A rise that only the fleet's sum shows is attributed to the devices whose truths speak for it most.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy import special

from hub.monitoring.adwin import Adwin, adwin_step
from hub.monitoring.discovery import discoveries
from hub.monitoring.hddm import Hddm, hddm_step
from hub.monitoring.pooled import expected_rate

__all__ = ["MOST_OUTCOMES_COUNT", "DeviceErrors", "ErrorVerdict", "Truths", "judge_errors"]

MOST_OUTCOMES_COUNT = 8_192
"""Of one device in one period; of more, the newest."""
_RISE = 0.15
_RATE = 0.05
_LEAST_BASE = 30
_LEAST_USUAL = 30
_WAIT = 3


class Truths(msgspec.Struct, frozen=True, kw_only=True):
    """Outcomes of one device in one period, in order; 1 is wrong."""

    device_id: str
    profile: str
    outcomes: NDArray[np.int64]


class DeviceErrors(msgspec.Struct, frozen=True, kw_only=True):
    """What is remembered of a device. base: truths before anything fired. fired: the detector, empty: none; since:
    truths from the period on in which it fired; periods: how many these were. told: it was told last time."""

    hddm: Hddm = Hddm()
    adwin: Adwin = Adwin()
    base_n: int = 0
    base_errors: int = 0
    fired: str = ""
    since_s: int = 0
    since_n: int = 0
    since_errors: int = 0
    periods: int = 0
    told: bool = False


class ErrorVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """A device's truths of a period. risen: the detector, while a rise is told. share: what part of the evidence for a
    rise of the fleet its truths are (0 to 1). since_s: start of the period in which it fired."""

    device_id: str
    profile: str
    n: int
    errors: int
    expected: float
    p: float
    risen: str
    since_s: int
    share: float


def judge_errors(
    told: Sequence[Truths], known: Mapping[str, DeviceErrors], expected: float, period_s: int
) -> tuple[list[ErrorVerdict], dict[str, DeviceErrors]]:
    """Verdicts in the order given, and what is to be remembered; `expected`: the calibration's error rate, or 0."""
    if not told:
        return [], {}
    stepped = [_stepped(known.get(one.device_id, DeviceErrors()), one.outcomes, period_s) for one in told]
    p = np.array([_unlikely(state, expected) for state in stepped])
    found = discoveries(p, _RATE)
    gains = np.array([max(_gain(one.outcomes, expected), 0.0) for one in told])
    shares = gains / gains.sum() if gains.sum() > 0 else gains
    verdicts, remembered = [], {}
    for place, (one, state) in enumerate(zip(told, stepped, strict=True)):
        n, errors, before = len(one.outcomes), int(one.outcomes.sum()), _before(state, expected)
        after = _settled(state, n, errors, before, worse=bool(found[place]))
        remembered[one.device_id] = after
        verdicts.append(
            ErrorVerdict(
                device_id=one.device_id,
                profile=one.profile,
                n=n,
                errors=errors,
                expected=before,
                p=float(p[place]),
                risen=after.fired if after.told else "",
                since_s=after.since_s if after.told else 0,
                share=float(shares[place]),
            )
        )
    return verdicts, remembered


def _stepped(state: DeviceErrors, outcomes: NDArray[np.int64], period_s: int) -> DeviceErrors:
    """The detectors after the outcomes, and the counts before or since one of them fired."""
    hddm, adwin, fired = state.hddm, state.adwin, state.fired
    for outcome in outcomes[-MOST_OUTCOMES_COUNT:].astype(float).tolist():
        hddm, adwin = hddm_step(hddm, outcome), adwin_step(adwin, outcome)
        fired = fired or ("hddm_w" if hddm.drift else "adwin" if adwin.drift else "")
    n, errors = len(outcomes), int(outcomes.sum())
    moved = msgspec.structs.replace(state, hddm=hddm, adwin=adwin, fired=fired)
    if not fired:
        return msgspec.structs.replace(moved, base_n=state.base_n + n, base_errors=state.base_errors + errors)
    return msgspec.structs.replace(
        moved,
        since_s=state.since_s if state.fired else period_s,
        since_n=state.since_n + n,
        since_errors=state.since_errors + errors,
        periods=state.periods + 1,
    )


def _before(state: DeviceErrors, expected: float) -> float:
    if state.base_n >= _LEAST_BASE:
        return expected_rate(state.base_errors, state.base_n)
    return expected


def _unlikely(state: DeviceErrors, expected: float) -> float:
    """How probable so many errors are since it fired if nothing had changed; 1 where nothing fired or is known."""
    before = _before(state, expected)
    if not state.fired or not state.since_errors or not 0 < before < 1:
        return 1.0
    return float(special.bdtrc(state.since_errors - 1, state.since_n, before))


def _settled(state: DeviceErrors, n: int, errors: int, before: float, *, worse: bool) -> DeviceErrors:
    """Told, still waited for, or over."""
    if not state.fired:
        return state
    usual = n >= _LEAST_USUAL and errors <= n * before * (1.0 + _RISE / 2.0)
    if (state.told and usual) or (not (state.told or worse) and state.periods >= _WAIT):
        return DeviceErrors(hddm=state.hddm, adwin=state.adwin, base_n=state.base_n, base_errors=state.base_errors)
    return msgspec.structs.replace(state, told=state.told or worse)


def _gain(outcomes: NDArray[np.int64], expected: float) -> float:
    """The log likelihood ratio of a risen rate, as the pooled test of the fleet adds it up."""
    if not 0 < expected < 1 or not len(outcomes):
        return 0.0
    risen, errors = min(expected * (1.0 + _RISE), 1.0 - 1e-9), int(outcomes.sum())
    right = len(outcomes) - errors
    return errors * math.log(risen / expected) + right * math.log((1.0 - risen) / (1.0 - expected))
