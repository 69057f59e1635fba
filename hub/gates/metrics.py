"""Metrics of predictions against labels. Pure; arrays in, plain numbers out.

Confidence interval: Wilson's score interval (Wilson 1927), which keeps its coverage near 0 and 1 and for few samples.
Logarithmic loss clips probabilities at 1e-7, about the resolution of a float32 softmax.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["classification", "latency", "regression", "wilson"]

Numbers = NDArray[np.floating]
Labels = NDArray[np.integer]
_Z95 = 1.959963984540054
_FLOOR = 1e-7


def wilson(hits: int, n: int, z: float = _Z95) -> tuple[float, float]:
    """Lower and upper end of the confidence interval of a proportion; (0, 1) for no samples."""
    if n == 0:
        return 0.0, 1.0
    p, z2 = hits / n, z * z
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = z / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    return (0.0 if hits == 0 else low), (1.0 if hits == n else high)


def classification(scores: Numbers, labels: Labels) -> dict[str, float]:
    """Metrics of class scores [n, classes] against class numbers [n]; log loss only if the scores are probabilities."""
    n, classes = scores.shape
    best = scores.argmax(axis=1)
    hits = int((best == labels).sum())
    low, high = wilson(hits, n)
    own = scores[np.arange(n), labels]
    better = (scores > own[:, None]).sum(axis=1)  # how many classes are ranked before the right one
    out = {"samples": float(n), "accuracy": hits / n, "accuracy_low": low, "accuracy_high": high}
    for k in (3, 5):
        if k < classes:
            out[f"top_{k}_accuracy"] = float((better < k).mean())
    present = np.unique(labels)
    recalls = [float((best[labels == label] == label).mean()) for label in present]
    out["per_class_recall_min"] = min(recalls)
    out["classes_present"] = float(len(present))
    if scores.min() >= -1e-6 and np.allclose(scores.sum(axis=1), 1.0, atol=1e-2):
        out["log_loss"] = float(-np.log(np.clip(own.astype(np.float64), _FLOOR, 1.0)).mean())
    return out


def regression(predicted: Numbers, wanted: Numbers) -> dict[str, float]:
    """Errors of numbers [n, …] against numbers of the same shape."""
    difference = predicted.astype(np.float64) - wanted.astype(np.float64)
    return {
        "samples": float(len(predicted)),
        "mean_absolute_error": float(np.abs(difference).mean()),
        "root_mean_squared_error": float(np.sqrt((difference**2).mean())),
    }


def latency(seconds: list[float]) -> dict[str, float]:
    """Median and 99th percentile in milliseconds; nothing for no measurements."""
    if not seconds:
        return {}
    p50, p99 = np.percentile(np.asarray(seconds), [50, 99])
    return {"latency_p50_ms": float(p50) * 1000.0, "latency_p99_ms": float(p99) * 1000.0}
