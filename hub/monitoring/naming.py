"""What drifted features of the input mean, in a person's words: `blur`, `brighter`, `temperature higher`. Pure.

Rules: the deepest cause explains what follows from it. A picture that lost sharpness is blurred, and its lower contrast
and fewer edges are not told a second time. A feature that moved little on average but still drifted `changed`.
"""

from __future__ import annotations

from collections.abc import Mapping

from shared.drift.reference import Extraction, Image

__all__ = ["causes_of"]

_LITTLE = 0.2  # standard deviations of the reference
_PICTURE: Mapping[tuple[str, int], str] = {
    ("sharpness", -1): "blur",
    ("sharpness", 1): "noise",
    ("brightness", -1): "darker",
    ("brightness", 1): "brighter",
    ("contrast", -1): "less contrast",
    ("contrast", 1): "more contrast",
    ("edges", -1): "fewer edges",
    ("edges", 1): "more edges",
    ("saturation", -1): "less colour",
    ("saturation", 1): "more colour",
}
_FOLLOWS: Mapping[str, frozenset[str]] = {
    "blur": frozenset({"less contrast", "fewer edges"}),
    "noise": frozenset({"more contrast", "more edges"}),
}


def causes_of(extraction: Extraction, shifts: Mapping[str, float]) -> tuple[str, ...]:
    """Causes by the input features that drifted, each with how far it moved (standard deviations, with sign)."""
    named = [_cause(extraction, feature, shift) for feature, shift in shifts.items()]
    explained = {follower for cause in named for follower in _FOLLOWS.get(cause, ())}
    return tuple(dict.fromkeys(cause for cause in named if cause not in explained))


def _cause(extraction: Extraction, feature: str, shift: float) -> str:
    side = 0 if abs(shift) < _LITTLE else 1 if shift > 0 else -1
    if isinstance(extraction, Image) and (feature, side) in _PICTURE:
        return _PICTURE[feature, side]
    return f"{feature} {('changed', 'higher', 'lower')[side]}"
