"""What applications tell: truths, counters and gauges, and counts of their own process; and what the agent shows."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from agent.drift.handover import Handover
from agent.drift.keeper import DriftKeeper
from agent.drift.settings import DriftSettings
from agent.inference.host import ModelHost
from agent.inference.local_api.server import LocalServer
from shared.clock import SystemClock
from shared.drift.build import ReferenceData
from shared.wire.window import Window
from tests.drift.kit import CONTRACT
from tests.models import load_digits, unpacked_digits

DATA = load_digits()


class Bench:
    """A served digits model with its keeper, and a client on the socket."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "a.sock"
        self.host = ModelHost()
        self.keeper = DriftKeeper(
            folder, DriftSettings(), put=self._put, post=lambda event: None, clock=SystemClock(), random=lambda: 1.0
        )
        self.host.watcher = self.keeper
        reference = ReferenceData(DATA.test_x, DATA.test_y)
        unpacked_digits(folder / "slot", reference=reference, contract=CONTRACT)
        self.host.swap("digits", self.host.load("digits", folder / "slot"))
        self.slot = folder / "slot"

    async def _put(self, body: msgspec.Struct) -> None:
        raise NotImplementedError

    def window(self) -> Window:
        monitor = self.keeper.monitors()["digits"]
        empty = Window(
            model="digits",
            version=1,
            series="0" * 16,
            window_id=1,
            started_s=0,
            ended_s=1,
            reference_sha256=monitor.digest,
        )
        return monitor.partial(empty)[0]

    async def ask(self, path: str, body: Any = None, **more: Any) -> httpx.Response:
        transport = httpx.AsyncHTTPTransport(uds=str(self.socket))
        async with httpx.AsyncClient(transport=transport, base_url="http://agent") as client:
            return await (client.get(path) if body is None else client.post(path, json=body, **more))

    async def infer(self, request_id: str, start: int = 0, count: int = 1) -> httpx.Response:
        x = DATA.test_x[start : start + count]
        tensor = {"name": "image", "datatype": "FP32", "shape": list(x.shape), "data": x.ravel().tolist()}
        return await self.ask("/v2/models/digits/infer", {"id": request_id, "inputs": [tensor]})


class NoControl:
    """Nothing is controlled here."""

    async def status(self) -> Any:
        return {}

    async def history(self, model: str | None) -> Any:
        return []

    async def training(self) -> Any:
        return {}

    async def rollback(self, model: str) -> Any:
        return {}

    async def install(self, folder: str) -> Any:
        return {}


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(tmp_path)
    async with LocalServer(made.host, made.socket, control=NoControl(), metrics=made.keeper.metrics):
        yield made
    made.host.close()


