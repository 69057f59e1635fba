"""The data contract: what each feature should be, written by a person as YAML, carried in the reference.

    kind: columns            # or {kind: image, height: 28, width: 28, peak: 255}
    features:
      - {name: temperature, unit: degC, min: -40, max: 85, presence: 0.99, policy: reject}
      - {name: mode, type: category, categories: [0, 1, 2]}
    rate: {least_per_h: 10, most_per_h: 3600}

Features are named in the order of the columns. For pictures and signals the features are known and may be left out;
then a contract may name some of them to bound them. Refusing rows is for columns only. Error `contract.invalid`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import PurePath
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from shared import limits
from shared.drift.features import feature_names
from shared.drift.reference import Columns, Extraction, FeatureName, Finite, Image, Rate, Series
from shared.errors import InvalidInput

__all__ = ["DataContract", "FeatureContract", "parse_contract", "resolve"]


class FeatureContract(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One feature as it should be; see `shared.drift.reference.Feature`."""

    name: FeatureName
    type: Literal["number", "integer", "category"] = "number"
    unit: Annotated[str, Meta(max_length=32)] = ""
    min: Finite | None = None
    max: Finite | None = None
    categories: Annotated[list[Finite], Meta(max_length=limits.MAX_DRIFT_CATEGORIES_COUNT)] = []
    missing: Finite | None = None
    presence: Annotated[float, Meta(ge=0, le=1)] = 0.0
    policy: Literal["count", "reject"] = "count"


class DataContract(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole contract; without `extraction`, inputs of two or three dimensions are pictures, others columns."""

    extraction: Extraction | None = None
    features: Annotated[list[FeatureContract], Meta(max_length=limits.MAX_DRIFT_INPUTS_COUNT)] = []
    rate: Rate = Rate()


_EXTRACTION = ("kind", "height", "width", "channels", "peak", "length")


def parse_contract(document: Any, name: PurePath) -> DataContract:
    """The contract in what YAML gave; error `contract.invalid` names the field."""
    if not isinstance(document, dict):
        raise _invalid(f"{name} is not a list of `key: value` lines")
    plain = {key: value for key, value in document.items() if key not in _EXTRACTION}
    extraction = {key: document[key] for key in _EXTRACTION if key in document}
    try:
        return msgspec.convert(plain | ({"extraction": extraction} if extraction else {}), DataContract)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from error


def _invalid(problem: str) -> InvalidInput:
    return InvalidInput(
        "contract.invalid",
        f"The data contract is not valid: {problem}."[:300],
        hint="docs/bundles.md shows what it may hold.",
    )


def resolve(contract: DataContract, shape: Sequence[int], dtype: str) -> tuple[Extraction, list[FeatureContract]]:
    """How inputs of this shape become features, and the contract of each, in order; error `contract.invalid`."""
    extraction = contract.extraction or _guess(shape, dtype)
    size = wanted = math.prod(shape)
    if isinstance(extraction, Image):
        wanted = extraction.height * extraction.width * extraction.channels
    elif isinstance(extraction, Series):
        wanted = extraction.length * extraction.channels
    if wanted != size:
        raise _invalid(f"inputs have {size} elements, but the contract describes {wanted}")
    if isinstance(extraction, Columns) and size > limits.MAX_DRIFT_INPUTS_COUNT:
        raise _invalid(f"{size} columns are over {limits.MAX_DRIFT_INPUTS_COUNT}; say `kind: image` or `kind: series`")
    return extraction, _features(contract, extraction, size)


def _features(contract: DataContract, extraction: Extraction, size: int) -> list[FeatureContract]:
    given, names = contract.features, feature_names(extraction, size)
    if len({feature.name for feature in given}) != len(given):
        raise _invalid("a feature is named twice")
    if any(f.min is not None and f.max is not None and f.min > f.max for f in given):
        raise _invalid("a feature has min above max")
    if any(f.categories and f.type != "category" for f in given):
        raise _invalid("a feature has categories but another type")
    if isinstance(extraction, Columns):
        if given and len(given) != size:
            raise _invalid(f"it names {len(given)} features for {size} columns")
        return list(given) or [FeatureContract(name=name) for name in names]
    unknown = [feature.name for feature in given if feature.name not in names]
    if unknown or any(f.policy == "reject" or f.type == "category" for f in given):
        raise _invalid(f"pictures and signals have the features {', '.join(names)}, numbers that are only counted")
    named = {feature.name: feature for feature in given}
    return [named.get(name, FeatureContract(name=name)) for name in names]


def _guess(shape: Sequence[int], dtype: str) -> Extraction:
    """Two dimensions, or three with 1, 3 or 4 colours last, are a picture."""
    if len(shape) == 2:
        return Image(height=shape[0], width=shape[1], peak=_peak(dtype))
    if len(shape) == 3 and shape[2] in (1, 3, 4):
        return Image(height=shape[0], width=shape[1], channels=shape[2], peak=_peak(dtype))  # type: ignore[arg-type]
    return Columns()


def _peak(dtype: str) -> float:
    return {"uint8": 255.0, "int8": 127.0, "int16": 32767.0}.get(dtype, 1.0)
