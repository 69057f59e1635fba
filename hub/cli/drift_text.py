"""Verdicts as tables and bars. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["SEVERITIES", "bars", "device_rows", "fault_rows", "feature_rows", "summary_row"]

SEVERITIES = ("none", "input drift", "prediction drift", "performance", "data quality")
_BLOCKS = " ▁▂▃▄▅▆▇█"


def bars(values: Sequence[float], top: float = 0.0) -> str:
    """One character a value, up to the largest (or `top`)."""
    most = max([top, *values], default=0.0)
    if most <= 0:
        return _BLOCKS[1] * len(values)
    return "".join(_BLOCKS[max(1, round(max(value, 0.0) / most * (len(_BLOCKS) - 1)))] for value in values)


def summary_row(verdict: Mapping[str, Any]) -> tuple[str, ...]:
    """version, level, severity, rows, score, accuracy, errors."""
    result = verdict["result"]
    if verdict["level"] == "devices":
        told = f"{result['faulty']} faulty, {result['drifted']} drifted of {result['devices']}"
        told += f", errors of {result['risen']} risen" if result.get("risen") else ""
        return str(verdict["version"]), "devices", SEVERITIES[verdict["severity"]], str(verdict["rows"]), "", "", told
    accuracy = next((one for one in result["estimated"] if one["metric"] == "accuracy"), None)
    labelled = result["labelled"]
    return (
        str(verdict["version"]),
        verdict["level"] + (f" arm {verdict['arm']}" if verdict["arm"] else ""),
        SEVERITIES[verdict["severity"]],
        str(verdict["rows"]),
        f"{result['score']:.3f}",
        "" if accuracy is None else f"{accuracy['value']:.3f} ({accuracy['low']:.3f} to {accuracy['high']:.3f})",
        f"{labelled['errors']} of {labelled['n']}" + (f", risen ({labelled['risen']})" if labelled["risen"] else ""),
    )


def feature_rows(result: Mapping[str, Any], limit: int) -> list[tuple[str, ...]]:
    """The most moved features: name, source, distance as number and bar, shift, p, whether it is told."""
    found = sorted(result["drifted"], key=lambda one: -one["js"])[:limit]
    most = max((one["js"] for one in found), default=0.0)
    return [
        (
            one["feature"],
            one["source"],
            f"{one['js']:.3f}",
            "█" * round(12 * one["js"] / most) if most > 0 else "",
            f"{one['shift']:+.2f} sd",
            f"{one['p']:.1e}",
            "twice" if one["confirmed"] else "once" if one["found"] else "",
        )
        for one in found
    ]


def fault_rows(result: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Feature, cause, rows, share."""
    return [
        (one["feature"] or "(whole rows)", one["cause"], str(one["rows"]), f"{one['share']:.1%}")
        for one in result["faults"]
    ]


def device_rows(result: Mapping[str, Any], limit: int) -> list[tuple[str, ...]]:
    """Device, profile, what was found, what it means; faults and drift first, then errors that have risen."""
    rows: list[tuple[str, ...]] = []
    for one in result["named"]:
        found, means = [*one["faults"], *one["drifted"]], one.get("causes", ())
        rows.append((one["device_id"], one["profile"], ", ".join(found), ", ".join(means)))
    rows += [
        (one["device_id"], one["profile"], f"{one['errors']} of {one['n']} wrong", f"{one['expected']:.1%} before")
        for one in result.get("errors", ())
        if one["risen"]
    ]
    return rows[:limit]
