"""What the agent says about its training, as lines for people. The data is JSON from the agent's socket."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from agent.output import columns

__all__ = ["head_lines", "training_lines"]


def head_lines(heads: Sequence[Mapping[str, Any]]) -> list[str]:
    """Which models this device answers with a head of its own."""
    return [
        f"Own head  {head['model']} {head['version']}: {head['accuracy']:.3f} instead of {head['bundle_accuracy']:.3f} "
        f"on {head['held_out']} held-out samples"
        for head in heads
        if head["serves"]
    ]


def training_lines(data: Mapping[str, Any]) -> Iterator[str]:
    """`skerry-agent training show`."""
    if not data["installed"]:
        yield "The software for training is not installed (the extra `training`); offers are declined."
    elif not data["enabled"]:
        yield "Training is not allowed on this device; offers are declined."
    else:
        now = f"takes part in {data['running']}" if data["running"] else "trains nothing at the moment"
        yield f"This device {now}: {data['rounds']} answers, {data['failures']} failures since the agent started."
    if data["peak_bytes"]:
        yield f"Training took up to {data['peak_bytes'] / 1e6:.0f} MB."
    if data["refused"] or data["dropped"]:
        yield f"{data['refused']} offers were not for this device or malformed, {data['dropped']} came too late."
    for head in data["heads"]:
        serves = "serves" if head["serves"] else "is kept and does not serve"
        yield (
            f"A head of its own for {head['model']} {head['version']} {serves}: {head['accuracy']:.3f}, the version's "
            f"{head['bundle_accuracy']:.3f}, on {head['held_out']} held-out samples."
        )
    if not data["offers"]:
        yield "There was no offer to train yet."
        return
    yield ""
    rows = [
        (
            time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(offer["at_s"])),
            offer["run"],
            offer["round_no"],
            offer["model"],
            offer["state"],
            f"{offer['seconds']:.1f}" if offer["seconds"] else "",
            offer["reason"] or offer["code"],
        )
        for offer in data["offers"]
    ]
    yield from columns(("when", "run", "round", "model", "state", "seconds", "why"), rows)
