"""Errors of single devices: the right ones are named, the others are not, nothing is lost or counted twice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pytest
from sqlalchemy import func, select

from hub.alerts.config import load_config
from hub.alerts.signals import readings
from hub.ingest.service import IngestService
from hub.ingest.windows import WindowBook
from hub.monitoring.device_errors import DeviceErrors, ErrorVerdict, Truths, judge_errors
from hub.monitoring.evaluation import DEVICES, FLEET, Evaluation
from hub.monitoring.examine import Severity
from hub.monitoring.retention import WindowRetention
from hub.store.database import Database
from hub.store.drift import latest_results
from hub.store.schema import device_errors, device_outcomes
from shared.wire.window import Feedback
from tests.ingest.test_ingest_service import FixedClock
from tests.ingest.test_windows import told
from tests.monitoring.kit import Kept, a_window, register

PERIOD_S = 3600


class Fleet:
    """Devices with error rates; what is said of them, period by period."""

    def __init__(self, count: int, seed: int = 1, expected: float = 0.1) -> None:
        self.names = [f"d{number:03}" for number in range(count)]
        self.states: dict[str, DeviceErrors] = {}
        self.period, self.expected = 0, expected
        self.random = np.random.default_rng(seed)

    def tell(self, each: int, rates: dict[str, float] | None = None) -> list[ErrorVerdict]:
        self.period += 1
        outcomes = {
            name: (self.random.random(each) < (rates or {}).get(name, 0.1)).astype(np.int64) for name in self.names
        }
        told = [Truths(device_id=name, profile="pi", outcomes=x) for name, x in outcomes.items()]
        verdicts, states = judge_errors(told, self.states, self.expected, self.period)
        self.states |= states
        return verdicts

    def risen(self, each: int, rates: dict[str, float] | None = None) -> list[str]:
        return [one.device_id for one in self.tell(each, rates) if one.risen]


def test_the_devices_whose_errors_rise_are_named_and_no_others_and_it_ends() -> None:
    fleet = Fleet(50)
    for _ in range(5):
        assert fleet.risen(100) == []
    worse = {"d007": 0.35, "d031": 0.4}
    found = [fleet.tell(100, worse) for _ in range(2)]
    named = {one.device_id: one for one in found[-1] if one.risen}
    assert set(named) == set(worse)
    assert {one.risen for one in named.values()} <= {"hddm_w", "adwin"}
    assert all(one.since_s in (6, 7) and abs(one.expected - 0.1) < 0.05 for one in named.values())
    assert set(fleet.risen(100, worse)) == set(worse), "it is told while it holds"
    for _ in range(3):
        last = fleet.risen(100)
    assert last == []


def test_without_a_rise_a_large_fleet_is_quiet() -> None:
    fleet = Fleet(200, seed=2)
    false = [name for _ in range(20) for name in fleet.risen(100)]
    assert len(false) <= 2, "of 4,000 looks"


def test_a_device_without_calibration_is_held_against_its_own_past() -> None:
    fleet = Fleet(5, seed=3, expected=0.0)
    for _ in range(4):
        assert fleet.risen(200) == []
    fleet.tell(200, {"d002": 0.5})
    assert fleet.risen(200, {"d002": 0.5}) == ["d002"]


def test_a_rise_that_only_the_sum_shows_is_attributed() -> None:
    fleet = Fleet(10, seed=4)
    worse = dict.fromkeys(("d001", "d002"), 0.16)
    shares = dict.fromkeys(fleet.names, 0.0)
    for _ in range(10):
        for one in fleet.tell(200, worse):
            shares[one.device_id] += one.share
    assert set(sorted(shares, key=lambda name: -shares[name])[:2]) == set(worse)


def test_what_is_known_of_a_device_is_small_however_much_it_told() -> None:
    fleet = Fleet(1, seed=5)
    fleet.tell(100)
    small = len(msgspec.msgpack.encode(fleet.states["d000"]))
    for _ in range(20):
        fleet.tell(5_000)
    assert len(msgspec.msgpack.encode(fleet.states["d000"])) < min(3 * small, 1_500)


def test_nothing_told_is_nothing_known() -> None:
    assert judge_errors([], {}, 0.1, 1) == ([], {})


# --- at the hub ----------------------------------------------------------------------------------------------------
class Site:
    def __init__(self, url: str) -> None:
        self.db, self.clock, self.number = Database(url), FixedClock(), 0
        self.names = tuple(f"dev{number}" for number in range(6))
        register(self.db, self.names)
        references: Any = Kept()
        self.ingest = IngestService(self.db, self.clock, WindowBook(references, PERIOD_S))
        self.evaluation = Evaluation(self.db, self.clock, references, PERIOD_S)
        self.random = np.random.default_rng(8)

    def tell(self, **rates: float) -> list[Any]:
        """Two windows of each device with 48 truths each; the messages."""
        said: list[Any] = []
        for half in (1, 2):
            for name in self.names:
                bits = (self.random.random(48) < rates.get(name, 0.1)).astype(np.uint8)
                feedback = Feedback(
                    labelled=48, errors=int(bits.sum()), outcomes_count=48, outcomes=np.packbits(bits).tobytes()
                )
                number = 2 * self.number + half
                said.append(told(a_window(number, 100, seed=len(said), feedback=feedback), number, device=name))
        self.number += 1
        self.ingest.commit(said)
        return said

    def judged(self) -> dict[str, Any]:
        self.clock.at += PERIOD_S + 1000
        assert self.evaluation.run() == 1
        return self.results()

    def results(self) -> dict[str, Any]:
        with self.db.read() as connection:
            return {row.level: row for row in latest_results(connection, "table")}

    def rows(self, table: Any) -> int:
        with self.db.read() as connection:
            return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


@pytest.fixture
def site(database_url: str) -> Iterator[Site]:
    site = Site(database_url)
    yield site
    site.db.close()


def test_an_alarm_names_the_devices_whose_errors_rose(site: Site, tmp_path: Any) -> None:
    for _ in range(4):
        site.tell()
        assert site.judged()[DEVICES].result["risen"] == 0
    for _ in range(3):
        site.tell(dev4=0.6)
        found = site.judged()
    result = found[DEVICES].result
    assert [one["device_id"] for one in result["errors"] if one["risen"]] == ["dev4"]
    assert found[DEVICES].severity == Severity.PERFORMANCE
    rules = load_config(tmp_path / "none.yaml").rules
    said = {one.rule.name: one for one in readings(rules, {level: row.result for level, row in found.items()})}
    assert said["device-errors"].value == 1.0
    assert [one["device_id"] for one in said["device-errors"].detail["devices"]] == ["dev4"]
    if found[FLEET].result["labelled"]["risen"]:
        assert said["labelled-errors"].detail["devices"][0]["device_id"] == "dev4"


def test_truths_are_kept_until_the_verdict_and_used_up_with_it_through_crashes(site: Site) -> None:
    said = site.tell()
    site.ingest.commit(said)  # sent again: nothing counts twice
    assert site.rows(device_outcomes) == 12

    def crash(*_: Any) -> None:
        raise RuntimeError("the power went")

    site.evaluation.on_judged(crash)
    with pytest.raises(RuntimeError):
        site.judged()
    assert (site.rows(device_outcomes), site.rows(device_errors), site.results()) == (12, 0, {})
    references: Any = Kept()
    site.evaluation = Evaluation(site.db, site.clock, references, PERIOD_S)
    assert site.evaluation.run() == 1
    assert (site.rows(device_outcomes), site.rows(device_errors)) == (0, 6)
    assert site.evaluation.run() == 0
    with site.db.read() as connection:
        states = [bytes(row.state) for row in connection.execute(select(device_errors))]
    known = [msgspec.msgpack.decode(state, type=DeviceErrors) for state in states]
    assert {one.base_n for one in known} == {96}, "each truth counted once"


def test_what_nobody_judges_does_not_stay_for_ever(site: Site) -> None:
    site.tell()
    site.judged()
    site.tell()
    keep_s = 30 * 86_400.0
    retention = WindowRetention(site.db, site.clock, keep_s)
    retention.prune()
    assert (site.rows(device_outcomes), site.rows(device_errors)) == (12, 6)
    site.clock.at += keep_s + 10
    retention.prune()
    assert (site.rows(device_outcomes), site.rows(device_errors)) == (0, 0)
