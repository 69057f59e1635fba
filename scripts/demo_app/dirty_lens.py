"""The act of the dirty lens: a real fault in the pictures of two devices, told by its cause, and no other."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scripts.demo_app.data import DataSet
from scripts.demo_app.predictions import Application, Camera
from scripts.demo_app.processes import DemoFailed
from scripts.demo_app.stage import Stage

__all__ = ["DIRTY", "dirty_lens", "through_grease"]

DIRTY = ("device-3", "device-4")
_PATIENCE_S = 120.0
_CAUSES = {"blur", "brighter"}


def through_grease(pictures: NDArray[np.uint8], data: DataSet) -> NDArray[np.uint8]:
    """Pictures [n, pixels] as a greasy lens shows them: points are spread over their neighbours, light over all."""
    side = math.isqrt(pictures.shape[1])
    seen = pictures.reshape(-1, side, side).astype(np.float32)
    for _ in range(max(1, side // 14)):
        padded = np.pad(seen, ((0, 0), (1, 1), (1, 1)), mode="edge")
        seen = np.mean([padded[:, y : y + side, x : x + side] for y in range(3) for x in range(3)], axis=0)
    hazy: NDArray[np.uint8] = np.clip((0.75 * seen + 0.25 * data.peak).round(), 0, data.peak).astype(np.uint8)
    return hazy.reshape(pictures.shape)


def dirty_lens(stage: Stage) -> None:
    """Two lenses get dirty; the alert must name these two, the blur and the haze, and no other device."""
    cameras = {d.name: Camera(Application(d.socket, stage.model, stage.data), stage.seen_by(d)) for d in stage.devices}
    for camera in cameras.values():
        camera.start()
    try:
        with stage.screen.step("all five cameras see what they should for one period of the hub; no alert is open"):
            _wait_for_a_period(stage)
        for name in DIRTY:
            cameras[name].lens = lambda pictures: through_grease(pictures, stage.data)
        start = time.monotonic()
        with stage.screen.step(f"grease on the lenses of {' and '.join(DIRTY)}: two periods in a row must show it"):
            alert = _named(stage)
        _tell(stage, alert, time.monotonic() - start)
    finally:
        for camera in cameras.values():
            camera.stop()
    if failures := [text for camera in cameras.values() for text in camera.failures]:
        raise DemoFailed(f"Requests failed: {failures[:5]}")


def _verdicts(stage: Stage) -> dict[str, Any]:
    """The newest verdicts by level; of a level that was not judged yet there is none."""
    found = stage.skerry("drift", "show", stage.model, "--version", "2", show=False)
    return {one["level"]: one for one in found["verdicts"]}


def _wait_for_a_period(stage: Stage) -> None:
    """Until a period is judged that began after now, in which every device was heard, and no alert is open."""
    since_s, end = time.time(), time.monotonic() + _PATIENCE_S
    while time.monotonic() < end:
        stage.children.check()
        verdict = _verdicts(stage).get("devices")
        heard = verdict and verdict["period_s"] >= since_s and verdict["result"]["devices"] == len(stage.devices)
        if heard and not stage.skerry("alerts", "list", show=False):
            return
        time.sleep(0.3)
    raise DemoFailed(f"No calm period was judged: {stage.skerry('alerts', 'list', show=False)}")


def _named(stage: Stage) -> dict[str, Any]:
    """The alert, once it names all dirty devices by cause; `DemoFailed` as soon as another device is named."""
    end = time.monotonic() + _PATIENCE_S
    while time.monotonic() < end:
        stage.children.check()
        for alert in stage.skerry("alerts", "list", show=False):
            named = {one["device_id"]: one for one in alert["detail"].get("devices", [])}
            if not set(named) <= set(DIRTY):
                raise DemoFailed(f"A device with a clean lens was named: {alert}")
            right = {name for name, one in named.items() if set(one.get("causes", [])) >= _CAUSES}
            if alert["rule"] == "drifted-devices" and right == set(DIRTY):
                found: dict[str, Any] = alert
                return found
        time.sleep(0.3)
    raise DemoFailed(f"The dirty lenses were not found: {stage.skerry('alerts', 'list', show=False)}")


def _tell(stage: Stage, alert: dict[str, Any], took_s: float) -> None:
    stage.show("alerts", "list")
    named = {one["device_id"]: one for one in alert["detail"]["devices"]}
    rows = [
        (d.name, "greasy" if d.name in DIRTY else "clean", ", ".join(named[d.name]["causes"]), alert["rule"])
        if d.name in named
        else (d.name, "greasy" if d.name in DIRTY else "clean", "", "none")
        for d in stage.devices
    ]
    stage.screen.table("What the hub says of each device", ("device", "lens", "cause", "alert"), rows)
    stage.screen.fact(
        f"found after [bold]{took_s:.0f} s[/], in periods of five seconds; raw pictures never left a device"
    )
    stage.skerry("alerts", "ack", str(alert["alert_id"]), "--verdict", "real", "--note", "a dirty lens")
    report = stage.skerry("alerts", "report", show=False)
    stage.facts["dirty_lens"] = {
        "causes": {name: one["causes"] for name, one in named.items()},
        "rules": sorted({one["rule"] for one in report}),
        "found_after_s": took_s,
    }
