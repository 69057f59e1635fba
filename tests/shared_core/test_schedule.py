"""Windows: cron in five fields, and what happens on the nights on which the clocks change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import InvalidInput
from shared.schedule import (
    current,
    is_open,
    longest_closed_s,
    next_opening_s,
    parse_schedule,
    parse_zone,
)

PARIS = ZoneInfo("Europe/Paris")
HOUR = 3600


def at(text: str, zone: ZoneInfo = PARIS, fold: int = 0) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold).timestamp())


def utc(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


# --- the ordinary night ----------------------------------------------------------------------------------------------
def test_a_window_is_open_from_its_minute_up_to_but_not_including_its_end() -> None:
    window = parse_schedule("0 2 * * *", 2 * HOUR)
    opens = at("2026-06-10 02:00")
    assert not is_open(window, PARIS, opens - 1)
    assert is_open(window, PARIS, opens)
    assert is_open(window, PARIS, opens + 2 * HOUR - 1)
    assert not is_open(window, PARIS, opens + 2 * HOUR)
    assert next_opening_s(window, PARIS, opens - 1) == opens
    assert next_opening_s(window, PARIS, opens) == at("2026-06-11 02:00")


def test_a_window_that_began_yesterday_evening_is_still_open_after_midnight() -> None:
    window = parse_schedule("0 22 * * fri", 8 * HOUR)
    assert is_open(window, PARIS, at("2026-06-13 05:59"))  # a Saturday
    assert not is_open(window, PARIS, at("2026-06-13 06:00"))


def test_the_last_opening_counts_when_openings_overlap() -> None:
    window = parse_schedule("*/30 * * * *", HOUR)
    now = at("2026-06-10 02:40")
    opening = current(window, PARIS, now)
    assert opening is not None
    assert opening.opens_s == at("2026-06-10 02:30")
    assert opening.closes_s == at("2026-06-10 03:30")


# --- the night on which an hour is skipped: 29 March 2026, 02:00 becomes 03:00 --------------------------------------
def test_an_opening_in_the_skipped_hour_happens_when_the_gap_ends() -> None:
    change = utc("2026-03-29 01:00")
    for minute in (0, 15, 30, 59):
        window = parse_schedule(f"{minute} 2 * * *", HOUR)
        assert next_opening_s(window, PARIS, at("2026-03-28 12:00")) == change
        assert not is_open(window, PARIS, change - 1)
        assert is_open(window, PARIS, change)
        assert is_open(window, PARIS, at("2026-03-29 03:59"))
        assert not is_open(window, PARIS, at("2026-03-29 04:00"))


def test_several_openings_in_one_gap_are_one() -> None:
    window = parse_schedule("0,20,40 2 * * *", 10 * 60)
    opens = next_opening_s(window, PARIS, at("2026-03-29 01:00"))
    assert opens == utc("2026-03-29 01:00")
    assert next_opening_s(window, PARIS, opens) == at("2026-03-30 02:00")


def test_the_duration_is_elapsed_time_across_the_skipped_hour() -> None:
    window = parse_schedule("0 1 * * *", 2 * HOUR)  # 01:00 CET + 2 h = 04:00 CEST
    assert is_open(window, PARIS, at("2026-03-29 03:59"))
    assert not is_open(window, PARIS, at("2026-03-29 04:00"))


def test_every_hour_skips_the_hour_that_does_not_exist() -> None:
    window = parse_schedule("30 * * * *", 60)
    assert next_opening_s(window, PARIS, at("2026-03-29 01:30")) == at("2026-03-29 03:30")


# --- the night on which an hour comes twice: 25 October 2026, 03:00 becomes 02:00 -----------------------------------
def test_an_opening_in_the_repeated_hour_happens_the_first_time_only() -> None:
    window = parse_schedule("30 2 * * *", 20 * 60)
    first = utc("2026-10-25 00:30")
    assert next_opening_s(window, PARIS, at("2026-10-24 12:00")) == first
    assert is_open(window, PARIS, first)
    assert not is_open(window, PARIS, at("2026-10-25 02:35", fold=1))
    assert next_opening_s(window, PARIS, first) == at("2026-10-26 02:30")
    assert next_opening_s(window, PARIS, at("2026-10-25 02:10", fold=1)) == at("2026-10-26 02:30")


def test_the_duration_is_elapsed_time_across_the_repeated_hour() -> None:
    window = parse_schedule("0 2 * * *", 2 * HOUR)
    assert is_open(window, PARIS, at("2026-10-25 02:59", fold=1))
    assert not is_open(window, PARIS, at("2026-10-25 03:00"))


def test_every_hour_opens_in_both_passes_of_the_repeated_hour() -> None:
    window = parse_schedule("30 * * * *", 60)
    first = at("2026-10-25 02:30")
    assert next_opening_s(window, PARIS, first) == first + HOUR
    assert is_open(window, PARIS, first)
    assert is_open(window, PARIS, first + HOUR)


def test_half_an_hour_of_summer_time_is_handled_too() -> None:
    lord_howe = ZoneInfo("Australia/Lord_Howe")  # 02:00 becomes 02:30 on 4 October 2026
    window = parse_schedule("10 2 * * *", HOUR)
    opens = next_opening_s(window, lord_howe, at("2026-10-04 00:00", lord_howe))
    assert opens == at("2026-10-04 02:30", lord_howe)


# --- what is refused -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "cron",
    [
        "", "0 2 * *", "0 2 * * * *", "60 2 * * *", "0 24 * * *", "0 0 0 * *", "0 0 32 * *", "0 0 * 13 *", "0 0 * * 8",
        "0 5-2 * * *", "*/0 * * * *", "5/15 * * * *", "0 2 * * mond", "0 0 30 feb *", "0 0 31 4,6 *", "@daily",
        "0 -1 * * *", "0 2,, * * *", "0 ² * * *", "0 2 L * *", "0 2 * * 1#2", "0 " * 60,
    ],
)  # fmt: skip
def test_what_is_not_cron_or_never_opens_is_refused(cron: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_schedule(cron, HOUR)
    assert caught.value.code == "schedule.cron"


@pytest.mark.parametrize("duration_s", [0, 59, 7 * 86400 + 1, -5])
def test_a_duration_out_of_bounds_is_refused(duration_s: int) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_schedule("0 2 * * *", duration_s)
    assert caught.value.code == "schedule.duration"


@pytest.mark.parametrize("name", ["", "Europe/Atlantis", "../etc/passwd", "/etc/localtime", "CEST+1", "x" * 500])
def test_a_zone_that_is_not_known_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_zone(name)
    assert caught.value.code == "schedule.timezone"


def test_leap_day_opens_in_the_next_leap_year() -> None:
    window = parse_schedule("0 0 29 2 *", HOUR)
    assert next_opening_s(window, PARIS, at("2096-03-01 00:00")) == at("2104-02-29 00:00")


@pytest.mark.parametrize("now_s", [-(10**12), 0, 253_402_300_799, 10**15])
def test_a_wrong_clock_gets_an_answer(now_s: int) -> None:
    window = parse_schedule("0 2 * * *", HOUR)
    is_open(window, PARIS, now_s)
    next_opening_s(window, PARIS, now_s)


# --- against another implementation, and against the definition ------------------------------------------------------
_ONE = {"minute": (0, 59), "hour": (0, 23), "day": (1, 31), "month": (1, 12), "weekday": (0, 7)}


@st.composite
def fields(draw: st.DrawFn) -> str:
    def field(name: str) -> str:
        low, high = _ONE[name]
        number = st.integers(low, high)
        span = st.tuples(number, number).map(sorted).map(lambda p: f"{p[0]}-{p[1]}")
        wide = st.tuples(number, number).filter(lambda p: p[0] < p[1]).map(lambda p: f"{p[0]}-{p[1]}")
        stepped = st.tuples(wide, st.integers(1, 9)).map(lambda p: f"{p[0]}/{p[1]}")  # cronsim reads 5-5/1 as 5-59/1
        term = st.one_of(number.map(str), span, stepped)
        some = st.lists(term, min_size=1, max_size=3).map(",".join)
        return draw(
            st.one_of(st.just("*"), st.sampled_from(["*", "*/2", "*/7"]) if name != "hour" else st.just("*"), some)
        )

    return " ".join(field(name) for name in _ONE)


@settings(deadline=None)
@given(cron=fields(), start=st.integers(utc("2020-01-01"), utc("2035-01-01")))
def test_openings_in_utc_agree_with_cronsim(cron: str, start: int) -> None:
    try:
        window = parse_schedule(cron, 60)
    except InvalidInput:
        return  # a day that does not exist, such as 31 February
    theirs = next(CronSim(cron, datetime.fromtimestamp(start, UTC)))
    assert next_opening_s(window, ZoneInfo("UTC"), start) == int(theirs.timestamp())


@settings(deadline=None)
@given(
    hour=st.integers(0, 5),
    minute=st.integers(0, 59),
    start=st.sampled_from(["2026-03-28 12:00", "2026-10-24 12:00", "2027-03-27 12:00", "2027-10-30 12:00"]),
    days=st.integers(0, 3),
)
def test_openings_on_the_nights_of_change_agree_with_cronsim(hour: int, minute: int, start: str, days: int) -> None:
    cron = f"{minute} {hour} * * *"
    window = parse_schedule(cron, 60)
    mine = at(start)
    theirs = CronSim(cron, datetime.fromtimestamp(mine, PARIS))
    for _ in range(days + 1):
        mine = next_opening_s(window, PARIS, mine)
        assert mine == int(next(theirs).timestamp())


@settings(deadline=None)
@given(
    cron=fields(),
    duration=st.integers(1, 3 * 24 * 60).map(lambda minutes: minutes * 60),
    start=st.integers(utc("2026-01-01"), utc("2027-01-01")),
    zone=st.sampled_from(["Europe/Paris", "UTC", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe"]),
)
def test_open_means_that_an_opening_lies_within_the_duration(cron: str, duration: int, start: int, zone: str) -> None:
    try:
        window = parse_schedule(cron, duration)
    except InvalidInput:
        return
    where = parse_zone(zone)
    opens = next_opening_s(window, where, start)
    assert opens > start
    assert is_open(window, where, opens)
    assert is_open(window, where, opens + duration - 1)
    opening = current(window, where, start)
    if opening is None:
        assert opens - start <= longest_closed_s(window)
    else:
        assert opening.opens_s <= start < opening.closes_s
        assert opening.closes_s - opening.opens_s == duration


def test_the_longest_closed_time_covers_a_year_with_both_changes() -> None:
    window = parse_schedule("0 2 * * 6,0", HOUR)
    now, worst = at("2026-01-01 00:00"), 0
    while now < at("2027-01-01 00:00"):
        opens = next_opening_s(window, PARIS, now)
        worst = max(worst, opens - now)
        now = opens + HOUR
    assert worst <= longest_closed_s(window) <= worst + 3 * HOUR
    assert timedelta(seconds=worst).days >= 5
