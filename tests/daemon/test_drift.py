"""The daemon counts drift, keeps it over a kill and a stop, and tells windows through its outbox."""

from __future__ import annotations

import signal
import sqlite3
from pathlib import Path
from typing import Any

import msgspec

from agent.paths import AgentPaths
from shared.drift.build import ReferenceData
from shared.wire.up import Heartbeat
from shared.wire.window import Metrics, Window
from tests.daemon.device import RunningAgent, give_identity, install_digits, launch
from tests.drift.kit import CONTRACT
from tests.models import load_digits

QUICK = {"SKERRY_AGENT_DRIFT__WINDOW_S": "1", "SKERRY_AGENT_DRIFT__SNAPSHOT_S": "1"}
METRICS = {"SKERRY_AGENT_DRIFT__METRICS_INTERVAL_S": "1"}


def a_device(folder: Path) -> AgentPaths:
    paths, data = AgentPaths(folder / "state"), load_digits()
    give_identity(paths)
    install_digits(paths, reference=ReferenceData(data.test_x, data.test_y), contract=CONTRACT)
    return paths


def told(paths: AgentPaths, kind: str, of: type[Any]) -> list[Any]:
    with sqlite3.connect(f"file:{paths.outbox}?mode=ro", uri=True) as database:
        rows = database.execute("select body from messages where kind = ? order by seq", (kind,)).fetchall()
    return [msgspec.msgpack.decode(body, type=of) for (body,) in rows]


def rows_counted(agent: RunningAgent) -> int:
    """As Prometheus sees it."""
    import http.client
    import socket

    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(agent.paths.socket))
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    lines = [line for line in text.splitlines() if line.startswith("skerry_inference_requests_total")]
    return int(lines[0].rsplit(" ", 1)[1])


def test_windows_and_metrics_reach_the_outbox_and_a_stop_loses_nothing(tmp_path: Path) -> None:
    paths = a_device(tmp_path)
    agent = launch(paths, settings={**QUICK, **METRICS})
    try:
        for index in range(40):
            agent.predict(index)
        assert rows_counted(agent) == 40
        agent.ask("/v2/metrics", {"metrics": [{"name": "sold", "value": 2, "model": "digits"}]})
    finally:
        assert agent.stop(signal.SIGTERM) == 0
    again = launch(paths, settings={**QUICK, "SKERRY_AGENT_DRIFT__WINDOW_S": "1"})
    try:
        again.predict(0)
        while sum(window.rows for window in told(paths, "window", Window)) < 41:
            again.ask("/v2/health/live")
    finally:
        again.stop()
    windows = told(paths, "window", Window)
    ids = [window.window_id for window in windows]
    assert sum(window.rows for window in windows) == 41
    assert ids == sorted(set(ids))
    assert len({window.series for window in windows}) == 1
    assert [(m.name, m.total) for part in told(paths, "metrics", Metrics) for m in part.metrics] == [("sold", 2.0)]
    beats = told(paths, "heartbeat", Heartbeat)
    assert beats[-1].system is not msgspec.UNSET
    assert beats[-1].system.uptime_s > 0
    assert beats[-1].system.restarts in (0, 1), "the first life may have ended before it beat"
