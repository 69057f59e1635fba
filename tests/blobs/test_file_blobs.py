"""Content-addressed files: visible only when whole, named by what they hold, gone when swept."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

import pytest

from hub.blobs.files import FileBlobs
from shared.errors import InvalidInput, NotFound, StorageFailure, TooLarge


@pytest.fixture
def blobs(tmp_path: Path) -> FileBlobs:
    return FileBlobs(tmp_path / "blobs")


def stored(blobs: FileBlobs, root: Path) -> list[Path]:
    return sorted(path for path in (root / "blobs").rglob("*") if path.is_file())


def test_a_blob_is_found_under_the_digest_of_its_bytes(blobs: FileBlobs) -> None:
    writer = blobs.writer(100)
    for chunk in (b"one ", b"", b"two"):
        writer.write(chunk)
    blob = writer.commit()
    assert blob.sha256 == hashlib.sha256(b"one two").hexdigest()
    assert blobs.read_bytes(blob.sha256, 100) == b"one two"
    assert blobs.size(blob.sha256) == blob.bytes == 7
    assert blobs.local_path(blob.sha256).stat().st_mode & 0o077 == 0


def test_nothing_is_visible_before_commit_or_after_discard(blobs: FileBlobs, tmp_path: Path) -> None:
    writer = blobs.writer(100)
    writer.write(b"secret")
    blob = writer.seal()
    assert not blobs.exists(blob.sha256)
    assert writer.path.read_bytes() == b"secret"
    writer.discard()
    writer.discard()
    assert stored(blobs, tmp_path) == []


def test_the_bound_holds_while_the_bytes_come_in(blobs: FileBlobs, tmp_path: Path) -> None:
    writer = blobs.writer(10)
    writer.write(b"0123456789")
    with pytest.raises(TooLarge) as caught:
        writer.write(b"x")
    assert caught.value.code == "blob.too_large"
    writer.discard()
    assert stored(blobs, tmp_path) == []


def test_the_same_content_many_times_at_once_is_one_whole_blob(blobs: FileBlobs, tmp_path: Path) -> None:
    data = os.urandom(300_000)

    def put() -> None:
        writer = blobs.writer(len(data))
        for start in range(0, len(data), 1000):
            writer.write(data[start : start + 1000])
        writer.commit()

    threads = [threading.Thread(target=put) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [path.read_bytes() for path in stored(blobs, tmp_path)] == [data]


def test_putting_again_heals_a_damaged_copy(blobs: FileBlobs) -> None:
    blob = blobs.put_bytes(b"precious")
    blobs.local_path(blob.sha256).write_bytes(b"precioux")
    with pytest.raises(StorageFailure) as caught:
        blobs.read_bytes(blob.sha256, 100)
    assert caught.value.code == "blob.damaged"
    blobs.put_bytes(b"precious")
    assert blobs.read_bytes(blob.sha256, 100) == b"precious"


@pytest.mark.parametrize("name", ["../../etc/passwd", "AB" * 32, "ab" * 31, "ab" * 32 + "\n", ""])
def test_a_name_that_is_not_a_digest_never_becomes_a_path(blobs: FileBlobs, name: str) -> None:
    with pytest.raises(InvalidInput):
        blobs.exists(name)


def test_ranges_give_exactly_their_bytes(blobs: FileBlobs) -> None:
    data = bytes(range(256)) * 1000
    blob = blobs.put_bytes(data)
    for first, last in ((0, len(data) - 1), (5, 5), (100_000, 200_000), (len(data) - 1, len(data) - 1), (0, -1)):
        assert b"".join(blobs.open_range(blob.sha256, first, last)) == data[first : last + 1]


def test_a_range_that_was_opened_survives_removal(blobs: FileBlobs) -> None:
    blob = blobs.put_bytes(b"x" * 100_000)
    chunks = blobs.open_range(blob.sha256, 0, 99_999)
    first = next(chunks)
    blobs.remove(blob.sha256)
    assert len(first + b"".join(chunks)) == 100_000
    with pytest.raises(NotFound):
        blobs.open_range(blob.sha256, 0, 1)


def test_a_file_that_lost_its_end_is_an_error_and_not_a_short_answer(blobs: FileBlobs) -> None:
    blob = blobs.put_bytes(b"x" * 1000)
    os.truncate(blobs.local_path(blob.sha256), 10)
    with pytest.raises(StorageFailure):
        list(blobs.open_range(blob.sha256, 0, 999))


def test_the_sweep_takes_what_was_cut_off_and_leaves_who_is_writing(blobs: FileBlobs, tmp_path: Path) -> None:
    cut, alive = blobs.writer(10), blobs.writer(10)
    cut.write(b"cut")
    alive.write(b"alive")
    os.utime(cut.path, (0, 0))
    assert blobs.sweep(3600.0) == 1
    assert blobs.exists(alive.commit().sha256)
    cut.discard()
    assert FileBlobs(tmp_path / "blobs").sweep(3600.0) == 0


def test_a_range_that_nobody_reads_keeps_no_file_open(blobs: FileBlobs) -> None:
    blob = blobs.put_bytes(b"x" * 100_000)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        unread = blobs.open_range(blob.sha256, 0, 99_999)
        begun = blobs.open_range(blob.sha256, 0, 99_999)
        next(begun)
    del unread, begun
    assert len(os.listdir("/proc/self/fd")) == before
