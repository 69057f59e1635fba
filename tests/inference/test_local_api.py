"""The local API over its real sockets: the other protocols' paths, bounds, refusals, and who may connect."""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from agent.inference.host import ModelHost
from agent.inference.local_api.server import LocalServer
from shared import limits
from shared.errors import Conflict, NotFound, StorageFailure
from tests.models import load_digits


class Controls:
    """What the daemon would answer."""

    def __init__(self) -> None:
        self.rolled_back: list[str] = []

    async def status(self) -> Any:
        return {"models": ["digits"]}

    async def history(self, model: str | None) -> Any:
        return [model]

    async def training(self) -> Any:
        return {}

    async def rollback(self, model: str) -> Any:
        if model != "digits":
            raise NotFound("model.unknown", "No such model.", hint="Look again.")
        self.rolled_back.append(model)
        return {"ok": True}

    async def install(self, folder: str) -> Any:
        return [folder]


@pytest.fixture
async def server(host: ModelHost, tmp_path: Path) -> AsyncIterator[LocalServer]:
    async with LocalServer(host, tmp_path / "agent.sock", 0, Controls()) as server:
        yield server


@pytest.fixture
async def client(server: LocalServer, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.AsyncHTTPTransport(uds=str(tmp_path / "agent.sock"))
    async with httpx.AsyncClient(transport=transport, base_url="http://agent") as client:
        yield client


def image() -> Any:
    return load_digits().test_x[0].tolist()


async def test_tensorflow_servings_paths(client: httpx.AsyncClient, host: ModelHost) -> None:
    x = load_digits().test_x[:2]
    expected = host.predict("digits", x)
    for body, key in (
        ({"instances": x.tolist()}, "predictions"),
        ({"instances": [{"image": row} for row in x.tolist()]}, "predictions"),
        ({"signature_name": "serving_default", "inputs": x.tolist()}, "outputs"),
        ({"inputs": {"image": x.tolist()}}, "outputs"),
    ):
        for path in ("/v1/models/digits:predict", "/v1/models/digits/versions/1:predict"):
            answer = await client.post(path, json=body)
            assert answer.status_code == 200, answer.text
            assert np.allclose(answer.json()[key], expected)
    status = (await client.get("/v1/models/digits")).json()["model_version_status"]
    assert (status[0]["version"], status[0]["state"]) == ("1", "AVAILABLE")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 400, "body.malformed"),
        ({"instances": [[1]], "inputs": [[1]]}, 400, "body.malformed"),
        ({"instances": [{"other": [[1]]}]}, 400, "input.name"),
        ({"inputs": {"other": [1]}}, 400, "input.name"),
        ({"instances": [["a"]]}, 400, "input.data"),
        ({"instances": [[1, 2], [3]]}, 400, "input.data"),
        ({"instances": [[[1] * 8] * 7]}, 400, "input.shape"),
        ({"instances": []}, 400, "input.shape"),
        ({"inputs": 5}, 400, "input.shape"),
        ({"inputs": {"image": None}}, 400, "input.data"),
        ({"instances": [[[1e300] * 8] * 8]}, 400, "input.not_finite"),
        ({"instances": [[[0] * 8] * 8] * (limits.MAX_INFER_BATCH_COUNT + 1)}, 413, "input.too_many"),
    ],
)
async def test_wrong_instances_are_refused(client: httpx.AsyncClient, body: Any, status: int, code: str) -> None:
    answer = await client.post("/v1/models/digits:predict", json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert isinstance(answer.json()["error"], str)


async def test_torchserves_path(client: httpx.AsyncClient, host: ModelHost) -> None:
    x = load_digits().test_x[:1]
    probs = host.predict("digits", x)[0]
    best = [str(i) for i in np.argsort(-probs)[:5]]
    for path in ("/predictions/digits", "/predictions/digits/1"):
        one = (await client.post(path, json=image())).json()
        assert list(one) == best
        assert one[best[0]] == pytest.approx(float(probs.max()))
    assert (await client.post("/predictions/digits", json={"data": [image()]})).json() == [one]
    raw = await client.post(
        "/predictions/digits", content=x.tobytes(), headers={"content-type": "application/octet-stream"}
    )
    assert raw.json() == one
    short = await client.post(
        "/predictions/digits", content=b"123", headers={"content-type": "application/octet-stream"}
    )
    assert (short.status_code, short.json()["code"]) == (400, "input.shape")
    assert (await client.get("/ping")).json() == {"status": "Healthy"}


def infer_body(**changes: Any) -> dict[str, Any]:
    tensor = {"name": "image", "shape": [1, 8, 8], "datatype": "FP32", "data": image()}
    return {"inputs": [tensor | changes]}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"datatype": "FP64"}, "input.dtype"),
        ({"datatype": "UINT8"}, "input.dtype"),
        ({"shape": [8, 8]}, "input.shape"),
        ({"shape": [2, 8, 8]}, "input.shape"),
        ({"shape": [-1, 8, 8]}, "input.shape"),
        ({"shape": [1 << 40, 1 << 40]}, "input.too_many"),
        ({"data": None}, "input.data"),
        ({"data": {"a": 1}}, "input.data"),
        ({"data": ["1"] * 64}, "input.data"),
        ({"data": [10**30] * 64}, "input.data"),
        ({"name": "x"}, "input.name"),
        ({"parameters": {"binary_data_size": 256}}, "body.malformed"),
        ({"parameters": {"shared_memory_region": "r"}}, "infer.unsupported_parameter"),
    ],
)
async def test_wrong_tensors_are_refused(client: httpx.AsyncClient, change: dict[str, Any], code: str) -> None:
    answer = await client.post("/v2/models/digits/infer", json=infer_body(**change))
    assert answer.json()["code"] == code
    assert answer.status_code in (400, 413)


