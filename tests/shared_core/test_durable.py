"""A file is wholly old or wholly new, and a failure leaves it old."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from shared import durable
from shared.errors import NotFound, StorageFailure, TooLarge


def test_a_write_replaces_the_whole_content(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    durable.write_file(path, b"one")
    durable.write_file(path, b"two")
    assert path.read_bytes() == b"two"
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_write_that_cannot_finish_keeps_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.mkdir()  # a folder cannot be replaced by a file
    with pytest.raises(StorageFailure) as caught:
        durable.write_file(path, b"two")
    assert caught.value.code == "storage.write"
    assert os.listdir(tmp_path) == ["a.json"]


def test_reading_is_bounded(tmp_path: Path) -> None:
    durable.write_file(tmp_path / "a", b"x" * 11)
    assert durable.read_file(tmp_path / "a", limit=11) == b"x" * 11
    with pytest.raises(TooLarge):
        durable.read_file(tmp_path / "a", limit=10)
    with pytest.raises(NotFound):
        durable.read_file(tmp_path / "b", limit=10)


def test_leftovers_of_a_cut_are_swept(tmp_path: Path) -> None:
    durable.write_file(tmp_path / "a", b"x")
    (tmp_path / ".tmp-a-1234").write_bytes(b"half")
    assert durable.sweep(tmp_path) == 1
    assert os.listdir(tmp_path) == ["a"]


def test_renames_and_removals_work_across_folders(tmp_path: Path) -> None:
    durable.make_dir(tmp_path / "x" / "y")
    durable.write_file(tmp_path / "a", b"x")
    durable.rename(tmp_path / "a", tmp_path / "x" / "y" / "b")
    assert (tmp_path / "x" / "y" / "b").read_bytes() == b"x"
    durable.remove(tmp_path / "x" / "y" / "b")
    durable.remove(tmp_path / "x" / "y" / "b")
    assert not (tmp_path / "x" / "y" / "b").exists()
    with pytest.raises(StorageFailure):
        durable.rename(tmp_path / "nothing", tmp_path / "z")


def test_a_folder_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(StorageFailure) as caught:
        durable.make_dir(tmp_path / "file" / "folder")
    assert caught.value.code == "storage.make_dir"
