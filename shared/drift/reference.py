"""The reference: what a version saw where it was made, as bins and counts. A file of the bundle, so signed with it.

Canonical JSON, role `reference`, at most `MAX_REFERENCE_BYTES`. It holds the data contract of each feature (unit,
range, categories, presence) beside its bins. Parsing is strict: what does not add up is refused (`reference.malformed`)
and no partly believed reference is ever used; `check_fits` holds it against the manifest it is in
(`reference.mismatch`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Literal

import msgspec
import numpy as np
from msgspec import Meta

from shared import canonical, limits
from shared.bundle.manifest import Manifest
from shared.drift.layout import BINS, CELLS, SCORE_BINS, Cell
from shared.errors import InvalidInput, SkerryError, TooLarge
from shared.wire.types import Count, Sha256

__all__ = [
    "Calibration",
    "Classes",
    "Columns",
    "Extraction",
    "Feature",
    "Image",
    "Projection",
    "Rate",
    "Reference",
    "Season",
    "Series",
    "check_fits",
    "parse_calibration",
    "parse_reference",
]

FeatureName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.:%/ -]{0,62}\Z")]
Finite = Annotated[float, Meta(ge=-3.5e38, le=3.5e38)]
Edges = Annotated[list[Finite], Meta(max_length=BINS - 1)]
Side = Annotated[int, Meta(ge=1, le=1 << 16)]
ClassCounts = Annotated[list[Count], Meta(max_length=SCORE_BINS * (limits.MAX_DRIFT_CLASSES_COUNT + 1))]


class Columns(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="columns", tag_field="kind"):
    """Each element of an input is a feature."""


class Image(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="image", tag_field="kind"):
    """Inputs are pictures; features are brightness, contrast, sharpness, edges and, with colours, saturation.

    peak: the value of full brightness.
    """

    height: Side
    width: Side
    channels: Literal[1, 3, 4] = 1
    peak: Annotated[float, Meta(gt=0, le=1e9)] = 255.0


class Series(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="series", tag_field="kind"):
    """Inputs are windows of a signal; features are mean, deviation, least and greatest of each channel."""

    length: Side
    channels: Annotated[int, Meta(ge=1, le=limits.MAX_DRIFT_INPUTS_COUNT // 4)] = 1


Extraction = Columns | Image | Series


class Feature(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One feature: its contract, its bins, and what the reference data gave.

    Contract: type, unit, min and max (else `outside`), categories (else `other`), missing (the value that stands for
    nothing), presence (the least share of rows that have a value), policy: whether a row that breaks it is only counted
    or refused. edges: bin k holds values from edges[k-1] up to below edges[k]. counts: rows in each of the 24 cells.
    least, greatest, mean, std: of the finite values. stuck_rows: so many equal values in a row do not happen (0: they
    may). extreme_share: share of rows that lie exactly on one value far out (the commonest in the outer tenths).
    """

    name: FeatureName
    source: Literal["input", "output", "embedding"] = "input"
    type: Literal["number", "integer", "category"] = "number"
    unit: Annotated[str, Meta(max_length=32)] = ""
    min: Finite | None = None
    max: Finite | None = None
    missing: Finite | None = None
    presence: Annotated[float, Meta(ge=0, le=1)] = 0.0
    policy: Literal["count", "reject"] = "count"
    edges: Edges = []
    categories: Annotated[list[Finite], Meta(max_length=limits.MAX_DRIFT_CATEGORIES_COUNT)] = []
    counts: Annotated[list[Count], Meta(min_length=CELLS, max_length=CELLS)]
    least: Finite = 0.0
    greatest: Finite = 0.0
    mean: Finite = 0.0
    std: Annotated[float, Meta(ge=0, le=3.5e38)] = 0.0
    stuck_rows: Annotated[int, Meta(ge=0, le=1 << 20)] = 0
    extreme_share: Annotated[float, Meta(ge=0, le=1)] = 0.0


class Classes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Predictions of a classifier: score bins (of the highest score) by predicted class.

    kept: the classes that have a column, ascending; when that is not all of `outputs`, one more column holds the rest.
    counts: rows, score bin by score bin; in each, one count a column.
    """

    outputs: Annotated[int, Meta(ge=1, le=1 << 24)]
    kept: Annotated[list[Count], Meta(min_length=1, max_length=limits.MAX_DRIFT_CLASSES_COUNT)]
    edges: Edges
    counts: ClassCounts

    @property
    def columns(self) -> int:
        """How many columns the counts have."""
        return len(self.kept) + (len(self.kept) < self.outputs)


class Projection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Random projections of the extractor's output: `outputs` signs-only directions, made from `seed`."""

    seed: Count
    inputs: Annotated[int, Meta(ge=1, le=limits.MAX_DRIFT_EMBEDDING_COUNT)]
    outputs: Annotated[int, Meta(ge=1, le=limits.MAX_DRIFT_PROJECTIONS_COUNT)]


