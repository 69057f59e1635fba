"""The kept desired-state document."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.link.desired import DesiredStore
from shared.errors import InvalidInput, TooLarge, Untrusted
from shared.wire.down import DesiredState, encode


def document(revision: int, device_id: str = "dev1") -> bytes:
    return encode(DesiredState(device_id=device_id, revision=revision))


def test_the_bytes_are_kept_as_received(tmp_path: Path) -> None:
    store = DesiredStore(tmp_path / "d", "dev1")
    accepted = store.accept(document(2))
    assert accepted is not None
    assert (tmp_path / "d").read_bytes() == document(2)
    assert DesiredStore(tmp_path / "d", "dev1").load() == accepted


def test_the_same_and_older_documents_say_nothing_new(tmp_path: Path) -> None:
    store = DesiredStore(tmp_path / "d", "dev1")
    store.accept(document(2))
    assert store.accept(document(2)) is None
    assert store.accept(document(1)) is None
    assert (tmp_path / "d").read_bytes() == document(2)


def test_hostile_documents_are_refused_and_not_kept(tmp_path: Path) -> None:
    store = DesiredStore(tmp_path / "d", "dev1")
    with pytest.raises(Untrusted):
        store.accept(document(1, "dev2"))
    with pytest.raises(InvalidInput):
        store.accept(b"\xff" * 100)
    with pytest.raises(TooLarge):
        store.accept(bytes(1 << 20))
    assert not (tmp_path / "d").exists()


def test_a_damaged_file_is_as_good_as_none(tmp_path: Path) -> None:
    (tmp_path / "d").write_bytes(b"\xff\xff torn")
    store = DesiredStore(tmp_path / "d", "dev1")
    assert store.load() is None
    assert store.accept(document(1)) is not None
