"""A delta gives the new bundle exactly, from a file or from an unpacked slot, and the same one every time."""

from __future__ import annotations

import hashlib
import io
import shutil
import tempfile
import tracemalloc
from collections.abc import Mapping
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared import limits
from shared.bundle.archive import unpack_bundle
from shared.bundle.unpacked import UnpackedArchive
from shared.delta import arithmetic
from shared.delta.apply import apply_delta
from shared.delta.format import HEAD_BYTES, OP_BYTES, Budget, Kind, Op, Pair
from shared.delta.source import ArchiveFile, Source
from tests.delta.bundles import Made, between, write

BYTES = st.binary(max_size=3000)
NAMES = st.sampled_from(["model.tflite", "head.tflite", "w.npy", "labels.json", "deep/er/x.bin"])
FILES = st.dictionaries(NAMES, BYTES, max_size=5)


def applied(made: Made, source: Source) -> bytes:
    out = bytearray()
    apply_delta(io.BytesIO(made.data), source, out.extend, made.pair)
    return bytes(out)


def kinds(made: Made) -> list[Kind]:
    """The kinds of the operations, read with the format's own parser."""
    delta, budget, found = io.BytesIO(made.data[HEAD_BYTES:]), Budget(made.pair), []
    while data := delta.read(OP_BYTES):
        op: Op = budget.parse_op(data)
        found.append(op.kind)
        delta.seek(op.payload_bytes, io.SEEK_CUR)
    return found


def unpacked(path: Path, directory: Path) -> Path:
    data = path.read_bytes()
    unpack_bundle(path, directory, expected_sha256=hashlib.sha256(data).hexdigest(), expected_bytes=len(data))
    return directory


@given(st.binary(max_size=300), st.integers(0, 2**32))
def test_arithmetic_is_that_of_single_bytes(a: bytes, seed: int) -> None:
    b = Random(seed).randbytes(len(a))
    assert arithmetic.add(a, b) == bytes((x + y) % 256 for x, y in zip(a, b, strict=True))
    assert arithmetic.subtract(a, b) == bytes((x - y) % 256 for x, y in zip(a, b, strict=True))
    assert arithmetic.xor(a, b) == bytes(x ^ y for x, y in zip(a, b, strict=True))
    assert arithmetic.from_planes(arithmetic.to_planes(a)) == a
    assert sorted(arithmetic.to_planes(a)) == sorted(a)


def test_arithmetic_holds_over_many_blocks() -> None:
    random = Random(1)
    for size in (1 << 16, (1 << 16) + 1, (3 << 16) - 5):
        a, b = random.randbytes(size), random.randbytes(size)
        assert arithmetic.add(arithmetic.subtract(a, b), b) == a


