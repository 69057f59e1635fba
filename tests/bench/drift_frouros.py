"""Part of `tests.bench.drift`: the detectors of frouros as peers, if they are to be had.

frouros 0.9 asks for numpy below 2.2, scipy below 1.15 and matplotlib below 3.10, so it cannot be installed beside what
the hub runs with; its detectors work with newer ones all the same. It is therefore put without its dependencies into a
folder of its own in this environment, and is no dependency of anything.
"""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["Alarms", "frouros_detectors"]

_VERSION = "0.9.0"
Alarms = Callable[[list[float]], list[int]]


def frouros_detectors() -> tuple[dict[str, Alarms], str]:
    """By name, what gives the places of its alarms in a stream; and the version, or why there are none."""
    folder = Path(sys.prefix) / "peers" / f"frouros-{_VERSION}"
    if not folder.is_dir():
        command = ["-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), f"frouros=={_VERSION}"]
        done = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=300, check=False)
        if done.returncode:
            return {}, f"not installed: {done.stderr.strip()[-200:]}"
    sys.path.append(str(folder))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from frouros.detectors import concept_drift as found
    except ImportError as error:
        return {}, f"not importable: {error}"
    makes: dict[str, Callable[[], Any]] = {
        "frouros HDDM_W": lambda: found.HDDMW(config=found.HDDMWConfig()),
        "frouros HDDM_A": lambda: found.HDDMA(config=found.HDDMAConfig()),
        "frouros ADWIN": lambda: found.ADWIN(config=found.ADWINConfig()),
        "frouros DDM": lambda: found.DDM(config=found.DDMConfig()),
    }
    return {name: _alarms(make) for name, make in makes.items()}, _VERSION


def _alarms(make: Callable[[], Any]) -> Alarms:
    def run(stream: list[float]) -> list[int]:
        detector, alarms = make(), []
        for at, error in enumerate(stream):
            detector.update(value=error)
            if detector.status["drift"]:
                alarms.append(at)
                detector.reset()
        return alarms

    return run
