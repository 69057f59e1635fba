"""Maintenance windows: a cron expression with a duration, in a time zone. Values in, values out; hub and agent use it.

Cron has five fields, minute hour day month weekday, with `*`, lists, ranges, steps (`*/15`, `8-18/2`) and English
names (`mon`, `jan`). As in Vixie's and Debian's cron: where both day and weekday are restricted, either one suffices; 7
is Sunday too. A window opens at the start of each minute that the expression names and stays open for `duration_s` of
*elapsed* time, whatever the clocks on the wall do meanwhile.

When the clocks change:
- An opening in the skipped hour happens at the end of the gap: 02:30 at 03:00 summer time. Openings in one gap are one.
- An opening in the repeated hour happens once, the first time; only where the hour is `*` it happens both times.

Times are whole seconds since 1970. Errors `schedule.cron`, `schedule.duration`, `schedule.timezone` say what is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from itertools import pairwise
from zoneinfo import ZoneInfo

from shared import limits
from shared.errors import InvalidInput

__all__ = ["MAX_DURATION_S", "MIN_DURATION_S", "Opening", "Schedule", "current", "is_open", "longest_closed_s"]
__all__ += ["next_opening_s", "parse_schedule", "parse_zone"]

MIN_DURATION_S = 60
MAX_DURATION_S = 7 * 86400
_HORIZON_DAYS = 41 * 366
"""29 February on a given weekday comes back within forty years, also around 2100."""
_SLACK_S = 2 * 3600
"""What a change of the clocks can add to a closed time, with room."""
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day", 1, 31, ()),
    ("month", 1, 12, _MONTHS),
    ("weekday", 0, 7, _WEEKDAYS),
)


@dataclass(frozen=True, slots=True)
class Schedule:
    """A parsed window. `weekdays`: 0 is Sunday. `either_day`: day and weekday are both restricted."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either_day: bool
    every_hour: bool
    duration_s: int

    def names(self, day: date) -> bool:
        """Whether the window opens on this day."""
        if day.month not in self.months:
            return False
        of_month, of_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return (of_month or of_week) if self.either_day else (of_month and of_week)


@dataclass(frozen=True, slots=True)
class Opening:
    """One time that a window is open: from `opens_s` up to, not including, `closes_s`."""

    opens_s: int
    closes_s: int


# --- parsing --------------------------------------------------------------------------------------------------------
def parse_schedule(cron: str, duration_s: int) -> Schedule:
    """A window from text; errors `schedule.cron` (also for one that never opens) and `schedule.duration`."""
    if not MIN_DURATION_S <= duration_s <= MAX_DURATION_S:
        raise InvalidInput(
            "schedule.duration",
            f"A window of {duration_s} seconds is not possible.",
            hint=f"Use {MIN_DURATION_S} to {MAX_DURATION_S} seconds.",
        )
    parts = cron.lower().split() if len(cron) <= limits.MAX_CRON_CHARS else []
    if len(parts) != len(_FIELDS):
        raise _bad_cron(cron, "it has not five fields: minute hour day month weekday")
    minutes, hours, days, months, weekdays = (_field(cron, i, part) for i, part in enumerate(parts))
    schedule = Schedule(
        minutes=tuple(sorted(minutes)),
        hours=tuple(sorted(hours)),
        days=frozenset(days),
        months=frozenset(months),
        weekdays=frozenset(day % 7 for day in weekdays),
        either_day=not parts[2].startswith("*") and not parts[4].startswith("*"),
        every_hour=parts[1] == "*",
        duration_s=duration_s,
    )
    if next(_days_from(schedule, date(2000, 1, 1)), None) is None:
        raise _bad_cron(cron, "no day is like that, so it would never open")
    return schedule


def parse_zone(name: str) -> ZoneInfo:
    """The time zone of an IANA name such as `Europe/Paris`; error `schedule.timezone`."""
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError) as error:
        raise InvalidInput(
            "schedule.timezone",
            f"{name!r:.80} is not a time zone that this system knows.",
            hint="Use a name such as Europe/Paris or UTC; the zones come from the system or the package tzdata.",
        ) from error


def _bad_cron(cron: str, problem: str) -> InvalidInput:
    return InvalidInput(
        "schedule.cron",
        f"{cron!r:.120} is not a cron expression: {problem}.",
        hint="Example: '0 2 * * mon-fri' is 02:00 from Monday to Friday.",
    )


def _field(cron: str, index: int, text: str) -> set[int]:
    found: set[int] = set()
    for term in text.split(","):
        found |= _term(cron, index, term)
    return found


