"""An alert reaches people once, is judged by them, and silences and rollouts hold what they should."""

from __future__ import annotations

import hashlib
import hmac
import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from hub.alerts.config import AlertConfig, EmailRoute, WebhookRoute, load_config
from hub.alerts.delivery import SIGNATURE_HEADER
from hub.alerts.service import AlertService
from hub.audit.log import AuditLog
from hub.store.database import Database
from hub.store.drift import ResultRow
from hub.store.page import PageRequest
from hub.store.schema import alert_deliveries, device_models, devices, rollouts
from shared.errors import Conflict
from tests.alerts.test_rules_and_lifecycle import verdict
from tests.ingest.test_ingest_service import FixedClock

PAGE = PageRequest(limit=50)
ALL = ("pending", "open", "acknowledged", "resolved")
SECRET = b"0123456789abcdef0123"


class Site:
    def __init__(self, url: str, folder: Path, **routes: Any) -> None:
        self.db, self.clock, self.period = Database(url), FixedClock(), 0
        ready = load_config(folder / "none.yaml")
        config = AlertConfig(rules=ready.rules, routes=routes or ready.routes, default_routes=list(routes) or ["log"])
        self.alerts = AlertService(self.db, self.clock, AuditLog(self.db, self.clock), config, "https://hub", 86_400.0)

    def tell(self, share: float) -> list[str]:
        """A period's verdict; the states of all alerts."""
        self.period += 1
        row = ResultRow(
            model="m", period_s=self.period, version=1, arm="", level="fleet", severity=4, rows=9, result=verdict(share)
        )
        with self.db.write() as connection:
            self.alerts.hear(connection, [row])
        return [one.state for one in self.alerts.page(ALL, None, PAGE)]

    def deliveries(self) -> list[Any]:
        with self.db.read() as connection:
            return list(connection.execute(select(alert_deliveries).order_by(alert_deliveries.c.delivery_id)))


@pytest.fixture
def site(database_url: str, tmp_path: Path) -> Iterator[Site]:
    site = Site(database_url, tmp_path)
    yield site
    site.db.close()


def test_one_alert_however_long_it_lasts_and_a_new_one_afterwards(site: Site) -> None:
    assert site.tell(0.0) == []
    for _ in range(3):
        assert site.tell(0.5) == ["open"]
    assert site.tell(0.0) == ["open"]
    assert site.tell(0.0) == ["resolved"]
    assert site.tell(0.5) == ["open", "resolved"]
    events = [json.loads(row.payload)["event"] for row in site.deliveries()]
    assert events == ["opened", "resolved", "opened"]


def test_acknowledging_and_the_report_of_precision(site: Site) -> None:
    site.tell(0.5)
    (alert,) = site.alerts.page(("open",), "m", PAGE)
    seen = site.alerts.acknowledge(alert.alert_id, "real", "a loose cable", "olga")
    assert (seen.state, seen.acknowledged_by, seen.verdict) == ("acknowledged", "olga", "real")
    site.tell(0.0)
    assert site.tell(0.0) == ["resolved"]
    site.tell(0.5)
    (second,) = site.alerts.page(("open",), "m", PAGE)
    site.alerts.acknowledge(second.alert_id, "false", "", "olga")
    (row,) = site.alerts.report(7.0)
    assert (row["rule"], row["opened"], row["acknowledged"], row["precision"]) == ("data-quality", 2, 2, 0.5)


def _device(site: Site, status: str) -> None:
    """A device that has version 1."""
    first = {"device_id": "pi-1", "status": status, "profile": "p", "hardware_id": "", "enrolled_s": 1.0}
    has = {"device_id": "pi-1", "model": "m", "version": 1, "bundle_sha256": "", "counter": 1, "state": "committed"}
    with site.db.write() as connection:
        connection.execute(insert(devices).values(first))
        connection.execute(insert(device_models).values(**has, target_version=1, updated_s=1.0))


def test_an_alert_ends_with_the_last_device_that_has_its_version(site: Site) -> None:
    _device(site, "active")
    site.tell(0.5)
    assert site.alerts.resolve_deserted() == 0
    with site.db.write() as connection:
        connection.execute(update(device_models).values(version=2))
    assert site.alerts.resolve_deserted() == 1
    (alert,) = site.alerts.page(ALL, "m", PAGE)
    assert (alert.state, alert.detail["ended"]) == ("resolved", "No device has this version any more.")
    assert [json.loads(row.payload)["event"] for row in site.deliveries()] == ["opened", "resolved"]
    assert site.alerts.resolve_deserted() == 0
    assert site.tell(0.5) == ["open", "resolved"]  # somebody has it after all


def test_an_alert_of_a_version_on_revoked_devices_alone_ends(site: Site) -> None:
    _device(site, "revoked")
    site.tell(0.5)
    assert site.alerts.resolve_deserted() == 1


def test_a_silence_stops_the_telling_until_it_expires(site: Site) -> None:
    silence = site.alerts.silence("data-quality", "", "", 60.0, "maintenance", "olga")
    assert site.tell(0.5) == ["open"]
    assert site.deliveries() == []
    assert [one.silence_id for one in site.alerts.silences()] == [silence.silence_id]
    site.clock.at += 61
    site.tell(0.0)
    site.tell(0.0)
    assert [json.loads(row.payload)["event"] for row in site.deliveries()] == ["resolved"]
    assert site.alerts.silences() == []


