"""The agent's figures in Prometheus' text format 0.0.4; written by hand, which is a page and needs no library.

Counters of a version begin at 0 when it begins to serve. Applications' metrics have the prefix `skerry_app_`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby

from agent.drift.metrics import MetricKey, NamedMetrics, Sum
from agent.inference.host import ModelHost
from agent.inference.statistics import Statistics
from agent.telemetry.process import rss_bytes
from shared import __version__
from shared.latency import upper_ns

__all__ = ["render"]

_EDGES_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_Sample = tuple[str, Mapping[str, str], float]


def render(host: ModelHost, metrics: NamedMetrics) -> str:
    """Everything, as text."""
    lines = [
        *_family("skerry_agent_info", "gauge", "The agent.", [("", {"version": __version__}, 1)]),
        *_family("skerry_agent_resident_bytes", "gauge", "Resident memory of the agent.", [("", {}, rss_bytes())]),
        *_models(host),
        *_of_applications(metrics.totals()),
    ]
    return "\n".join(lines) + "\n"


def _models(host: ModelHost) -> Iterator[str]:
    found: list[tuple[dict[str, str], Statistics, dict[str, int]]] = []
    for model in host.models():
        handle = host.current(model)
        labels = {"model": model, "version": str(handle.manifest.version)}
        watched = handle.monitor.totals() if handle.monitor is not None else {}
        found.append((labels, handle.statistics(), watched))
    for name, text in (
        ("requests", "Requests that were valid."),
        ("errors", "Requests that the model could not answer."),
        ("rejected", "Requests whose input was refused."),
        ("over_budget", "Answers slower than the latency budget."),
    ):
        samples: list[_Sample] = [("", labels, getattr(statistics, name)) for labels, statistics, _ in found]
        yield from _family(f"skerry_inference_{name}_total", "counter", text, samples)
    times = [sample for labels, statistics, _ in found for sample in _histogram(labels, statistics)]
    yield from _family("skerry_inference_seconds", "histogram", "Latency; the sum is of upper bucket edges.", times)
    for name in sorted({name for _, _, watched in found for name in watched}):
        samples = [("", labels, watched[name]) for labels, _, watched in found if name in watched]
        yield from _family(f"skerry_drift_{name}_total", "counter", f"Drift counting: {name}.", samples)


def _histogram(labels: Mapping[str, str], statistics: Statistics) -> Iterator[_Sample]:
    edges = [upper_ns(number) / 1e9 for number in range(len(statistics.buckets))]
    for edge in _EDGES_S:
        below = sum(count for upper, count in zip(edges, statistics.buckets, strict=True) if upper <= edge)
        yield "_bucket", {**labels, "le": f"{edge:g}"}, below
    total = sum(statistics.buckets)
    yield "_bucket", {**labels, "le": "+Inf"}, total
    yield "_sum", labels, sum(edge * count for edge, count in zip(edges, statistics.buckets, strict=True))
    yield "_count", labels, total


def _of_applications(totals: Mapping[MetricKey, Sum]) -> Iterator[str]:
    ordered = sorted(totals.items(), key=lambda item: (item[0].name, item[0].kind, str(item[0])))
    for (name, kind), group in groupby(ordered, key=lambda item: (item[0].name, item[0].kind)):
        full = f"skerry_app_{name}_total" if kind == "counter" else f"skerry_app_{name}"
        samples = [("", _labels(key), part.total if kind == "counter" else part.last) for key, part in group]
        yield from _family(full, kind, "Pushed by an application.", samples)


def _labels(key: MetricKey) -> dict[str, str]:
    named = {"model": key.model, "version": key.version, "arm": key.arm}
    return {name: str(value) for name, value in named.items() if value}


def _family(name: str, kind: str, text: str, samples: Iterable[_Sample]) -> Iterator[str]:
    lines = [f"{name}{suffix}{_shown(labels)} {_number(value)}" for suffix, labels, value in samples]
    if lines:
        yield f"# HELP {name} {text}"
        yield f"# TYPE {name} {kind}"
        yield from lines


def _shown(labels: Mapping[str, str]) -> str:
    def escaped(value: str) -> str:
        return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")

    inside = ",".join(f'{name}="{escaped(value)}"' for name, value in labels.items())
    return f"{{{inside}}}" if inside else ""


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else repr(float(value))
