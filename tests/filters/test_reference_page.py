"""The reference of filters says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from hub.filters.language import parse_filter
from hub.store.filter_nodes import ALIASES, FIELDS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "filters.md").read_text()
TABLE = PAGE.partition("## Fields")[2].partition("## ")[0]


def test_every_field_has_its_row_with_its_kind_and_meaning() -> None:
    rows = re.findall(r"^\| `([a-z0-9_]+)(?:\.[A-Z]+)?`(?: `[^`]+`)? \| ([^|]+) \| ([^|]+) \|$", TABLE, re.MULTILINE)
    assert rows == [(name, field.kind.value, field.says) for name, field in FIELDS.items()]


def test_every_other_name_is_told() -> None:
    line = next(line for line in PAGE.splitlines() if line.startswith("Other names:"))
    assert re.findall(r"`(\w+)`", line) == list(ALIASES)


def test_every_filter_on_the_page_can_be_read() -> None:
    shown = re.findall(r"--filter '([^']+)'", PAGE)
    assert len(shown) > 5
    for text in shown:
        parse_filter(text)
