"""Part of `tests.bench.drift`: detectors on the errors of a frozen model beside river's, and what only pooling
finds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from river import drift
from river.datasets import synth
from sklearn.tree import DecisionTreeClassifier

from hub.monitoring.adwin import Adwin, adwin_step
from hub.monitoring.hddm import Hddm, hddm_step
from hub.monitoring.pooled import Pooled, expected_rate, pooled_step

__all__ = ["pooled", "streams"]

_TRAIN, _STABLE, _AFTER = 3000, 5000, 3000
_NOISE = 0.1
_MOST_FALSE = 0.2
"""Alarms in 8,000 stable outcomes."""
Alarms = Callable[[list[float]], list[int]]


def _ours_hddm(stream: list[float]) -> list[int]:
    state, alarms = Hddm(), []
    for at, error in enumerate(stream):
        state = hddm_step(state, error)
        if state.drift:
            alarms.append(at)
    return alarms


def _ours_adwin(stream: list[float]) -> list[int]:
    state, alarms = Adwin(), []
    for at, error in enumerate(stream):
        state = adwin_step(state, error)
        if state.drift:
            alarms.append(at)
    return alarms


def _river(make: Callable[[], Any]) -> Alarms:
    def run(stream: list[float]) -> list[int]:
        detector, alarms = make(), []
        for at, error in enumerate(stream):
            detector.update(error)
            if detector.drift_detected:
                alarms.append(at)
        return alarms

    return run


def _trivial(stream: list[float]) -> list[int]:
    """The last 100 are half as bad again as the first 1000."""
    sums = np.cumsum([0.0, *stream])
    base = sums[1000] / 1000
    return [at for at in range(1100, len(stream), 100) if (sums[at] - sums[at - 100]) / 100 > 1.5 * base]


_WAYS: dict[str, Alarms] = {
    "HDDM_W": _ours_hddm,
    "ADWIN": _ours_adwin,
    "river HDDM_W": _river(drift.binary.HDDMW),
    "river HDDM_A": _river(drift.binary.HDDMA),
    "river ADWIN": _river(drift.ADWIN),
    "river DDM": _river(drift.binary.DDM),
    "river PageHinkley": _river(drift.PageHinkley),
    "trivial": _trivial,
}


def _errors(make: Callable[[int, int], Any], before: int, after: int, seed: int) -> list[float]:
    def rows(function: int, n: int, number: int) -> tuple[list[list[float]], list[int]]:
        pairs = list(make(function, number).take(n))
        return [[float(value) for value in x.values()] for x, _ in pairs], [int(y) for _, y in pairs]

    x, y = rows(before, _TRAIN + _STABLE, seed)
    late_x, late_y = rows(after, _AFTER, seed + 1000)
    model = DecisionTreeClassifier(max_depth=8, random_state=0).fit(x[:_TRAIN], y[:_TRAIN])
    predicted = model.predict([*x[_TRAIN:], *late_x])
    wrong = predicted != np.array([*y[_TRAIN:], *late_y])
    flipped = np.random.default_rng(seed).random(len(wrong)) < _NOISE  # a model that never errs is no test
    return [float(one) for one in wrong ^ flipped]


def _stagger(function: int, seed: int) -> Any:
    codes = {"small": 0.0, "medium": 1.0, "large": 2.0, "red": 0.0, "green": 1.0, "blue": 2.0}
    stream = synth.STAGGER(classification_function=function, seed=seed)

    class Coded:
        def take(self, n: int) -> Any:
            for x, y in stream.take(n):
                yield {key: codes.get(value, value) for key, value in x.items()}, y

    return Coded()


def streams(seeds: int = 10, peers: Mapping[str, Alarms] | None = None) -> list[dict[str, Any]]:
    """Median delay after the drift, and false alarms before it, a run; in the control nothing ever changes, so there
    every alarm is false. peers: detectors beside ours and river's."""
    ways = _WAYS | dict(peers or {})
    cases: dict[str, tuple[Callable[[int, int], Any], int, int]] = {
        "Agrawal 0 to 3": (lambda f, s: synth.Agrawal(classification_function=f, seed=s), 0, 3),
        "STAGGER 0 to 2": (_stagger, 0, 2),
        "control: Agrawal 0": (lambda f, s: synth.Agrawal(classification_function=f, seed=s), 0, 0),
    }
    found: list[dict[str, Any]] = []
    for case, (make, before, after) in cases.items():
        errors = [_errors(make, before, after, seed) for seed in range(seeds)]
        for name, run in ways.items():
            alarms = [run(stream) for stream in errors]
            if before == after:
                found.append({"case": case, "detector": name, "false": float(np.mean([len(one) for one in alarms]))})
                continue
            delays = [min((at - _STABLE for at in one if at >= _STABLE), default=_AFTER) for one in alarms]
            false = float(np.mean([sum(at < _STABLE for at in one) for one in alarms]))
            found.append({"case": case, "detector": name, "median_delay": float(np.median(delays)), "false": false})
        if before == after:
            for one in found[-len(ways) :]:
                if one["detector"] in ("HDDM_W", "ADWIN"):
                    one["kept"] = one["false"] <= _MOST_FALSE
            continue
        ours = next(one for one in found if one["case"] == case and one["detector"] == "HDDM_W")
        beside = [one for one in found if one["case"] == case and one["detector"].split()[0] in ("river", "frouros")]
        best = min(one["median_delay"] for one in beside if one["false"] <= ours["false"])
        ours["kept"] = ours["median_delay"] <= best
    return found


def pooled(seeds: int = 50, devices: int = 10, labels: int = 200, windows: int = 10) -> list[dict[str, Any]]:
    """Errors rise from .122 to .144: who finds it within `windows` windows of `devices` x `labels` truths."""
    expected = expected_rate(1220, 10_000)
    rows: list[dict[str, Any]] = []
    for name, rate in (("control", 0.122), ("rise to .144", 0.144)):
        hits = {"pooled": 0, "any HDDM_W": 0, "any ADWIN": 0}
        for seed in range(seeds):
            random = np.random.default_rng((seed, int(rate * 1000)))
            calm = (random.random((devices, 5 * labels)) < 0.122).astype(float)
            outcomes = (random.random((devices, windows * labels)) < rate).astype(float)
            state = Pooled()
            said = False
            for window in range(windows):
                errors = int(outcomes[:, window * labels : (window + 1) * labels].sum())
                state = pooled_step(state, errors, devices * labels, expected)
                said |= state.drift
            hits["pooled"] += said
            start = calm.shape[1]
            each = [[*before, *after] for before, after in zip(calm.tolist(), outcomes.tolist(), strict=True)]
            hits["any HDDM_W"] += any(at >= start for stream in each for at in _ours_hddm(stream))
            hits["any ADWIN"] += any(at >= start for stream in each for at in _ours_adwin(stream))
        rows.append({"case": name, **{key: count / seeds for key, count in hits.items()}})
    rows[0]["kept"] = rows[0]["pooled"] <= 0.05
    rows[1]["kept"] = rows[1]["pooled"] >= 0.9
    return rows
