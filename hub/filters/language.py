"""The filter language for devices: RSQL with hawkBit's operators, read and written. Pure.

    tag.site==north;(profile==raspberry-pi-4,profile==jetson-*) and version.digits=lt=3 and last_seen>-1h

`;` or `and` is and, `,` or `or` is or, and binds tighter; parentheses group. Operators: `==`, `!=`, `=lt=` or `<`,
`=le=` or `<=`, `=gt=` or `>`, `=ge=` or `>=`, `=in=(a,b)`, `=out=(a,b)`, `=li=` (ignores case). `*` in an unquoted
value stands for any text, in either case; a value in single or double quotes is taken as it is, but for `=li=`, where
`*` keeps its meaning; `\\` in quotes takes the next character as it is. `all`, or nothing, is every active device.

Text, nesting and number of values are bounded. An error names the position (from 1) in the text. What is written from
a filter reads as the same filter.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NoReturn

from hub.filters.values import OPERATORS, PLAIN, NotAValue, read, written
from hub.store.filter_nodes import (
    ALIASES,
    FIELDS,
    Both,
    Comparison,
    Either,
    Everything,
    Key,
    Kind,
    Node,
    Operator,
    Pattern,
    Value,
)
from shared import ids, limits
from shared.errors import InvalidInput, TooLarge

__all__ = ["parse_filter", "write_filter"]

_STATUSES = ("active", "revoked")
_KEYS = {
    Key.TAG: re.compile(ids.TAG_KEY_PATTERN),
    Key.MODEL: re.compile(ids.MODEL_PATTERN),
    Key.MODEL_OR_NONE: re.compile(ids.MODEL_PATTERN),
    Key.GROUP_OR_NONE: re.compile(ids.GROUP_PATTERN),
}
_EXAMPLE_KEYS = {Key.TAG: "site", Key.MODEL: "digits"}
_SIGNS = {"<": Operator.LT, "<=": Operator.LE, ">": Operator.GT, ">=": Operator.GE}
_NEGATED = {Operator.EQ: Operator.NE, Operator.NE: Operator.EQ}
_SEVERAL = (Operator.IN, Operator.OUT)
_SELECTOR = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")
_OPERATOR = re.compile(r"==|!=|=(?:lt|le|gt|ge|in|out|li)=|<=|>=|<|>")
_AND = re.compile(r";|and(?=[\s(])", re.IGNORECASE)
_OR = re.compile(r",|or(?=[\s(])", re.IGNORECASE)
_SPACE = re.compile(r"\s*")


def parse_filter(text: str) -> Node:
    """The parsed filter; errors `filter.too_large`, `filter.syntax`, `filter.field`, `filter.operator`, `filter.value`.
    """
    if len(text) > limits.MAX_FILTER_CHARS:
        raise TooLarge("filter.too_large", f"The filter is longer than {limits.MAX_FILTER_CHARS} characters.")
    if text.strip() in ("", "all"):
        return Everything()
    parser = _Parser(text)
    node = parser.either(0)
    if parser.position < len(text):
        parser.fail("unexpected text; expected ';', ',' or the end")
    return node


def write_filter(node: Node) -> str:
    """The filter as text, with the fewest parentheses."""
    match node:
        case Everything():
            return "all"
        case Both(parts):
            return ";".join(f"({write_filter(p)})" if isinstance(p, Both | Either) else write_filter(p) for p in parts)
        case Either(parts):
            return ",".join(f"({write_filter(p)})" if isinstance(p, Either) else write_filter(p) for p in parts)
        case Comparison(field, key, operator, values):
            words = ",".join(written(node, value) for value in values)
            selector = f"{field}.{key}" if key else field
            return f"{selector}{operator}({words})" if operator in _SEVERAL else f"{selector}{operator}{words}"


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
            hint="Example: tag.site==north;profile=in=(raspberry-pi-4,x86-gateway);version.digits=lt=3."
            f" Fields: {', '.join(_shown(name) for name in FIELDS)}.",
            detail={"position": place},
        )

    def skip(self) -> None:
        found = _SPACE.match(self.text, self.position)
        self.position = found.end() if found else self.position

    def take(self, pattern: re.Pattern[str]) -> str:
        """What `pattern` matches here, or nothing."""
        found = pattern.match(self.text, self.position)
        if found is None:
            return ""
        self.position = found.end()
        self.skip()
        return found[0]

    def sign(self, literal: str) -> bool:
        if not self.text.startswith(literal, self.position):
            return False
        self.position += len(literal)
        self.skip()
        return True

    def either(self, depth: int) -> Node:
        parts = [self.both(depth)]
        while self.take(_OR):
            parts.append(self.both(depth))
        return parts[0] if len(parts) == 1 else Either(tuple(parts))

    def both(self, depth: int) -> Node:
        parts = [self.term(depth)]
        while self.take(_AND):
            parts.append(self.term(depth))
        return parts[0] if len(parts) == 1 else Both(tuple(parts))

    def term(self, depth: int) -> Node:
        if depth > limits.MAX_FILTER_DEPTH_COUNT:
            self.fail(f"parentheses nest deeper than {limits.MAX_FILTER_DEPTH_COUNT}", "filter.too_large")
        if self.sign("("):
            node = self.either(depth + 1)
            if not self.sign(")"):
                self.fail("expected ')'")
            return node
        return self.comparison()

    def comparison(self) -> Node:
        name, key = self.selector()
        start = self.position
        sign = self.take(_OPERATOR) or self.fail("expected one of == != < <= > >= =in= =out= =li=")
        operator = _SIGNS.get(sign) or Operator(sign)
        if name == "group" and key:
            return self.membership(key, operator, start)
        kind = FIELDS[name].kind
        if operator not in OPERATORS[kind]:
            can = " ".join(sorted(OPERATORS[kind]))
            self.fail(f"{name} is a {kind} and takes {can}, not {operator}", "filter.operator", start)
        values = self.several(name, operator) if operator in _SEVERAL else (self.value(name, operator),)
        return Comparison(name, key, operator, values)

    def membership(self, group: str, operator: Operator, at: int) -> Node:
        """`group.canaries==true` as `group==canaries`."""
        if operator not in _NEGATED:
            self.fail("group.NAME takes == or !=, and true or false", "filter.operator", at)
        value = self.value("online", operator)
        member = value == read(Kind.FLAG, Operator.EQ, ("true",))
        return Comparison("group", "", operator if member else _NEGATED[operator], (Pattern((group,)),))

    def selector(self) -> tuple[str, str]:
        start = self.position
        word = self.take(_SELECTOR) or self.fail("expected a field")
        first, dot, key = word.partition(".")
        name = ALIASES.get(first, first)
        if name not in FIELDS:
            self.fail(f"{first!r:.40} is not a field", "filter.field", start)
        takes = FIELDS[name].key
        if not dot and takes in (Key.NONE, Key.MODEL_OR_NONE, Key.GROUP_OR_NONE):
            return name, ""
        if takes is Key.NONE:
            self.fail(f"{name} takes no '.'", "filter.field", start)
        if not _KEYS[takes].match(key):
            example = _EXAMPLE_KEYS.get(takes, "digits" if takes is Key.MODEL_OR_NONE else "canaries")
            self.fail(f"{name} needs a name, as in {name}.{example}", "filter.field", start)
        return name, key

    def several(self, name: str, operator: Operator) -> tuple[Value, ...]:
        if not self.sign("("):
            self.fail("expected '(' and a list of values")
        values = [self.value(name, operator)]
        while self.sign(","):
            values.append(self.value(name, operator))
        if not self.sign(")"):
            self.fail("expected ')'")
        return tuple(values)

    def value(self, name: str, operator: Operator) -> Value:
        start = self.position
        self.terms += 1
        if self.terms > limits.MAX_FILTER_TERMS_COUNT:
            self.fail(f"more than {limits.MAX_FILTER_TERMS_COUNT} values", "filter.too_large")
        if self.text[start : start + 1] in ("'", '"'):
            pieces = self.quoted(splits=operator is Operator.LIKE)
        else:
            pieces = tuple((self.take(PLAIN) or self.fail("expected a value")).split("*"))
        try:
            if name == "status" and operator is not Operator.LIKE and len(pieces) == 1 and pieces[0] not in _STATUSES:
                raise NotAValue(f"a status is one of {', '.join(_STATUSES)}")
            return read(FIELDS[name].kind, operator, pieces)
        except NotAValue as error:
            self.fail(str(error), "filter.value", start)

    def quoted(self, *, splits: bool) -> tuple[str, ...]:
        """The text in quotes; `splits`: an unescaped `*` in it stands for any text."""
        quote = self.text[self.position]
        pieces: list[list[str]] = [[]]
        index = self.position + 1
        while index < len(self.text) and self.text[index] != quote:
            escaped = self.text[index] == "\\" and index + 1 < len(self.text)
            index += escaped
            if splits and not escaped and self.text[index] == "*":
                pieces.append([])
            else:
                pieces[-1].append(self.text[index])
            index += 1
        if index >= len(self.text):
            self.fail("the quote is not closed")
        self.position = index + 1
        self.skip()
        return tuple("".join(piece) for piece in pieces)


def _shown(name: str) -> str:
    key = FIELDS[name].key
    return f"{name}.<{key}>" if key in (Key.TAG, Key.MODEL) else name
