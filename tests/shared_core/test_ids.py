"""Hostile ids are refused; good ones pass unchanged."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import ids
from shared.errors import InvalidInput

HOSTILE = [
    "",
    ".",
    "..",
    "a/b",
    "a.b",
    "a*",
    "a>",
    "a+",
    "#",
    "$SYS",
    "a b",
    "A",
    "é",
    "-a",
    "_a",
    "a\n",
    "a\0",
    "x" * 64,
    None,
    3,
    b"a",
]


@pytest.mark.parametrize("text", HOSTILE, ids=repr)
def test_a_hostile_device_id_is_refused(text: object) -> None:
    with pytest.raises(InvalidInput) as caught:
        ids.parse_device_id(text)
    assert caught.value.code == "id.device"


@pytest.mark.parametrize("text", [*HOSTILE, "1digits"], ids=repr)
def test_a_hostile_model_name_is_refused(text: object) -> None:
    with pytest.raises(InvalidInput) as caught:
        ids.parse_model_name(text)
    assert caught.value.code == "id.model"


@given(st.from_regex(ids.DEVICE_PATTERN, fullmatch=True))
def test_a_good_device_id_is_one_topic_level_and_one_file_name(text: str) -> None:
    assert ids.parse_device_id(text) == text
    assert not set(text) & set("./*>+#$\\ \t\n\0")


@pytest.mark.parametrize("value", [0, -1, 2**31, "01x", "", "1.0", 1.0, True, None, "٣"], ids=repr)
def test_a_wrong_version_number_is_refused(value: object) -> None:
    with pytest.raises(InvalidInput) as caught:
        ids.parse_version(value)
    assert caught.value.code == "id.version"


def test_versions_may_come_as_text() -> None:
    assert ids.parse_version("12") == 12


@pytest.mark.parametrize(
    ("key", "value"), [("a b", "x"), ("site", ""), ("site", "a\nb"), ("site", "x" * 129), ("site", 3)]
)
def test_a_wrong_tag_is_refused(key: str, value: object) -> None:
    with pytest.raises(InvalidInput) as caught:
        ids.parse_tag(key, value)
    assert caught.value.code == "id.tag"


def test_tokens_are_fresh_and_say_what_they_are() -> None:
    assert ids.new_token("ske") != ids.new_token("ske")
    assert ids.new_token("ske").startswith("ske_")
