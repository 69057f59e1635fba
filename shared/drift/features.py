"""From raw inputs to the features that are counted: columns as they are, or a few numbers of a picture or a signal.

An `Extractor` works in two steps, so that the caller's thread only copies: `kept` says which part of an input is
needed (of a large picture some whole rows of pixels, at most 4,096 of them), `features` computes later, many rows at
once. A picture's features: brightness (mean) and contrast (deviation) in parts of full brightness; edges: mean step
between neighbours in a row; sharpness: mean second difference in parts of the contrast, so that darkness is not taken
for blur; saturation: how far the colours of a pixel are apart.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from shared.bundle.manifest import TensorSpec
from shared.drift.reference import Columns, Extraction, Image, Series
from shared.preprocess.kernels import Array

__all__ = ["Extractor", "feature_names"]

_PIXELS = 4096
_STEPS = 4096
_SMALL = 1e-6
_RED, _GREEN, _BLUE = np.float32(0.299), np.float32(0.587), np.float32(0.114)  # luma, ITU-R BT.601


def feature_names(extraction: Extraction, size: int) -> list[str]:
    """The names of the features of an input of `size` elements, in order."""
    if isinstance(extraction, Columns):
        return [f"x{index}" for index in range(size)]
    if isinstance(extraction, Series):
        return [f"{what}{c}" for c in range(extraction.channels) for what in ("mean", "std", "least", "greatest")]
    return ["brightness", "contrast", "sharpness", "edges", *(["saturation"] if extraction.channels > 1 else [])]


class Extractor:
    """Use `shape` and `dtype` to make room, `kept(x)` for what goes there, `features(kept)` for [n, F] float32."""

    def __init__(self, extraction: Extraction, input: TensorSpec) -> None:
        self.dtype = np.dtype(input.dtype)
        self.shape: tuple[int, ...]
        self.kept: Callable[[Array], Array]
        self.features: Callable[[Array], Array]
        if isinstance(extraction, Image):
            self._image(extraction)
        elif isinstance(extraction, Series):
            self._series(extraction)
        else:
            size = int(np.prod(input.shape))
            self.shape, self.features = (size,), lambda kept: kept.astype(np.float32)
            self.kept = lambda x: x.reshape(-1, size)

    def _image(self, image: Image) -> None:
        whole = (image.height, image.width, image.channels)
        count = min(image.height, max(1, _PIXELS // image.width))
        if count == image.height:
            self.shape, self.kept = whole, lambda x: x.reshape(-1, *whole)
        else:
            rows = np.linspace(0, image.height - 1, count).round().astype(np.intp)
            self.shape = (count, *whole[1:])
            self.kept = lambda x: x.reshape(-1, *whole)[:, rows]
        scale = np.float32(1.0 / image.peak)
        self.features = lambda kept: _of_picture(kept.astype(np.float32) * scale)

    def _series(self, series: Series) -> None:
        whole = (series.length, series.channels)
        step = -(-series.length * series.channels // _STEPS)
        self.shape = (-(-series.length // step), series.channels)
        self.kept = lambda x: x.reshape(-1, *whole)[:, ::step]
        self.features = _of_signal


def _mean(x: Array) -> Array:
    """The mean of each row; every row is summed in the same order, in whatever batch it comes."""
    flat = x.reshape(len(x), -1)
    found: Array = flat.mean(axis=1) if flat.shape[1] else np.zeros(len(x), np.float32)
    return found


def _of_picture(x: Array) -> Array:
    """[n, rows, width, channels] with full brightness 1 to [n, 4 or 5]."""
    colours = x.shape[-1] > 1
    light = x[..., 0] * _RED + x[..., 1] * _GREEN + x[..., 2] * _BLUE if colours else np.ascontiguousarray(x[..., 0])
    brightness = _mean(light)
    off = light - brightness[:, np.newaxis, np.newaxis]
    contrast = np.sqrt(_mean(off * off))
    steps = np.diff(light, axis=2)
    bends = np.diff(steps, axis=2)
    found = [brightness, contrast, _mean(np.abs(bends)) / (contrast + _SMALL), _mean(np.abs(steps))]
    if colours:
        most, least = x[..., :3].max(axis=-1), x[..., :3].min(axis=-1)
        found.append(_mean((most - least) / (most + _SMALL)))
    return np.stack(found, axis=1).astype(np.float32)


def _of_signal(x: Array) -> Array:
    """[n, length, channels] to [n, 4 * channels]."""
    y = x.astype(np.float32)
    parts = np.stack([y.mean(axis=1), y.std(axis=1), y.min(axis=1), y.max(axis=1)], axis=2)
    return parts.reshape(len(y), -1)
