"""The filter language: what it selects, what it refuses and where it says that the error is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, select

from hub.filters.language import parse_filter
from hub.store import schema
from hub.store.database import Connection, Database
from hub.store.device_filter import Condition, Surroundings, device_condition
from shared.errors import InvalidInput, TooLarge
from tests.databases import Backend

DEVICES = {
    "cam-1": ("active", "camera-armv7", {"site": "north", "line": "a"}, {"digits": (1, "committed")}),
    "cam-2": ("active", "camera-armv7", {"site": "south"}, {"digits": (2, "committed")}),
    "pi-1": ("active", "raspberry-pi-4", {"site": "north"}, {}),
    "pi_2": ("active", "raspberry-pi-4", {"site": "100% North"}, {"digits": (2, "rolled_back")}),
    "old-1": ("revoked", "raspberry-pi-4", {"site": "north"}, {}),
}
ALL = sorted(DEVICES)


@pytest.fixture(scope="module")
def connection(backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    with backend.fresh(tmp_path_factory.mktemp("filter")) as url:
        db = Database(url)
        _fill(db)
        with db.read() as connection:
            yield connection
        db.close()


def _fill(db: Database) -> None:
    with db.write() as connection:
        for device, (status, profile, tags, models) in DEVICES.items():
            connection.execute(
                insert(schema.devices).values(
                    device_id=device, status=status, profile=profile, hardware_id="", enrolled_s=0.0
                )
            )
            for key, value in tags.items():
                connection.execute(insert(schema.device_tags).values(device_id=device, key=key, value=value))
            for model, (version, state) in models.items():
                connection.execute(
                    insert(schema.device_models).values(
                        device_id=device, model=model, version=version, state=state, updated_s=0.0
                    )
                )


def compile_filter(text: str) -> Condition:
    return device_condition(parse_filter(text), Surroundings(now_s=0.0, online_since_s=0.0))


def selected(connection: Connection, text: str) -> list[str]:
    query = select(schema.devices.c.device_id).where(compile_filter(text))
    return sorted(connection.execute(query).scalars())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["cam-1", "cam-2", "pi-1", "pi_2"]),
        (" all ", ["cam-1", "cam-2", "pi-1", "pi_2"]),
        ("id==cam-1", ["cam-1"]),
        ("id==cam-*", ["cam-1", "cam-2"]),
        ("id==*_2", ["pi_2"]),
        ("id==pi_*", ["pi_2"]),
        ("id!=cam-*", ["old-1", "pi-1", "pi_2"]),
        ("id=in=(cam-1, pi-1)", ["cam-1", "pi-1"]),
        ("id=out=(cam-1,pi-*)", ["cam-2", "old-1", "pi_2"]),
        ("status==revoked", ["old-1"]),
        ("profile==raspberry-pi-4;status==active", ["pi-1", "pi_2"]),
        ("tag.site==north", ["cam-1", "old-1", "pi-1"]),
        ("tag.site!=north", ["cam-2", "pi_2"]),
        ("tag.line!=a", ["cam-2", "old-1", "pi-1", "pi_2"]),
        ("tag.line==*", ["cam-1"]),
        ("tag.site=='100% North'", ["pi_2"]),
        ('tag.site=="100% *"', []),
        ("tag.site==*NORTH", ["cam-1", "old-1", "pi-1", "pi_2"]),
        ("version.digits==2", ["cam-2", "pi_2"]),
        ("version.digits!=2", ["cam-1", "old-1", "pi-1"]),
        ("version.digits==*", ["cam-1", "cam-2", "pi_2"]),
        ("version.digits=in=(1,2);state.digits==committed", ["cam-1", "cam-2"]),
        ("state.digits==rolled_back", ["pi_2"]),
        ("version.other==1", []),
        ("id==cam-1,id==pi-1;tag.site==north", ["cam-1", "pi-1"]),
        ("(id==cam-1,id==pi-1);tag.line==a", ["cam-1"]),
        (" ( ( id == cam-1 ) ) ", ["cam-1"]),
        ("id==cam-1 or id==pi-1 and tag.site==north", ["cam-1", "pi-1"]),
        ("(id==cam-1 OR id==pi-1)and(tag.line==a)", ["cam-1"]),
        ("id=li=CAM-*", ["cam-1", "cam-2"]),
        ("tag.site=li='100% N*'", ["pi_2"]),
        ("tag.site=li=NORTH", ["cam-1", "old-1", "pi-1"]),
        ("tag.site=li='*\\**'", []),
        ("version.digits=gt=1", ["cam-2", "pi_2"]),
        ("version.digits < 2", ["cam-1"]),
        ("version.digits>=1;version.digits<=1", ["cam-1"]),
        ("version.digits=le=2;version.digits=ge=2", ["cam-2", "pi_2"]),
        ("enrolled==*;enrolled_s<+1h", ["cam-1", "cam-2", "old-1", "pi-1", "pi_2"]),
        ("enrolled=gt=1970-01-01T01:00+01:00", []),
        ("enrolled=ge=1970-01-01", ["cam-1", "cam-2", "old-1", "pi-1", "pi_2"]),
        ("online==false;status==active", ["cam-1", "cam-2", "pi-1", "pi_2"]),
        ("requests=ge=0;errors.digits==0", ["cam-1", "cam-2", "pi_2"]),
    ],
)
def test_a_filter_selects_exactly_these(connection: Connection, text: str, expected: list[str]) -> None:
    assert selected(connection, text) == expected


@pytest.mark.parametrize(
    ("text", "code", "position"),
    [
        ("site==north", "filter.field", 1),
        ("id==a;colour==red", "filter.field", 7),
        ("tag==north", "filter.field", 1),
        ("tag.Site==north", "filter.field", 1),
        ("id.x==a", "filter.field", 1),
        ("id=like=a", "filter.syntax", 3),
        ("id==", "filter.syntax", 5),
        ("id==a;", "filter.syntax", 7),
        ("id==a)", "filter.syntax", 6),
        ("(id==a", "filter.syntax", 7),
        ("id=in=a", "filter.syntax", 7),
        ("id=in=(a,)", "filter.syntax", 10),
        ("id=='a", "filter.syntax", 5),
        ("version.digits==new", "filter.value", 17),
        ("version.digits==0", "filter.value", 17),
        ("version.digits==1*", "filter.value", 17),
        ("status==online", "filter.value", 9),
        ("id==a*b*c*d*e*f", "filter.value", 5),
        ("id=lt=a", "filter.operator", 3),
        ("online==yes", "filter.value", 9),
        ("online=gt=true", "filter.operator", 7),
        ("enrolled==2026-01-01", "filter.value", 11),
        ("enrolled=in=(*)", "filter.operator", 9),
        ("enrolled=gt=2026-02-30", "filter.value", 13),
        ("enrolled=gt=2026-02-03T10:00", "filter.value", 13),
        ("enrolled=gt=1969-12-31", "filter.value", 13),
        ("enrolled=gt=1h", "filter.value", 13),
        ("last_seen=gt=*", "filter.value", 14),
        ("memory_bytes=gt=4XB", "filter.value", 17),
        ("memory_bytes=gt=99999999TiB", "filter.value", 17),
        ("cpu_count=gt=1.5", "filter.value", 14),
        ("cpu_count==4*", "filter.value", 12),
        ("tag.floor=gt=third", "filter.value", 14),
        ("agent_version=gt=nightly", "filter.value", 18),
        ("tag.site==''", "filter.value", 11),
        ("tag.site=='a\x00b'", "filter.value", 11),
        ("group=lt=a", "filter.operator", 6),
        ("group==A", "filter.value", 8),
        ("group==*", "filter.value", 8),
        ("online==*", "filter.value", 9),
        ("group.canaries=in=(true)", "filter.operator", 15),
        ("group.canaries==1", "filter.value", 17),
        ("requests.Digits==1", "filter.field", 1),
        ("id==a and", "filter.syntax", 7),
        ("id==a andid==b", "filter.syntax", 7),
    ],
)
def test_an_error_names_its_position(text: str, code: str, position: int) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_filter(text)
    assert caught.value.code == code
    assert caught.value.detail["position"] == position
    assert f"position {position}" in caught.value.message


@pytest.mark.parametrize(
    "text", ["(" * 20 + "id==a" + ")" * 20, "id=in=(" + ",".join("a" * 1 for _ in range(101)) + ")", "id==" + "a" * 200]
)
def test_depth_and_length_are_bounded(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_filter(text)
    assert caught.value.code in ("filter.too_large", "filter.value")


def test_an_overlong_filter_is_refused_before_it_is_read() -> None:
    with pytest.raises(TooLarge) as caught:
        parse_filter("(" * 5000)
    assert caught.value.code == "filter.too_large"


_FIELDS = ("id", "tag.site", "version.digits", "last_seen", "memory_bytes", "online", "requests", "agent_version")
_SIGNS = ("==", "!=", "=lt=", "=ge=", "=li=", "=in=", "=out=", "<", ">", *"();,*'\"\\%_")
_WORDS = ("-1h", "2026-01-01", "true", "4GiB", "1.10", "north", "7", " and ", " or ", "\x00", "\ud800", "\u0663")
_PARTS = st.sampled_from((*_FIELDS, *_SIGNS, *_WORDS))


@settings(max_examples=500, deadline=None)
@given(text=st.lists(_PARTS | st.text(max_size=3), max_size=14).map("".join))
def test_any_text_is_a_filter_that_runs_or_a_filter_error(connection: Connection, text: str) -> None:
    try:
        condition = compile_filter(text)
    except InvalidInput as error:
        assert error.code.startswith("filter.")
    else:
        connection.execute(select(schema.devices.c.device_id).where(condition)).all()


_TERMS = st.sampled_from(["id==cam-1", "id==cam-*", "tag.site==north", "tag.line!=a", "version.digits==2"])


@settings(deadline=None)
@given(left=_TERMS, right=_TERMS)
def test_and_binds_tighter_than_or(connection: Connection, left: str, right: str) -> None:
    a, b = set(selected(connection, left)), set(selected(connection, right))
    assert set(selected(connection, f"{left};{right}")) == a & b
    assert set(selected(connection, f"{left},{right}")) == a | b
    assert set(selected(connection, f"{left},{right};{left}")) == a | (b & a)
