"""One value has one archive, and the reader accepts nothing but that archive."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import canonical, limits
from shared.bundle.archive import (
    BundleReader,
    parse_manifest,
    read_bundle,
    read_manifest,
    unpack_bundle,
    verify_unpacked,
    write_bundle,
)
from shared.bundle.manifest import FileEntry, Golden, Manifest, ModelFile, TensorSpec
from shared.errors import InvalidInput, NotFound, SkerryError, StorageFailure, TooLarge, Untrusted

FILES = {"model.tflite": b"m" * 700, "golden/inputs.npy": b"in", "golden/outputs.npy": b"out", "notes.txt": b""}


def entry(path: str, data: bytes) -> FileEntry:
    return FileEntry(path=path, bytes=len(data), sha256=hashlib.sha256(data).hexdigest(), role="other")


def small_manifest(**changes: Any) -> Manifest:
    spec = TensorSpec(name="x", dtype="float32", shape=[2])
    manifest = Manifest(
        model="m",
        version=1,
        input=spec,
        output=spec,
        extractor=ModelFile(path="model.tflite"),
        golden=Golden(inputs="golden/inputs.npy", outputs="golden/outputs.npy"),
        files=[entry(path, data) for path, data in FILES.items()],
    )
    return msgspec.structs.replace(manifest, **changes)


def archive(manifest: Manifest | None = None) -> bytes:
    out = io.BytesIO()
    write_bundle(out, manifest or small_manifest(), FILES)
    return out.getvalue()


GOOD = archive()


def refused(data: bytes, code: str) -> None:
    with pytest.raises(SkerryError) as caught:
        read_bundle(io.BytesIO(data))
    assert caught.value.code == code


def headers(data: bytes) -> list[int]:
    """Where the entry headers are."""
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return [member.offset for member in tar.getmembers()]


def resigned(data: bytes, offset: int, change: Callable[[bytearray], None]) -> bytes:
    """The archive with a changed header whose checksum is right again."""
    block = bytearray(data[offset : offset + 512])
    change(block)
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return data[:offset] + bytes(block) + data[offset + 512 :]


def test_the_same_content_gives_the_same_bytes_and_digest() -> None:
    out = io.BytesIO()
    sha256, size = write_bundle(out, small_manifest(), FILES)
    assert out.getvalue() == GOOD
    assert (sha256, size) == (hashlib.sha256(GOOD).hexdigest(), len(GOOD))


def test_a_bundle_is_plain_tar_that_any_tool_lists() -> None:
    with tarfile.open(fileobj=io.BytesIO(GOOD)) as tar:
        assert tar.getnames() == ["manifest.json", *FILES]
        found = tar.extractfile("model.tflite")
        assert found is not None
        assert found.read() == FILES["model.tflite"]


def test_reading_gives_back_what_was_written(tmp_path: Path) -> None:
    seen: dict[str, bytes] = {}
    manifest = read_bundle(io.BytesIO(GOOD), lambda entry, chunks: seen.update({entry.path: b"".join(chunks)}))
    assert (manifest, seen) == (small_manifest(), FILES)
    (tmp_path / "b").write_bytes(GOOD)
    assert read_manifest(tmp_path / "b") == manifest == read_bundle(tmp_path / "b")


def test_content_from_files_is_streamed_into_the_same_archive(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(FILES["model.tflite"])
    out = io.BytesIO()
    write_bundle(out, small_manifest(), {**FILES, "model.tflite": tmp_path / "model"})
    assert out.getvalue() == GOOD


def test_the_writer_refuses_content_that_is_not_what_the_manifest_says() -> None:
    for files, code in (({**FILES, "notes.txt": b"x"}, "bundle.entry_digest"), ({}, "bundle.malformed")):
        with pytest.raises(InvalidInput) as caught:
            write_bundle(io.BytesIO(), small_manifest(), files)
        assert caught.value.code == code


def test_bytes_after_the_end_are_refused() -> None:
    refused(GOOD + b"\0", "bundle.trailing")


def test_every_truncation_is_refused() -> None:
    for size in [*range(0, len(GOOD), 97), len(GOOD) - 1]:
        refused(GOOD[:size], "bundle.truncated")


@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_no_changed_byte_gets_through(position: int, change: int) -> None:
    damaged = bytearray(GOOD)
    damaged[position] ^= change
    try:
        found = read_bundle(io.BytesIO(bytes(damaged)))
    except SkerryError as error:
        assert error.code.startswith("bundle.")
    else:  # a word in the manifest, which only the digest over the whole file covers
        assert found != read_bundle(io.BytesIO(GOOD))


@given(st.binary(max_size=4096) | st.binary(max_size=600).map(lambda data: GOOD[:1024] + data))
def test_random_bytes_give_a_coded_error(data: bytes) -> None:
    with pytest.raises(SkerryError) as caught:
        read_bundle(io.BytesIO(data))
    assert caught.value.code.startswith("bundle.")


@given(st.lists(st.tuples(st.integers(0, len(GOOD)), st.integers(0, len(GOOD))), min_size=1, max_size=4))
def test_spliced_archives_give_a_coded_error(cuts: list[tuple[int, int]]) -> None:
    data = b"".join(GOOD[min(cut) : max(cut)] for cut in cuts)
    if data == GOOD:
        return
    with pytest.raises(SkerryError) as caught:
        read_bundle(io.BytesIO(data))
    assert caught.value.code.startswith("bundle.")


@pytest.mark.parametrize("kind", [b"1", b"2", b"3", b"5", b"x", b"L", b"g", b"\0"])
def test_links_devices_and_extensions_are_refused(kind: bytes) -> None:
    def change(block: bytearray) -> None:
        block[156:157] = kind
        block[157:168] = b"/etc/passwd"

    for offset in headers(GOOD)[1:3]:
        refused(resigned(GOOD, offset, change), "bundle.unexpected_entry")


@pytest.mark.parametrize("name", [b"../../etc/cron.d/x", b"/etc/passwd", b"model.tflite2", b"MODEL.TFLITE", b""])
def test_an_entry_under_another_name_is_refused(name: bytes) -> None:
    def change(block: bytearray) -> None:
        block[:100] = name.ljust(100, b"\0")

    refused(resigned(GOOD, headers(GOOD)[1], change), "bundle.unexpected_entry")


def test_other_owners_times_and_sizes_are_refused() -> None:
    for start, value in ((100, b"0000777"), (108, b"0000001"), (124, b"00000001275"), (136, b"00000000001")):

        def change(block: bytearray, start: int = start, value: bytes = value) -> None:
            block[start : start + len(value)] = value

        refused(resigned(GOOD, headers(GOOD)[1], change), "bundle.unexpected_entry")
        assert resigned(GOOD, headers(GOOD)[1], lambda block: None) == GOOD


@pytest.mark.parametrize(
    "path",
    ["../x", "/etc/passwd", "a/../b", "a//b", "./a", "a/", "A", "a\0b", ".hidden", "a/b/c/d/e", "x" * 97, "a\nb"],
)
def test_a_manifest_with_a_path_that_could_escape_is_refused(path: str) -> None:
    data = canonical.dumps(small_manifest(files=[*small_manifest().files, entry(path, b"")]))
    with pytest.raises(InvalidInput) as caught:
        parse_manifest(data)
    assert caught.value.code == "bundle.malformed"


@pytest.mark.parametrize("extra", ["model.tflite", "golden", "notes.txt/x", "manifest.json", "manifest.json/x"])
def test_paths_that_clash_are_refused(extra: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_manifest(canonical.dumps(small_manifest(files=[*small_manifest().files, entry(extra, b"")])))
    assert caught.value.code == "bundle.malformed"


def test_a_manifest_must_list_what_it_names() -> None:
    with pytest.raises(InvalidInput, match=r"labels\.json"):
        parse_manifest(canonical.dumps(small_manifest(labels="labels.json")))


@pytest.mark.parametrize(
    "data",
    [
        b"{}",
        b"[]",
        b"\xff",
        b'{"a":1,"a":2}',
        b"[" * 5000,
        canonical.dumps(small_manifest()) + b" ",
        canonical.dumps(small_manifest()).replace(b'"lineage":{', b'"lineage":{"other":1,'),
        canonical.dumps(small_manifest()).replace(b'"parameters":{}', b'"parameters":{"a":1e999}'),
        canonical.dumps(small_manifest()).replace(b'"parameters":{}', b'"parameters":{"a":"\\ud800"}'),
        canonical.dumps(small_manifest()).replace(b'"parameters":{}', b'"parameters":{"a":' + b"9" * 5000 + b"}"),
        canonical.dumps(small_manifest()).replace(b'"version":1', b'"version":0'),
    ],
)
def test_a_manifest_that_is_not_canonical_and_complete_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_manifest(data)
    assert caught.value.code == "bundle.malformed"


def test_a_bomb_is_refused_before_it_is_read() -> None:
    class Counting(io.BytesIO):
        taken = 0

        def read(self, size: int | None = -1, /) -> bytes:
            data = super().read(size)
            self.taken += len(data)
            return data

    big = FileEntry(path="big.bin", bytes=limits.MAX_BUNDLE_ENTRY_BYTES, sha256="0" * 64, role="other")
    twice = [big, msgspec.structs.replace(big, path="big2.bin")]
    manifest = canonical.dumps(small_manifest(files=[*small_manifest().files, *twice]))
    stream = Counting(resigned(GOOD, 0, lambda block: block.__setitem__(slice(124, 135), b"%011o" % len(manifest))))
    data = stream.getvalue()[:512] + manifest + bytes(-len(manifest) % 512) + bytes(1 << 16)
    stream = Counting(data)
    with pytest.raises(TooLarge) as caught:
        read_bundle(stream)
    assert caught.value.code == "bundle.too_large"
    assert stream.taken < 8192


def test_a_manifest_over_its_bound_is_refused_by_its_header() -> None:
    def change(block: bytearray) -> None:
        block[124:135] = b"%011o" % (limits.MAX_MANIFEST_BYTES + 1)

    refused(resigned(GOOD, 0, change), "bundle.too_large")


def test_the_callers_limit_holds() -> None:
    with pytest.raises(TooLarge):
        read_bundle(io.BytesIO(GOOD), limit=len(GOOD) - 1)
    assert read_bundle(io.BytesIO(GOOD), limit=len(GOOD)) == small_manifest()


def test_a_stream_that_gives_single_bytes_is_read_too() -> None:
    class Slow(io.RawIOBase):
        def __init__(self) -> None:
            self._inner = io.BytesIO(GOOD)

        def read(self, size: int = -1, /) -> bytes:
            return self._inner.read(min(size, 1))

    reader = BundleReader(Slow())
    reader.files(lambda entry, chunks: None)
    assert reader.manifest() == small_manifest()


def unpack(path: Path, directory: Path, data: bytes) -> Manifest:
    return unpack_bundle(path, directory, expected_sha256=hashlib.sha256(data).hexdigest(), expected_bytes=len(data))


def test_unpacking_writes_exactly_the_files(tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(GOOD)
    manifest = unpack(tmp_path / "b", tmp_path / "slot", GOOD)
    found = {
        str(p.relative_to(tmp_path / "slot")): p.read_bytes() for p in (tmp_path / "slot").rglob("*") if p.is_file()
    }
    assert found == {**FILES, "manifest.json": canonical.dumps(manifest)}
    assert read_manifest(tmp_path / "slot") == manifest == verify_unpacked(tmp_path / "slot")


def test_the_digest_is_verified_before_anything_is_parsed(tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(b"not a bundle at all")
    for sha256, size in (("0" * 64, 19), (hashlib.sha256(b"not a bundle at all").hexdigest(), 20)):
        with pytest.raises(Untrusted) as caught:
            unpack_bundle(tmp_path / "b", tmp_path / "slot", expected_sha256=sha256, expected_bytes=size)
        assert caught.value.code == "bundle.digest_mismatch"
    assert not (tmp_path / "slot").exists()


def test_a_failed_unpacking_leaves_nothing(tmp_path: Path) -> None:
    damaged = GOOD[:-1024] + b"x" * 1024
    (tmp_path / "b").write_bytes(damaged)
    with pytest.raises(InvalidInput):
        unpack(tmp_path / "b", tmp_path / "slot", damaged)
    assert not (tmp_path / "slot").exists()


def test_unpacking_never_touches_a_folder_in_use(tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(GOOD)
    (tmp_path / "slot").mkdir()
    (tmp_path / "slot" / "kept").write_bytes(b"x")
    with pytest.raises(StorageFailure) as caught:
        unpack(tmp_path / "b", tmp_path / "slot", GOOD)
    assert caught.value.code == "storage.not_empty"
    assert (tmp_path / "slot" / "kept").read_bytes() == b"x"


@pytest.mark.parametrize("damage", [b"", b"m" * 699 + b"n"])
def test_damage_on_the_disk_is_found(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "b").write_bytes(GOOD)
    unpack(tmp_path / "b", tmp_path / "slot", GOOD)
    (tmp_path / "slot" / "model.tflite").write_bytes(damage)
    with pytest.raises(Untrusted) as caught:
        verify_unpacked(tmp_path / "slot")
    assert caught.value.code == "bundle.entry_digest"


def test_a_missing_bundle_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="nothing"):
        read_manifest(tmp_path / "nothing")


def test_a_sink_that_stops_early_still_gets_a_verified_archive() -> None:
    def sink(entry: FileEntry, chunks: Iterator[bytes]) -> None:
        next(chunks, None)

    damaged = GOOD.replace(b"m" * 700, b"m" * 699 + b"n")
    with pytest.raises(Untrusted):
        read_bundle(io.BytesIO(damaged), sink)
