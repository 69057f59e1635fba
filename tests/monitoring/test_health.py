"""A device that does worse than its like, or worse than it did itself, comes first; little history says nothing."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import func, insert, select, update

from hub.monitoring.health import LEAST_PAST, LEAST_PEERS, READINGS, Moment, oddness
from hub.monitoring.history import EVERY_S, KEPT_COUNT, DeviceHistory
from hub.store.database import Database
from hub.store.device_history import add_moment
from hub.store.schema import device_history, device_status
from tests.ingest.test_ingest_service import FixedClock
from tests.monitoring.kit import register

HOT = READINGS.index("temperature_c")
NAMES = tuple(sorted(f"dev{number}" for number in range(12)))


def moment(values: Any, ids: Any = NAMES) -> Moment:
    return Moment(np.array(ids, str), np.asarray(values, float))


def readings(count: int, **columns: float) -> Any:
    """A table with these readings of every device."""
    table = np.full((count, len(READINGS)), np.nan)
    for name, value in columns.items():
        table[:, READINGS.index(name)] = value
    return table


# --- scores -----------------------------------------------------------------------------------------------------------
def test_a_device_that_grew_hot_is_odd_against_its_past_though_its_peers_are_as_hot() -> None:
    past = [moment(readings(12, temperature_c=40.0 + k % 3)) for k in range(12)]
    now = moment(readings(12, temperature_c=41.0))
    now.values[:, HOT] = 70.0  # summer: all of them
    found = oddness(now, np.array(["pi"] * 12), past)
    assert (found.peers == 0).all()
    assert (found.past > 10).all()
    assert set(found.past_reading.tolist()) == {HOT}


def test_a_device_that_was_always_hot_is_odd_among_its_peers_only() -> None:
    table = readings(12, temperature_c=40.0)
    table[3, HOT] = 70.0
    found = oddness(moment(table), np.array(["pi"] * 12), [moment(table)] * 10)
    assert np.flatnonzero(found.peers).tolist() == [3]
    assert (found.past == 0).all()


def test_a_hot_device_is_odd_among_cool_ones_and_a_hot_profile_is_not() -> None:
    ids = tuple(sorted([f"a{n:02}" for n in range(20)] + [f"b{n:02}" for n in range(20)] + ["aa-bad", "aa-mute"]))
    table = readings(len(ids))
    table[:, HOT] = [85.0 if i == "aa-bad" else np.nan if i == "aa-mute" else 50 + 40 * (i[0] == "b") for i in ids]
    found = oddness(moment(table, ids), np.array(["pi" if i[0] == "a" else "oven" for i in ids]), [])
    assert [ids[i] for i in np.flatnonzero(found.score)] == ["aa-bad"]
    assert found.peers.max() > 10


def test_less_memory_is_bad_and_more_is_not() -> None:
    column = READINGS.index("memory_available_bytes")
    past = [moment(readings(2, memory_available_bytes=1e9), NAMES[:2])] * LEAST_PAST
    now = readings(2, memory_available_bytes=1e9)
    now[:, column] = [2e8, 4e9]
    found = oddness(moment(now, NAMES[:2]), np.array(["pi", "pi"]), past)
    assert found.past[0] > 10
    assert found.past[1] == 0


@pytest.mark.parametrize(("moments", "peers"), [(LEAST_PAST - 1, LEAST_PEERS - 1), (0, 1)])
def test_too_little_to_compare_with_says_nothing(moments: int, peers: int) -> None:
    ids = NAMES[:peers]
    now = readings(peers, cpu_percent=99.0)
    past = [moment(readings(peers, cpu_percent=1.0), ids)] * moments
    assert (oddness(moment(now, ids), np.array(["pi"] * peers), past).score == 0).all()


def test_devices_that_came_or_went_are_held_against_their_own_readings_only() -> None:
    old = [moment(readings(3, cpu_percent=10.0), ("a", "b", "c"))] * 9
    table = readings(3, cpu_percent=10.0)
    table[2, READINGS.index("cpu_percent")] = 90.0  # d: new, so nothing is known of it
    table[1, READINGS.index("cpu_percent")] = 90.0
    found = oddness(moment(table, ("b", "c", "d")), np.array(["x"] * 3), old)
    assert np.flatnonzero(found.past).tolist() == [1]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.none(), st.floats(0, 100)), min_size=1, max_size=30), st.floats(0, 100))
def test_the_score_is_the_one_of_a_plain_median_and_mad(earlier: list[float | None], now: float) -> None:
    past = [moment(readings(1, **({} if value is None else {"temperature_c": value})), ("a",)) for value in earlier]
    found = float(oddness(moment(readings(1, temperature_c=now), ("a",)), np.array(["x"]), past).past[0])
    known = [value for value in earlier if value is not None]
    wanted = 0.0
    if len(known) >= LEAST_PAST:
        middle = statistics.median(known)
        spread = max(1.4826 * statistics.median(abs(value - middle) for value in known), 2.0)
        wanted = max((now - middle) / spread, 0.0)
    assert found == pytest.approx(wanted)


def test_a_large_fleet_is_scored_as_the_same_devices_one_by_one() -> None:
    random = np.random.default_rng(1)
    ids = np.array(sorted(f"d{number:05}" for number in range(400)), str)
    past = [Moment(ids, random.normal(50, 5, (400, len(READINGS))).astype("<f4")) for _ in range(12)]
    now = Moment(ids, random.normal(50, 5, (400, len(READINGS))))
    whole = oddness(now, np.array(["x"] * 400), past).past
    for place in (0, 7, 399):
        one = Moment(ids[[place]], now.values[[place]])
        assert oddness(one, np.array(["x"]), past).past[0] == whole[place]


def test_a_clock_is_odd_whether_it_is_ahead_or_behind_and_not_when_it_is_the_hubs_that_is_wrong() -> None:
    table = readings(12, clock_ahead_s=-600.0)  # of all: then it is the hub's
    table[[2, 7], READINGS.index("clock_ahead_s")] = [-720.0, -480.0]
    found = oddness(moment(table), np.array(["pi"] * 12), [])
    assert np.flatnonzero(found.score).tolist() == [2, 7]
    assert found.score[2] == found.score[7] == 60.0


@pytest.mark.parametrize(("reading", "bad"), [("link_rtt_s", 9.0), ("link_reconnects", 20.0)])
def test_a_link_that_became_slow_or_breaks_often_is_odd_against_its_past(reading: str, bad: float) -> None:
    past = [moment(readings(1, **{reading: 0.2}), ("a",))] * LEAST_PAST
    found = oddness(moment(readings(1, **{reading: bad}), ("a",)), np.array(["x"]), past)
    assert found.past[0] > 10
    assert READINGS[found.past_reading[0]] == reading


# --- the hub --------------------------------------------------------------------------------------------------------
class Site:
    def __init__(self, url: str) -> None:
        self.db, self.clock = Database(url), FixedClock()
        self.history = DeviceHistory(self.db, self.clock)
        register(self.db, NAMES)
        blank = {
            c.name: c.type.python_type() for c in device_status.columns if not c.nullable and c.name != "device_id"
        }
        with self.db.write() as connection:
            connection.execute(insert(device_status), [{"device_id": name, **blank} for name in NAMES])
        self.tell()

    def tell(self, **odd: Any) -> None:
        """All devices tell of their machines; `odd` are readings of the last one."""
        calm = {"temperature_c": 40.0, "restarts": 2, "uptime_s": 5, "cpu_percent": None, "clock_synchronised": True}
        with self.db.write() as connection:
            for name in NAMES:
                system = calm | (odd if name == NAMES[-1] else {})
                heartbeat = {"disk_free_bytes": 10**10, "system": system, "agent_version": "x"}
                row = update(device_status).where(device_status.c.device_id == name)
                connection.execute(row.values(heartbeat=heartbeat, heartbeat_s=self.clock.at))

    def moments(self) -> int:
        with self.db.read() as connection:
            return int(connection.execute(select(func.count()).select_from(device_history)).scalar_one())


@pytest.fixture
def site(database_url: str) -> Iterator[Site]:
    site = Site(database_url)
    yield site
    site.db.close()


def test_the_history_is_bounded_and_no_moment_comes_before_its_time(site: Site) -> None:
    assert site.history.run() == len(NAMES)
    assert site.history.run() == 0, "a hub that is started again adds nothing"
    assert site.moments() == 1
    for _ in range(KEPT_COUNT + 3):
        site.clock.at += EVERY_S
        assert site.history.run() == len(NAMES)
    assert site.moments() == KEPT_COUNT


def test_a_device_is_held_against_its_own_past_over_restarts_of_the_hub(site: Site) -> None:
    for _ in range(LEAST_PAST):
        site.history.run()
        site.clock.at += EVERY_S
    assert [one.score for one in site.history.top(3)] == [0.0] * 3
    site.tell(restarts=9)
    again = DeviceHistory(site.db, site.clock)
    (first, second) = again.top(2)
    assert (first.device_id, first.reading, first.score) == (NAMES[-1], "restarts", 7.0)
    assert (first.past, first.peers, second.score) == (7.0, 7.0, 0.0)
    assert first.readings["clock_synchronised"] is True
    assert first.readings["disk_free_bytes"] == 10**10


def test_what_a_hub_kept_that_knew_fewer_readings_still_counts(site: Site) -> None:
    with site.db.write() as connection:
        for number in range(LEAST_PAST):
            old = np.full((len(NAMES), 7), np.nan, "<f4")
            old[:, READINGS.index("restarts")] = 2
            add_moment(connection, site.clock.at - 1 - number, "\n".join(NAMES).encode(), old.tobytes(), KEPT_COUNT)
            site.clock.at += EVERY_S
    site.tell(restarts=9, clock_ahead_s=1.0)
    (first, second) = site.history.top(2)
    assert (first.device_id, first.past, second.score) == (NAMES[-1], 7.0, 0.0)


def test_a_device_whose_clock_is_wrong_comes_first_and_says_by_how_much(site: Site) -> None:
    with site.db.write() as connection:
        row = select(device_status.c.device_id, device_status.c.heartbeat)
        for name, heartbeat in connection.execute(row).all():
            told = heartbeat | {"system": heartbeat["system"] | {"link": "mqtt", "clock_ahead_s": 0.25}}
            if name == NAMES[3]:
                told["system"]["clock_ahead_s"] = -90.5
            connection.execute(update(device_status).where(device_status.c.device_id == name).values(heartbeat=told))
    first = site.history.top(1)[0]
    assert (first.device_id, first.reading, first.against) == (NAMES[3], "clock_ahead_s", "peers")
    assert first.readings["clock_ahead_s"] == -90.5
    assert first.readings["link"] == "mqtt"


def test_a_clock_that_went_back_does_not_stop_the_history(site: Site) -> None:
    site.history.run()
    site.clock.at -= 10 * EVERY_S
    assert site.history.run() == len(NAMES)
    assert site.moments() == 1


def test_without_devices_there_is_nothing_to_keep(database_url: str) -> None:
    database = Database(database_url)
    history = DeviceHistory(database, FixedClock())
    assert (history.run(), history.top(5)) == (0, [])
    database.close()
