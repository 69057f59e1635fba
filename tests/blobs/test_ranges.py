"""Range and conditional requests, by the rules of RFC 9110."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.blobs.ranges import entity_tag, matches, select_slice
from shared.errors import InvalidInput

TAG = entity_tag("ab" * 32)
OTHER = entity_tag("cd" * 32)


@pytest.mark.parametrize(
    ("header", "first", "last", "partial"),
    [
        (None, 0, 99, False),
        ("bytes=0-", 0, 99, True),
        ("bytes=10-19", 10, 19, True),
        ("bytes=90-1000", 90, 99, True),
        ("bytes=-5", 95, 99, True),
        ("bytes=-1000", 0, 99, True),
        ("Bytes = 99-99 ", 99, 99, True),
        ("bytes=20-10", 0, 99, False),
        ("bytes=0-1,5-6", 0, 99, False),
        ("bytes=", 0, 99, False),
        ("bytes=-", 0, 99, False),
        ("bytes=a-b", 0, 99, False),
        ("bytes=\u0661-\u0662", 0, 99, False),
        ("lines=0-1", 0, 99, False),
        ("bytes=" + "9" * 2000 + "-", 0, 99, False),
    ],
)
def test_a_range_header_selects(header: str | None, first: int, last: int, partial: bool) -> None:
    found = select_slice(header, None, 100, TAG)
    assert (found.first, found.last, found.partial) == (first, last, partial)


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=100-200", "bytes=-0", "bytes=999999999999999999-"])
def test_a_range_beyond_the_end_is_refused_with_the_size(header: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        select_slice(header, None, 100, TAG)
    assert caught.value.code == "blob.range"
    assert caught.value.detail == {"size": 100}


@pytest.mark.parametrize("if_range", [OTHER, "W/" + TAG, "Mon, 23 Nov 2026 19:00:00 GMT", "", TAG[:-1]])
def test_if_range_with_anything_but_the_tag_gives_the_whole(if_range: str) -> None:
    assert not select_slice("bytes=10-", if_range, 100, TAG).partial


def test_if_range_with_the_tag_resumes() -> None:
    assert select_slice("bytes=10-", TAG, 100, TAG).content_range == "bytes 10-99/100"


def test_if_range_that_does_not_hold_hides_a_bad_range() -> None:
    assert select_slice("bytes=500-", OTHER, 100, TAG).length == 100


@pytest.mark.parametrize(
    ("header", "expected"), [(None, False), (TAG, True), (f"{OTHER}, W/{TAG}", True), ("*", True), (OTHER, False)]
)
def test_if_none_match_names_the_tag(header: str | None, expected: bool) -> None:
    assert matches(header, TAG) is expected


@given(header=st.text(alphabet="bytes=-,0123456789 ", max_size=30), size=st.integers(1, 1000))
def test_any_header_gives_a_slice_within_the_blob_or_416(header: str, size: int) -> None:
    try:
        found = select_slice(header, None, size, TAG)
    except InvalidInput as error:
        assert error.code == "blob.range"
    else:
        assert 0 <= found.first <= found.last < size
        assert found.partial or found.length == size
