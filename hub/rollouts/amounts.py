"""Amounts as people write them, as whole numbers: `5%`, `24h`, `2026-03-01T02:00:00+01:00`. Nothing is rounded.

A number that is finer than the unit in which it is kept, a time without an offset from UTC, or a unit that nobody knows
is refused with the name of the field. Errors: `rollout.invalid`.
"""

from __future__ import annotations

import re
from datetime import datetime
from decimal import Decimal, InvalidOperation

from shared.errors import InvalidInput

__all__ = ["Amount", "basis_points", "invalid", "millionths", "moment_s", "seconds"]

Amount = int | float | str
"""A number, or a number with a unit."""

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"([0-9]{1,9}) ?([smhd])\Z")
_MAX_CHARS = 40


def invalid(field: str, problem: str, hint: str = "") -> InvalidInput:
    """The error for a field of a definition."""
    return InvalidInput("rollout.invalid", f"{field}: {problem}.", hint=hint, detail={"field": field})


def basis_points(value: Amount, field: str, low: int = 0, high: int = 10_000) -> int:
    """A percentage, `5`, `0.25` or `5%`, as hundredths of a per cent within the bounds."""
    number, _ = _decimal(value, field)
    scaled = number * 100
    if scaled != scaled.to_integral_value() or not low <= scaled <= high:
        raise invalid(field, f"{value} is not a percentage from {_plain(low)} to {_plain(high)} in steps of 0.01")
    return int(scaled)


def _plain(share_bp: int) -> str:
    return f"{Decimal(share_bp) / 100:f}"


def millionths(value: Amount, field: str) -> int:
    """A plain number such as `0.02`, or a percentage such as `2%`, in millionths."""
    number, percent = _decimal(value, field)
    scaled = number * (10_000 if percent else 1_000_000)
    if scaled != scaled.to_integral_value() or abs(scaled) > 10**15:
        raise invalid(field, f"{value} is too large or finer than a millionth")
    return int(scaled)


def _decimal(value: Amount, field: str) -> tuple[Decimal, bool]:
    text = str(value).strip()
    percent = text.endswith("%")
    try:
        number = Decimal(text.removesuffix("%").strip()) if len(text) <= _MAX_CHARS else Decimal("nan")
    except InvalidOperation:
        number = Decimal("nan")
    if not number.is_finite():
        raise invalid(field, f"{text[:_MAX_CHARS]!r} is not a number", "Write for example 2% or 0.02.")
    return number, percent


def seconds(value: Amount, field: str, low: int, high: int) -> int:
    """A duration, in seconds or as `90s`, `15m`, `24h`, `7d`, within the bounds."""
    found = _DURATION.match(value.strip()) if isinstance(value, str) else None
    if isinstance(value, int) and not isinstance(value, bool):
        number = value
    elif found:
        number = int(found[1]) * _UNITS_S[found[2]]
    else:
        raise invalid(field, f"{value!r:.40} is not a duration", "Write seconds, or for example 90s, 15m, 24h, 7d.")
    if not low <= number <= high:
        raise invalid(field, f"{number} seconds are not between {low} and {high}")
    return number


def moment_s(value: str | None, field: str) -> int | None:
    """Seconds since 1970 of an ISO 8601 time with an offset from UTC; None stays None."""
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        hint = "Write for example 2026-03-01T02:00:00+01:00; without an offset nobody knows which 02:00 is meant."
        raise invalid(field, f"{value!r:.40} is not a time with an offset from UTC", hint)
    return int(moment.timestamp())
