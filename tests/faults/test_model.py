"""The model of the disk and the reading of traces: a careless writer is found out, and a careful one is not blamed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest

from tests.faults.disk import Cut, Disk, Image, digest, materialise
from tests.faults.trace import Op, TraceError, finished, parse

ROOT = Path("/state")
CAREFUL = [
    Op("create", ".tmp"),
    Op("write", ".tmp", data=b"new content"),
    Op("sync", ".tmp"),
    Op("rename", ".tmp", "file"),
    Op("sync", ""),
]


def image(tmp_path: Path, ops: Sequence[Op], cut: Cut, seed: int = 0) -> Image:
    """What a cut behind the last of `ops` leaves of a folder with one durable file."""
    root = tmp_path / "root"
    root.mkdir(exist_ok=True)
    (root / "file").write_bytes(b"old")
    disk = Disk(root)
    for op in ops:
        disk.apply(op)
    return disk.image(cut, Random(seed), ops[-1] if ops else None)


@pytest.mark.parametrize("cut", Cut)
def test_a_careful_writer_leaves_the_old_or_the_new_content_after_every_cut(tmp_path: Path, cut: Cut) -> None:
    for k in range(len(CAREFUL) + 1):
        for seed in range(8):
            assert image(tmp_path, CAREFUL[:k], cut, seed)["file"] in (b"old", b"new content")
    assert image(tmp_path, CAREFUL, cut)["file"] == b"new content"


def test_a_writer_that_does_not_sync_the_file_is_found_out(tmp_path: Path) -> None:
    careless = [op for op in CAREFUL if op != Op("sync", ".tmp")]
    assert image(tmp_path, careless, Cut.KILL)["file"] == b"new content"
    assert image(tmp_path, careless, Cut.DROP)["file"] == b""
    assert image(tmp_path, careless, Cut.SHORT)["file"] == b""
    assert image(tmp_path, careless, Cut.HOLES)["file"] == bytes(11)


def test_a_writer_that_does_not_sync_the_folder_is_found_out(tmp_path: Path) -> None:
    found = image(tmp_path, CAREFUL[:-1], Cut.DROP)
    assert (found["file"], ".tmp" in found) == (b"old", False)


def test_a_name_without_a_synced_folder_is_lost_with_all_that_is_below(tmp_path: Path) -> None:
    ops = [Op("mkdir", "new"), Op("create", "new/a"), Op("write", "new/a", data=b"1"), Op("sync", "new/a")]
    assert "new" not in image(tmp_path, [*ops, Op("sync", "new")], Cut.DROP)
    assert image(tmp_path, [*ops, Op("sync", "new"), Op("sync", "")], Cut.DROP)["new/a"] == b"1"


def test_a_removal_without_a_synced_folder_comes_back(tmp_path: Path) -> None:
    assert image(tmp_path, [Op("unlink", "file")], Cut.DROP)["file"] == b"old"
    assert "file" not in image(tmp_path, [Op("unlink", "file"), Op("sync", "")], Cut.DROP)


def test_a_torn_write_keeps_what_was_there_behind_it(tmp_path: Path) -> None:
    ops = [Op("create", "file"), Op("write", "file", data=b"xy", offset=1)]
    found = {image(tmp_path, ops, Cut.TORN, seed)["file"] for seed in range(20)}
    assert found == {b"old", b"oxd"}


def test_an_image_is_written_as_it_is_read(tmp_path: Path) -> None:
    made = {"folder": None, "folder/file": b"1", "link": "folder/file"}
    materialise(made, tmp_path / "image")
    assert digest(Disk(tmp_path / "image").image(Cut.KILL, Random(0))) == digest(made)


def quoted(text: str) -> str:
    """As strace prints with -xx."""
    return "".join(f"\\x{byte:02x}" for byte in text.encode())


def traced(*lines: str) -> list[Op]:
    """The operations in lines where `{…}` stands for quoted text."""
    return list(parse(finished(lines), ROOT))


def test_calls_count_when_they_end_and_only_when_they_succeed() -> None:
    fd = f"3<{quoted('/state/a')}>"
    assert traced(
        f'12    openat(AT_FDCWD<{quoted("/")}>, "{quoted("/state/a")}", O_WRONLY|O_CREAT|O_EXCL, 0600) = {fd}',
        f'12    write({fd}, "{quoted("one, two")}", 8 <unfinished ...>',
        f'34567 mkdir("{quoted("/state/b")}", 0700) = 0',
        "12    <... write resumed>)              = 3",
        f'34567 mkdir("{quoted("/state/b")}", 0700) = -1 EEXIST (File exists)',
        f'34567 mkdir("{quoted("/elsewhere")}", 0700) = 0',
        f"12    fsync({fd}) = 0",
    ) == [Op("create", "a"), Op("mkdir", "b"), Op("write", "a", data=b"one"), Op("sync", "a")]


def test_a_call_that_the_model_does_not_know_is_an_error_and_not_overlooked() -> None:
    with pytest.raises(TraceError):
        traced(f"7 fallocate(3<{quoted('/state/a')}>, 0, 0, 4096) = 0")
    with pytest.raises(TraceError):
        traced(f"7 mmap(NULL, 8, PROT_READ|PROT_WRITE, MAP_SHARED, 3<{quoted('/state/a')}>, 0) = 0x7f00")
    with pytest.raises(TraceError):
        traced(f'7 rename("{quoted("/state/a")}", "{quoted("/other/a")}") = 0')