async def test_flat_and_nested_data_mean_the_same(client: httpx.AsyncClient) -> None:
    flat = load_digits().test_x[0].reshape(-1).tolist()
    answers = [
        (await client.post("/v2/models/digits/infer", json=infer_body(data=data))).json()["outputs"]
        for data in (image(), flat, [image()])
    ]
    assert answers[0] == answers[1] == answers[2]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'{"inputs":[]}',
        b"\xff\xfe",
        b'{"inputs":' + b"[" * 100_000,
        b'{"inputs":[{"name":1}]}',
    ],
)
async def test_malformed_bodies_are_refused(client: httpx.AsyncClient, content: bytes) -> None:
    answer = await client.post("/v2/models/digits/infer", content=content)
    assert (answer.status_code, answer.json()["code"]) == (400, "body.malformed")
    answer = await client.post("/v1/models/digits:predict", content=content)
    assert answer.status_code == 400
    assert answer.json()["code"] in ("body.malformed", "input.shape", "input.data", "input.name")


@pytest.mark.parametrize("length", ["-1", "1e3", "999999", "\u0661", "0x10", "5_0", ""])
async def test_a_wrong_header_length_is_refused(client: httpx.AsyncClient, length: str) -> None:
    headers = [(b"Inference-Header-Content-Length", length.encode())]
    answer = await client.post("/v2/models/digits/infer", json=infer_body(), headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "body.malformed")


