"""The act in which the devices learn what only they see: a federated run, its candidate, and what that gains."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scripts.demo_app.dirty_lens import DIRTY, through_grease
from scripts.demo_app.predictions import Application
from scripts.demo_app.processes import DemoFailed
from scripts.demo_app.stage import Device, Stage

__all__ = ["accuracies", "candidate_of", "judge_gain", "measure", "tell_truths", "wait_for_samples"]

_IMAGES = 300
_TRUTHS = 400
_AT_ONCE = 20
_PATIENCE_S = 90.0
_LEAST_GAIN = 0.2
_MOST_LOSS = 0.06
RUN = """\
model: {model}
rounds: {{count: 8, goal: {goal}, quorum: {goal}, deadline_s: 60, wait_s: 120}}
training: {{epochs: 2, learning_rate: 0.03}}     # of the head, on embeddings of the frozen int8 extractor
strategy: {{name: fedavg}}
evaluation: {{min_devices: {goal}}}             # devices measure the new weights on samples that nobody learnt from
"""


def _seen(stage: Stage, device: Device, pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What the device's camera makes of pictures."""
    return through_grease(pictures, stage.data) if device.name in DIRTY else pictures


def measure(stage: Stage, device: Device, version: int) -> float:
    """Accuracy on held-out pictures as the device's own camera sees them."""
    application = Application(device.socket, stage.model, stage.data)
    try:
        view = stage.seen_by(device)
        pictures, right = _seen(stage, device, view.test_x[:_IMAGES]), 0
        for at in range(0, _IMAGES, _AT_ONCE):
            scores, answered = application.ask(pictures[at : at + _AT_ONCE])
            if answered != str(version):
                raise DemoFailed(f"{device.name} answered with version {answered}, not {version}.")
            right += int((scores.argmax(axis=1) == view.test_y[at : at + len(scores)]).sum())
        return right / _IMAGES
    finally:
        application.close()


def accuracies(stage: Stage, version: int) -> dict[str, float]:
    """Of all devices."""
    return {device.name: measure(stage, device, version) for device in stage.devices}


def tell_truths(stage: Stage, device: Device, part: int) -> None:
    """An application asks about pictures of its own and tells what they were: that is what a device learns from."""
    first = part * _TRUTHS % (len(stage.data.train_x) - _TRUTHS + 1)
    rows = np.arange(first, first + _TRUTHS)
    pictures, labels = _seen(stage, device, stage.data.train_x[rows]), stage.data.train_y[rows]
    application = Application(device.socket, stage.model, stage.data)
    try:
        for at in range(0, _TRUTHS, _AT_ONCE):
            application.ask(pictures[at : at + _AT_ONCE], f"truth-{at}")
            application.tell(f"truth-{at}", labels[at : at + _AT_ONCE])
    finally:
        application.close()


def wait_for_samples(stage: Stage, run: str, wanted: int) -> dict[str, Any]:
    """The dry run, once so many devices could take part."""
    end = time.monotonic() + _PATIENCE_S
    while True:
        stage.children.check()
        found: dict[str, Any] = stage.skerry("federated", "run", run, "--dry-run", show=False)
        if found["forecast"]["devices"] >= wanted:
            return found
        if time.monotonic() > end:
            raise DemoFailed(f"Too few devices can take part: {found}")
        time.sleep(0.5)


def candidate_of(stage: Stage) -> dict[str, Any]:
    """The newest run; `DemoFailed` unless it has become a version that passed its gate."""
    (newest, *_) = stage.skerry("federated", "list", "--model", stage.model, show=False)
    found: dict[str, Any] = stage.skerry("federated", "show", newest["run_id"], show=False)
    result = found["result"]
    if not result.get("gate_passed"):
        raise DemoFailed(f"The run did not end in a version that passed its gate: {found['state']}, {result}")
    return found


def judge_gain(stage: Stage, before: dict[str, float], after: dict[str, float], names: Sequence[str]) -> None:
    """Show both; `DemoFailed` when the dirty lenses gained too little, or the clean ones lost too much."""
    rows = [
        (name, "greasy" if name in DIRTY else "clean", "yes" if name in names else "no",
         f"{before[name]:.3f}", f"{after[name]:.3f}")
        for name in before
    ]  # fmt: skip
    stage.screen.table("Accuracy on held-out pictures", ("device", "lens", "trained", "before", "after"), rows)
    gained = min(after[name] - before[name] for name in DIRTY)
    lost = max(before[name] - after[name] for name in before if name not in DIRTY)
    stage.facts["federated"] = {"before": before, "after": after, "trained": list(names)}
    stage.screen.fact(f"greasy lenses gained at least [bold]{100 * gained:.0f} points[/]; no picture left a device")
    if gained < _LEAST_GAIN or lost > _MOST_LOSS:
        raise DemoFailed(f"Training did not do what it should: before {before}, after {after}.")
