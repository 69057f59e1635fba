"""Writing and reading the archive. One value has one archive; a reader accepts nothing but that archive.

The form: ustar headers with fixed fields (mode 0644, no owner, time 0), `manifest.json` first, then the manifest's
files in its order, each padded with zeros to 512 bytes, then two zero blocks, then nothing. The reader builds the
header that must come next and compares, so links, devices, other names, other sizes and other order are refused by
construction and no name from the stream ever becomes a path. Errors: `bundle.too_large`, `bundle.truncated`,
`bundle.malformed`, `bundle.unexpected_entry`, `bundle.entry_digest`, `bundle.trailing`, `bundle.digest_mismatch`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, Protocol

import msgspec

from shared import canonical, durable, limits
from shared.bundle.layout import BLOCK, END, MANIFEST_NAME, header, padding
from shared.bundle.manifest import FileEntry, Manifest
from shared.errors import InvalidInput, NotFound, SkerryError, StorageFailure, TooLarge, Untrusted

__all__ = [
    "MANIFEST_NAME",
    "BundleReader",
    "Sink",
    "check_manifest",
    "open_bundle",
    "parse_manifest",
    "read_bundle",
    "read_manifest",
    "unpack_bundle",
    "verify_unpacked",
    "write_bundle",
]

_CHUNK = 1 << 18

Sink = Callable[[FileEntry, Iterator[bytes]], None]
"""Receives one file: its entry and its bytes in chunks. The last step of the iterator raises if the digest is wrong."""


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Writable(Protocol):
    def write(self, chunk: bytes, /) -> object: ...


def check_manifest(manifest: Manifest) -> None:
    """What types cannot say: unique paths, no file that is also a folder, and every file named is listed."""
    paths = [entry.path for entry in manifest.files]
    folders = {str(parent) for path in paths for parent in Path(path).parents}
    clash = (
        len(set(paths)) != len(paths) or folders & set(paths) or MANIFEST_NAME in {path.split("/")[0] for path in paths}
    )
    if clash:
        raise InvalidInput("bundle.malformed", "The manifest lists a file twice, or as a file and a folder.")
    named = [manifest.extractor.path, manifest.golden.inputs, manifest.golden.outputs]
    named += [p for p in (manifest.labels, manifest.reference, manifest.calibration, manifest.card) if p is not None]
    if manifest.head is not None:
        named += [manifest.head.path, *manifest.head.weights.values()]
    for path in named:
        if path not in paths:
            raise InvalidInput("bundle.malformed", f"The manifest names {path} but does not list it under files.")
    for entry in manifest.files:
        if entry.path == manifest.card and entry.bytes > limits.MAX_CARD_BYTES:
            raise TooLarge("bundle.too_large", f"The model card is over {limits.MAX_CARD_BYTES} bytes.")


def parse_manifest(data: bytes) -> Manifest:
    """The manifest in canonical JSON bytes; errors `bundle.malformed`, `bundle.too_large`."""
    if len(data) > limits.MAX_MANIFEST_BYTES:
        raise TooLarge("bundle.too_large", f"The manifest has {len(data)} bytes, over {limits.MAX_MANIFEST_BYTES}.")
    try:
        plain = canonical.loads(data, limit=limits.MAX_MANIFEST_BYTES, what="manifest")
        if canonical.dumps(plain) != data:
            raise InvalidInput("bundle.malformed", "The manifest is not canonical JSON.")
        manifest = msgspec.convert(plain, Manifest)
    except (SkerryError, msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise InvalidInput("bundle.malformed", f"The manifest is malformed: {error}"[:300]) from error
    check_manifest(manifest)
    return manifest


def write_bundle(out: _Writable, manifest: Manifest, files: Mapping[str, bytes | Path]) -> tuple[str, int]:
    """Write a bundle; returns (SHA-256, bytes). `files` maps the manifest's paths to content, which must match it."""
    check_manifest(manifest)
    data = canonical.dumps(manifest)
    parse_manifest(data)
    digest, total = hashlib.sha256(), 0

    def put(block: bytes) -> None:
        nonlocal total
        total += len(block)
        if total > limits.MAX_BUNDLE_BYTES:
            raise TooLarge("bundle.too_large", f"The bundle is over {limits.MAX_BUNDLE_BYTES} bytes.")
        digest.update(block)
        out.write(block)

    put(header(MANIFEST_NAME, len(data)) + data + bytes(padding(len(data))))
    for entry in manifest.files:
        put(header(entry.path, entry.bytes))
        if entry.path not in files:
            raise InvalidInput("bundle.malformed", f"The content of {entry.path} is missing.")
        found, size = hashlib.sha256(), 0
        for chunk in _content(files[entry.path]):
            found.update(chunk)
            size += len(chunk)
            put(chunk)
        if size != entry.bytes or found.hexdigest() != entry.sha256:
            raise InvalidInput("bundle.entry_digest", f"The content of {entry.path} is not what the manifest says.")
        put(bytes(padding(size)))
    put(END)
    return digest.hexdigest(), total


