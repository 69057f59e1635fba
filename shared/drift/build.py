"""Making a reference and a calibration from data and the model itself. Runs where versions are made, not on devices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import msgspec
import numpy as np

from shared import canonical, limits
from shared.drift.cells import Cells, ScoreCells
from shared.drift.contract import DataContract, FeatureContract, resolve
from shared.drift.features import Extractor
from shared.drift.layout import BINS, CELLS, SCORE_BINS
from shared.drift.projection import directions, project
from shared.drift.reference import (
    Calibration,
    Classes,
    Extraction,
    Feature,
    Projection,
    Reference,
    Season,
    check_fits,
    parse_calibration,
    parse_reference,
)
from shared.errors import InvalidInput
from shared.preprocess.kernels import Array
from shared.runtime.model import LoadedModel

__all__ = ["MIN_ROWS", "ReferenceData", "build_reference", "renew_predictions"]

MIN_ROWS = 40
_CHUNK = 128
_PROJECTIONS = 12
_NEVER = 1e-9
_LEAST_RUN, _MOST_RUN = 12, 4096
_OUTER = 0.1  # the least of forty rows or more lies in this share of the reference, but once in a hundred windows


class ReferenceData:
    """x: raw inputs [n, …]; y: true classes [n], for the calibration; times_s: seconds since 1970 [n], for seasons.

    Error `reference.data`.
    """

    def __init__(self, x: Array, y: Array | None = None, times_s: Array | None = None) -> None:
        self.x, self.y, self.times_s = x, y, times_s
        if x.ndim < 2 or len(x) < MIN_ROWS:
            raise _refusal(f"there are {len(x) if x.ndim else 0} rows; at least {MIN_ROWS} are needed")
        for name, part in (("y", y), ("t", times_s)):
            if part is not None and part.shape != (len(x),):
                raise _refusal(f"{name} must have one number for each row of x")
        if y is not None and y.dtype.kind not in "iu":
            raise _refusal("y must hold class numbers")
        if times_s is not None and not (np.isfinite(times_s).all() and 0 <= times_s.min() <= times_s.max() < 2**40):
            raise _refusal("t must hold seconds since 1970")


def _refusal(problem: str) -> InvalidInput:
    return InvalidInput(
        "reference.data",
        f"No reference can be made: {problem}."[:300],
        hint="Give an .npz with x (raw inputs), and if you have them y (class numbers) and t (seconds since 1970).",
    )


def build_reference(
    model: LoadedModel, data: ReferenceData, contract: DataContract, *, seed: int = 0
) -> tuple[bytes, bytes | None]:
    """The files of role `reference` and, if there are labels of a classifier, `calibration`.

    Errors `reference.data`, `contract.invalid`, and those of `LoadedModel.predict`.
    """
    manifest = model.manifest
    extraction, contracts = resolve(contract, manifest.input.shape, manifest.input.dtype)
    good: Array = np.asarray(np.isfinite(data.x.reshape(len(data.x), -1)).all(axis=1))
    if int(good.sum()) < MIN_ROWS:
        raise _refusal("too many rows hold NaN or infinity")
    inputs = _inputs(model, extraction, data.x)
    outputs, embeddings = _answers(model, data.x[good])
    projection = _projection(model, embeddings, seed)
    columns: list[_Column] = [("input", part, inputs[:, i]) for i, part in enumerate(contracts)]
    columns += _prediction_columns(outputs, projection, embeddings)
    features = [_feature(source, part, values) for source, part, values in columns]
    classes = _classes(outputs) if manifest.task == "classification" else None
    reference = Reference(
        rows=len(data.x),
        predicted=len(outputs),
        preprocessing=model.pipeline.digest,
        duplicate_share=1.0 - len(np.unique(inputs, axis=0)) / len(inputs),
        extraction=extraction,
        features=features,
        classes=classes,
        projection=projection,
        rate=contract.rate,
        seasons=_seasons(data.times_s, good, features, columns),
    )
    written = canonical.dumps(reference)
    check_fits(parse_reference(written), manifest, model.pipeline.digest)
    if classes is None or data.y is None:
        return written, None
    return written, _calibration(classes, outputs, data.y[good])


def renew_predictions(model: LoadedModel, base: Reference, data: ReferenceData) -> tuple[bytes, bytes | None]:
    """`base` for a model that has the same input and extractor and another head: what `build_reference` gives.

    What the input should be stays as it is; outputs, embedding and classes are counted anew on `data`. Counts by hour
    and weekday are left out, because they are of other rows. Errors as `build_reference`.
    """
    manifest = model.manifest
    good: Array = np.asarray(np.isfinite(data.x.reshape(len(data.x), -1)).all(axis=1))
    if int(good.sum()) < MIN_ROWS:
        raise _refusal("too many rows hold NaN or infinity")
    outputs, embeddings = _answers(model, data.x[good])
    columns = _prediction_columns(outputs, base.projection, embeddings)
    classes = _classes(outputs) if manifest.task == "classification" else None
    reference = msgspec.structs.replace(
        base,
        predicted=len(outputs),
        features=[*base.of("input"), *(_feature(source, part, values) for source, part, values in columns)],
        classes=classes,
        seasons=[],
    )
    written = canonical.dumps(reference)
    check_fits(parse_reference(written), manifest, model.pipeline.digest)
    if classes is None or data.y is None:
        return written, None
    return written, _calibration(classes, outputs, data.y[good])


def _inputs(model: LoadedModel, extraction: Extraction, x: Array) -> Array:
    extractor = Extractor(extraction, model.manifest.input)
    parts = [extractor.features(extractor.kept(x[i : i + _CHUNK])) for i in range(0, len(x), _CHUNK)]
    return np.concatenate(parts)


def _answers(model: LoadedModel, x: Array) -> tuple[Array, Array]:
    """[n, outputs], and the embedding [n, size] ([n, 0] where there is no head)."""
    outputs, embeddings = [], []
    for row in range(len(x)):
        outputs.append(model.predict(x[row : row + 1]).reshape(1, -1))
        embeddings.append(model.embedding.reshape(1, -1))
    return np.concatenate(outputs), np.concatenate(embeddings)


def _projection(model: LoadedModel, embeddings: Array, seed: int) -> Projection | None:
    size = embeddings.shape[1]
    if model.manifest.head is None or not 0 < size <= limits.MAX_DRIFT_EMBEDDING_COUNT:
        return None
    return Projection(seed=seed, inputs=size, outputs=min(_PROJECTIONS, size))


_Source = Literal["input", "output", "embedding"]
_Column = tuple[_Source, FeatureContract, Array]


def _prediction_columns(outputs: Array, projection: Projection | None, embeddings: Array) -> list[_Column]:
    """The features behind those of the input: where each is from, its contract, its values."""
    found: list[_Column] = []
    count = outputs.shape[1]
    if count <= limits.MAX_DRIFT_OUTPUTS_COUNT:
        found += [("output", FeatureContract(name=f"y{i}"), outputs[:, i]) for i in range(count)]
    if projection is not None:
        projected = project(embeddings, directions(projection))
        found += [("embedding", FeatureContract(name=f"e{i}"), projected[:, i]) for i in range(projection.outputs)]
    return found


def _feature(source: _Source, contract: FeatureContract, values: Array) -> Feature:
    finite = values[np.isfinite(values)]
    if contract.missing is not None:
        finite = finite[finite != np.float32(contract.missing)]
    fields: dict[str, Any] = {name: getattr(contract, name) for name in contract.__struct_fields__}
    fields["edges"], fields["categories"] = _bins(contract, finite)
    blank = Feature(source=source, counts=[0] * CELLS, **fields)
    cells = Cells([blank])
    fields["counts"] = cells.count(cells.of(values[:, np.newaxis].astype(np.float32)))[0].tolist()
    fields |= _moments(finite) | _habits(finite)
    return Feature(source=source, **fields)


def _bins(contract: FeatureContract, finite: Array) -> tuple[list[float], list[float]]:
    """Edges of a number, or the codes of a category with the commonest first."""
    values, counts = np.unique(finite, return_counts=True)
    if contract.type == "category":
        seen = dict(zip(values.tolist(), counts.tolist(), strict=True))
        codes = [float(np.float32(code)) for code in contract.categories] or list(seen)
        if not codes or len(codes) > limits.MAX_DRIFT_CATEGORIES_COUNT:
            raise _refusal(f"{contract.name} has {len(codes)} categories")
        return [], sorted(codes, key=lambda code: (-seen.get(code, 0), code))
    if len(values) <= BINS - 2:
        return _single(_between(values.astype(np.float64))), []
    quantiles = np.quantile(finite, np.arange(1, BINS) / BINS, method="inverted_cdf").astype(np.float32)
    edges, repeats = np.unique(quantiles, return_counts=True)
    heavy = np.searchsorted(values, edges[repeats > 1])  # so common that it fills bins: it gets a bin of its own
    heavy = heavy[heavy < len(values) - 1]
    above = (values[heavy].astype(np.float64) + values[heavy + 1]) / 2
    return _single(np.union1d(edges, above)[: BINS - 1]), []


def _between(values: Array) -> Array:
    """Edges that give each of a few values a bin of its own, and one to what is below and above them all."""
    if not len(values):
        return values
    gap = float(np.diff(values).min()) / 2 if len(values) > 1 else 0.0
    if not gap:
        gap = 0.5 if float(values[0]).is_integer() else max(abs(float(values[0])) * 1e-3, 1e-6)
    inner = (values[1:] + values[:-1]) / 2
    return np.concatenate([values[:1] - gap, inner, values[-1:] + gap])


def _single(edges: Array) -> list[float]:
    """The edges as float32 numbers, without those that are equal there."""
    return [float(edge) for edge in np.unique(edges.astype(np.float32))]


def _moments(finite: Array) -> dict[str, float]:
    if not finite.size:
        return {}
    values = finite.astype(np.float64)
    return {
        "least": float(values.min()),
        "greatest": float(values.max()),
        "mean": float(values.mean()),
        "std": float(values.std()),
    }


def _habits(finite: Array) -> dict[str, float]:
    """How long one value lasts by chance, and how common one value far out is: rows may share it as their extreme."""
    if not finite.size:
        return {}
    values, counts = np.unique(finite, return_counts=True)
    share = counts.max() / len(finite)
    stuck = 0 if share > 0.9 else min(max(_LEAST_RUN, math.ceil(math.log(_NEVER) / math.log(share))), _MOST_RUN)
    low, high = np.quantile(finite, (_OUTER, 1.0 - _OUTER))
    extreme = counts[(values <= low) | (values >= high)].max()
    return {"stuck_rows": stuck, "extreme_share": float(extreme) / len(finite)}


def _classes(outputs: Array) -> Classes:
    best = outputs.argmax(axis=1)
    scores = outputs[np.arange(len(outputs)), best]
    count = outputs.shape[1]
    common = np.argsort(-np.bincount(best, minlength=count), kind="stable")
    kept = sorted(int(c) for c in common[: count if count <= limits.MAX_DRIFT_CLASSES_COUNT else 63])
    edges = _single(np.quantile(scores, np.arange(1, SCORE_BINS) / SCORE_BINS))
    blank = Classes(outputs=count, kept=kept, edges=edges, counts=[])
    cells = ScoreCells(blank)
    return Classes(outputs=count, kept=kept, edges=edges, counts=cells.count(cells.of(outputs)).tolist())


def _calibration(classes: Classes, outputs: Array, y: Array) -> bytes:
    if int(y.min()) < 0 or int(y.max()) >= classes.outputs:
        raise _refusal(f"y has classes from {y.min()} to {y.max()}; the version knows 0 to {classes.outputs - 1}")
    score, columns = ScoreCells(classes), classes.columns
    cells, true = score.of(outputs), score.column(y)
    right = outputs.argmax(axis=1) == y
    confusion: list[int] = []
    if columns <= limits.MAX_DRIFT_CONFUSION_COUNT:
        confusion = np.bincount(cells * columns + true, minlength=score.size * columns).tolist()
    found = Calibration(
        rows=len(y),
        columns=columns,
        total=score.count(cells).tolist(),
        correct=np.bincount(cells[right], minlength=score.size).tolist(),
        confusion=confusion,
    )
    written = canonical.dumps(found)
    parse_calibration(written)
    return written


def _seasons(
    times_s: Array | None,
    good: Array,
    features: Sequence[Feature],
    columns: Sequence[_Column],
) -> list[Season]:
    if times_s is None:
        return []
    hours = (times_s // 3600).astype(np.int64)
    by: dict[Literal["hour", "weekday"], tuple[int, Array]] = {
        "hour": (24, hours % 24),
        "weekday": (7, (hours // 24 + 3) % 7),  # 1970-01-01 was a Thursday
    }
    found = []
    for name, (periods, period) in by.items():
        table = np.zeros((periods, len(features), CELLS), np.int64)
        for index, (feature, (source, _contract, values)) in enumerate(zip(features, columns, strict=True)):
            cells = Cells([feature]).of(values[:, np.newaxis].astype(np.float32))[:, 0]
            when = period if source == "input" else period[good]
            table[:, index] = np.bincount(when * CELLS + cells, minlength=periods * CELLS).reshape(periods, CELLS)
        found.append(Season(by=name, counts=table.reshape(periods, -1).tolist()))
    return found
