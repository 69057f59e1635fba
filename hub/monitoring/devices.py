"""Which devices: the newest windows of many devices against the reference, in one comparison. Pure.

Rules: a feature of a device has drifted if it is a discovery among all features of all devices of the period, its
effect is large enough, and both were so in the window before. What that means is named (`hub.monitoring.naming`).
Faults are looked for only where something points to one; the contract's rate is held against every window.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from hub.monitoring.discovery import discoveries
from hub.monitoring.divergence import compare
from hub.monitoring.examine import Counted, Severity, Thresholds, examine, shifts_of
from hub.monitoring.naming import causes_of
from hub.monitoring.rates import RATE_LOW, rate_fault
from shared.drift.layout import BINS, Cause, Cell
from shared.drift.reference import Reference
from shared.wire.window import Window

__all__ = ["DeviceVerdict", "DeviceWindow", "judge_devices", "silent"]

_EFFECT = 0.05  # a device has fewer rows than a fleet, and more of them
_CHUNK = 1_000


class DeviceWindow(msgspec.Struct, frozen=True, kw_only=True):
    """A device's newest window. before: the features that were found in the one before."""

    device_id: str
    profile: str
    window: Window
    cells: NDArray[np.int64]
    before: tuple[str, ...] = ()


class DeviceVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """What is said of a device. found: for the next time. faults: cause and feature, like `stuck:temperature`.
    causes: what the drift of its inputs means, like `blur`."""

    device_id: str
    profile: str
    severity: Severity
    faults: tuple[str, ...]
    drifted: tuple[str, ...]
    found: tuple[str, ...]
    js: float
    causes: tuple[str, ...] = ()


def judge_devices(
    windows: Sequence[DeviceWindow], reference: Reference, cells: NDArray[np.int64], limits: Thresholds | None = None
) -> list[DeviceVerdict]:
    """A verdict for each device, in the order given; `cells` of `reference_cells`."""
    limits = limits or Thresholds()
    if not windows:
        return []
    p, js, n = _compared(windows, cells)
    enough = n >= limits.min_rows
    found = discoveries(np.where(enough, p, 1.0).reshape(-1), limits.false_discoveries).reshape(p.shape)
    found &= enough & (js >= max(_EFFECT, limits.min_effect))
    names = [feature.name for feature in reference.features]
    suspicious = _suspicious(windows, cells, limits)
    verdicts = []
    for place, one in enumerate(windows):
        now = tuple(names[i] for i in np.flatnonzero(found[place]))
        faults = _faults(one, reference, cells, limits) if suspicious[place] else ()
        rate = rate_fault(one.window, reference.rate, limits.chance)
        faults = (*faults, f"{rate}:") if rate else faults
        broken = {text.partition(":")[2] for text in faults}
        drifted = tuple(name for name in now if name in one.before and name not in broken)
        severity = Severity.DATA_QUALITY if faults else Severity.INPUT_DRIFT if drifted else Severity.NONE
        verdicts.append(
            DeviceVerdict(
                device_id=one.device_id,
                profile=one.profile,
                severity=severity,
                faults=faults,
                drifted=drifted,
                found=now,
                js=float(js[place].max(initial=0.0)),
                causes=_causes(one, reference, cells, drifted) if drifted else (),
            )
        )
    return verdicts


def silent(device_id: str, profile: str) -> DeviceVerdict:
    """The verdict on a device that serves the version and told no rows although the contract asks for some."""
    return DeviceVerdict(
        device_id=device_id,
        profile=profile,
        severity=Severity.DATA_QUALITY,
        faults=(f"{RATE_LOW}:",),
        drifted=(),
        found=(),
        js=0.0,
    )


def _causes(
    one: DeviceWindow, reference: Reference, cells: NDArray[np.int64], drifted: Sequence[str]
) -> tuple[str, ...]:
    shifts = shifts_of(reference, cells, np.maximum(one.cells, 0))
    moved = {
        feature.name: float(shifts[i])
        for i, feature in enumerate(reference.features)
        if feature.source == "input" and feature.name in drifted
    }
    return causes_of(reference.extraction, moved)


def _compared(windows: Sequence[DeviceWindow], cells: NDArray[np.int64]) -> tuple[NDArray[np.float64], ...]:
    kept = [*range(BINS), int(Cell.OUTSIDE), int(Cell.OTHER)]
    parts: list[tuple[NDArray[np.float64], ...]] = []
    for start in range(0, len(windows), _CHUNK):
        stack = np.maximum(np.stack([one.cells for one in windows[start : start + _CHUNK]])[:, :, kept], 0)
        devices, features, width = stack.shape
        reference = np.broadcast_to(cells[:, kept], stack.shape).reshape(-1, width)
        result = compare(reference, stack.reshape(-1, width))
        parts.append(tuple(x.reshape(devices, features) for x in (result.p, result.js, result.n.astype(float))))
    return tuple(np.concatenate(columns) for columns in zip(*parts, strict=True))


def _suspicious(windows: Sequence[DeviceWindow], cells: NDArray[np.int64], limits: Thresholds) -> NDArray[np.bool_]:
    special = np.stack([one.cells[:, BINS:] for one in windows]).astype(float)
    rows = np.array([max(one.window.rows, 1) for one in windows], float)
    usual = cells[:, BINS:] / np.maximum(cells.sum(axis=1, keepdims=True), 1)
    odd = (special / rows[:, None, None] > usual + limits.fault_share / 2.0).any(axis=(1, 2))
    said = np.array([bool(one.window.findings or one.window.row_causes) for one in windows])
    return np.asarray(odd | said, bool)


def _faults(one: DeviceWindow, reference: Reference, cells: NDArray[np.int64], limits: Thresholds) -> tuple[str, ...]:
    window = one.window
    findings: Mapping[tuple[int, Cause], int] = {(f.feature, Cause(f.cause)): f.rows for f in window.findings}
    counted = Counted(
        rows=window.rows,
        predicted=window.predicted,
        cells=one.cells,
        findings=findings,
        duplicates=window.row_causes.get("duplicate", 0),
    )
    return tuple(f"{f.cause}:{f.feature}" for f in examine(counted, reference, cells, (), limits).faults)
