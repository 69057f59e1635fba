"""Closed periods are judged once: what drifted twice in a row is told, with features, devices and since when."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from sqlalchemy import func, select

from hub.ingest.service import IngestService
from hub.ingest.windows import WindowBook
from hub.monitoring.evaluation import DEVICES, FLEET, Evaluation
from hub.monitoring.examine import Severity
from hub.monitoring.judge import Memory, judge
from hub.monitoring.source import DriftSource
from hub.monitoring.sums import Sums
from hub.store.database import Database
from hub.store.drift import ResultRow, latest_results
from hub.store.schema import drift_results
from shared.wire.window import Feedback, Finding
from tests.ingest.test_ingest_service import FixedClock
from tests.ingest.test_windows import told
from tests.monitoring.kit import WATCHED, Kept, a_window, register

PERIOD_S = 3600
NAMES = tuple(f"dev{number}" for number in range(8))


class Site:
    """A database, its ingest and its evaluation, on a clock that moves by periods."""

    def __init__(self, database: Database) -> None:
        self.db, self.clock, self.number = database, FixedClock(), 0
        references: Any = Kept()
        self.ingest = IngestService(database, self.clock, WindowBook(references, PERIOD_S))
        self.evaluation = Evaluation(database, self.clock, references, PERIOD_S)

    def period(self, rows: int = 100, **shifted: dict[str, Any]) -> dict[str, ResultRow]:
        """All devices tell a window, some with more; the period ends; the verdicts by level."""
        self.number += 1
        said = [
            told(a_window(self.number, rows, seed=place, **shifted.get(name, {})), self.number, device=name)
            for place, name in enumerate(NAMES)
        ]
        self.ingest.commit(said)
        self.clock.at += PERIOD_S + 1000
        assert self.evaluation.run() == 1
        with self.db.read() as connection:
            return {row.level: row for row in latest_results(connection, "table")}


@pytest.fixture
def site(database_url: str) -> Iterator[Site]:
    database = Database(database_url)
    register(database, NAMES)
    yield Site(database)
    database.close()


def confirmed(row: ResultRow) -> list[str]:
    return [one["feature"] for one in row.result["drifted"] if one["confirmed"]]


def test_calm_data_is_nothing(site: Site) -> None:
    for _ in range(3):
        levels = site.period()
        assert {row.severity for row in levels.values()} == {Severity.NONE}
    assert set(levels) == {FLEET, "profile:pi", DEVICES}


def test_a_shift_of_all_is_told_the_second_time_with_since_when(site: Site) -> None:
    moved = {name: {"shift": 0.4, "feature": 2} for name in NAMES}
    first = site.period(400, **moved)
    assert (first[FLEET].severity, confirmed(first[FLEET])) == (Severity.NONE, [])
    began = first[FLEET].period_s
    for _ in range(2):
        found = site.period(400, **moved)[FLEET]
        assert confirmed(found) == ["x2"]
        assert found.severity == Severity.INPUT_DRIFT
    assert found.result["since"] == {"drift:x2": began}


def test_two_devices_that_went_wrong_are_named(site: Site) -> None:
    moved = {name: {"shift": 2.0, "feature": 1} for name in NAMES[:2]}
    site.period(100, **moved)
    found = site.period(100, **moved)[DEVICES]
    assert [(one["device_id"], one["drifted"]) for one in found.result["named"]] == [("dev0", ["x1"]), ("dev1", ["x1"])]
    calm = site.period(100)[DEVICES]
    assert calm.result["named"] == []


def test_a_window_that_came_while_the_verdict_waited_is_judged_and_confirms_nothing_by_itself(site: Site) -> None:
    """Devices send on while the hub waits some time after a period's end; none of them goes unjudged for that."""

    def tell(number: int, at: float) -> None:
        site.clock.at = at
        said = [told(a_window(number, 100, seed=3, shift=2.0, feature=1), number, device="dev0")]
        said += [told(a_window(number, 100, seed=4), number, device="dev1")]
        site.ingest.commit(said)

    def judged(at: float) -> ResultRow:
        site.clock.at = at
        assert site.evaluation.run() == 1
        with site.db.read() as connection:
            return {row.level: row for row in latest_results(connection, "table")}[DEVICES]

    start = 100.0 * PERIOD_S
    tell(1, start + 10)
    tell(2, start + PERIOD_S + 5)  # in the next period, before the first one is judged
    first = judged(start + PERIOD_S + 70)
    assert (first.result["devices"], first.result["named"]) == (2, [])
    second = judged(start + 2 * PERIOD_S + 70)  # nothing newer came: window 2 was judged before
    assert second.result["named"] == []
    tell(3, start + 2 * PERIOD_S + 80)
    third = judged(start + 3 * PERIOD_S + 70)
    assert [(one["device_id"], one["drifted"]) for one in third.result["named"]] == [("dev0", ["x1"])]


