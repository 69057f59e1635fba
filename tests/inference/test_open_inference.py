"""A third-party Open Inference Protocol client gets right answers over a real socket, in JSON and in binary."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from agent.inference.host import ModelHost
from agent.inference.local_api.server import LocalServer
from shared.bundle.manifest import TensorSpec
from tests.inference.conftest import Slot
from tests.models import load_digits, unpacked_digits

T = TypeVar("T")
Ask = Callable[[Callable[[Any], T]], Awaitable[T]]


@pytest.fixture
def server_loop(host: ModelHost) -> Iterator[int]:
    """The local API on a free loopback port, in a thread with its own event loop; the port."""
    ready: list[int] = []
    started, stop = threading.Event(), asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        loops.append(asyncio.get_running_loop())
        async with LocalServer(host, None, 0) as server:
            ready.append(server.port or 0)
            started.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert started.wait(10)
    yield ready[0]
    loops[0].call_soon_threadsafe(stop.set)
    thread.join(10)


@pytest.fixture
def client(server_loop: int) -> Iterator[Any]:
    client = triton.InferenceServerClient(f"127.0.0.1:{server_loop}", concurrency=4)
    yield client
    client.close()


def tensor(x: np.ndarray[Any, Any], binary: bool, datatype: str = "FP32", name: str = "image") -> Any:
    out = triton.InferInput(name, list(x.shape), datatype)
    out.set_data_from_numpy(x, binary_data=binary)
    return out


def test_health_and_metadata(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("digits")
    assert client.is_model_ready("digits", "1")
    assert not client.is_model_ready("digits", "2")
    assert not client.is_model_ready("faces")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    assert client.get_model_metadata("digits") == {
        "name": "digits",
        "versions": ["1"],
        "platform": "tflite",
        "inputs": [{"name": "image", "datatype": "FP32", "shape": [-1, 8, 8]}],
        "outputs": [{"name": "probs", "datatype": "FP32", "shape": [-1, 10]}],
    }
    assert client.get_model_repository_index() == [{"name": "digits", "version": "1", "state": "READY"}]


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False, None])
def test_answers_are_the_models_own(client: Any, host: ModelHost, binary_in: bool, binary_out: bool | None) -> None:
    x = load_digits().test_x[:5]
    outputs = None if binary_out is None else [triton.InferRequestedOutput("probs", binary_data=binary_out)]
    result = client.infer("digits", [tensor(x, binary_in)], outputs=outputs, request_id="r-7")
    assert np.array_equal(result.as_numpy("probs"), host.predict("digits", x))
    response = result.get_response()
    assert (response["id"], response["model_name"], response["model_version"]) == ("r-7", "digits", "1")


def test_a_version_in_the_path_must_be_the_one_that_serves(client: Any) -> None:
    x = load_digits().test_x[:1]
    assert client.infer("digits", [tensor(x, True)], model_version="1").as_numpy("probs").shape == (1, 10)
    with pytest.raises(InferenceServerException, match="version 1 is"):
        client.infer("digits", [tensor(x, True)], model_version="2")


@pytest.mark.parametrize("binary", [True, False])
def test_refusals_reach_the_client_as_text(client: Any, binary: bool) -> None:
    x = load_digits().test_x[:1]
    wrong = [
        ([tensor(x, binary, name="x")], "takes one, image"),
        ([tensor(x.astype(np.uint8), binary, "UINT8")], "takes float32"),
        ([tensor(x.reshape(1, 64), binary)], "takes \\[n, 8, 8\\]"),
        ([tensor(x, binary), tensor(x, binary, name="other")], "takes one, image"),
    ]
    for inputs, text in wrong:
        with pytest.raises(InferenceServerException, match=text):
            client.infer("digits", inputs)
    with pytest.raises(InferenceServerException, match="no output"):
        client.infer("digits", [tensor(x, binary)], outputs=[triton.InferRequestedOutput("other")])
    with pytest.raises(InferenceServerException, match="classification"):
        client.infer("digits", [tensor(x, binary)], outputs=[triton.InferRequestedOutput("probs", class_count=2)])
    with pytest.raises(InferenceServerException, match="NaN"):
        client.infer("digits", [tensor(np.full_like(x, np.nan), True)])


@pytest.mark.parametrize(
    ("datatype", "dtype"),
    [
        ("INT8", "int8"),
        ("UINT8", "uint8"),
        ("INT16", "int16"),
        ("INT32", "int32"),
        ("INT64", "int64"),
        ("BOOL", "bool"),
    ],
)
def test_every_type_travels_in_both_forms(
    client: Any, host: ModelHost, tmp_path: Path, datatype: str, dtype: Any
) -> None:
    x = load_digits().test_x[:2].astype(dtype)
    preprocessing = [{"op": "cast", "dtype": "float32"}, {"op": "scale", "factor": 1 / 16}]
    spec = TensorSpec(name="image", dtype=dtype, shape=[8, 8])
    unpacked_digits(tmp_path / "s", model="typed", input=spec, preprocessing=preprocessing, golden_inputs=x)
    host.swap("typed", host.load("typed", tmp_path / "s"))
    expected = host.predict("typed", x)
    for binary in (True, False):
        result = client.infer("typed", [tensor(x, binary, datatype)])
        assert np.array_equal(result.as_numpy("probs"), expected)


def test_swaps_under_concurrent_clients_lose_no_request(server_loop: int, host: ModelHost, slot: Slot) -> None:
    data, stop = load_digits(), threading.Event()
    failures: list[str] = []
    versions: set[str] = set()

    def ask(number: int) -> None:
        client = triton.InferenceServerClient(f"127.0.0.1:{server_loop}")
        request = tensor(data.test_x[number : number + 1], number % 2 == 0)
        try:
            while not stop.is_set():
                versions.add(client.infer("digits", [request]).get_response()["model_version"])
        except InferenceServerException as error:
            failures.append(str(error))
        finally:
            client.close()

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for turn in range(30):
        host.swap("digits", host.load("digits", slot(1 + (turn + 1) % 2)))
    stop.set()
    for thread in threads:
        thread.join(20)
    assert failures == []
    assert versions == {"1", "2"}
