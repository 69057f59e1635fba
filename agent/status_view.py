"""The running agent's answers as lines for people. The data is JSON from the agent's socket."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from agent.output import columns
from agent.training.view import head_lines

__all__ = ["history_lines", "status_lines"]


def status_lines(data: Mapping[str, Any]) -> list[str]:
    """`skerry-agent status`."""
    hub = data["hub"]
    reached = f"connected since {_when(hub['since_s'])}" if hub["connected"] else "not connected"
    lines = [
        f"Device    {data['device_id']} ({data['profile']}), agent {data['agent_version']}",
        f"Hub       {data['hub_url']}: {reached}",
    ]
    if not hub["connected"] and hub["problem"]:
        lines.append(f"          {hub['problem']}")
    if not hub["connected"] and hub["https_ok_s"] is not None:
        lines.append(f"          reached over HTTPS at {_when(hub['https_ok_s'])}")
    waiting = f"{hub['outbox_count']} messages wait for the hub"
    lines.append(f"Outbox    {waiting}, {hub['outbox_dropped']} were given up")
    if hub["certificate_until_s"] is not None:
        lines.append(f"Identity  certificate until {_when(hub['certificate_until_s'])}")
    lines += head_lines(data["training"]["heads"])
    lines.append("")
    if not data["models"]:
        return [*lines, "No model is installed yet."]
    head = ("model", "serves", "before", "state", "target", "reason")
    return lines + columns(head, [_model_row(model) for model in data["models"]])


def _model_row(model: Mapping[str, Any]) -> tuple[object, ...]:
    names = ("active_version", "previous_version")
    serves, before = (model[name] if model[name] is not None else "-" for name in names)
    state = model["state"]
    if state == "downloading" and model["bytes_total"]:
        state += f" {100 * model['bytes_done'] // model['bytes_total']} %"
    target = model["target_version"] if model["target_version"] is not None else "-"
    return model["model"], serves, before, state, target, model["reason"] or model["reason_code"] or ""


def history_lines(data: Sequence[Mapping[str, Any]]) -> list[str]:
    """`skerry-agent history`."""
    if not data:
        return ["Nothing was installed yet."]
    rows = [
        (
            _when(entry["ended_s"]),
            entry["model"],
            entry["version"],
            entry["state"],
            entry["reason"] or entry["reason_code"] or entry["event"],
        )
        for entry in data
    ]
    return columns(("ended", "model", "version", "state", "why"), rows)


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
