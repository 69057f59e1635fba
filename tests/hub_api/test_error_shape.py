"""One error shape everywhere, whatever went wrong and wherever."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI

from hub.api.edge import Edge
from hub.api.errors import STATUS, install_error_handlers, status_of
from hub.api.server import server_context
from shared import errors
from shared.errors import EXIT_CODES, ErrorBody, SkerryError
from shared.limits import MAX_JSON_BODY_BYTES
from tests.hub_kit import HubKit

FIELDS = {*ErrorBody.__struct_fields__, "request_id"}
FAMILIES = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, SkerryError)]


def checked(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The error in an answer, after checking its shape."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == FIELDS
    assert body["error"]["code"] == code
    assert body["error"]["message"]
    assert body["error"]["request_id"] == answer.headers["x-request-id"]
    error: dict[str, Any] = body["error"]
    return error


def test_every_family_has_a_status_and_an_exit_code() -> None:
    assert set(STATUS) == set(EXIT_CODES) == {kind.family for kind in FAMILIES}


@pytest.mark.parametrize("family", FAMILIES, ids=lambda kind: str(kind.family))
async def test_each_family_is_answered_in_the_same_shape(family: type[SkerryError]) -> None:
    router = APIRouter()

    @router.get("/fail")
    def fail() -> None:
        raise family("some.code", "It failed.", hint="Try this.", retriable=True, detail={"retry_after_s": 7})

    app = FastAPI()
    install_error_handlers(app)
    app.include_router(router)
    app.add_middleware(Edge)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://hub") as client:
        answer = await client.get("/fail")
    error = checked(answer, STATUS[family.family], "some.code")
    assert (error["hint"], error["retriable"], error["detail"]) == ("Try this.", True, {"retry_after_s": 7})
    assert answer.headers["retry-after"] == "7"


async def test_an_unexpected_exception_says_nothing_of_itself_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    app = FastAPI()

    @app.get("/fail")
    def fail() -> None:
        raise RuntimeError("the password is swordfish")

    install_error_handlers(app)
    app.add_middleware(Edge)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://hub") as client:
        answer = await client.get("/fail")
    error = checked(answer, 500, "internal.unexpected")
    assert "swordfish" not in answer.text
    assert error["request_id"] in caplog.text
    assert "swordfish" in caplog.text


def test_an_unknown_path_has_the_shape(shared_kit: HubKit) -> None:
    checked(shared_kit.admin.get("/v1/nothing"), 404, "http.not_found")


def test_a_wrong_method_has_the_shape_and_names_the_right_ones(shared_kit: HubKit) -> None:
    answer = shared_kit.admin.delete("/v1/health")
    checked(answer, 405, "http.method")
    assert answer.headers["allow"] == "GET"


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("POST", "/v1/tokens", {"name": "x"}, "body.role"),
        ("POST", "/v1/tokens", {"name": "x", "role": "viewer", "typo": 1}, "body.typo"),
        ("GET", "/v1/devices?limit=0", None, "query.limit"),
        ("GET", "/v1/devices?limit=many", None, "query.limit"),
    ],
)
def test_a_validation_error_names_the_field(
    shared_kit: HubKit, method: str, path: str, body: dict[str, Any] | None, field: str
) -> None:
    error = checked(shared_kit.admin.request(method, path, json=body), 400, "request.invalid")
    assert error["detail"]["problems"][0]["field"] == field


def test_malformed_json_has_the_shape(shared_kit: HubKit) -> None:
    headers = {"content-type": "application/json"}
    checked(shared_kit.admin.post("/v1/tokens", content=b"{nope", headers=headers), 400, "request.invalid")
    checked(shared_kit.client().post("/v1/device/enrol", content=b"{nope", headers=headers), 400, "json.malformed")


def test_a_foreign_cursor_has_the_shape(shared_kit: HubKit) -> None:
    for cursor in ("!", "bm90anNvbg", "W10", "WzEsMiwzXQ", "W3sifV0"):
        checked(shared_kit.admin.get("/v1/devices", params={"cursor": cursor}), 400, "request.cursor")


def test_a_body_that_announces_too_much_is_refused_unread(shared_kit: HubKit) -> None:
    answer = shared_kit.admin.post("/v1/tokens", content=b" " * (MAX_JSON_BODY_BYTES + 1))
    checked(answer, 413, "request.too_large")


def test_a_body_without_a_length_is_counted_while_it_streams(shared_kit: HubKit) -> None:
    chunks = (b" " * 65_536 for _ in range(MAX_JSON_BODY_BYTES // 65_536 + 1))
    checked(shared_kit.admin.post("/v1/tokens", content=chunks), 413, "request.too_large")


def test_a_body_without_an_end_is_cut_off(shared_kit: HubKit) -> None:
    sent = 0

    def chunks() -> Any:
        nonlocal sent
        while sent < 64 * MAX_JSON_BODY_BYTES:
            sent += 64 * 1024
            yield b" " * (64 * 1024)

    with contextlib.suppress(httpx.TransportError):  # the answer, or the end of the connection: either will do
        checked(shared_kit.admin.post("/v1/tokens", content=chunks()), 413, "request.too_large")
    assert sent < 64 * MAX_JSON_BODY_BYTES


def test_a_wrong_content_length_does_not_get_past_the_bound(shared_kit: HubKit) -> None:
    port = shared_kit.hub.settings.port
    request = b"POST /v1/device/enrol HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n"
    with (
        socket.create_connection(("127.0.0.1", port)) as plain,
        shared_kit.tls().wrap_socket(plain, server_hostname="127.0.0.1") as tls,
    ):
        tls.sendall(request)
        assert tls.recv(64).startswith(b"HTTP/1.1 400")


async def test_a_body_that_stops_coming_ends_with_an_answer() -> None:
    app = FastAPI()

    @app.post("/take")
    async def take(body: dict[str, str]) -> None:
        raise AssertionError("never reached")

    install_error_handlers(app)
    edge = Edge(app, body_wait_s=0.05)
    sent: list[Any] = []

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/json"), (b"content-length", b"10")]
    scope = {
        "type": "http", "method": "POST", "path": "/take", "raw_path": b"/take", "query_string": b"",
        "headers": headers, "server": ("hub", 443), "client": ("c", 1), "scheme": "https", "http_version": "1.1",
        "root_path": "", "asgi": {"version": "3.0"},
    }  # fmt: skip
    await asyncio.wait_for(edge(scope, receive, send), 10)
    assert sent[0]["status"] == 408
    assert json.loads(sent[1]["body"])["error"]["code"] == "http.slow_body"


def test_a_database_that_is_away_is_said_so_and_may_be_tried_again(kit: HubKit) -> None:
    for file in kit.hub.settings.data_path.glob("hub.db*"):
        file.unlink()
    kit.hub.db.close()
    kit.hub.settings.data_path.joinpath("hub.db").mkdir()
    error = checked(kit.admin.get("/v1/devices"), 503, "database.unavailable")
    assert error["retriable"]
    checked(kit.client().get("/v1/health"), 503, "database.unavailable")


def test_answers_carry_security_headers_and_no_server_name(shared_kit: HubKit) -> None:
    answer = shared_kit.client().get("/v1/health")
    assert answer.json()["status"] == "ok"
    assert "server" not in answer.headers
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert len({shared_kit.client().get("/v1/health").headers["x-request-id"] for _ in range(3)}) == 3


def test_tls_is_1_2_or_newer(shared_kit: HubKit) -> None:
    assert server_context(shared_kit.hub.pki).minimum_version is ssl.TLSVersion.TLSv1_2


def test_a_status_of_its_own_wins_over_the_family() -> None:
    assert status_of(errors.InvalidInput("blob.range", "…")) == 416
    assert status_of(errors.InvalidInput("anything", "…")) == 400
