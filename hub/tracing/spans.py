"""The spans of a deployment: made by the hub, sent with a device's desired state, and told by the device. Pure.

    deployment or rollout            made once, at the hub
      publication                    one for each device and model, when the broker has taken the desired state
        install                      on the device, from the assignment to the end
          install <state>            one for each state of the install machine

Rules: ids are derived from the deployment's id, so every hub and every restart names the same trace, and nothing has
to be stored. A publication's ids go down to the device as a W3C traceparent and come back with its reports; the device
only keeps it. What a device says is put under its own authenticated name; a time that runs backwards becomes 0 s long.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from shared.wire.down import DesiredState
from shared.wire.up import InstallReport

__all__ = ["Span", "deployment_span", "install_spans", "publication_spans", "traceparent_of"]

_ENDS = frozenset({"committed", "rolled_back", "inconsistent"})
Attribute = str | int


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One span. Ids in hex; parent_id empty: a root. Times in seconds since 1970. failed: code of what went wrong."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    start_s: float
    end_s: float
    attributes: Mapping[str, Attribute]
    failed: str = ""


def _hex(count: int, *parts: object) -> str:
    digest = hashlib.sha256("\n".join(map(str, ("skerry", *parts))).encode()).hexdigest()
    return digest[: 2 * count]


def _trace_of(deployment_id: str) -> str:
    return _hex(16, "trace", deployment_id)


def _root_of(trace_id: str) -> str:
    return _hex(8, "root", trace_id)


def traceparent_of(deployment_id: str, device_id: str, model: str, counter: int) -> str:
    """What goes down with an assignment (W3C Trace Context, sampled): its publication is the parent of the install."""
    trace_id = _trace_of(deployment_id)
    return f"00-{trace_id}-{_hex(8, 'publication', trace_id, device_id, model, counter)}-01"


def deployment_span(
    kind: str, deployment_id: str, start_s: float, end_s: float, attributes: Mapping[str, Attribute]
) -> Span:
    """The root: a `deployment` or a `rollout`."""
    trace_id = _trace_of(deployment_id)
    said = {f"skerry.{kind}.id": deployment_id, **{f"skerry.{name}": value for name, value in attributes.items()}}
    return Span(
        name=kind,
        trace_id=trace_id,
        span_id=_root_of(trace_id),
        parent_id="",
        start_s=start_s,
        end_s=max(start_s, end_s),
        attributes=said,
    )


def publication_spans(state: DesiredState, start_s: float, end_s: float) -> list[Span]:
    """One for each assignment of a desired state that the broker has taken."""
    if isinstance(state.traceparents, msgspec.UnsetType):
        return []
    found = []
    for model, traceparent in sorted(state.traceparents.items()):
        _, trace_id, span_id, _ = traceparent.split("-")
        found.append(
            Span(
                name="publication",
                trace_id=trace_id,
                span_id=span_id,
                parent_id=_root_of(trace_id),
                start_s=start_s,
                end_s=max(start_s, end_s),
                attributes={
                    "skerry.device.id": state.device_id,
                    "skerry.model": model,
                    "skerry.revision": state.revision,
                },
            )
        )
    return found


def install_spans(device_id: str, reports: Sequence[InstallReport]) -> list[Span]:
    """What a device's reports say: the state that has just ended, and at the end the whole installation."""
    return [span for report in reports for span in _of_report(device_id, report)]


def _of_report(device_id: str, report: InstallReport) -> list[Span]:
    trace = report.trace
    if isinstance(trace, msgspec.UnsetType):
        return []
    _, trace_id, parent_id, _ = trace.traceparent.split("-")
    whole = _hex(8, "install", trace.traceparent)
    said: dict[str, Attribute] = {
        "skerry.device.id": device_id,
        "skerry.model": report.model,
        "skerry.version": report.version,
        "skerry.event": report.event,
    }
    failed = report.reason_code if report.state != "committed" else ""
    found = []
    if report.event != "assigned":
        found.append(
            Span(
                name=f"install {report.previous}",
                trace_id=trace_id,
                span_id=_hex(8, whole, report.previous, report.event, trace.at_s),
                parent_id=whole,
                start_s=trace.began_s,
                end_s=max(trace.began_s, trace.at_s),
                attributes=said,
                failed=failed,
            )
        )
    if report.state in _ENDS:
        found.append(
            Span(
                name="install",
                trace_id=trace_id,
                span_id=whole,
                parent_id=parent_id,
                start_s=trace.assigned_s,
                end_s=max(trace.assigned_s, trace.at_s),
                attributes={**said, "skerry.state": report.state},
                failed=failed,
            )
        )
    return found