def _content(source: bytes | Path) -> Iterator[bytes]:
    if isinstance(source, bytes):
        yield source
        return
    with source.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


class BundleReader:
    """Reads a bundle from a stream in one pass, holding one chunk at a time: `manifest()`, then `files(sink)`."""

    def __init__(self, stream: _Readable, total_limit: int = limits.MAX_BUNDLE_BYTES) -> None:
        self._stream = stream
        self._left = total_limit
        self._manifest: Manifest | None = None
        self.manifest_bytes = b""
        """The manifest as it stands in the archive, once it was read."""

    def _read(self, size: int) -> bytes:
        if size > self._left:
            raise TooLarge("bundle.too_large", "The bundle is larger than accepted.")
        self._left -= size
        parts = []
        while size:
            part = self._stream.read(min(size, _CHUNK))
            if not part:
                raise InvalidInput("bundle.truncated", "The bundle ends too early.", hint="Transfer it again.")
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def _zeros(self, size: int) -> None:
        if self._read(size) != bytes(size):
            raise InvalidInput("bundle.malformed", "The padding of the bundle is not zero.")

    def manifest(self) -> Manifest:
        """The manifest, the first entry."""
        if self._manifest is None:
            block = self._read(BLOCK)
            digits = block[124:135]
            size = int(digits, 8) if digits.isdigit() and not set(digits) & set(b"89") else -1
            if size > limits.MAX_MANIFEST_BYTES:
                raise TooLarge("bundle.too_large", f"The manifest is over {limits.MAX_MANIFEST_BYTES} bytes.")
            if size < 0 or block != header(MANIFEST_NAME, size):
                raise InvalidInput(
                    "bundle.malformed",
                    "The file is not a Skerry bundle.",
                    hint="Make one with `skerry versions build`.",
                )
            data = self._read(size)
            self._zeros(padding(size))
            self._manifest = parse_manifest(data)
            self.manifest_bytes = data
            self._bound(self._manifest)
        return self._manifest

    def _bound(self, manifest: Manifest) -> None:
        rest = sum(BLOCK + entry.bytes + padding(entry.bytes) for entry in manifest.files) + len(END)
        if rest > self._left:
            raise TooLarge("bundle.too_large", "The files that the manifest lists are larger than accepted.")

    def files(self, sink: Sink) -> None:
        """Hand every file to `sink`, verified; then check that the archive ends as it must."""
        for entry in self.manifest().files:
            if self._read(BLOCK) != header(entry.path, entry.bytes):
                raise InvalidInput(
                    "bundle.unexpected_entry", f"The archive holds something else where {entry.path} belongs."
                )
            chunks = self._chunks(entry)
            sink(entry, chunks)
            for _ in chunks:  # what the sink left unread is still verified
                pass
            self._zeros(padding(entry.bytes))
        self._zeros(len(END))
        if self._stream.read(1):
            raise InvalidInput("bundle.trailing", "There are bytes after the end of the bundle.")

    def _chunks(self, entry: FileEntry) -> Iterator[bytes]:
        digest, left = hashlib.sha256(), entry.bytes
        while left:
            chunk = self._read(min(left, _CHUNK))
            digest.update(chunk)
            left -= len(chunk)
            yield chunk
        if digest.hexdigest() != entry.sha256:
            raise Untrusted(
                "bundle.entry_digest", f"The bytes of {entry.path} are not the ones that the manifest names."
            )


