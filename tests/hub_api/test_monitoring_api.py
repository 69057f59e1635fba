"""Verdicts, alerts and metrics over HTTP: who may, what comes back, and no device ever in a label."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import delete, insert

from hub.access.permissions import Role
from hub.monitoring.evaluation import DEVICES, FLEET
from hub.store.drift import ResultRow, put_result
from hub.store.schema import blobs, device_status, models, versions
from hub.wiring import Hub
from tests.alerts.test_rules_and_lifecycle import verdict
from tests.hub_kit import HubKit

DEVICE = "pi-kitchen"
DRIFTED = {
    "feature": "x0", "source": "input", "n": 9, "p": 1e-9, "js": 0.3, "psi": 1.0, "shift": 2.0,
    "found": True, "confirmed": True,
}  # fmt: skip
ESTIMATED = {
    "metric": "accuracy", "value": 0.8, "low": 0.7, "high": 0.85, "n": 9, "promised": 0.95, "worse": True,
}  # fmt: skip


def results(period_s: int) -> list[ResultRow]:
    fleet = {
        **verdict(0.4),
        "drifted": [DRIFTED],
        "estimated": [ESTIMATED],
        "labelled": {"n": 5, "errors": 2, "risen": "", "expected": 0.1, "evidence": 0.0},
        "score": 0.3,
        "since": {"stuck:x": 60},
        "windows": 1,
        "predicted": 9,
        "skipped": 0,
    }
    named = [{"device_id": DEVICE, "profile": "x86-gateway", "faults": ["stuck:x"], "drifted": [], "js": 0.3}]
    devices = {"devices": 4, "faulty": 1, "drifted": 0, "named": named}
    common: dict[str, Any] = {"model": "digits", "period_s": period_s, "version": 1, "arm": "", "rows": 9, "state": b""}
    return [
        ResultRow(level=FLEET, severity=4, result=fleet, **common),
        ResultRow(level=DEVICES, severity=4, result=devices, **common),
    ]


def judged(hub: Hub) -> None:
    """Version 1 of digits with verdicts on two periods."""
    who: dict[str, Any] = {"created_s": 1.0, "created_by": "test"}
    release = {"status": "approved", "bundle_sha256": "1" * 64, "bundle_bytes": 1, "manifest": "", "card": ""}
    with hub.db.write() as connection:
        connection.execute(insert(models).values(model="digits", description="", gate={}, bake_s=0, **who))
        connection.execute(insert(blobs).values(sha256="1" * 64, bytes=1, kind="bundle", created_s=1.0))
        connection.execute(insert(versions).values(model="digits", version=1, **release, **who))
        for period_s in (3600, 7200):
            put_result(connection, results(period_s))
            hub.alerts.hear(connection, results(period_s))


@pytest.fixture(scope="module")
def site(shared_kit: HubKit) -> HubKit:
    shared_kit.enrol(DEVICE)
    judged(shared_kit.hub)
    return shared_kit


def test_the_newest_verdicts_and_the_history_are_shown_to_viewers(site: HubKit) -> None:
    viewer = site.person(Role.VIEWER)
    answer = viewer.get("/v1/drift/digits").json()
    assert {(one["level"], one["period_s"]) for one in answer["verdicts"]} == {(FLEET, 7200), (DEVICES, 7200)}
    first = viewer.get("/v1/drift/digits/1/history", params={"limit": 1}).json()
    assert [one["period_s"] for one in first["items"]] == [7200]
    second = viewer.get("/v1/drift/digits/1/history", params={"limit": 1, "cursor": first["next"]}).json()
    assert ([one["period_s"] for one in second["items"]], second["next"]) == ([3600], None)
    assert viewer.get("/v1/drift/nothing").status_code == 404
    assert viewer.get("/v1/drift/digits/metrics").json() == {"items": []}


def test_alerts_are_listed_seen_silenced_and_reported(site: HubKit) -> None:
    viewer, operator = site.person(Role.VIEWER), site.person(Role.OPERATOR)
    items = viewer.get("/v1/alerts").json()["items"]
    rules = {one["rule"] for one in items}
    assert {"data-quality", "faulty-devices", "accuracy-estimate"} <= rules
    alert = next(one for one in items if one["rule"] == "faulty-devices")
    assert alert["detail"]["devices"][0]["device_id"] == DEVICE
    assert viewer.post(f"/v1/alerts/{alert['alert_id']}/ack", json={}).status_code == 403
    seen = operator.post(f"/v1/alerts/{alert['alert_id']}/ack", json={"verdict": "real", "note": "lens"}).json()
    assert (seen["state"], seen["verdict"]) == ("acknowledged", "real")
    assert operator.post("/v1/alerts/9999/ack", json={}).json()["error"]["code"] == "alert.unknown"
    made = operator.post("/v1/alerts/silences", json={"rule": "input-drift", "for_s": 60})
    assert made.status_code == 201
    assert len(viewer.get("/v1/alerts/silences").json()["items"]) == 1
    assert operator.delete(f"/v1/alerts/silences/{made.json()['silence_id']}").status_code == 204
    wrong = operator.post("/v1/alerts/silences", json={"rule": "nonsense", "for_s": 60})
    assert wrong.json()["error"]["code"] == "alert.rule"
    report = {one["rule"]: one for one in viewer.get("/v1/alerts/report", params={"days": 300}).json()["items"]}
    assert report["faulty-devices"]["precision"] == 1.0
    assert {one["name"] for one in viewer.get("/v1/alerts/rules").json()["items"]} >= rules


def test_prometheus_gets_versions_and_rules_but_never_devices(site: HubKit) -> None:
    assert site.client().get("/metrics").status_code == 401
    answer = site.person(Role.VIEWER).get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    assert families["skerry_drift_score"].samples[0].labels == {"model": "digits", "version": "1", "level": FLEET}
    assert {one.labels["bound"]: one.value for one in families["skerry_estimated"].samples}["low"] == 0.7
    assert sum(one.value for one in families["skerry_alerts_open"].samples) >= 3
    assert families["skerry_named_devices"].samples[0].value == 1
    labels = {name for family in families.values() for one in family.samples for name in one.labels}
    assert not labels & {"device", "device_id"}
    assert DEVICE not in answer.text


def test_the_oddest_devices_come_first(site: HubKit) -> None:
    heartbeat = {"system": {"temperature_c": 60.0, "restarts": 2}, "disk_free_bytes": 5}
    with site.hub.db.write() as connection:
        row = {"last_seen_s": 1.0, "epoch": "", "watermark": 0, "messages": 0, "dropped": 0, "malformed": 0}
        connection.execute(delete(device_status))
        connection.execute(insert(device_status).values(device_id=DEVICE, **row, heartbeat=heartbeat, heartbeat_s=1.0))
    (found,) = site.person(Role.VIEWER).get("/v1/odd-devices").json()["items"]
    assert (found["device_id"], found["score"], found["against"]) == (DEVICE, 0.0, "")
