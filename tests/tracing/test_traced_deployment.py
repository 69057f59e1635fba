"""A deployment's trace, whole: hub, broker, a real agent, and a collector that decodes what it gets over OTLP/HTTP."""

from __future__ import annotations

import asyncio
import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from agent.paths import AgentPaths
from hub.settings import TracingSettings
from tests.daemon.device import running
from tests.daemon.test_with_hub import enrol_only, messaging, until
from tests.e2e.test_delta import deployed
from tests.e2e.test_health import cohort
from tests.ports import free_port
from tests.registry_kit import Flow, released_hub

STATES = {f"install {name}" for name in ("assigned", "downloading", "verifying", "staged", "probing", "activating")}


class Collector:
    """What came, span by span, with the name of the service."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.services: set[str] = set()
        self._lock = threading.Lock()

    def take(self, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        with self._lock:
            for resource in request.resource_spans:
                values = {one.key: one.value.string_value for one in resource.resource.attributes}
                self.services.add(values["service.name"])
                for scope in resource.scope_spans:
                    self.spans += scope.spans

    def named(self) -> dict[str, list[Any]]:
        with self._lock:
            found: dict[str, list[Any]] = {}
            for span in self.spans:
                found.setdefault(span.name, []).append(span)
            return found


@contextmanager
def collecting() -> Iterator[tuple[str, Collector]]:
    """A collector on a port of its own."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.headers["Content-Type"] == "application/x-protobuf"
            collector.take(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/v1/traces", collector
        finally:
            server.shutdown()
            thread.join()


def release(flow: Flow) -> None:
    flow.create_model("digits", bake_s=0)
    flow.digits(1).raise_for_status()
    assert flow.gate("digits", 1, flow.put_dataset())["passed"]
    flow.approve("digits", 1)


@pytest.mark.slow
async def test_one_trace_goes_from_the_deployment_over_mqtt_to_the_devices_install(tmp_path: Path) -> None:
    paths = AgentPaths(tmp_path / "state")
    with collecting() as (endpoint, collector):
        tracing = TracingSettings(endpoint=endpoint)
        with released_hub(tmp_path, mqtt_port=free_port(), tracing=tracing) as flow:
            await asyncio.to_thread(release, flow)
            async with messaging(flow.kit):
                await asyncio.to_thread(enrol_only, flow.kit, paths)
                with running(paths):
                    await deployed(flow, 1)
                    made = cohort(flow)
                    await until(lambda: "install" in collector.named())
    spans = collector.named()
    (root,) = spans["deployment"]
    (whole,) = spans["install"]
    assert not root.parent_span_id
    assert {one.key: one.value.string_value for one in root.attributes}["skerry.deployment.id"] == made
    assert {span.trace_id for span in collector.spans} == {root.trace_id}
    sent = {span.span_id: span for span in spans["publication"]}
    assert {span.parent_span_id for span in sent.values()} == {root.span_id}
    assert whole.parent_span_id in sent
    states = {name: found for name, found in spans.items() if name.startswith("install ")}
    assert set(states) >= STATES
    assert {span.parent_span_id for found in states.values() for span in found} == {whole.span_id}
    assert all(span.start_time_unix_nano <= span.end_time_unix_nano for span in collector.spans)
    inside = [span for found in states.values() for span in found]
    assert all(whole.start_time_unix_nano <= s.start_time_unix_nano <= whole.end_time_unix_nano for s in inside)
    assert {one.key: one.value.string_value for one in whole.attributes}["skerry.device.id"] == "pi-1"
    assert collector.services == {"skerry-hub"}