class Rate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many rows a device should see in an hour."""

    least_per_h: Annotated[float, Meta(ge=0, le=1e12)] = 0.0
    most_per_h: Annotated[float, Meta(gt=0, le=1e12)] | None = None


class Season(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The same bins counted by hour of the day (24 periods, UTC) or by weekday (7, Monday is 0): one list of
    `features` times 24 counts a period."""

    by: Literal["hour", "weekday"]
    counts: Annotated[
        list[Annotated[list[Count], Meta(max_length=limits.MAX_DRIFT_FEATURES_COUNT * CELLS)]], Meta(max_length=24)
    ]


class Reference(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole reference. rows: how many the counts of the input are of. predicted: how many of those the model
    answered (it refuses what is not finite); the counts of output, embedding and classes are of these.
    preprocessing: digest of the pipeline. duplicate_share: share of rows that are also there a second time.

    The features stand in one order everywhere: inputs, then outputs, then embedding.
    """

    schema_version: Literal[1] = 1
    rows: Annotated[int, Meta(ge=1, le=limits.MAX_SEQ)]
    predicted: Annotated[int, Meta(ge=1, le=limits.MAX_SEQ)]
    preprocessing: Sha256
    duplicate_share: Annotated[float, Meta(ge=0, le=1)] = 0.0
    extraction: Extraction
    features: Annotated[list[Feature], Meta(min_length=1, max_length=limits.MAX_DRIFT_FEATURES_COUNT)]
    classes: Classes | None = None
    projection: Projection | None = None
    rate: Rate = Rate()
    seasons: Annotated[list[Season], Meta(max_length=2)] = []

    def of(self, source: str) -> list[Feature]:
        """The features of one source."""
        return [feature for feature in self.features if feature.source == source]


class Calibration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What labelled data says of each score bin and predicted class: canonical JSON, role `calibration`.

    total, correct: rows and right ones, laid out as `Classes.counts`. confusion: for each of those cells the rows by
    true column; empty when there are more than `MAX_DRIFT_CONFUSION_COUNT` columns.
    """

    schema_version: Literal[1] = 1
    rows: Annotated[int, Meta(ge=1, le=limits.MAX_SEQ)]
    columns: Annotated[int, Meta(ge=1, le=limits.MAX_DRIFT_CLASSES_COUNT + 1)]
    total: ClassCounts
    correct: ClassCounts
    confusion: Annotated[list[Count], Meta(max_length=SCORE_BINS * limits.MAX_DRIFT_CONFUSION_COUNT**2)] = []


def _malformed(what: str, problem: str) -> InvalidInput:
    return InvalidInput(
        "reference.malformed",
        f"The {what} is malformed: {problem}."[:300],
        hint="Make it with `skerry versions build --reference`.",
    )


def _parse(data: bytes, what: str, limit: int) -> object:
    if len(data) > limit:
        raise TooLarge("reference.too_large", f"The {what} has {len(data)} bytes; at most {limit} are accepted.")
    try:
        plain = canonical.loads(data, limit=limit, what=what)
        if canonical.dumps(plain) != data:
            raise _malformed(what, "it is not canonical JSON")
    except SkerryError as error:
        raise _malformed(what, error.message) from error
    return plain


def parse_reference(data: bytes) -> Reference:
    """The reference in canonical JSON bytes; errors `reference.too_large`, `reference.malformed`."""
    plain = _parse(data, "reference", limits.MAX_REFERENCE_BYTES)
    try:
        reference = msgspec.convert(plain, Reference)
    except (msgspec.ValidationError, ValueError) as error:
        raise _malformed("reference", str(error)) from error
    problem = _problem(reference)
    if problem:
        raise _malformed("reference", problem)
    return reference


def parse_calibration(data: bytes) -> Calibration:
    """The calibration in canonical JSON bytes; errors `reference.too_large`, `reference.malformed`."""
    plain = _parse(data, "calibration", limits.MAX_CALIBRATION_BYTES)
    try:
        found = msgspec.convert(plain, Calibration)
    except (msgspec.ValidationError, ValueError) as error:
        raise _malformed("calibration", str(error)) from error
    cells = SCORE_BINS * found.columns
    shape = len(found.total) == len(found.correct) == cells and len(found.confusion) in (0, cells * found.columns)
    if (
        not shape
        or sum(found.total) != found.rows
        or any(c > t for c, t in zip(found.correct, found.total, strict=True))
    ):
        raise _malformed("calibration", "its tables do not add up")
    if found.confusion and any(
        sum(found.confusion[i * found.columns : (i + 1) * found.columns]) != total
        for i, total in enumerate(found.total)
    ):
        raise _malformed("calibration", "its confusion table does not add up")
    return found


def _problem(reference: Reference) -> str:
    """What is wrong beyond types; empty when nothing is."""
    features = reference.features
    names = [(feature.source, feature.name) for feature in features]
    order = [("input", "output", "embedding").index(feature.source) for feature in features]
    if len(set(names)) != len(names) or order != sorted(order):
        return "a feature is named twice, or the features are out of order"
    if not reference.of("input"):
        return "it has no feature of the input"
    for feature in features:
        rows = reference.rows if feature.source == "input" else reference.predicted
        problem = _feature_problem(feature, rows)
        if problem:
            return f"{feature.name}: {problem}"
    projected = reference.projection.outputs if reference.projection else 0
    if len(reference.of("embedding")) != projected:
        return "the features of the embedding are not those of its projection"
    return _classes_problem(reference) or _seasons_problem(reference)


def _feature_problem(feature: Feature, rows: int) -> str:
    if not _ascending(feature.edges) or len(set(feature.categories)) != len(feature.categories):
        return "edges do not ascend, or a category is there twice"
    if (feature.type == "category") != bool(feature.categories) or (feature.categories and feature.edges):
        return "a category has categories, a number has edges"
    if feature.min is not None and feature.max is not None and feature.min > feature.max:
        return "min is above max"
    if feature.least > feature.greatest or sum(feature.counts) != rows:
        return "its counts are not those of all rows"
    bins = min(len(feature.categories), BINS) if feature.categories else len(feature.edges) + 1
    return "a bin that does not exist has counts" if any(feature.counts[bins : Cell.MISSING]) else ""


def _ascending(edges: Sequence[float]) -> bool:
    """Strictly, and also in float32, in which values are compared with them."""
    single = [float(np.float32(edge)) for edge in edges]
    return all(a < b for a, b in pairwise(single)) and all(map(math.isfinite, single))


def _classes_problem(reference: Reference) -> str:
    classes = reference.classes
    if classes is None:
        return ""
    if any(a >= b for a, b in pairwise(classes.kept)) or classes.kept[-1] >= classes.outputs:
        return "the classes that are kept do not ascend"
    if not _ascending(classes.edges):
        return "the score bins do not ascend"
    if len(classes.counts) != SCORE_BINS * classes.columns or sum(classes.counts) != reference.predicted:
        return "the counts of the classes are not those of all rows"
    return ""


def _seasons_problem(reference: Reference) -> str:
    cells = len(reference.features) * CELLS
    total = [count for feature in reference.features for count in feature.counts]
    for season in reference.seasons:
        periods = 24 if season.by == "hour" else 7
        if len(season.counts) != periods or any(len(period) != cells for period in season.counts):
            return f"the season by {season.by} has another shape than the features"
        if [sum(column) for column in zip(*season.counts, strict=True)] != total:
            return f"the season by {season.by} does not add up to the whole"
    if len({season.by for season in reference.seasons}) != len(reference.seasons):
        return "a season is there twice"
    return ""


def check_fits(reference: Reference, manifest: Manifest, preprocessing: str) -> None:
    """Return if the reference belongs to the manifest, whose pipeline's digest is given; else `reference.mismatch`."""
    size, outputs = math.prod(manifest.input.shape), math.prod(manifest.output.shape)
    how = reference.extraction
    if isinstance(how, Columns):
        fits, inputs = size == len(reference.of("input")), size
    elif isinstance(how, Image):
        fits, inputs = size == how.height * how.width * how.channels, 4 + (how.channels > 1)
    else:
        fits, inputs = size == how.length * how.channels, 4 * how.channels
    if not fits or len(reference.of("input")) != inputs:
        raise _mismatch("another input")
    if reference.preprocessing != preprocessing:
        raise _mismatch("another preprocessing")
    if len(reference.of("output")) not in (0, outputs) or (reference.classes and reference.classes.outputs != outputs):
        raise _mismatch("another output")
    if (reference.classes is not None) != (manifest.task == "classification"):
        raise _mismatch("another task")


def _mismatch(what: str) -> InvalidInput:
    return InvalidInput(
        "reference.mismatch",
        f"The reference was made for {what} than this version has.",
        hint="Make it again with this version: `skerry versions build --reference`.",
    )
