"""The client turns every answer, also the odd ones, into a value or an error of ours."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from hub.cli.client import HubClient
from hub.cli.config import Connection
from shared import errors

URL = "https://hub.example:8443"
Handler = Callable[[httpx.Request], httpx.Response]


def client(handler: Handler) -> HubClient:
    return HubClient(Connection(url=URL, token="sk_secret", ca=None), transport=httpx.MockTransport(handler))


def refusal(handler: Handler, call: Callable[[HubClient], Any] = lambda it: it.get("/v1/x")) -> errors.SkerryError:
    with client(handler) as it, pytest.raises(errors.SkerryError) as caught:
        call(it)
    return caught.value


@pytest.mark.parametrize(
    ("status", "kind", "exit_code"),
    [
        (400, errors.InvalidInput, 2),
        (401, errors.Unauthorised, 3),
        (403, errors.Forbidden, 3),
        (404, errors.NotFound, 4),
        (405, errors.InvalidInput, 2),
        (409, errors.Conflict, 5),
        (413, errors.TooLarge, 2),
        (422, errors.Untrusted, 6),
        (429, errors.Unavailable, 7),
        (500, errors.InternalError, 1),
        (503, errors.Unavailable, 7),
        (507, errors.StorageFailure, 8),
    ],
)
def test_a_status_becomes_its_family(status: int, kind: type[errors.SkerryError], exit_code: int) -> None:
    body = {"error": {"code": "a.b", "message": "It is so.", "hint": "Do this.", "retriable": True, "request_id": "r1"}}
    error = refusal(lambda _request: httpx.Response(status, json=body))
    assert type(error) is kind
    assert errors.EXIT_CODES[error.family] == exit_code
    assert (error.code, error.message, error.hint, error.retriable) == ("a.b", "It is so.", "Do this.", True)
    assert error.detail["request_id"] == "r1"


@pytest.mark.parametrize("content", [b"", b"<html>502</html>", b'{"detail": "x"}', b'{"error": "x"}', b"\xff"])
def test_an_answer_of_something_else_than_a_hub_is_named(content: bytes) -> None:
    error = refusal(lambda _request: httpx.Response(502, content=content))
    assert (error.code, error.family) == ("hub.unexpected_answer", "unavailable")
    assert URL in error.message


def test_a_redirect_is_not_followed() -> None:
    error = refusal(lambda _request: httpx.Response(302, headers={"Location": "https://elsewhere.example/"}))
    assert error.code == "hub.unexpected_answer"


def test_success_that_is_not_json_is_an_error() -> None:
    assert refusal(lambda _request: httpx.Response(200, content=b"<html>")).code == "hub.unexpected_answer"


def test_a_hub_that_does_not_answer_in_time_is_retriable() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("slow", request=request)

    error = refusal(handler)
    assert (error.code, error.family, error.retriable) == ("hub.timeout", "unavailable", True)


def test_a_raw_answer_over_its_bound_is_refused() -> None:
    handler: Handler = lambda _request: httpx.Response(200, content=b"x" * 101)  # noqa: E731
    assert refusal(handler, lambda it: it.get_bytes("/v1/x", limit=100)).code == "hub.answer_too_large"


def test_the_token_is_sent_and_empty_query_values_are_not() -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={})

    with client(handler) as it:
        it.get("/v1/x", a=1, b=None)
    assert seen[0].headers["Authorization"] == "Bearer sk_secret"
    assert str(seen[0].url) == f"{URL}/v1/x?a=1"


def test_pages_are_followed_to_their_end_or_limit() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        start = int(request.url.params.get("cursor", "0"))
        count = min(int(request.url.params["limit"]), 3)
        end = start + count
        return httpx.Response(200, json={"items": list(range(start, end)), "next": str(end) if end < 9 else None})

    with client(handler) as it:
        assert list(it.pages("/v1/x")) == list(range(9))
        assert list(it.pages("/v1/x", limit=4)) == [0, 1, 2, 3]


def test_a_cursor_that_stands_still_ends_the_list() -> None:
    handler: Handler = lambda _request: httpx.Response(200, json={"items": [1], "next": "same"})  # noqa: E731
    with client(handler) as it:
        assert list(it.pages("/v1/x")) == [1, 1]


def test_an_upload_tells_its_length_and_progress(tmp_path: Path) -> None:
    file = tmp_path / "it.bundle"
    file.write_bytes(b"x" * 600_000)
    seen: list[tuple[int, int]] = []

    def handler(request: httpx.Request) -> httpx.Response:
        assert request.headers["Content-Length"] == "600000"
        assert "Transfer-Encoding" not in request.headers
        return httpx.Response(200, json={"sha256": hashlib.sha256(request.read()).hexdigest()})

    with client(handler) as it:
        answer = it.upload("/v1/x", file, lambda done, total: seen.append((done, total)))
    assert answer["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert seen[-1] == (600_000, 600_000)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    error = refusal(lambda _request: httpx.Response(200), lambda it: it.upload("/v1/x", tmp_path / "absent"))
    assert error.code == "cli.file"


def test_a_download_appears_only_when_its_digest_is_right(tmp_path: Path) -> None:
    out = tmp_path / "it.bundle"
    right = hashlib.sha256(b"content").hexdigest()
    error = refusal(
        lambda _request: httpx.Response(200, content=b"other"), lambda it: it.download("/v1/x", out, sha256=right)
    )
    assert (error.code, error.family) == ("cli.digest_mismatch", "untrusted")
    assert list(tmp_path.iterdir()) == []
    with client(lambda _request: httpx.Response(200, content=b"content")) as it:
        assert it.download("/v1/x", out, sha256=right) == 7
    assert out.read_bytes() == b"content"
    assert list(tmp_path.iterdir()) == [out]


def test_bytes_are_sent_as_they_are() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"got": request.read().decode(), "kind": request.headers["Content-Type"]})

    with client(handler) as it:
        answer = it.put_bytes("/v1/x", b"raw", role="a")
    assert answer == {"got": "raw", "kind": "application/octet-stream"}
    assert json.dumps(answer)
