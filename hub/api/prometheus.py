"""`/metrics` for Prometheus: of versions, profiles and rules, never of single devices, so the series stay few.

It needs a token that may read monitoring (`authorization: {credentials_file: …}` in Prometheus): counts of a fleet are
not for everybody.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter, Depends, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from hub.access.permissions import Permission
from hub.access.principal import Principal
from hub.api.auth import HubDep, require
from hub.store.drift import ResultRow
from hub.wiring import Hub

router = APIRouter(tags=["drift"])
Reader = Annotated[Principal, Depends(require(Permission.MONITORING_READ))]
_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_VERSION = ["model", "version", "level"]


class _Fleet(Collector):
    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def collect(self) -> Iterator[Metric]:
        yield from _devices(self._hub)
        yield from _verdicts([row for row in self._hub.drift_views.everything() if not row.arm])
        alerts = GaugeMetricFamily("skerry_alerts_open", "Alerts that are open.", labels=["rule", "severity", "model"])
        for rule, severity, model, count in self._hub.alerts.open_counts():
            alerts.add_metric([rule, severity, model], count)
        yield alerts
        messages = CounterMetricFamily(
            "skerry_ingest_messages", "Messages of devices by decision.", labels=["decision"]
        )
        totals = self._hub.ingest.totals
        for name in totals.__struct_fields__:
            messages.add_metric([name], getattr(totals, name))
        yield messages


def _devices(hub: Hub) -> Iterator[Metric]:
    found = hub.status.summary()
    devices = GaugeMetricFamily("skerry_devices", "Active devices by whether they are heard.", labels=["state"])
    for state in ("online", "offline", "never_seen"):
        devices.add_metric([state], getattr(found.devices, state))
    yield devices
    names = ("devices", "requests", "errors")
    families = [
        GaugeMetricFamily(f"skerry_version_{name}", f"Active devices' {name} by version.", labels=["model", "version"])
        for name in names
    ]
    for row in found.versions:
        for name, family in zip(names, families, strict=True):
            family.add_metric([row.model, str(row.version or "")], getattr(row, name))
    yield from families


def _verdicts(rows: list[ResultRow]) -> Iterator[Metric]:
    severity = GaugeMetricFamily("skerry_drift_severity", "0 nothing, up to 4 data quality.", labels=_VERSION)
    score = GaugeMetricFamily("skerry_drift_score", "Largest distance of an input.", labels=_VERSION)
    looked = GaugeMetricFamily("skerry_drift_rows", "Rows of the newest judged period.", labels=_VERSION)
    judged = GaugeMetricFamily("skerry_drift_period_seconds", "Start of the newest judged period.", labels=_VERSION)
    estimated = GaugeMetricFamily(
        "skerry_estimated", "Performance estimated without labels.", labels=[*_VERSION, "metric", "bound"]
    )
    errors = GaugeMetricFamily("skerry_labelled_errors", "Wrong answers of the period.", labels=_VERSION)
    labelled = GaugeMetricFamily("skerry_labelled", "Answers with a known truth.", labels=_VERSION)
    odd = GaugeMetricFamily("skerry_named_devices", "Devices named by verdicts.", labels=["model", "version", "what"])
    for row in rows:
        labels = [row.model, str(row.version), row.level]
        severity.add_metric(labels, row.severity)
        looked.add_metric(labels, row.rows)
        judged.add_metric(labels, row.period_s)
        if row.level == "devices":
            for what in ("faulty", "drifted", "risen"):
                odd.add_metric([*labels[:2], what], row.result.get(what, 0))
            continue
        score.add_metric(labels, row.result["score"])
        labelled.add_metric(labels, row.result["labelled"]["n"])
        errors.add_metric(labels, row.result["labelled"]["errors"])
        for one in row.result["estimated"]:
            for bound in ("value", "low", "high"):
                estimated.add_metric([*labels, one["metric"], bound], one[bound])
    yield from (severity, score, looked, judged, estimated, labelled, errors, odd)


@router.get("/metrics", response_class=Response)
def metrics(hub: HubDep, _: Reader) -> Response:
    """Numbers for Prometheus, as text."""
    registry = CollectorRegistry()
    registry.register(_Fleet(hub))
    return Response(generate_latest(registry), media_type=_TYPE)
