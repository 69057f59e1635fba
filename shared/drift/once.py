"""Which windows are new: one number for each series decides, so a window counts once however often it comes. Pure.

A device tells the windows of a series in the order of their ids, so everything at or below the highest id that was
counted is a repetition. The numbers of past series are kept, because a device may tell an old window again after it
began a new series; of one device and model that are few.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from shared.wire.window import Window

__all__ = ["SeriesKey", "is_new", "key_of"]


class SeriesKey(NamedTuple):
    """What an id counts within."""

    device_id: str
    model: str
    version: int
    series: str


def key_of(device_id: str, window: Window) -> SeriesKey:
    """The series of a window."""
    return SeriesKey(device_id, window.model, window.version, window.series)


def is_new(highest: Mapping[SeriesKey, int], device_id: str, window: Window) -> bool:
    """Has this window not been counted yet? `highest`: the highest id that was counted, by series."""
    return window.window_id > highest.get(key_of(device_id, window), 0)
