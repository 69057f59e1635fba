"""The detectors on labelled errors, held against river's on the same streams."""

from __future__ import annotations

import numpy as np
import pytest
from river.drift import ADWIN
from river.drift.binary import HDDMW

from hub.monitoring.adwin import Adwin, adwin_step
from hub.monitoring.hddm import Hddm, hddm_step
from hub.monitoring.pooled import Pooled, expected_rate, pooled_step


def _stream(seed: int, rates: tuple[float, ...], each: int) -> list[float]:
    rng = np.random.default_rng(seed)
    return [float(x) for rate in rates for x in rng.random(each) < rate]


def _hddm_alarms(stream: list[float]) -> list[int]:
    state, alarms = Hddm(), []
    for index, error in enumerate(stream):
        state = hddm_step(state, error)
        if state.drift:
            alarms.append(index)
    return alarms


def _adwin_alarms(stream: list[float]) -> tuple[list[int], Adwin]:
    state, alarms = Adwin(), []
    for index, error in enumerate(stream):
        state = adwin_step(state, error)
        if state.drift:
            alarms.append(index)
    return alarms, state


@pytest.mark.parametrize("seed", range(20))
def test_hddm_alarms_exactly_where_river_does(seed: int) -> None:
    stream = _stream(seed, (0.1, 0.4, 0.15, 0.5), 400)
    peer, expected = HDDMW(), []  # type: ignore[no-untyped-call]
    for index, error in enumerate(stream):
        peer.update(error)  # type: ignore[no-untyped-call]
        if peer.drift_detected:
            expected.append(index)
    assert expected
    assert _hddm_alarms(stream) == expected


@pytest.mark.parametrize("seed", range(10))
def test_adwin_finds_a_rise_within_one_look_of_river(seed: int) -> None:
    stream = _stream(seed, (0.1, 0.5), 2000)
    peer, expected = ADWIN(), []  # type: ignore[no-untyped-call]
    for index, error in enumerate(stream):
        peer.update(error)  # type: ignore[no-untyped-call]
        if peer.drift_detected:
            expected.append(index)
    found = [index for index in _adwin_alarms(stream)[0] if index >= 2000]
    assert found
    assert found[0] <= min(index for index in expected if index >= 2000) + 32


def test_adwin_needs_memory_of_the_logarithm_only() -> None:
    _, state = _adwin_alarms(_stream(0, (0.1,), 20_000))
    assert state.width > 10_000
    assert sum(map(len, state.rows)) <= 6 * 16


def test_a_fall_of_the_error_rate_is_no_alarm() -> None:
    stream = _stream(3, (0.5, 0.1), 2000)
    alarms, state = _adwin_alarms(stream)
    assert alarms == []
    assert state.width <= 2300  # the old end was forgotten all the same


@pytest.mark.parametrize("bad", [-0.1, 1.5, float("nan")])
def test_what_is_no_outcome_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match=r"error|outcome"):
        hddm_step(Hddm(), bad)
    with pytest.raises(ValueError, match="outcome"):
        adwin_step(Adwin(), bad)


def _pool(seed: int, rate: float, devices: int, windows: int, labels: int) -> int | None:
    """After how many windows the pooled evidence is complete."""
    rng = np.random.default_rng(seed)
    state, expected = Pooled(), expected_rate(1220, 10_000)
    for window in range(windows):
        errors = int(rng.binomial(labels, rate, devices).sum())
        state = pooled_step(state, errors, devices * labels, expected)
        if state.drift:
            return window
    return None


def test_pooling_finds_what_no_single_device_can() -> None:
    found = [_pool(seed, 0.144, 10, 20, 200) for seed in range(40)]
    alone = [_pool(seed, 0.144, 1, 1, 200) for seed in range(40)]
    assert all(window is not None for window in found)
    assert sum(window is not None for window in alone) == 0


def test_pooling_is_quiet_without_a_rise() -> None:
    alarms = [_pool(seed, 0.122, 10, 30, 200) for seed in range(200)]
    assert sum(window is not None for window in alarms) <= 2


def test_pooled_counts_must_make_sense() -> None:
    with pytest.raises(ValueError, match="more errors"):
        pooled_step(Pooled(), 3, 2, 0.1)
    with pytest.raises(ValueError, match="rise"):
        pooled_step(Pooled(), 1, 2, 0.1, rise=0.0)
    with pytest.raises(ValueError, match="more errors"):
        expected_rate(3, 2)
