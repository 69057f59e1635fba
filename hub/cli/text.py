"""Values as people read them. Pure: the time comes as an argument, and text from devices is made harmless."""

from __future__ import annotations

import datetime
import re

from shared.errors import InvalidInput

__all__ = [
    "ago",
    "duration",
    "parse_duration",
    "parse_pairs",
    "percent",
    "plain",
    "short_digest",
    "size",
    "style_of",
    "when",
]

_DURATION = re.compile(r"^([0-9]{1,9})(s|m|min|h|d|w)?\Z")
_UNIT_S = {None: 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}

_GOOD = frozenset(
    {"active", "approved", "committed", "finished", "idle", "keeping", "ok", "online", "passed", "published"}
    | {"succeeded"}
)
_BAD = frozenset(
    {"aborted", "error", "expired", "failed", "inconsistent", "lost", "never", "offline", "rejected", "reverted"}
    | {"revoked", "rolled_back", "rolling_back"}
)


def plain(value: object) -> str:
    """Text that a terminal shows and never obeys: control characters become `\\ufffd`; nothing becomes `-`."""
    if value is None or value == "":
        return "-"
    return "".join(char if char.isprintable() or char == "\n" else "\ufffd" for char in str(value))


def size(count_bytes: int | None) -> str:
    """Bytes in binary units."""
    if count_bytes is None:
        return "-"
    amount = float(count_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" or amount >= 100 else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def duration(seconds: float) -> str:
    """Seconds in the two greatest units."""
    left = max(0, int(seconds))
    parts: list[str] = []
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        amount, left = divmod(left, length)
        if amount or (unit == "s" and not parts):
            parts.append(f"{amount} {unit}")
    return " ".join(parts[:2])


def parse_duration(text: str) -> int:
    """Seconds from text such as `90`, `15m`, `2h` or `7d`; error `cli.duration`."""
    match = _DURATION.match(text)
    if match is None:
        raise InvalidInput("cli.duration", f"{text!r:.40} is not a duration.", hint="Write it like 90s, 15m, 2h or 7d.")
    return int(match[1]) * _UNIT_S[match[2]]


def parse_pairs(pairs: list[str]) -> dict[str, str]:
    """A mapping from words such as `site=north`; error `cli.pair`."""
    out: dict[str, str] = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign or not key or key in out:
            raise InvalidInput("cli.pair", f"{pair!r:.80} is not of the form KEY=VALUE, or is there twice.")
        out[key] = value
    return out


def ago(then_s: float | None, now_s: float) -> str:
    """How long ago, or how far ahead, a time in seconds since 1970 is."""
    if then_s is None:
        return "never"
    return f"{duration(now_s - then_s)} ago" if then_s <= now_s else f"in {duration(then_s - now_s)}"


def when(then_s: float | None) -> str:
    """A time in seconds since 1970 as ISO 8601 in UTC."""
    if then_s is None:
        return "-"
    return datetime.datetime.fromtimestamp(then_s, datetime.UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def percent(part: int, whole: int) -> str:
    """`part` of `whole` in percent; `-` of nothing."""
    return f"{100 * part / whole:.1f} %" if whole else "-"


def short_digest(sha256: str | None) -> str:
    """The first twelve digits, enough to recognise."""
    return sha256[:12] if sha256 else "-"


def style_of(state: str) -> str:
    """The colour of a state: green when all is well, red when not, yellow while it is on its way."""
    if state in _GOOD:
        return "green"
    return "red" if state in _BAD else "yellow"