def _term(cron: str, index: int, term: str) -> set[int]:
    name, low, high, _ = _FIELDS[index]
    span, slash, step_text = term.partition("/")
    step = _number(cron, index, step_text) if slash else 1
    if step < 1:
        raise _bad_cron(cron, f"the step of the {name} is 0")
    if span == "*":
        return set(range(low, high + 1, step))
    first_text, dash, last_text = span.partition("-")
    if slash and not dash:
        raise _bad_cron(cron, f"the step of the {name} needs a range, as in {low}-{high}/{step}")
    first = _number(cron, index, first_text)
    last = _number(cron, index, last_text) if dash else first
    if not low <= first <= last <= high:
        raise _bad_cron(cron, f"the {name} {term!r:.20} is not in {low}-{high}")
    return set(range(first, last + 1, step))


def _number(cron: str, index: int, text: str) -> int:
    name, low, _, words = _FIELDS[index]
    if text in words:
        return words.index(text) + low
    if not (text.isascii() and text.isdigit() and len(text) <= 2):
        raise _bad_cron(cron, f"the {name} {text!r:.20} is not a number")
    return int(text)


# --- evaluating -----------------------------------------------------------------------------------------------------
def current(schedule: Schedule, zone: tzinfo, now_s: int) -> Opening | None:
    """The opening that began last, if it is still going on; None while the window is closed."""
    now_s = _bounded(now_s)
    day = _local_day(zone, now_s) + timedelta(days=1)
    last_day = _local_day(zone, now_s - schedule.duration_s) - timedelta(days=1)
    while day >= last_day:
        begun = [start for start in _openings_of(schedule, zone, day) if start <= now_s]
        if begun:
            start = max(begun)
            return Opening(start, start + schedule.duration_s) if now_s < start + schedule.duration_s else None
        day -= timedelta(days=1)
    return None


def is_open(schedule: Schedule, zone: tzinfo, now_s: int) -> bool:
    """Whether the window is open at this moment."""
    return current(schedule, zone, now_s) is not None


def next_opening_s(schedule: Schedule, zone: tzinfo, now_s: int) -> int:
    """When the window opens next, after this moment."""
    now_s = _bounded(now_s)
    for day in _days_from(schedule, _local_day(zone, now_s) - timedelta(days=1)):
        later = [start for start in _openings_of(schedule, zone, day) if start > now_s]
        if later:
            return min(later)
    raise InvalidInput("schedule.cron", "The window does not open again.")


@lru_cache(maxsize=256)
def longest_closed_s(schedule: Schedule) -> int:
    """At least the longest time that the window stays closed in any zone, changes of the clocks included."""
    marks = [60 * (60 * hour + minute) for hour in schedule.hours for minute in schedule.minutes]
    gaps = [later - earlier for earlier, later in pairwise(marks)]
    days = list(_days_from(schedule, date(2000, 1, 1)))
    most_days = max(((b - a).days for a, b in pairwise(days)), default=_HORIZON_DAYS)
    gaps.append(86400 * most_days - marks[-1] + marks[0])
    return max(0, max(gaps) + _SLACK_S - schedule.duration_s)


def _days_from(schedule: Schedule, first: date) -> Iterator[date]:
    for offset in range(_HORIZON_DAYS):
        day = first + timedelta(days=offset)
        if schedule.names(day):
            yield day


def _bounded(now_s: int) -> int:
    """A clock may say anything; the calendar ends, and the next opening may be decades away."""
    return min(max(now_s, 2 * MAX_DURATION_S), limits.MAX_CLOCK_S - 2 * _HORIZON_DAYS * 86400)


def _local_day(zone: tzinfo, now_s: int) -> date:
    return datetime.fromtimestamp(now_s, zone).date()


def _openings_of(schedule: Schedule, zone: tzinfo, day: date) -> Iterator[int]:
    """The moments at which the window opens on a day of the calendar in its zone; not always in order."""
    if not schedule.names(day):
        return
    for hour in schedule.hours:
        for minute in schedule.minutes:
            wall = datetime(day.year, day.month, day.day, hour, minute)  # noqa: DTZ001 - a wall time, its zone is apart
            first, second = (int(wall.replace(tzinfo=zone, fold=fold).timestamp()) for fold in (0, 1))
            if first > second:  # skipped: the moments lie on both sides of the change
                if not schedule.every_hour:
                    yield _change_between(zone, second, first)
                continue
            yield first
            if second != first and schedule.every_hour:
                yield second


def _change_between(zone: tzinfo, before_s: int, after_s: int) -> int:
    """The moment at which the zone's offset changes."""
    offset = datetime.fromtimestamp(before_s, zone).utcoffset()
    while after_s - before_s > 1:
        middle = (before_s + after_s) // 2
        if datetime.fromtimestamp(middle, UTC).astimezone(zone).utcoffset() == offset:
            before_s = middle
        else:
            after_s = middle
    return after_s
