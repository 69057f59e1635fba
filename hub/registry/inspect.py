"""Reading an uploaded bundle before any of it counts: every entry against its digest, preprocessing, card."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hub.blobs.store import StoredBlob
from shared import canonical
from shared.bundle.archive import BundleReader
from shared.bundle.manifest import FileEntry, Manifest
from shared.errors import InvalidInput
from shared.preprocess import parse_pipeline

__all__ = ["Inspected", "inspect_bundle"]


@dataclass(frozen=True, slots=True)
class Inspected:
    """What the registry keeps of a bundle. `manifest_text` is the canonical JSON; `card` may be empty."""

    manifest: Manifest
    manifest_text: str
    card: str


def inspect_bundle(path: Path, blob: StoredBlob) -> Inspected:
    """Read the whole bundle once, in chunks; errors `bundle.*`, `preprocess.*`. The models in it are not loaded."""
    card: list[bytes] = []
    with path.open("rb") as stream:
        reader = BundleReader(stream, blob.bytes)
        manifest = reader.manifest()

        def keep_card(entry: FileEntry, chunks: Iterator[bytes]) -> None:
            if entry.path == manifest.card:
                card.extend(chunks)

        reader.files(keep_card)
    parse_pipeline(manifest.preprocessing, manifest.input)
    return Inspected(manifest, canonical.dumps(manifest).decode(), _text(b"".join(card)))


def _text(card: bytes) -> str:
    try:
        text = card.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput("bundle.malformed", "The model card is not UTF-8 text.") from error
    if "\0" in text:
        raise InvalidInput("bundle.malformed", "The model card is not text.")  # PostgreSQL has no NUL in text either
    return text
