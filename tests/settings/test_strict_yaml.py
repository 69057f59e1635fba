"""YAML is read as it stands there, and everything surprising is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import strict_yaml
from shared.errors import InvalidInput, NotFound, SkerryError, TooLarge


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("12:30", "12:30"),
        ("2026-01-01", "2026-01-01"),
        ("007", "007"),
        ("0x10", "0x10"),
        (".nan", ".nan"),
        ("true", True),
        ("false", False),
        ("null", None),
        ("-5", -5),
        ("1e3", 1000.0),
        ("2.14", 2.14),
        ("'1'", "1"),
    ],
)
def test_a_word_means_what_stands_there(text: str, value: object) -> None:
    assert strict_yaml.load(f"key: {text}".encode(), what="it") == {"key": value}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: 1\na: 2", "twice"),
        ("x:\n  a: 1\n  a: 2", "twice"),
        ("a: &x 1\nb: *x", "aliases"),
        ("a: !!python/object:os.system x", "tags"),
        ("a: !!str 1", "tags"),
        ("1: a", "not text"),
        ("? [a]\n: b", "not text"),
        ("a: 1\n---\nb: 2", "another document"),
        ("a: [1,", "line 1"),
        ("[" * 5000, "recursion"),
    ],
)
def test_what_surprises_is_refused(text: str, problem: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        strict_yaml.load(text.encode(), what="hub.yaml")
    assert caught.value.code == "yaml.malformed"
    assert "hub.yaml" in caught.value.message
    assert problem in caught.value.message


def test_a_file_over_the_bound_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    path = tmp_path / "big.yaml"
    path.write_bytes(b"a: [" + b"x, " * 100)
    with pytest.raises(TooLarge):
        strict_yaml.load_file(path, limit=100)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"absent\.yaml") as caught:
        strict_yaml.load_file(tmp_path / "absent.yaml", limit=100)
    assert caught.value.code == "yaml.missing"


@given(st.binary(max_size=200))
def test_any_bytes_give_a_value_or_one_of_our_errors(data: bytes) -> None:
    try:
        strict_yaml.load(data, what="it")
    except SkerryError as error:
        assert error.code == "yaml.malformed"
