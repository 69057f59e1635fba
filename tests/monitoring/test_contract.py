"""The data contract at the hub: presence and rate, each fault by its cause; and what drifted features mean."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import insert, update

from hub.alerts.rules import Rule
from hub.alerts.signals import readings
from hub.ingest.service import IngestService
from hub.ingest.windows import WindowBook
from hub.monitoring.evaluation import DEVICES, Evaluation
from hub.monitoring.examine import Counted, examine
from hub.monitoring.naming import causes_of
from hub.monitoring.rates import rate_fault
from hub.monitoring.references import Watched
from hub.store.database import Database
from hub.store.drift import latest_results
from hub.store.schema import device_models, device_status
from shared.drift.layout import CELLS, Cell
from shared.drift.reference import Columns, Image, Rate
from tests.ingest.test_ingest_service import FixedClock
from tests.ingest.test_windows import told
from tests.monitoring.kit import REFERENCE, WATCHED, Kept, a_window, register
from tests.monitoring.test_examine import _CELLS, _REFERENCE

PERIOD_S = 3600
RATE = Rate(least_per_h=100, most_per_h=1000)
CHANCE = 1e-4


# --- names ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("shifts", "causes"),
    [
        ({"sharpness": -2.0, "contrast": -1.0, "edges": -1.5}, ("blur",)),
        ({"brightness": 0.8, "sharpness": -2.0}, ("brighter", "blur")),
        ({"brightness": -0.8}, ("darker",)),
        ({"sharpness": 2.0, "edges": 3.0}, ("noise",)),
        ({"contrast": -1.0}, ("less contrast",)),
        ({"brightness": 0.1}, ("brightness changed",)),
        ({}, ()),
    ],
)
def test_drift_of_a_picture_is_named_by_its_cause(shifts: dict[str, float], causes: tuple[str, ...]) -> None:
    assert causes_of(Image(height=8, width=8, peak=16.0), shifts) == causes


def test_drift_of_a_column_says_where_to() -> None:
    moved = {"temperature": 1.0, "sharpness": -1.0, "mode": 0.0}
    assert causes_of(Columns(), moved) == ("temperature higher", "sharpness lower", "mode changed")


# --- presence ---------------------------------------------------------------------------------------------------------
def _presence(missing: int, presence: float, usual: float, rows: int = 1000) -> list[str]:
    """The causes of a feature of which `missing` of `rows` rows have no value, and a share `usual` in the reference."""
    feature = msgspec.structs.replace(_REFERENCE.features[0], presence=presence)
    reference = msgspec.structs.replace(_REFERENCE, features=[feature, *_REFERENCE.features[1:]])
    cells = _CELLS.copy()
    cells[0, Cell.MISSING] = round(cells[0].sum() * usual / (1 - usual))
    seen = np.zeros((3, CELLS), np.int64)
    seen[:, :20] = rows // 20
    seen[0] = 0
    seen[0, Cell.MISSING], seen[0, 0] = missing, rows - missing
    counted = Counted(rows=rows, predicted=rows, cells=seen)
    return [fault.cause for fault in examine(counted, reference, cells).faults]


@pytest.mark.parametrize(
    ("missing", "presence", "usual", "causes"),
    [
        (50, 0.9, 0.0, []),  # more than the reference has, and allowed
        (160, 0.9, 0.0, ["missing"]),
        (160, 0.9, 0.3, ["missing"]),  # the reference data was no better, and the contract is broken all the same
        (105, 0.9, 0.0, []),  # by chance
        (160, 0.0, 0.3, []),
        (5, 1.0, 0.0, ["missing"]),
    ],
)
def test_presence_is_held_against_every_window(missing: int, presence: float, usual: float, causes: list[str]) -> None:
    assert _presence(missing, presence, usual) == causes


# --- rate -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("rows", "lasted_s", "more", "cause"),
    [
        (100, 3600, {}, ""),
        (60, 3600, {}, "rate_low"),
        (60, 3600, {"skipped": 40}, ""),
        (60, 3600, {"refused": {"shape": 40}}, ""),
        (1000, 3600, {}, ""),
        (1200, 3600, {}, "rate_high"),
        (700, 3600, {"skipped": 500}, "rate_high"),
        (1, 60, {}, ""),  # too short to say
        (25, 60, {}, ""),
        (60, 60, {}, "rate_high"),
        (60, 0, {}, ""),
        (60, 40 * 365 * 86_400, {}, ""),  # the clock was set meanwhile
    ],
)
def test_a_rate_outside_the_contract_is_named(rows: int, lasted_s: float, more: dict[str, Any], cause: str) -> None:
    window = msgspec.structs.replace(a_window(1, 100), rows=rows, started_s=0.0, ended_s=float(lasted_s), **more)
    assert rate_fault(window, RATE, CHANCE) == cause
    assert rate_fault(window, Rate(), CHANCE) == ""


@given(st.floats(101, 900), st.integers(0, 2**32 - 1))
def test_a_rate_within_the_contract_is_hardly_ever_a_fault(per_h: float, seed: int) -> None:
    rows = int(np.random.default_rng(seed).poisson(per_h))
    if 65 <= rows <= 1100:  # what chance gives in all but one of thousands
        window = msgspec.structs.replace(a_window(1, 100), rows=rows, started_s=0.0, ended_s=3600.0)
        assert rate_fault(window, RATE, CHANCE) == ""


class Site:
    """Two devices at a hub, under a contract with a rate."""

    def __init__(self, url: str) -> None:
        self.db, self.clock, self.number = Database(url), FixedClock(), 0
        watched = Watched(msgspec.structs.replace(REFERENCE, rate=RATE), WATCHED.sha256, None, WATCHED.shape)
        references: Any = Kept({("table", 1): watched})
        register(self.db, ("calm", "other"))
        self.ingest = IngestService(self.db, self.clock, WindowBook(references, PERIOD_S))
        self.evaluation = Evaluation(self.db, self.clock, references, PERIOD_S)

    def period(self, **rows: int) -> dict[str, Any]:
        """Each device of `rows` tells so many rows of an hour; what is said of devices."""
        self.number += 1
        start_s = (1_000_000 + self.number) * float(PERIOD_S)
        self.clock.at = start_s + 10
        fields: dict[str, Any] = {"started_s": 0.0, "ended_s": float(PERIOD_S)}
        said = [told(a_window(self.number, n, **fields), self.number, device=name) for name, n in rows.items()]
        self.ingest.commit(said)
        self.clock.at = start_s + PERIOD_S + 1800
        with self.db.write() as connection:  # all of them were heard a moment ago
            connection.execute(update(device_status).values(last_seen_s=self.clock.at))
        assert self.evaluation.run() == 1
        with self.db.read() as connection:
            (row,) = [row for row in latest_results(connection, "table") if row.level == DEVICES]
        return dict(row.result)


@pytest.fixture
def site(database_url: str) -> Iterator[Site]:
    site = Site(database_url)
    yield site
    site.db.close()


def test_a_device_that_sees_too_few_or_too_many_rows_is_named_and_the_other_is_not(site: Site) -> None:
    assert site.period(calm=300, other=300)["named"] == []
    for rows, cause in ((20, "rate_low:"), (3000, "rate_high:")):
        found = site.period(calm=300, other=rows)
        assert [(one["device_id"], one["faults"]) for one in found["named"]] == [("other", [cause])]
        assert (found["devices"], found["faulty"]) == (2, 1)


def test_a_device_that_tells_nothing_any_more_is_named_though_it_is_heard(site: Site) -> None:
    site.period(calm=300, other=300)  # the second device tells its last window here
    with site.db.write() as connection:
        row = {"model": "table", "version": 1, "state": "committed", "reason_code": "", "reason": ""}
        for name in ("calm", "other"):
            connection.execute(insert(device_models).values(_model_row(name) | row))
    assert site.period(calm=300)["named"] == []
    for _ in range(2):
        found = site.period(calm=300)
        assert [(one["device_id"], one["faults"]) for one in found["named"]] == [("other", ["rate_low:"])]
    rule = Rule(
        name="r", signal="faulty_devices", severity="critical", summary="s", threshold=1.0, clear=1.0, open_after=1
    )
    (reading,) = readings({"r": rule}, {DEVICES: found})
    assert (reading.value, reading.detail["devices"][0]["device_id"]) == (1.0, "other")
    assert found["named"][0].get("causes") == []


def _model_row(device: str) -> dict[str, Any]:
    """A row of `device_models` with nothing in it but what must be."""
    blank: dict[str, Any] = {}
    for column in device_models.columns:
        if not column.nullable:
            blank[column.name] = "" if column.type.python_type is str else 0
    return blank | {"device_id": device}