async def test_the_truth_about_a_request_is_counted(bench: Bench) -> None:
    for index in range(3):
        assert (await bench.infer(f"r{index}", index)).status_code == 200
    await bench.infer("batch", 3, 4)
    right = await bench.ask("/v2/models/digits/feedback", {"id": "r0", "label": str(DATA.test_y[0])})
    assert right.json() == {"id": "r0", "model_version": "1", "correct": [True]}
    wrong = await bench.ask("/v2/models/digits/versions/1/feedback", {"id": "r1", "label": None})
    assert wrong.json()["correct"] == [False]
    await bench.ask("/v2/models/digits/feedback", {"id": "r2", "correct": False})
    several = {"id": "batch", "labels": DATA.test_y[3:7].tolist()}
    assert len((await bench.ask("/v2/models/digits/feedback", several)).json()["correct"]) == 4
    told = bench.window().feedback
    assert (told.labelled, told.errors >= 2, bench.window().rows) == (7, True, 7)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"id": "nobody", "label": 1}, 404, "feedback.unknown_request"),
        ({"id": "known", "label": "seven"}, 400, "feedback.label"),
        ({"id": "known", "label": 10}, 400, "feedback.label"),
        ({"id": "known", "label": True}, 400, "body.malformed"),
        ({"id": "known", "labels": [1, 2]}, 400, "feedback.rows"),
        ({"id": "known"}, 400, "body.malformed"),
        ({"id": "known", "label": 1, "correct": True}, 400, "body.malformed"),
        ({"id": "", "label": 1}, 400, "body.malformed"),
        ({"id": "known", "label": 1, "extra": 1}, 400, "body.malformed"),
        ([], 400, "body.malformed"),
    ],
    ids=str,
)
async def test_a_truth_that_cannot_be_counted_is_refused(bench: Bench, body: Any, status: int, code: str) -> None:
    await bench.infer("known")
    answer = await bench.ask("/v2/models/digits/feedback", body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert bench.window().feedback.labelled == 0


async def test_a_truth_is_counted_once(bench: Bench) -> None:
    await bench.infer("a")
    assert (await bench.ask("/v2/models/digits/feedback", {"id": "a", "label": 1})).status_code == 200
    again = await bench.ask("/v2/models/digits/feedback", {"id": "a", "label": 1})
    assert (again.status_code, again.json()["code"]) == (409, "feedback.repeated")
    assert (await bench.ask("/v2/models/faces/feedback", {"id": "a", "label": 1})).status_code == 404


async def test_counters_and_gauges_are_taken_and_bounded(bench: Bench) -> None:
    metrics = [
        {"name": "sold", "value": 2, "model": "digits", "arm": "b"},
        {"name": "sold", "model": "digits", "arm": "b"},
        {"name": "speed", "kind": "gauge", "value": -1.5},
    ]
    assert (await bench.ask("/v2/metrics", {"metrics": metrics})).json() == {"counted": 3}
    for bad, code in (
        ({"name": "Bad Name"}, "metrics.name"),
        ({"name": "a", "arm": "B"}, "metrics.name"),
        ({"name": "a", "value": -1}, "metrics.value"),
        ({"name": "a", "value": 1e16, "kind": "gauge"}, "metrics.value"),
        ({"name": "a", "model": "faces"}, "model.not_served"),
        ({"name": "a", "kind": "magic"}, "body.malformed"),
    ):
        assert (await bench.ask("/v2/metrics", {"metrics": [{"name": "fine"}, bad]})).json()["code"] == code
    many = [{"name": f"n{index}"} for index in range(63)]
    assert (await bench.ask("/v2/metrics", {"metrics": many})).json()["code"] == "metrics.too_many"
    told = bench.keeper.metrics.take(2e9)
    assert told is not None
    assert [(m.name, m.version, m.total, m.count, m.last) for m in told.metrics] == [
        ("sold", 1, 3.0, 2, 0.0),
        ("speed", None, -1.5, 1, -1.5),
    ]
    assert bench.keeper.metrics.take(2e9) is None


async def test_prometheus_can_read_the_figures(bench: Bench) -> None:
    await bench.infer("a")
    await bench.ask("/v2/models/digits/feedback", {"id": "a", "label": 1})
    await bench.ask("/v2/metrics", {"metrics": [{"name": "sold", "value": 2, "model": "digits", "arm": "b"}]})
    answer = await bench.ask("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = answer.text.splitlines()
    assert 'skerry_inference_requests_total{model="digits",version="1"} 1' in lines
    assert 'skerry_app_sold_total{model="digits",version="1",arm="b"} 2.0' in lines
    assert 'skerry_drift_labelled_total{model="digits",version="1"} 1' in lines
    assert 'skerry_inference_seconds_bucket{model="digits",version="1",le="+Inf"} 1' in lines
    sample = re.compile(r'^[a-z_]+(\{([a-z_]+="[^"\\\n]*",?)+\})? -?[0-9.e+-]+$')
    named: list[str] = []
    for line in lines:
        if line.startswith("# TYPE "):
            named.append(line.split()[2])
        elif not line.startswith("# HELP "):
            assert sample.match(line), line
            assert line.startswith(named[-1])
    assert len(named) == len(set(named)), "each family once"


async def test_counts_of_an_applications_own_process_are_added(bench: Bench) -> None:
    import asyncio

    await bench.infer("a")
    before = bench.window()
    own = ModelHost()
    handover = own.watcher = Handover(bench.socket)
    own.swap("digits", own.load("digits", bench.slot))
    for index in range(40):
        own.predict("digits", DATA.test_x[index : index + 1])
    await asyncio.to_thread(handover.send)
    own.close()
    after = bench.window()
    assert (before.rows, after.rows, after.predicted) == (1, 41, 41)


async def test_counts_of_another_version_or_reference_are_not_added(bench: Bench) -> None:
    window = msgspec.structs.replace(bench.window(), rows=5)
    for wrong in (window, msgspec.structs.replace(window, version=2), msgspec.structs.replace(window, model="faces")):
        transport = httpx.AsyncHTTPTransport(uds=str(bench.socket))
        async with httpx.AsyncClient(transport=transport, base_url="http://agent") as client:
            answer = await client.post("/skerry/window", content=msgspec.msgpack.encode(wrong))
        assert answer.json()["error"]["code"] in {"window.inconsistent", "window.mismatch", "model.not_served"}
    assert bench.window().rows == 0


def test_counts_that_the_agent_did_not_take_are_kept(tmp_path: Path) -> None:
    own = ModelHost()
    handover = own.watcher = Handover(tmp_path / "nobody.sock")
    unpacked_digits(tmp_path / "slot", reference=ReferenceData(DATA.test_x))
    own.swap("digits", own.load("digits", tmp_path / "slot"))
    own.predict("digits", DATA.test_x[:3])
    handover.send()
    monitor = own.current("digits").monitor
    assert monitor is not None
    assert monitor.totals()["rows"] >= 3
    assert monitor.has_counted
    own.close()
