"""Spans hang together by ids that nobody has to store; off is off; what is missing refuses the start."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from agent.ota.journal import Journal
from agent.ota.machine import Event
from hub.settings import TracingSettings
from hub.tracing.spans import deployment_span, install_spans, publication_spans, traceparent_of
from hub.tracing.tracer import NoTracer, tracer_of
from shared.errors import InvalidInput
from shared.wire.down import DesiredState
from shared.wire.up import InstallReport
from tests.hub_kit import data_hub
from tests.wire.samples import JSON, UP

PARENT = traceparent_of("d-1", "cam-1", "digits", 8)


def journal_of(*events: Event) -> list[InstallReport]:
    """The reports of an installation whose transitions are a second apart, from 1000 on."""
    before, reports = Journal(model="digits"), []
    journal = before.assigned(JSON["assignment"], b"", "", traceparent=PARENT)  # type: ignore[arg-type]
    for second, event in enumerate((None, *events)):
        journal = (journal if event is None else journal.after(event)).timed(before, 1000.0 + second)
        before, report = journal, journal.report(None)
        assert report is not None
        reports.append(report)
    return reports


def test_the_spans_of_a_deployment_are_one_tree() -> None:
    root = deployment_span("deployment", "d-1", 1.0, 2.0, {"model": "digits"})
    state = DesiredState(device_id="cam-1", revision=3, traceparents={"digits": PARENT})
    (sent,) = publication_spans(state, 3.0, 2.0)
    reports = journal_of(Event.SUCCEEDED, Event.FAILED, Event.SUCCEEDED)
    spans = install_spans("cam-1", reports)
    (whole,) = [span for span in spans if span.name == "install"]
    assert {span.trace_id for span in (root, sent, *spans)} == {root.trace_id}
    assert (root.parent_id, sent.parent_id, whole.parent_id) == ("", root.span_id, sent.span_id)
    assert {span.parent_id for span in spans if span is not whole} == {whole.span_id}
    assert len({span.span_id for span in (root, sent, *spans)}) == 2 + len(spans)
    assert sent.end_s == sent.start_s, "a clock that went back makes no negative time"


def test_each_state_lasts_from_one_transition_to_the_next() -> None:
    spans = install_spans("cam-1", journal_of(Event.SUCCEEDED, Event.FAILED, Event.SUCCEEDED))
    states = [(span.name, span.start_s, span.end_s) for span in spans if span.name != "install"]
    assert states == [
        ("install assigned", 1000.0, 1001.0),
        ("install downloading", 1001.0, 1002.0),
        ("install rolling_back", 1002.0, 1003.0),
    ]
    assert [(s.start_s, s.end_s) for s in spans if s.name == "install"] == [(1000.0, 1003.0)]


def test_changes_of_the_journal_that_are_no_transition_leave_the_times_alone() -> None:
    journal = Journal(model="digits").assigned(JSON["assignment"], b"", "", traceparent=PARENT)  # type: ignore[arg-type]
    journal = journal.timed(Journal(model="digits"), 5.0)
    amended = msgspec.structs.replace(journal, baked_s=9.0)
    assert amended.timed(journal, 50.0) == amended


def test_without_a_traceparent_nothing_is_kept_told_or_made() -> None:
    before = Journal(model="digits")
    journal = before.assigned(JSON["assignment"], b"", "").timed(before, 5.0)  # type: ignore[arg-type]
    report = journal.report(None)
    assert (journal.assigned_s, journal.at_s) == (0.0, 0.0)
    assert report is not None
    assert report.trace is msgspec.UNSET
    assert install_spans("cam-1", [report, UP["install"]]) == []  # type: ignore[list-item]
    assert publication_spans(DesiredState(device_id="cam-1", revision=3), 1.0, 2.0) == []


@pytest.mark.parametrize("bad", ["", "00-1-2-01", "00-" + "g" * 32 + "-" + "a" * 16 + "-01", PARENT + "\n"])
def test_what_is_no_traceparent_is_refused(bad: str) -> None:
    data = msgspec.msgpack.encode({"schema_version": 1, "device_id": "a", "revision": 1, "traceparents": {"m": bad}})
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(data, type=DesiredState)


def test_off_by_default_and_then_not_even_imported(tmp_path: Path) -> None:
    with data_hub(tmp_path) as (hub, _clock):
        assert isinstance(hub.tracer, NoTracer)
    code = (
        "import sys; from pathlib import Path; from hub.settings import HubSettings; from hub.wiring import build_hub;"
        "hub = build_hub(HubSettings(data_dir=sys.argv[1])); hub.close();"
        "print([name for name in sys.modules if name.split('.')[0] == 'opentelemetry'])"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "hub")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=True)
    assert done.stdout.strip() == "[]"


def test_a_hub_that_should_trace_and_cannot_refuses_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    monkeypatch.delitem(sys.modules, "hub.tracing.otlp", raising=False)
    with pytest.raises(InvalidInput) as caught:
        tracer_of(TracingSettings(endpoint="http://127.0.0.1:1/v1/traces"))
    assert caught.value.code == "tracing.missing"
