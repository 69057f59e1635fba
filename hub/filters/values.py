"""Values in filters: what a word means for a field of a kind, and how it is written again. Pure.

- Numbers are whole (`cpu_percent` and tags: also decimals) and compare as numbers. Bytes take a unit: `512MiB`, `4GB`.
- A time is a day (`2026-03-01`: its begin in UTC), a date and time with a zone (`2026-03-01T08:30+01:00`), seconds
  since 1970, or a duration from now with a sign (`-1h`, `+30m`).
- A model version is a number from 1. A software version is compared as text, and ordered as versions are.
- Text is one printable line, and not empty.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Mapping

from hub.store.filter_nodes import FIELDS, Comparison, Kind, Moment, Number, Operator, Pattern, Present, Value
from shared import ids, limits
from shared.software_version import sort_key

__all__ = ["OPERATORS", "PLAIN", "NotAValue", "read", "written"]

_EQUAL = frozenset({Operator.EQ, Operator.NE, Operator.IN, Operator.OUT})
_ORDERED = frozenset({Operator.LT, Operator.LE, Operator.GT, Operator.GE})
_LIKE = frozenset({Operator.LIKE})
OPERATORS = {
    Kind.TEXT: _EQUAL | _LIKE,
    Kind.TAG: _EQUAL | _LIKE | _ORDERED,
    Kind.RELEASE: _EQUAL | _LIKE | _ORDERED,
    Kind.INTEGER: _EQUAL | _ORDERED,
    Kind.DECIMAL: _EQUAL | _ORDERED,
    Kind.BYTES: _EQUAL | _ORDERED,
    Kind.VERSION: _EQUAL | _ORDERED,
    Kind.TIME: frozenset({Operator.EQ, Operator.NE}) | _ORDERED,
    Kind.FLAG: frozenset({Operator.EQ, Operator.NE}),
    Kind.GROUP: _EQUAL,
}
"""Which operators a kind of field takes."""

_MAX_CHARS = 128
_MAX_WILDCARDS_COUNT = 4
_WORDS = (Kind.TEXT, Kind.TAG, Kind.RELEASE)
_TIMES = "a time is like 2026-03-01, 2026-03-01T08:30Z, -1h (an hour ago) or seconds since 1970"
_FLAGS = {"true": Number(1), "false": Number(0)}
_INTEGER = re.compile(r"-?[0-9]{1,16}\Z")
_DECIMAL = re.compile(r"-?[0-9]{1,9}(?:\.[0-9]{1,6})?\Z")
_BYTES = re.compile(r"([0-9]{1,16})([kMGT]i?B|B)?\Z")
_FACTORS = {None: 1, "B": 1} | {
    f"{letter}{i}B": base**power
    for power, letter in enumerate("kMGT", 1)
    for i, base in (("", 1000), ("i", 1024))
}
_FROM_NOW = re.compile(r"([+-])([0-9]{1,9})(s|m|min|h|d|w)\Z")
_UNIT_S = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_SECONDS = re.compile(r"[0-9]{1,12}\Z")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}\Z")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(?::[0-9]{2})?(?:Z|[+-][0-9]{2}:[0-9]{2})\Z")
_GROUP = re.compile(ids.GROUP_PATTERN)
PLAIN = re.compile(r"[^\s'\"();,<>=!~]+")
"""What may stand without quotes."""


class NotAValue(ValueError):
    """The word is no value for the field; its text says what would be."""


def read(kind: Kind, operator: Operator, pieces: tuple[str, ...]) -> Value:
    """What a word means: its pieces of literal text, with a `*` that stands for any text between each two."""
    if not all(piece.isprintable() for piece in pieces) or sum(map(len, pieces)) > _MAX_CHARS:
        raise NotAValue(f"a value has at most {_MAX_CHARS} characters, all of them printable")
    if not any(pieces):
        return _any_or_nothing(kind, operator, pieces)
    if kind in _WORDS and operator not in _ORDERED:
        if len(pieces) > _MAX_WILDCARDS_COUNT + 1:
            raise NotAValue(f"more than {_MAX_WILDCARDS_COUNT} '*'")
        return Pattern(pieces)
    if len(pieces) != 1:
        raise NotAValue(f"'*' within a value is for text, and this is a {kind}")
    if kind is Kind.TIME and operator not in _ORDERED:
        raise NotAValue("no two times are the same; compare with < or >, or with '*' for any")
    return _READERS[kind](pieces[0])


def _any_or_nothing(kind: Kind, operator: Operator, pieces: tuple[str, ...]) -> Value:
    if len(pieces) == 1:
        raise NotAValue("a value is not empty; '*' stands for any")
    if operator in _ORDERED:
        raise NotAValue("'*' has no order")
    if kind in (Kind.FLAG, Kind.GROUP):
        raise NotAValue("it is true or false" if kind is Kind.FLAG else "it is the name of a group")
    return Present()


def _integer(word: str) -> Number:
    if not _INTEGER.match(word) or abs(int(word)) > limits.MAX_SEQ:
        raise NotAValue("this takes a whole number")
    return Number(int(word))


def _version(word: str) -> Number:
    if not _INTEGER.match(word) or not 1 <= int(word) <= ids.MAX_VERSION:
        raise NotAValue("a version is a number from 1, or '*' for any")
    return Number(int(word))


def _decimal(word: str) -> Number:
    if not _DECIMAL.match(word):
        raise NotAValue("this takes a number such as 3 or 0.5, of at most 9 digits and 6 decimals")
    return Number(float(word))


def _bytes(word: str) -> Number:
    match = _BYTES.match(word)
    count = int(match[1]) * _FACTORS[match[2]] if match else -1
    if not 0 <= count <= limits.MAX_SEQ:
        raise NotAValue("this takes bytes such as 1048576, 512MiB or 4GB")
    return Number(count)


def _moment(word: str) -> Moment:
    relative = _FROM_NOW.match(word)
    if relative:
        seconds = int(relative[2]) * _UNIT_S[relative[3]]
        if seconds <= limits.MAX_CLOCK_S:
            return Moment(-seconds if relative[1] == "-" else seconds, relative=True)
    elif _SECONDS.match(word) and int(word) <= limits.MAX_CLOCK_S:
        return Moment(int(word), relative=False)
    elif _DAY.match(word) or _TIME.match(word):
        return Moment(_seconds_of(word), relative=False)
    raise NotAValue(_TIMES)


def _seconds_of(word: str) -> int:
    try:
        moment = datetime.datetime.fromisoformat(word)
        seconds = (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp()
    except (ValueError, OverflowError) as error:
        raise NotAValue(f"there is no such time; {_TIMES}") from error
    if not 0 <= seconds <= limits.MAX_CLOCK_S:
        raise NotAValue(f"the time is before 1970 or after 9999; {_TIMES}")
    return int(seconds)


def _release(word: str) -> Pattern:
    if sort_key(word) is None:
        raise NotAValue("to order by, this takes a version such as 1.10 or 2.0rc1")
    return Pattern((word,))


def _group(word: str) -> Pattern:
    if not _GROUP.match(word):
        raise NotAValue("a group has a name such as canaries")
    return Pattern((word,))


def _flag(word: str) -> Number:
    if word not in _FLAGS:
        raise NotAValue("it is true or false")
    return _FLAGS[word]


_READERS: Mapping[Kind, Callable[[str], Value]] = {
    Kind.TAG: _decimal,
    Kind.RELEASE: _release,
    Kind.INTEGER: _integer,
    Kind.DECIMAL: _decimal,
    Kind.BYTES: _bytes,
    Kind.VERSION: _version,
    Kind.TIME: _moment,
    Kind.FLAG: _flag,
    Kind.GROUP: _group,
}


# --- and back ---------------------------------------------------------------------------------------------------------
def written(node: Comparison, value: Value) -> str:
    """The word for a value of a comparison, so that reading it gives the value again."""
    match value:
        case Present():
            return "*"
        case Pattern(pieces):
            return _word(node.operator, pieces)
        case Moment(seconds, relative):
            return f"{seconds:+d}s" if relative else _iso(seconds)
        case Number(number) if FIELDS[node.field].kind is Kind.FLAG:
            return "true" if number else "false"
        case Number(number):
            return str(number) if isinstance(number, int) else f"{number:.6f}".rstrip("0").rstrip(".")


def _iso(seconds: int) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat().replace("+00:00", "Z")


def _word(operator: Operator, pieces: tuple[str, ...]) -> str:
    bare = "*".join(pieces)
    if PLAIN.fullmatch(bare) and not any("*" in piece for piece in pieces):
        return bare
    escaped = (_quotable(piece, star=operator is Operator.LIKE) for piece in pieces)
    return f"'{'*'.join(escaped)}'"


def _quotable(piece: str, *, star: bool) -> str:
    plain = piece.replace("\\", "\\\\").replace("'", "\\'")
    return plain.replace("*", "\\*") if star else plain