async def test_binary_data_must_be_all_of_the_rest(client: httpx.AsyncClient) -> None:
    data = load_digits().test_x[:1].tobytes()
    for size, sent in ((256, data[:-1]), (256, data + b"x"), (255, data), (True, data), ("256", data)):
        tensor = {"name": "image", "shape": [1, 8, 8], "datatype": "FP32", "parameters": {"binary_data_size": size}}
        head = json.dumps({"inputs": [tensor]}).encode()
        headers = {"Inference-Header-Content-Length": str(len(head))}
        answer = await client.post("/v2/models/digits/infer", content=head + sent, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (400, "body.malformed")


async def test_a_body_over_the_bound_is_refused_with_and_without_a_length(client: httpx.AsyncClient) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(limits.MAX_INFER_BODY_BYTES // (1 << 20) + 1):
            yield bytes(1 << 20)

    for content in (bytes(limits.MAX_INFER_BODY_BYTES + 1), chunks()):
        answer = await client.post("/v2/models/digits/infer", content=content)
        assert (answer.status_code, answer.json()["code"]) == (413, "body.too_large")


async def test_a_compressed_body_is_refused(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v2/models/digits/infer", content=b"x", headers={"content-encoding": "gzip"})
    assert (answer.status_code, answer.json()["code"]) == (400, "body.encoding")


async def test_errors_have_one_shape_everywhere(client: httpx.AsyncClient) -> None:
    found = [
        await client.get("/nowhere"),
        await client.put("/v2/models/digits/infer"),
        await client.post("/v2/models/faces/infer", json=infer_body()),
        await client.get("/v2/models/faces"),
        await client.get("/v2/models/digits/versions/9"),
    ]
    assert [answer.status_code for answer in found] == [404, 405, 404, 404, 404]
    for answer in found:
        assert set(answer.json()) == {"error", "code", "hint", "retriable", "detail"}


async def test_readiness_follows_the_models(client: httpx.AsyncClient, host: ModelHost) -> None:
    assert (await client.get("/v2/health/ready")).status_code == 200
    host.unload("digits")
    assert (await client.get("/v2/health/ready")).status_code == 503
    assert (await client.get("/v2/health/live")).status_code == 200
    assert (await client.get("/v2/models/digits/ready")).status_code == 404


async def test_the_agents_own_paths_answer_on_the_unix_socket_only(
    client: httpx.AsyncClient, server: LocalServer
) -> None:
    assert (await client.get("/skerry/status")).json() == {"models": ["digits"]}
    assert (await client.get("/skerry/history?model=digits")).json() == ["digits"]
    assert (await client.get("/skerry/history")).json() == [None]
    assert (await client.post("/skerry/rollback", json={"model": "digits"})).json() == {"ok": True}
    unknown = await client.post("/skerry/rollback", json={"model": "faces"})
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model.unknown")
    for body in ({"model": "../x"}, {}, {"model": "a", "more": 1}):
        refused = await client.post("/skerry/rollback", json=body)
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "body.malformed")
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as loopback:
        for path in ("/skerry/status", "/skerry/history"):
            assert (await loopback.get(path)).status_code == 404
        assert (await loopback.post("/skerry/rollback", json={"model": "digits"})).status_code == 404


@pytest.mark.parametrize(
    "headers", [{"host": "evil.example"}, {"host": "127.0.0.1.evil.example:80"}, {"origin": "http://127.0.0.1"}]
)
async def test_web_pages_cannot_use_the_loopback_port(server: LocalServer, headers: dict[str, str]) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as loopback:
        answer = await loopback.get("/v2", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "api.cross_origin")
        assert (await loopback.get("/v2", headers={"host": f"localhost:{server.port}"})).status_code == 200


async def test_the_socket_is_for_owner_and_group_and_goes_away(host: ModelHost, tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    before = os.umask(0)
    os.umask(before)
    async with LocalServer(host, path) as server:
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert server.port is None
    assert not path.exists()
    assert os.umask(before) == before


async def test_a_stale_socket_is_replaced_and_a_live_one_is_not(host: ModelHost, tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stale:
        stale.bind(str(path))
    async with LocalServer(host, path):
        with pytest.raises(Conflict) as caught:
            async with LocalServer(host, path):
                raise AssertionError("two agents on one socket")
        assert caught.value.code == "api.socket_in_use"
        transport = httpx.AsyncHTTPTransport(uds=str(path))
        async with httpx.AsyncClient(transport=transport, base_url="http://agent") as client:
            assert (await client.get("/v2/health/live")).status_code == 200


async def test_a_socket_that_cannot_be_made_says_why(host: ModelHost, tmp_path: Path) -> None:
    with pytest.raises(StorageFailure):
        async with LocalServer(host, tmp_path / "missing" / "agent.sock"):
            raise AssertionError("served nowhere")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(Conflict) as caught:
            async with LocalServer(host, None, taken.getsockname()[1]):
                raise AssertionError("served on a port in use")
    assert caught.value.code == "api.port"
