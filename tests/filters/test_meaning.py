"""What SQL chooses is what the plain meaning chooses, on both databases; and what is written reads the same."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import HealthCheck, assume, given, settings
from sqlalchemy import insert, select

from hub.filters.language import parse_filter, write_filter
from hub.filters.service import DeviceFilters
from hub.filters.values import OPERATORS
from hub.store import schema
from hub.store.database import Connection, Database
from hub.store.device_filter import Surroundings, device_condition
from hub.store.filter_nodes import FIELDS, Comparison, Key, Kind, Node, Operator, Pattern, Present
from shared.errors import TooLarge
from shared.limits import MAX_FILTER_CHARS
from tests.databases import Backend
from tests.filters.nodes import filters
from tests.filters.reference import NOW_S, ONLINE_S, Device, fleet, holds, store
from tests.fleet_kit import ManualClock

FLEET = fleet(Random(5), 150)
SAVED = {"northern": "tag.site=li=north,(profile==*o*;group!=nested)", "nested": "group==listed;tag.floor<100"}
GROUPS: dict[str, Node | None] = {"listed": None} | {name: parse_filter(text) for name, text in SAVED.items()}


@pytest.fixture(scope="module")
def connection(backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    with backend.fresh(tmp_path_factory.mktemp("meaning")) as url:
        db = Database(url)
        with db.write() as writing:
            store(writing, FLEET)
            for name, text in SAVED.items():
                values = {"name": name, "filter": text, "description": "", "created_s": 0.0, "changed_s": 0.0}
                writing.execute(insert(schema.device_groups).values(**values, created_by="t", changed_by="t"))
        with db.read() as reading:
            yield reading
        db.close()


def selected(connection: Connection, text: str) -> set[str]:
    condition = DeviceFilters(ManualClock(NOW_S), ONLINE_S).condition(connection, text)
    return set(connection.scalars(select(schema.devices.c.device_id).where(condition)))


def meant(node: Node) -> set[str]:
    return {device.device_id for device in FLEET if holds(node, device, GROUPS)}


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(node=filters())
def test_sql_chooses_what_the_filter_means(connection: Connection, node: Node) -> None:
    text = write_filter(node)
    assume(len(text) <= MAX_FILTER_CHARS)
    assert selected(connection, text) == meant(node)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(node=filters())
def test_what_is_written_reads_as_the_same_filter(node: Node) -> None:
    text = write_filter(node)
    assume(len(text) <= MAX_FILTER_CHARS)
    assert parse_filter(text) == node
    assert write_filter(parse_filter(text)) == text


def _comparisons_of(name: str) -> Iterator[str]:
    samples = {Kind.TIME: "-1h", Kind.FLAG: "true", Kind.GROUP: "listed", Kind.VERSION: "2", Kind.RELEASE: "1.10"}
    keys = {Key.TAG: ".site", Key.MODEL: ".digits", Key.MODEL_OR_NONE: ".digits"}
    kind = FIELDS[name].kind
    for operator in sorted(OPERATORS[kind]):
        word = "active" if name == "status" else samples.get(kind, "3")
        word = "*" if kind is Kind.TIME and operator in (Operator.EQ, Operator.NE) else word
        value = f"({word})" if operator in (Operator.IN, Operator.OUT) else word
        yield f"{name}{keys.get(FIELDS[name].key, '')}{operator}{value}"


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_takes_each_of_its_operators(connection: Connection, name: str) -> None:
    for text in _comparisons_of(name):
        assert selected(connection, text) == meant(parse_filter(text)), text


@pytest.mark.parametrize("text", ["profile=li=süd", "tag.site=li=SÜD", "profile==S*d", "profile==s*D"])
def test_case_is_that_of_ascii_letters_on_every_database(connection: Connection, text: str) -> None:
    assert selected(connection, text) == meant(parse_filter(text)) != set()


def test_the_fleets_tell_the_fields_apart() -> None:
    for name, field in FIELDS.items():
        if field.kind not in (Kind.FLAG, Kind.GROUP) and field.key is Key.NONE and name not in ("id", "status"):
            some = meant(Comparison(name, "", Operator.EQ, (Present(),)))
            assert some, name


def test_a_condition_speaks_of_devices_whatever_the_query_joins(connection: Connection) -> None:
    node = parse_filter("last_seen=gt=-1h;version.digits==*;requests=ge=0")
    around = Surroundings(now_s=NOW_S, online_since_s=NOW_S)
    tables = schema.devices.outerjoin(schema.device_status).outerjoin(
        schema.device_models, schema.device_models.c.device_id == schema.devices.c.device_id
    )
    query = select(schema.devices.c.device_id).select_from(tables).where(device_condition(node, around))
    assert set(connection.scalars(query)) == meant(node)


def test_a_device_that_has_not_said_is_found_by_the_opposites_only() -> None:
    silent = Device("new", {"status": "active", "profile": "x", "enrolled_s": 0.0}, {}, None, {}, {})
    for text in ("arch!=x", "arch=out=(x,y)", "version.digits!=2", "last_seen!=*", "memory_bytes!=4"):
        assert holds(parse_filter(text), silent, {}), text
    for text in ("arch==*", "arch=li=x*", "version.digits=lt=9", "last_seen=lt=-1s", "memory_bytes<4", "errors=ge=0"):
        assert not holds(parse_filter(text), silent, {}), text


def test_the_longest_filter_that_is_taken_runs(connection: Connection) -> None:
    deep = "".join("(id!=a,(" if n % 2 else "(id!=b;(" for n in range(8)) + "tag.site!=x" + "))" * 8
    wide = ",".join(f"tag.t{n}!=x" for n in range(70))
    for text in (deep, wide, "id=in=(" + ",".join("a" for _ in range(100)) + ")"):
        assert isinstance(selected(connection, text), set)


def test_a_filter_that_no_database_could_parse_is_refused(connection: Connection) -> None:
    text = "id!=a"
    for _ in range(16):
        text = f"id!=a,id!=b;({text})"
    with pytest.raises(TooLarge) as caught:
        selected(connection, text)
    assert caught.value.code == "filter.too_large"


def test_words_with_a_meaning_of_their_own_are_values_too() -> None:
    assert parse_filter("tag.site==and") == Comparison("tag", "site", Operator.EQ, (Pattern(("and",)),))
    assert parse_filter("tag.site==or or id==x") == parse_filter("tag.site==or,id==x")
