"""Held-out data from outside: bounded before it is unpacked, no objects, nothing beside x and y."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hub.gates.dataset import describe_dataset, load_dataset
from shared import limits
from shared.errors import InvalidInput, SkerryError

X = np.arange(12, dtype=np.float32).reshape(3, 4)
Y = np.array([0, 1, 2])


def npy(array: Any) -> bytes:
    out = io.BytesIO()
    np.save(out, array, allow_pickle=True)
    return out.getvalue()


def archive(path: Path, entries: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as out:
        for name, data in entries.items():
            out.writestr(name, data)
    return path


def code_of(path: Path) -> str:
    with pytest.raises(InvalidInput) as caught:
        describe_dataset(path)
    return caught.value.code


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_numpy_writes_is_read_back(tmp_path: Path, save: Any) -> None:
    save(tmp_path / "d.npz", x=X, y=Y)
    shape = describe_dataset(tmp_path / "d.npz")
    assert (shape.rows, shape.x_shape, shape.x_dtype, shape.y_shape) == (3, (3, 4), "float32", (3,))
    x, y = load_dataset(tmp_path / "d.npz")
    assert np.array_equal(x, X)
    assert np.array_equal(y, Y)


def test_objects_are_refused_without_being_unpickled(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "pwned",))

    entries = {"x.npy": npy(np.array([Bomb()], dtype=object)), "y.npy": npy(Y[:1])}
    path = archive(tmp_path / "d.npz", entries)
    assert code_of(path) == "dataset.malformed"
    with pytest.raises(InvalidInput):
        load_dataset(path)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    "entries",
    [
        {"x.npy": npy(X)},
        {"x.npy": npy(X), "y.npy": npy(Y), "z.npy": npy(Y)},
        {"x.npy": npy(X), "../y.npy": npy(Y)},
        {"x.npy": npy(X), "y.npy": npy(Y[:2])},
        {"x.npy": npy(X[:0]), "y.npy": npy(Y[:0])},
        {"x.npy": npy(np.asfortranarray(X)), "y.npy": npy(Y)},
        {"x.npy": npy(X)[:-1], "y.npy": npy(Y)},
        {"x.npy": npy(X) + b"x", "y.npy": npy(Y)},
        {"x.npy": b"not an array", "y.npy": npy(Y)},
        {"x.npy": npy(np.float32(1)), "y.npy": npy(Y)},
        {"x.npy": npy(np.array(["a", "b", "c"])), "y.npy": npy(Y)},
        {"x.npy": npy(X.astype(np.complex64)), "y.npy": npy(Y)},
    ],
)
def test_anything_but_two_plain_arrays_of_one_length_is_refused(tmp_path: Path, entries: dict[str, bytes]) -> None:
    assert code_of(archive(tmp_path / "d.npz", entries)) == "dataset.malformed"


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions_are_refused(tmp_path: Path, method: int) -> None:
    assert code_of(archive(tmp_path / "d.npz", {"x.npy": npy(X), "y.npy": npy(Y)}, method)) == "dataset.malformed"


def test_noise_is_not_a_data_set(tmp_path: Path) -> None:
    (tmp_path / "d.npz").write_bytes(b"PK\x03\x04" + b"\0" * 100)
    assert code_of(tmp_path / "d.npz") == "dataset.malformed"


def test_an_array_that_promises_more_than_its_entry_holds_is_refused(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": (1_000_000_000, 1000)}
    )
    path = archive(tmp_path / "d.npz", {"x.npy": header.getvalue() + b"\0" * 16, "y.npy": npy(Y)})
    assert code_of(path) == "dataset.malformed"


def test_a_zip_bomb_is_refused_by_its_directory(tmp_path: Path) -> None:
    path = archive(tmp_path / "d.npz", {"x.npy": npy(X), "y.npy": npy(Y)})
    data = bytearray(path.read_bytes())
    size = len(npy(X))
    huge = limits.MAX_HELD_OUT_UNPACKED_BYTES + 1
    at = data.index(b"PK\x01\x02") + 24  # the size as it stands in the directory
    assert struct.unpack_from("<I", data, at)[0] == size
    struct.pack_into("<I", data, at, huge)
    path.write_bytes(data)
    assert code_of(path) == "dataset.too_large"


def test_a_directory_that_lies_about_sizes_is_found_out(tmp_path: Path) -> None:
    """The entry unpacks to more than the directory and the array's header say together."""
    path = archive(tmp_path / "d.npz", {"x.npy": npy(X) + b"\0" * 100_000, "y.npy": npy(Y)})
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, data.index(b"PK\x01\x02") + 24, len(npy(X)))
    path.write_bytes(data)
    with pytest.raises(SkerryError) as caught:
        load_dataset(path)
    assert caught.value.code == "dataset.malformed"
