"""Version 1 of the wire: its bytes never change, and what a newer peer adds is ignored."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from shared import canonical
from shared.wire.down import CONDITIONAL_SCHEMA
from tests.wire.samples import JSON, MSGPACK

GOLDEN = Path(__file__).parents[1] / "golden" / "wire" / "v1"


@pytest.mark.parametrize("name", sorted(MSGPACK))
def test_messagepack_bytes_are_those_of_version_1(name: str) -> None:
    golden = (GOLDEN / f"{name}.msgpack").read_bytes()
    assert msgspec.msgpack.encode(MSGPACK[name]) == golden
    assert msgspec.msgpack.decode(golden, type=type(MSGPACK[name])) == MSGPACK[name]


@pytest.mark.parametrize("name", sorted(JSON))
def test_json_bytes_are_those_of_version_1(name: str) -> None:
    golden = (GOLDEN / f"{name}.json").read_bytes()
    assert canonical.dumps(JSON[name]) == golden
    assert canonical.loads_as(golden, type(JSON[name]), limit=100_000) == JSON[name]


@pytest.mark.parametrize("name", sorted(MSGPACK))
def test_a_field_of_a_newer_peer_is_ignored(name: str) -> None:
    newer = msgspec.to_builtins(MSGPACK[name], builtin_types=(bytes,)) | {"field_of_tomorrow": 1}
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(newer), type=type(MSGPACK[name])) == MSGPACK[name]


@pytest.mark.parametrize("name", sorted({**MSGPACK, **JSON}))
def test_every_message_says_its_schema_version(name: str) -> None:
    wanted = CONDITIONAL_SCHEMA if name == "assignment_shadow" else 1
    assert msgspec.to_builtins({**MSGPACK, **JSON}[name], builtin_types=(bytes,))["schema_version"] == wanted
