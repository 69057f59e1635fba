"""Small bundles of arbitrary files for the tests of deltas, and a delta between two of them."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from shared.bundle.archive import write_bundle
from shared.bundle.manifest import FileEntry, Golden, Manifest, ModelFile, TensorSpec
from shared.delta.encode import encode_delta
from shared.delta.format import Pair

__all__ = ["Made", "between", "write"]

_FIXED = {"golden/inputs.npy": b"in", "golden/outputs.npy": b"out"}


@dataclass(frozen=True)
class Made:
    """A delta and what it is between."""

    old: Path
    new: Path
    data: bytes
    pair: Pair

    @property
    def result(self) -> bytes:
        return self.new.read_bytes()


def write(path: Path, files: Mapping[str, bytes], version: int = 1) -> Path:
    """A bundle with these files beside those that it must have; `model.tflite` is made if it is not given."""
    content = {"model.tflite": b"model", **_FIXED, **files}
    entries = [
        FileEntry(path=name, bytes=len(data), sha256=hashlib.sha256(data).hexdigest(), role="other")
        for name, data in content.items()
    ]
    manifest = Manifest(
        model="digits",
        version=version,
        input=TensorSpec(name="x", dtype="float32", shape=[4]),
        output=TensorSpec(name="y", dtype="float32", shape=[2]),
        extractor=ModelFile(path="model.tflite"),
        golden=Golden(inputs="golden/inputs.npy", outputs="golden/outputs.npy"),
        files=entries,
    )
    with path.open("wb") as out:
        write_bundle(out, manifest, content)
    return path


def between(folder: Path, old: Mapping[str, bytes], new: Mapping[str, bytes]) -> Made:
    """The delta between two bundles, version 1 and 2."""
    first, second = write(folder / "old", old), write(folder / "new", new, 2)
    out = io.BytesIO()
    pair = encode_delta(first, second, out)
    return Made(first, second, out.getvalue(), pair)