def test_a_fault_is_named_at_once_with_its_device(site: Site) -> None:
    stuck = {"dev3": {"findings": [Finding(feature=1, cause="stuck", rows=90)]}}
    levels = site.period(100, **stuck)
    assert levels[DEVICES].result["named"][0]["faults"] == ["stuck:x1"]
    assert levels[FLEET].severity == Severity.DATA_QUALITY
    assert [(f["feature"], f["cause"]) for f in levels[FLEET].result["faults"]] == [("x1", "stuck")]


def test_a_rise_of_errors_in_the_order_of_outcomes_is_performance(site: Site) -> None:
    def truths(share: float) -> dict[str, dict[str, Any]]:
        random = np.random.default_rng(4)
        found = {}
        for name in NAMES:
            bits = (random.random(96) < share).astype(np.uint8)
            outcomes = np.packbits(bits).tobytes()
            errors = int(bits.sum())
            found[name] = {"feedback": Feedback(labelled=96, errors=errors, outcomes_count=96, outcomes=outcomes)}
        return found

    for _ in range(2):
        calm = site.period(100, **truths(0.1))[FLEET]
        assert calm.severity == Severity.NONE, calm.result["labelled"]
    bad = site.period(100, **truths(0.6))[FLEET]
    assert bad.severity == Severity.PERFORMANCE
    assert bad.result["labelled"]["risen"] in ("hddm_w", "adwin", "pooled")
    assert site.period(100, **truths(0.6))[FLEET].result["labelled"]["risen"], "it is told while it holds"
    assert not site.period(100, **truths(0.1))[FLEET].result["labelled"]["risen"]


def test_a_period_is_judged_once_and_only_when_it_is_closed(site: Site) -> None:
    site.ingest.commit([told(a_window(1))])
    assert site.evaluation.run() == 0
    site.clock.at += 2 * PERIOD_S
    assert site.evaluation.run() == 1
    assert site.evaluation.run() == 0
    with site.db.read() as connection:
        assert connection.scalar(select(func.count()).select_from(drift_results)) == 3


def test_gates_get_a_score_and_an_accuracy_while_the_period_is_still_open(site: Site) -> None:
    site.ingest.commit([told(a_window(1, 500, shift=1.0), device=name) for name in NAMES])
    references: Any = Kept()
    source = DriftSource(references, PERIOD_S)

    class Row:
        class plan:
            model, version = "table", 1

    for metric, low, high in (("drift_score", 200_000, 600_000), ("estimated_accuracy", 600_000, 900_000)):
        question: Any = type(
            "Q", (), {"metric": metric, "row": Row, "since_s": site.clock.at, "since_e": 0, "control": False}
        )
        with site.db.read() as connection:
            found = source.measure(connection, question)
        assert set(found) == {"", "pi"}
        assert low < found[""].candidate.numerator < high
        assert found[""].candidate.n == 4000


def test_noise_for_privacy_is_not_drift() -> None:
    random = np.random.default_rng(secrets.randbelow(2**32))
    alarms = 0
    for _ in range(20):
        sums = Sums(
            vector=np.zeros(WATCHED.shape.size, np.int64), windows=10, rows=1000, predicted=1000, variance=2000.0
        )
        cells = np.concatenate([np.full(20, 50), np.zeros(4)])[None].repeat(6, axis=0)
        sums.vector[: 6 * 24] = np.rint(cells + random.normal(0, 2000**0.5, cells.shape)).astype(np.int64).reshape(-1)
        memory = Memory(found=(True,) * 6)
        verdict, _ = judge(sums, WATCHED.shape, WATCHED.reference, None, memory, (0, PERIOD_S))
        alarms += verdict.severity in (Severity.INPUT_DRIFT, Severity.PREDICTION_DRIFT)
    assert alarms <= 2
