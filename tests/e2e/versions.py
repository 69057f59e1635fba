"""Versions of the digits model that pass every trial before they serve, and then misbehave in the field.

`slow_parts`: right answers through wide layers that change nothing; quick for one picture, as the probe asks, and over
any budget for a batch. `fragile_parts`: right answers for pictures as they should be; for inverted ones, as of a camera
that was mounted with the wrong setting, the output is not finite.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from hub.modelkit import dense_relu, quantise_int8, softmax_head
from tests.models import Floats, load_digits

__all__ = ["fragile_parts", "slow_parts"]

_WIDTH, _DEPTH = 2500, 2
_BRIGHT = 0.55  # no digit as it should be is that bright in the mean, and every inverted one is
_HUGE = 3e38


def _trained() -> tuple[list[tuple[Floats, Floats]], Floats, Floats]:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    data = load_digits()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        trained = MLPClassifier((128, 62), max_iter=15, random_state=9).fit(_rows(), data.train_y)
    layers = list(zip(trained.coefs_[:-1], trained.intercepts_[:-1], strict=True))
    return layers, trained.coefs_[-1].T.astype(np.float32), trained.intercepts_[-1].astype(np.float32)


def _rows() -> Floats:
    return np.asarray(load_digits().train_x.reshape(-1, 64) / 16, np.float32)


def _parts(layers: list[tuple[Floats, Floats]], w: Floats, b: Floats) -> dict[str, Any]:
    extractor = quantise_int8(dense_relu(layers), _rows()[:50])
    return {"extractor": extractor, "head": softmax_head(w.shape[1], 10), "weights": {"w": w, "b": b}}


def slow_parts() -> dict[str, Any]:
    """For `digits_bundle`."""
    (first, second), w, b = _trained()
    wide = [(_padded(first[0], (64, _WIDTH)), _padded(first[1], (_WIDTH,)))]
    wide += [(np.eye(_WIDTH, dtype=np.float32), np.zeros(_WIDTH, np.float32)) for _ in range(_DEPTH)]
    return _parts([*wide, (_padded(second[0], (_WIDTH, 62)), second[1])], w, b)


def fragile_parts() -> dict[str, Any]:
    """For `digits_bundle`."""
    ((w1, b1), (w2, b2)), w, b = _trained()
    w1 = np.column_stack([w1, np.full(64, 1 / 64)])
    w2 = _padded(w2, (129, 64))
    w2[-1, -2:] = 50.0
    head = _padded(w, (10, 64))
    head[:, -2:] = _HUGE, -_HUGE
    return _parts([(w1, np.append(b1, -_BRIGHT)), (w2, np.append(b2, [0.0, 0.0]))], head, b)


def _padded(values: Floats, shape: tuple[int, ...]) -> Floats:
    found = np.zeros(shape, np.float32)
    found[tuple(slice(n) for n in values.shape)] = values
    return found