@settings(max_examples=150, deadline=None)
@given(old=FILES, new=FILES, kept=st.sets(NAMES))
def test_any_two_bundles_give_a_delta_that_is_exact(
    old: Mapping[str, bytes], new: Mapping[str, bytes], kept: set[str]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        made = between(Path(folder), old, {**new, **{name: old[name] for name in kept & set(old)}})
        with ArchiveFile(made.old) as source:
            assert applied(made, source) == made.result
        with UnpackedArchive(unpacked(made.old, Path(folder) / "slot")) as slot:
            assert applied(made, slot) == made.result
        again = Path(folder) / "again"
        again.mkdir()
        assert between(again, old, {**new, **{name: old[name] for name in kept & set(old)}}).data == made.data


@settings(max_examples=50, deadline=None)
@given(files=FILES, cuts=st.lists(st.tuples(st.integers(0, 40_000), st.integers(0, 5000)), max_size=5))
def test_an_unpacked_bundle_reads_as_the_archive_that_it_came_from(
    files: Mapping[str, bytes], cuts: list[tuple[int, int]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "bundle", files)
        data = path.read_bytes()
        with UnpackedArchive(unpacked(path, Path(folder) / "slot")) as slot:
            assert slot.size == len(data)
            assert slot.read(0, slot.size) == data
            for offset, size in cuts:
                first, last = min(offset, len(data)), min(offset + size, len(data))
                assert slot.read(first, last - first) == data[first:last]


def test_what_has_not_changed_is_copied_and_takes_nearly_nothing(tmp_path: Path) -> None:
    big = Random(2).randbytes(300_000)
    made = between(tmp_path, {"model.tflite": big, "w.npy": b"a" * 100}, {"model.tflite": big, "w.npy": b"b" * 100})
    assert Kind.COPY in kinds(made)
    assert len(made.data) < 1500


def test_a_file_that_was_renamed_is_copied(tmp_path: Path) -> None:
    big = Random(3).randbytes(300_000)
    made = between(tmp_path, {"deep/er/x.bin": big}, {"head.tflite": big})
    assert len(made.data) < 1500


def test_small_changes_everywhere_are_sent_as_differences(tmp_path: Path) -> None:
    random = Random(4)
    old = random.randbytes(200_000)
    new = bytes((byte + random.choice((-1, 0, 0, 1))) % 256 for byte in old)
    made = between(tmp_path, {"model.tflite": old}, {"model.tflite": new})
    assert Kind.ADD in kinds(made)
    assert len(made.data) < 0.3 * len(old)


def test_an_insertion_is_found_in_the_old_bytes(tmp_path: Path) -> None:
    old = Random(5).randbytes(200_000)
    made = between(tmp_path, {"model.tflite": old}, {"model.tflite": old[:70_000] + b"new words" + old[70_000:]})
    assert Kind.PATCH in kinds(made)
    assert len(made.data) < 1500


def test_quiet_float_weights_are_sent_plane_by_plane(tmp_path: Path) -> None:
    np = pytest.importorskip("numpy")
    random = np.random.default_rng(6)
    old = random.normal(size=50_000).astype(np.float32)
    new = (old * (1 + random.normal(scale=1e-3, size=50_000))).astype(np.float32)
    made = between(tmp_path, {"w.npy": old.tobytes()}, {"w.npy": new.tobytes()})
    assert Kind.PLANES in kinds(made)


def test_large_files_are_handled_in_parts_of_bounded_memory(tmp_path: Path) -> None:
    random = Random(7)
    part = limits.MAX_DELTA_PART_BYTES
    old = random.randbytes(2 * part + 1000)
    cut = part + part // 2
    new = {"model.tflite": old[:cut] + b"in between" + old[cut:], "w.npy": bytes(len(old))}
    made = between(tmp_path, {"model.tflite": old, "w.npy": b"\1" * len(old)}, new)
    assert len(kinds(made)) > 6
    assert len(made.data) < 10_000
    with UnpackedArchive(unpacked(made.old, tmp_path / "slot")) as slot, (tmp_path / "delta").open("w+b") as delta:
        delta.write(made.data)
        delta.seek(0)
        digest = hashlib.sha256()
        tracemalloc.start()
        try:
            apply_delta(delta, slot, digest.update, made.pair)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert digest.hexdigest() == made.pair.to_sha256
    assert peak < 5 * part  # of Python's own; Zstandard holds a copy of the dictionary beside it


def test_a_bundle_of_an_older_form_unpacks_to_the_manifest_that_it_came_with(tmp_path: Path) -> None:
    """A manifest that leaves out what is optional is kept as it was, or its archive could not be made again."""
    from shared import canonical
    from shared.bundle.layout import END, header, padding

    path = write(tmp_path / "bundle", {})
    data = path.read_bytes()
    size = int(data[124:135], 8)
    plain = canonical.loads(data[512 : 512 + size], limit=1 << 20)
    del plain["card"], plain["reference"]
    manifest = canonical.dumps(plain)
    rest = data[512 + size + padding(size) :]
    path.write_bytes(header("manifest.json", len(manifest)) + manifest + bytes(padding(len(manifest))) + rest)
    assert rest.endswith(END)
    with UnpackedArchive(unpacked(path, tmp_path / "slot")) as slot:
        assert slot.read(0, slot.size) == path.read_bytes()
    shutil.rmtree(tmp_path / "slot")


def test_a_pair_says_what_it_is_between(tmp_path: Path) -> None:
    made = between(tmp_path, {}, {"w.npy": b"1"})
    old, new = made.old.read_bytes(), made.result
    assert made.pair == Pair(
        from_sha256=hashlib.sha256(old).hexdigest(),
        from_bytes=len(old),
        to_sha256=hashlib.sha256(new).hexdigest(),
        to_bytes=len(new),
    )
