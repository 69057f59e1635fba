"""Reading an uploaded bundle before any of it counts: every entry against its digest, preprocessing, card."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from hub.blobs.store import StoredBlob
from shared import canonical
from shared.bundle.archive import BundleReader
from shared.bundle.manifest import FileEntry, Manifest
from shared.drift.reference import check_fits, parse_calibration, parse_reference
from shared.errors import InvalidInput, TooLarge
from shared.limits import MAX_CALIBRATION_BYTES, MAX_CARD_BYTES, MAX_REFERENCE_BYTES
from shared.preprocess import parse_pipeline

__all__ = ["Inspected", "inspect_bundle"]


@dataclass(frozen=True, slots=True)
class Inspected:
    """What the registry keeps of a bundle. `manifest_text` is the canonical JSON; `card` may be empty."""

    manifest: Manifest
    manifest_text: str
    card: str


def inspect_bundle(path: Path, blob: StoredBlob) -> Inspected:
    """Read the whole bundle once, in chunks; errors `bundle.*`, `preprocess.*`, `reference.*`.

    The models in it are not loaded.
    """
    kept: dict[str | None, list[bytes]] = {}
    with path.open("rb") as stream:
        reader = BundleReader(stream, blob.bytes)
        manifest = reader.manifest()

        bounds = {
            manifest.card: MAX_CARD_BYTES,
            manifest.reference: MAX_REFERENCE_BYTES,
            manifest.calibration: MAX_CALIBRATION_BYTES,
        }

        def keep(entry: FileEntry, chunks: Iterator[bytes]) -> None:
            if entry.path in bounds and entry.bytes <= bounds[entry.path]:
                kept[entry.path] = list(chunks)

        reader.files(keep)
    contents = {path: b"".join(chunks) for path, chunks in kept.items()}
    pipeline = parse_pipeline(manifest.preprocessing, manifest.input)
    _check_drift_files(manifest, contents, pipeline.digest)
    return Inspected(manifest, canonical.dumps(manifest).decode(), _text(contents.get(manifest.card, b"")))


def _check_drift_files(manifest: Manifest, contents: Mapping[str | None, bytes], digest: str) -> None:
    """A reference that devices could not read would be found out only there, so it is refused here."""
    for path in (manifest.reference, manifest.calibration):
        if path is not None and path not in contents:
            raise TooLarge("reference.too_large", f"{path} is larger than accepted.")
    if manifest.reference is not None:
        check_fits(parse_reference(contents[manifest.reference]), manifest, digest)
    if manifest.calibration is not None:
        parse_calibration(contents[manifest.calibration])


def _text(card: bytes) -> str:
    try:
        text = card.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput("bundle.malformed", "The model card is not UTF-8 text.") from error
    if "\0" in text:
        raise InvalidInput("bundle.malformed", "The model card is not text.")  # PostgreSQL has no NUL in text either
    return text
