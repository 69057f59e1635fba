"""The filter language for devices: a bounded subset of RSQL.

    tag.site==north;(profile==raspberry-pi-4,profile==jetson-*);version.digits!=3

`;` is and, `,` is or, and binds tighter; parentheses group. Operators: `==`, `!=`, `=in=(a,b)`, `=out=(a,b)`.
Fields: `id`, `profile`, `status`, `tag.<key>`, `version.<model>`, `state.<model>`. `*` in an unquoted value stands for
any text, in either case; a value in single or double quotes is taken as it is. `all`, or nothing, is every active
device.
An error names the position (from 1) in the text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NoReturn, cast

from hub.store.device_filter import (
    Both,
    Comparison,
    Condition,
    Either,
    Everything,
    Field,
    Node,
    Pattern,
    device_condition,
)
from shared import ids, limits
from shared.errors import InvalidInput, TooLarge

__all__ = ["FIELDS", "compile_filter", "parse_filter"]

FIELDS = ("id", "profile", "status", "tag.<key>", "version.<model>", "state.<model>")
_PLAIN = ("id", "profile", "status")
_KEYED = {"tag": re.compile(ids.TAG_KEY_PATTERN), "version": re.compile(ids.MODEL_PATTERN)}
_KEYED["state"] = _KEYED["version"]
_STATUSES = ("active", "revoked")
_SELECTOR = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")
_OPERATOR = re.compile(r"==|!=|=in=|=out=")
_VALUE = re.compile(r"[^\s'\"();,<>=!~]+")
_SPACE = re.compile(r"\s*")
_MAX_VALUE_CHARS = 128
_MAX_WILDCARDS_COUNT = 4


def compile_filter(text: str) -> Condition:
    """The condition on the table `devices` for a filter; `InvalidInput` (`filter.*`) when it is not one."""
    return device_condition(parse_filter(text))


def parse_filter(text: str) -> Node:
    """The parsed filter; errors `filter.too_large`, `filter.syntax`, `filter.field`, `filter.value`."""
    if len(text) > limits.MAX_FILTER_CHARS:
        raise TooLarge("filter.too_large", f"The filter is longer than {limits.MAX_FILTER_CHARS} characters.")
    if text.strip() in ("", "all"):
        return Everything()
    parser = _Parser(text)
    node = parser.either(0)
    if parser.position < len(text):
        parser.fail("unexpected text; expected ';', ',' or the end")
    return node


@dataclass(slots=True)
class _Parser:
    """Recursive descent; `position` is always behind white space."""

    text: str
    position: int = 0
    terms: int = 0

    def __post_init__(self) -> None:
        self.skip()

    def fail(self, problem: str, code: str = "filter.syntax", at: int | None = None) -> NoReturn:
        place = (self.position if at is None else at) + 1
        raise InvalidInput(
            code,
            f"The filter is not valid at position {place}: {problem}.",
            hint=f"Example: tag.site==north;profile=in=(raspberry-pi-4,x86-gateway). Fields: {', '.join(FIELDS)}.",
            detail={"position": place},
        )

    def skip(self) -> None:
        found = _SPACE.match(self.text, self.position)
        self.position = found.end() if found else self.position

    def take(self, literal: str) -> bool:
        if not self.text.startswith(literal, self.position):
            return False
        self.position += len(literal)
        self.skip()
        return True

    def match(self, pattern: re.Pattern[str], expected: str) -> str:
        found = pattern.match(self.text, self.position)
        if found is None:
            self.fail(f"expected {expected}")
        self.position = found.end()
        self.skip()
        return found[0]

    def either(self, depth: int) -> Node:
        parts = [self.both(depth)]
        while self.take(","):
            parts.append(self.both(depth))
        return parts[0] if len(parts) == 1 else Either(tuple(parts))

    def both(self, depth: int) -> Node:
        parts = [self.term(depth)]
        while self.take(";"):
            parts.append(self.term(depth))
        return parts[0] if len(parts) == 1 else Both(tuple(parts))

    def term(self, depth: int) -> Node:
        if depth > limits.MAX_FILTER_DEPTH_COUNT:
            self.fail(f"parentheses nest deeper than {limits.MAX_FILTER_DEPTH_COUNT}", "filter.too_large")
        if self.take("("):
            node = self.either(depth + 1)
            if not self.take(")"):
                self.fail("expected ')'")
            return node
        return self.comparison()

    def comparison(self) -> Comparison:
        field, key = self.selector()
        operator = self.match(_OPERATOR, "one of == != =in= =out=")
        many = operator in ("=in=", "=out=")
        values = self.several(field) if many else (self.value(field),)
        return Comparison(field, key, values, negated=operator in ("!=", "=out="))

    def selector(self) -> tuple[Field, str]:
        start = self.position
        name, _, key = self.match(_SELECTOR, "a field").partition(".")
        if name in _PLAIN and not key:
            return cast(Field, name), ""
        if name not in _KEYED:
            self.fail(f"{name!r:.40} is not a field", "filter.field", start)
        if not _KEYED[name].match(key):
            example = "tag.site" if name == "tag" else f"{name}.digits"
            self.fail(f"{name} needs a name, as in {example}", "filter.field", start)
        return cast(Field, name), key

    def several(self, field: Field) -> tuple[Pattern, ...]:
        if not self.take("("):
            self.fail("expected '(' and a list of values")
        values = [self.value(field)]
        while self.take(","):
            values.append(self.value(field))
        if not self.take(")"):
            self.fail("expected ')'")
        return tuple(values)

    def value(self, field: Field) -> Pattern:
        start = self.position
        self.terms += 1
        if self.terms > limits.MAX_FILTER_TERMS_COUNT:
            self.fail(f"more than {limits.MAX_FILTER_TERMS_COUNT} values", "filter.too_large")
        pattern = self.quoted() if self.text[start : start + 1] in ("'", '"') else self.unquoted()
        if sum(map(len, pattern.pieces)) > _MAX_VALUE_CHARS or len(pattern.pieces) > _MAX_WILDCARDS_COUNT + 1:
            self.fail("the value is too long or has too many '*'", "filter.value", start)
        problem = _value_problem(field, pattern)
        if problem:
            self.fail(problem, "filter.value", start)
        return pattern

    def quoted(self) -> Pattern:
        quote = self.text[self.position]
        out: list[str] = []
        index = self.position + 1
        while index < len(self.text) and self.text[index] != quote:
            index += self.text[index] == "\\" and index + 1 < len(self.text)
            out.append(self.text[index])
            index += 1
        if index >= len(self.text):
            self.fail("the quote is not closed")
        self.position = index + 1
        self.skip()
        return Pattern(("".join(out),))

    def unquoted(self) -> Pattern:
        return Pattern(tuple(self.match(_VALUE, "a value").split("*")))


def _value_problem(field: Field, value: Pattern) -> str:
    exact = value.pieces[0] if len(value.pieces) == 1 else None
    if field == "version" and value.pieces != ("", "") and not _is_version(exact):
        return "a version is a number from 1, or '*' for any"
    if field == "status" and exact is not None and exact not in _STATUSES:
        return f"a status is one of {', '.join(_STATUSES)}"
    return ""


def _is_version(text: str | None) -> bool:
    return text is not None and text.isascii() and text.isdigit() and 1 <= int(text) <= ids.MAX_VERSION