def test_a_pending_alert_cannot_be_acknowledged(site: Site) -> None:
    result = verdict(0.0)
    result["estimated"] = [{"metric": "accuracy", "promised": 0.9, "high": 0.7}]
    row = ResultRow(model="m", period_s=1, version=1, arm="", level="fleet", severity=3, rows=9, result=result)
    with site.db.write() as connection:
        site.alerts.hear(connection, [row])
    (alert,) = site.alerts.page(("pending",), None, PAGE)
    with pytest.raises(Conflict) as caught:
        site.alerts.acknowledge(alert.alert_id, "", "", "olga")
    assert caught.value.code == "alert.not_open"


@pytest.mark.parametrize(
    ("status", "state"), [("running", "pending"), ("keeping", "open"), ("paused", "open"), ("finished", "open")]
)
def test_drift_is_left_to_the_gates_only_while_they_watch_a_rollout(site: Site, status: str, state: str) -> None:
    blank = {c.name: _blank(c) for c in rollouts.columns if not c.primary_key and not c.nullable}
    result = verdict(0.0)
    result["drifted"] = [
        {"feature": "x", "source": "output", "confirmed": True, "js": 0.4, "p": 0.0, "shift": 1.0, "found": True}
    ]
    row = ResultRow(model="m", period_s=1, version=1, arm="", level="fleet", severity=2, rows=9, result=result)
    with site.db.write() as connection:
        connection.execute(insert(rollouts).values(blank | {"model": "m", "version": 1, "status": status}))
        site.alerts.hear(connection, [row])
    (alert,) = site.alerts.page(ALL, None, PAGE)
    assert (alert.rule, alert.state, alert.detail["held"]) == ("prediction-drift", state, state == "pending")


def _blank(column: Any) -> Any:
    """A value that says nothing."""
    kind = column.type.python_type
    return kind() if kind in (str, int, float, bool, dict, list, bytes) else 0


@contextmanager
def receiver(answers: list[int]) -> Iterator[tuple[str, list[tuple[dict[str, str], bytes]]]]:
    """A web server that keeps what it gets and answers with these codes, then with 200."""
    got: list[tuple[dict[str, str], bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append((dict(self.headers), body))
            self.send_response(answers.pop(0) if answers else 200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/hook", got
        finally:
            server.shutdown()
            thread.join()


def test_a_webhook_is_signed_and_tried_again_until_it_is_taken(database_url: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(SECRET + b"\n")
    with receiver([500, 302]) as (url, got):
        site = Site(database_url, tmp_path, ops=WebhookRoute(url=url, secret_file=str(secret)))
        site.tell(0.5)
        for _ in range(2):
            assert site.alerts.deliver_due() == 0
            assert site.alerts.deliver_due() == 0, "it waits before it tries again"
            site.clock.at += 120
        assert site.alerts.deliver_due() == 1
        assert [row.state for row in site.deliveries()] == ["sent"]
        site.db.close()
    headers, body = got[-1]
    at, _, digest = headers[SIGNATURE_HEADER].partition(",v1=")
    assert at == f"t={int(site.clock.at)}"
    assert digest == hmac.new(SECRET, at[2:].encode() + b"." + body, hashlib.sha256).hexdigest()
    assert json.loads(body)["alert"]["rule"] == "data-quality"
    assert len(got) == 3


def test_a_route_that_never_takes_it_is_given_up(database_url: str, tmp_path: Path) -> None:
    route = WebhookRoute(url="http://127.0.0.1:1/", secret_file=str(tmp_path / "missing"))
    site = Site(database_url, tmp_path, ops=route)
    site.tell(0.5)
    for _ in range(13):
        site.alerts.deliver_due()
        site.clock.at += 3601
    (row,) = site.deliveries()
    assert (row.state, row.attempts) == ("given_up", 12)
    assert "FileNotFoundError" in row.error
    site.db.close()


class _Smtp(socketserver.StreamRequestHandler):
    """As much SMTP as a client needs to hand over one mail."""

    got: list[bytes]

    def handle(self) -> None:
        self.wfile.write(b"220 here\r\n")
        data = False
        for line in self.rfile:
            if data:
                self.got.append(line)
                data = line != b".\r\n"
                if not data:
                    self.wfile.write(b"250 ok\r\n")
            elif line.upper().startswith(b"DATA"):
                data = True
                self.wfile.write(b"354 go\r\n")
            elif line.upper().startswith(b"QUIT"):
                self.wfile.write(b"221 bye\r\n")
                return
            else:
                self.wfile.write(b"250 ok\r\n")


def test_mail_says_what_and_how_bad(database_url: str, tmp_path: Path) -> None:
    _Smtp.got = []
    with socketserver.TCPServer(("127.0.0.1", 0), _Smtp) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        port = server.server_address[1]
        route = EmailRoute(
            host="127.0.0.1", port=port, security="none", sender="hub@example.test", to=["a@example.test"]
        )
        site = Site(database_url, tmp_path, mail=route)
        site.tell(0.5)
        assert site.alerts.deliver_due() == 1
        server.shutdown()
        thread.join()
        site.db.close()
    text = b"".join(_Smtp.got).decode()
    assert "Subject: [critical] opened: Inputs are broken (m)" in text
    assert "docs/runbooks/data-quality.md" in text
