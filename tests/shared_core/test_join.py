"""The join string survives copying, and damage to it is named."""

from __future__ import annotations

import pytest

from shared.errors import InvalidInput
from shared.join import Join, decode_join, encode_join

JOIN = Join(hub_url="https://hub.example:8443", token="ske_abc", ca_sha256="ab" * 32, tuf_root_sha256="cd" * 32)


def test_a_join_string_round_trips_with_stray_white_space() -> None:
    assert decode_join(f"  {encode_join(JOIN)}\n") == JOIN


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "skerry-join:",
        "skerry-join:%%%",
        encode_join(JOIN)[:-5],
        "skerry-join:" + "A" * 5000,
        "skerry-join:e30",
    ],
    ids=lambda t: t[:20],
)
def test_a_damaged_join_string_says_so(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        decode_join(text)
    assert caught.value.code == "join.malformed"
    assert caught.value.hint


@pytest.mark.parametrize("url", ["http://hub", "https://hub/path", "https://a b", "file:///etc/passwd"])
def test_a_hub_that_is_not_https_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput):
        decode_join(encode_join(Join(hub_url=url, token="t", ca_sha256="ab" * 32)))
