"""What differs between two versions: manifest fields, files, sizes, lineage, gate metrics. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from hub.store.registry import GateRow, VersionRow

__all__ = ["Comparison", "FieldChange", "FileChange", "Side", "compare"]

_MAX_CHANGES_COUNT = 500
_APART = ("files", "lineage", "version", "model")


class FieldChange(msgspec.Struct, frozen=True, kw_only=True):
    """One field, by its dotted path; None: the field is not there."""

    field: str
    a: Any
    b: Any


class FileChange(msgspec.Struct, frozen=True, kw_only=True):
    """One file that is not the same in both; `change`: added, removed or changed. Bytes and digests per side."""

    path: str
    role: str
    change: str
    a_bytes: int | None
    b_bytes: int | None
    a_sha256: str | None
    b_sha256: str | None


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """One of the two versions. `metrics`: of its newest gate run, `{}` when there was none."""

    version: int
    status: str
    bundle_sha256: str
    bundle_bytes: int
    created_s: float
    lineage: dict[str, Any]
    gate_passed: bool | None
    dataset_sha256: str | None
    metrics: dict[str, Any]


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Two versions of one model. `same_dataset`: the metrics were measured on the same data."""

    model: str
    a: Side
    b: Side
    bytes_difference: int
    same_dataset: bool
    manifest: list[FieldChange]
    lineage: list[FieldChange]
    files: list[FileChange]
    files_unchanged: int
    metrics: list[FieldChange]


def compare(a: VersionRow, b: VersionRow, gate_a: GateRow | None, gate_b: GateRow | None) -> Comparison:
    """The differences from `a` to `b`."""
    manifest_a, manifest_b = json.loads(a.manifest), json.loads(b.manifest)
    left, right = _side(a, manifest_a, gate_a), _side(b, manifest_b, gate_b)
    files, unchanged = _files(manifest_a["files"], manifest_b["files"])
    return Comparison(
        model=a.model,
        a=left,
        b=right,
        bytes_difference=b.bundle_bytes - a.bundle_bytes,
        same_dataset=left.dataset_sha256 is not None and left.dataset_sha256 == right.dataset_sha256,
        manifest=_changes(_without(manifest_a), _without(manifest_b)),
        lineage=_changes(left.lineage, right.lineage),
        files=files,
        files_unchanged=unchanged,
        metrics=[FieldChange(field=n, a=left.metrics.get(n), b=right.metrics.get(n)) for n in _names(left, right)],
    )


def _side(row: VersionRow, manifest: Mapping[str, Any], gate: GateRow | None) -> Side:
    return Side(
        version=row.version,
        status=row.status.value,
        bundle_sha256=row.bundle_sha256,
        bundle_bytes=row.bundle_bytes,
        created_s=row.created_s,
        lineage=dict(manifest.get("lineage", {})),
        gate_passed=None if gate is None else gate.passed,
        dataset_sha256=None if gate is None else gate.dataset_sha256,
        metrics={} if gate is None else dict(gate.metrics.get("values", {})),
    )


def _names(left: Side, right: Side) -> list[str]:
    return sorted({*left.metrics, *right.metrics})


def _without(manifest: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in manifest.items() if key not in _APART}


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    if isinstance(value, dict) and value:
        parts = [_flat(part, f"{path}.{key}" if path else str(key)) for key, part in value.items()]
    elif isinstance(value, list) and any(isinstance(part, dict) for part in value):
        parts = [_flat(part, f"{path}[{index}]") for index, part in enumerate(value)]
    else:
        return {path: value} if path else {}
    return {key: part for flat in parts for key, part in flat.items()}


def _changes(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[FieldChange]:
    flat_a, flat_b = _flat(dict(a)), _flat(dict(b))
    different = [name for name in sorted({*flat_a, *flat_b}) if flat_a.get(name) != flat_b.get(name)]
    return [FieldChange(field=n, a=flat_a.get(n), b=flat_b.get(n)) for n in different[:_MAX_CHANGES_COUNT]]


def _files(a: list[dict[str, Any]], b: list[dict[str, Any]]) -> tuple[list[FileChange], int]:
    left, right = ({entry["path"]: entry for entry in side} for side in (a, b))
    out = []
    for path in sorted({*left, *right}):
        one, other = left.get(path), right.get(path)
        if one is not None and other is not None and one["sha256"] == other["sha256"]:
            continue
        known = other or one or {}
        out.append(
            FileChange(
                path=path,
                role=known.get("role", "other"),
                change="added" if one is None else "removed" if other is None else "changed",
                a_bytes=None if one is None else one["bytes"],
                b_bytes=None if other is None else other["bytes"],
                a_sha256=None if one is None else one["sha256"],
                b_sha256=None if other is None else other["sha256"],
            )
        )
    return out, len({*left, *right}) - len(out)
