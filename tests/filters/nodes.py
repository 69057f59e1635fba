"""Hypothesis strategies for parsed filters: every field, operator and kind of value, near what the fleets have."""

from __future__ import annotations

from hypothesis import strategies as st

from hub.filters.values import OPERATORS, PLAIN
from hub.store.filter_nodes import (
    FIELDS,
    Both,
    Comparison,
    Either,
    Key,
    Kind,
    Moment,
    Node,
    Number,
    Operator,
    Pattern,
    Present,
    Value,
)
from tests.filters.reference import MODELS, NOW_S, NUMBERS, RELEASES, TAGS, WORDS

__all__ = ["GROUPS", "filters"]

GROUPS = ("listed", "northern", "nested")
_ORDERED = (Operator.LT, Operator.LE, Operator.GT, Operator.GE)
_PRINTABLE = st.characters(min_codepoint=32, max_codepoint=0x24F).filter(str.isprintable)
_TEXT = st.sampled_from(WORDS) | st.text(_PRINTABLE, min_size=1, max_size=6)
_NUMBER = st.sampled_from(NUMBERS) | st.integers(0, 2**53 - 1)


def _plain(text: str) -> bool:
    return PLAIN.fullmatch(text) is not None and "*" not in text


def _patterns(operator: Operator) -> st.SearchStrategy[Value]:
    exact = _TEXT.map(lambda text: Pattern((text,)))
    if operator is Operator.LIKE:
        pieces = st.lists(_TEXT | st.just(""), min_size=2, max_size=4).filter(any)
    else:  # `*` stands for any text only without quotes
        pieces = st.lists(_TEXT.filter(_plain) | st.just(""), min_size=2, max_size=4).filter(any)
    return exact | pieces.map(lambda found: Pattern(tuple(found)))


def _moments() -> st.SearchStrategy[Value]:
    relative = st.sampled_from((0, -299, -300, -301, -3600, -86_400)) | st.integers(-100_000, 100_000)
    return relative.map(lambda s: Moment(s, relative=True)) | relative.map(
        lambda s: Moment(int(NOW_S) + s, relative=False)
    )


def _values(name: str, operator: Operator) -> st.SearchStrategy[Value]:
    kind = FIELDS[name].kind
    if operator in _ORDERED:
        return _comparable(kind)
    present: st.SearchStrategy[Value] = st.just(Present())
    match kind:
        case Kind.FLAG:
            return st.sampled_from((Number(0), Number(1)))
        case Kind.GROUP:
            return st.sampled_from(GROUPS).map(lambda group: Pattern((group,)))
        case Kind.TIME:
            return present
        case Kind.TEXT | Kind.TAG | Kind.RELEASE:
            if name == "status":
                return present | st.sampled_from(("active", "revoked")).map(lambda word: Pattern((word,)))
            return present | _patterns(operator)
        case _:
            return present | _comparable(kind)


def _comparable(kind: Kind) -> st.SearchStrategy[Value]:
    match kind:
        case Kind.TIME:
            return _moments()
        case Kind.RELEASE:
            return st.sampled_from([word for word in RELEASES if word[:1].isdigit()]).map(lambda word: Pattern((word,)))
        case Kind.TAG | Kind.DECIMAL:
            return st.sampled_from((-0.5, 0.0, 0.5, 3.0, 12.25, 1000.0)).map(Number)
        case Kind.VERSION:
            return st.integers(1, 4).map(Number)
        case _:
            return _NUMBER.map(Number)


@st.composite
def _comparisons(draw: st.DrawFn) -> Comparison:
    name = draw(st.sampled_from(sorted(FIELDS)))
    operator = draw(st.sampled_from(sorted(OPERATORS[FIELDS[name].kind])))
    keys = {
        Key.TAG: TAGS,
        Key.MODEL: MODELS,
        Key.MODEL_OR_NONE: ("", *MODELS),
    }.get(FIELDS[name].key, ("",))
    values = _values(name, operator)
    many = st.lists(values, min_size=1, max_size=3) if operator in (Operator.IN, Operator.OUT) else values.map(_alone)
    return Comparison(name, draw(st.sampled_from(keys)), operator, tuple(draw(many)))


def _alone(value: Value) -> list[Value]:
    return [value]


def filters() -> st.SearchStrategy[Node]:
    """Any filter but `all`."""
    return st.recursive(
        _comparisons(),
        lambda parts: (
            st.lists(parts, min_size=2, max_size=3)
            .map(tuple)
            .flatmap(lambda chosen: st.sampled_from((Both(chosen), Either(chosen))))
        ),
        max_leaves=6,
    )