def read_bundle(source: Path | BinaryIO, sink: Sink | None = None, *, limit: int = limits.MAX_BUNDLE_BYTES) -> Manifest:
    """Verify a whole bundle and return its manifest; each file also goes to `sink`."""
    if isinstance(source, Path):
        with open_bundle(source) as stream:
            return read_bundle(stream, sink, limit=limit)
    reader = BundleReader(source, limit)
    reader.files(sink or (lambda entry, chunks: None))
    return reader.manifest()


def read_manifest(path: Path) -> Manifest:
    """The manifest of a bundle file, or of the folder where one is unpacked; its other files are not looked at."""
    if path.is_dir():
        return parse_manifest(durable.read_file(path / MANIFEST_NAME, limit=limits.MAX_MANIFEST_BYTES))
    with open_bundle(path) as stream:
        return BundleReader(stream).manifest()


def open_bundle(path: Path) -> BufferedReader:
    """A bundle's file; errors `storage.missing`, `storage.read`."""
    try:
        return path.open("rb")
    except FileNotFoundError as error:
        raise NotFound("storage.missing", f"{path.name} does not exist.") from error
    except OSError as error:
        raise StorageFailure("storage.read", f"Cannot read {path.name}: {error.strerror or error}.") from error


def unpack_bundle(path: Path, directory: Path, *, expected_sha256: str, expected_bytes: int) -> Manifest:
    """Unpack into the new folder `directory`, durably; on an error the folder is removed again.

    Length and digest of the received bytes are verified before anything in them is parsed.
    """
    with open_bundle(path) as stream:
        _verify_received(stream, expected_sha256, expected_bytes)
        stream.seek(0)
        if directory.exists() and any(directory.iterdir()):
            raise StorageFailure("storage.not_empty", f"{directory.name} is not an empty folder.")
        try:
            durable.make_dir(directory)
            reader = BundleReader(stream, expected_bytes)
            manifest = reader.manifest()
            reader.files(lambda entry, chunks: _extract(directory / entry.path, chunks))
            durable.write_file(directory / MANIFEST_NAME, reader.manifest_bytes)  # kept as received
            for folder in sorted({(directory / entry.path).parent for entry in manifest.files}):
                durable.fsync_dir(folder)
        except OSError as error:
            shutil.rmtree(directory, ignore_errors=True)
            raise StorageFailure(
                "storage.write",
                f"Cannot unpack the bundle: {error.strerror or error}.",
                hint="Check free space.",
                retriable=True,
            ) from error
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise
    return manifest


def _verify_received(stream: BufferedReader, expected_sha256: str, expected_bytes: int) -> None:
    size = os.fstat(stream.fileno()).st_size
    if size > limits.MAX_BUNDLE_BYTES:
        raise TooLarge("bundle.too_large", f"The bundle has {size} bytes, over {limits.MAX_BUNDLE_BYTES}.")
    digest = hashlib.file_digest(stream, "sha256").hexdigest() if size == expected_bytes else ""
    if digest != expected_sha256:
        raise Untrusted(
            "bundle.digest_mismatch",
            "The bundle is not the one that was released.",
            hint="Download it again; if it happens again, the stored file is damaged.",
            detail={"expected_bytes": expected_bytes, "bytes": size, "expected_sha256": expected_sha256},
        )


def _extract(path: Path, chunks: Iterator[bytes]) -> None:
    durable.make_dir(path.parent)
    with path.open("xb") as file:
        os.fchmod(file.fileno(), 0o600)
        for chunk in chunks:
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())


def verify_unpacked(directory: Path) -> Manifest:
    """The manifest of an unpacked folder, after comparing every file's length and digest with it.

    Errors: `bundle.malformed`, `bundle.entry_digest`, `storage.*`. For a slot whose disk may have lost something.
    """
    manifest = read_manifest(directory)
    for entry in manifest.files:
        with open_bundle(directory / entry.path) as stream:
            same_size = os.fstat(stream.fileno()).st_size == entry.bytes
            if not same_size or hashlib.file_digest(stream, "sha256").hexdigest() != entry.sha256:
                raise Untrusted("bundle.entry_digest", f"The file {entry.path} on the disk is damaged.")
    return manifest
