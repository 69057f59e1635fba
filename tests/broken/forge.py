"""Bundles that no honest builder makes: right in form, with other files in them; or wrong in form."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from shared.bundle.archive import unpack_bundle, write_bundle
from shared.bundle.manifest import Manifest, Requirements
from tests.models import digits_bundle

__all__ = ["archived", "with_extractor", "with_manifest"]

_BLOCK = 512


def with_extractor(version: int, extractor: bytes) -> bytes:
    """A bundle of digits in perfect form, with another extractor; its golden outputs are the honest model's."""

    def change(manifest: Manifest, files: dict[str, bytes]) -> Manifest:
        path = manifest.extractor.path
        files[path] = extractor
        digest = hashlib.sha256(extractor).hexdigest()
        entries = [
            msgspec.structs.replace(entry, bytes=len(extractor), sha256=digest) if entry.path == path else entry
            for entry in manifest.files
        ]
        return msgspec.structs.replace(manifest, files=entries, requirements=Requirements())

    return _rewritten(version, change)


def with_manifest(version: int, old: bytes, new: bytes) -> bytes:
    """An archive whose manifest was changed as text; the text must keep its length."""
    return archived(version, lambda data: data.replace(old, new, 1))


def archived(version: int, change: Callable[[bytes], bytes]) -> bytes:
    """An archive changed as bytes."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "bundle"
        digits_bundle(path, version)
        data = path.read_bytes()
    changed = change(data)
    if changed == data:
        raise AssertionError("nothing was changed")
    return changed


def header(data: bytes, name: str, change: Callable[[bytearray], None]) -> bytes:
    """The archive with the header of one entry changed and its checksum made right again."""
    at = data.index(name.encode() + b"\0")
    block = bytearray(data[at : at + _BLOCK])
    change(block)
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return data[:at] + bytes(block) + data[at + _BLOCK :]


def _rewritten(version: int, change: Callable[[Manifest, dict[str, bytes]], Manifest]) -> bytes:
    with TemporaryDirectory() as folder:
        path, unpacked = Path(folder) / "bundle", Path(folder) / "unpacked"
        built = digits_bundle(path, version)
        unpack_bundle(path, unpacked, expected_sha256=built.sha256, expected_bytes=built.bytes)
        files = {entry.path: (unpacked / entry.path).read_bytes() for entry in built.manifest.files}
    manifest = change(built.manifest, files)
    out = io.BytesIO()
    write_bundle(out, manifest, dict(files))
    return out.getvalue()
