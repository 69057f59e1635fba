"""What applications tell besides inputs: the truth about predictions, named counters and gauges; and the agent's own
figures as Prometheus text.

A request id belongs to the version that answered it: the truth about it is counted while that version serves and
remembers it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from agent.drift.feedback import Label
from agent.drift.metrics import Given, MetricKey, NamedMetrics
from agent.drift.monitor import Monitor
from agent.inference.handle import ModelHandle
from agent.inference.host import ModelHost
from agent.inference.local_api.bodies import parse_json, read_body
from agent.inference.local_api.exposition import render
from agent.inference.local_api.v2 import served
from shared import limits
from shared.drift.check import read_window
from shared.errors import Conflict, InvalidInput
from shared.wire.window import Window

__all__ = ["routes", "window_routes"]

Id = Annotated[str, Meta(min_length=1, max_length=limits.MAX_REQUEST_ID_CHARS)]
Many = Meta(min_length=1, max_length=limits.MAX_INFER_BATCH_COUNT)
_TEXT = "text/plain; version=0.0.4; charset=utf-8"


class _Truth(msgspec.Struct, forbid_unknown_fields=True):
    id: Id
    label: Label | msgspec.UnsetType = msgspec.UNSET
    labels: Annotated[list[Label], Many] | None = None
    correct: bool | Annotated[list[bool], Many] | None = None


class _Metric(msgspec.Struct, forbid_unknown_fields=True):
    name: Annotated[str, Meta(max_length=256)]
    kind: Literal["counter", "gauge"] = "counter"
    value: float = 1.0
    model: Annotated[str, Meta(max_length=64)] | None = None
    arm: Annotated[str, Meta(max_length=64)] = ""


class _Push(msgspec.Struct, forbid_unknown_fields=True):
    metrics: Annotated[list[_Metric], Meta(min_length=1, max_length=limits.MAX_METRICS_COUNT)]


_TRUTH, _PUSH = msgspec.json.Decoder(_Truth), msgspec.json.Decoder(_Push)
_WINDOW = msgspec.msgpack.Decoder(Window)


def _json(content: object) -> Response:
    return Response(msgspec.json.encode(content), media_type="application/json")


def _monitor(handle: ModelHandle) -> Monitor:
    if handle.monitor is None:
        raise Conflict("drift.off", "This agent counts no drift and no truths.", hint="See the setting drift.enabled.")
    return handle.monitor


def routes(host: ModelHost, metrics: NamedMetrics) -> list[Route]:
    """`POST /v2/models/{model}/feedback`, `POST /v2/metrics`, `GET /metrics`."""

    async def feedback(request: Request) -> Response:
        truth: _Truth = parse_json(_TRUTH, await read_body(request, limits.MAX_FEEDBACK_BODY_BYTES))
        handle = served(host, request)
        labels, correct = _told(truth)
        right = _monitor(handle).feedback(truth.id, labels=labels, correct=correct)
        return _json({"id": truth.id, "model_version": str(handle.manifest.version), "correct": right})

    async def push(request: Request) -> Response:
        pushed: _Push = parse_json(_PUSH, await read_body(request, limits.MAX_FEEDBACK_BODY_BYTES))
        metrics.push([_given(host, metric) for metric in pushed.metrics], time.time())
        return _json({"counted": len(pushed.metrics)})

    async def exposition(request: Request) -> Response:
        return Response(render(host, metrics), media_type=_TEXT)

    models = ("/v2/models/{model}", "/v2/models/{model}/versions/{version}")
    return [
        *(Route(f"{model}/feedback", feedback, methods=["POST"]) for model in models),
        Route("/v2/metrics", push, methods=["POST"]),
        Route("/metrics", exposition),
    ]


def _told(truth: _Truth) -> tuple[Sequence[Label] | None, Sequence[bool] | None]:
    given = [truth.label is not msgspec.UNSET, truth.labels is not None, truth.correct is not None]
    if sum(given) != 1:
        raise InvalidInput("body.malformed", 'Send exactly one of "label", "labels" and "correct".')
    if not isinstance(truth.label, msgspec.UnsetType):
        return [truth.label], None
    if truth.labels is not None:
        return truth.labels, None
    return None, [truth.correct] if isinstance(truth.correct, bool) else truth.correct


def _given(host: ModelHost, metric: _Metric) -> Given:
    version = None if metric.model is None else host.current(metric.model).manifest.version
    return Given(MetricKey(metric.name, metric.kind, metric.model, version, metric.arm), metric.value)


def window_routes(host: ModelHost) -> list[Route]:
    """`POST /skerry/window`: counts of an application that predicts in its own process, added to those of the agent."""

    async def add(request: Request) -> Response:
        data = await read_body(request, limits.MAX_MQTT_MESSAGE_BYTES)
        try:
            window = _WINDOW.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidInput("body.malformed", f"The body is not a window: {error}."[:300]) from error
        handle = host.current(window.model)
        monitor = _monitor(handle)
        if window.version != handle.manifest.version or window.epsilon:
            raise Conflict("window.mismatch", f"Version {handle.manifest.version} serves, not {window.version}.")
        read_window(window, monitor.reference, monitor.digest)
        monitor.add(window)
        return _json({"rows": window.rows})

    return [Route("/skerry/window", add, methods=["POST"])]
