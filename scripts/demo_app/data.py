"""Real data for the demo: scikit-learn's digits (ships with the package) or Fashion-MNIST (a Debian package).

Fashion-MNIST is taken from `/usr/share/datasets` when it is installed; otherwise `apt-get download` fetches the
package as an ordinary user and `dpkg-deb` unpacks it beside the demo's files. Nothing is installed on the system.
"""

from __future__ import annotations

import dataclasses
import gzip
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["DataSet", "DataSetName", "in_order_of", "load"]

DataSetName = Literal["digits", "fashion-mnist"]
_PACKAGE = "dataset-fashion-mnist"
_SYSTEM = Path("/usr/share/datasets/fashion-mnist")


@dataclass(frozen=True, slots=True)
class DataSet:
    """Images as uint8 rows [n, height * width] with labels [n]; the test part is never trained on."""

    name: str
    title: str
    train_x: NDArray[np.uint8]
    train_y: NDArray[np.int64]
    test_x: NDArray[np.uint8]
    test_y: NDArray[np.int64]
    labels: list[str]
    peak: int
    """The largest pixel value: 16 for digits, 255 for Fashion-MNIST."""


def in_order_of(data: DataSet, device: str) -> DataSet:
    """What a device sees: the same held-out pictures as the others, in an order of its own.

    Devices that see one picture at one time are one device several times over: the fleet's sums then claim more
    pictures than there were, and chance looks like drift.
    """
    order = np.random.default_rng(list(device.encode())).permutation(len(data.test_x))
    return dataclasses.replace(data, test_x=data.test_x[order], test_y=data.test_y[order])


def load(name: DataSetName, cache: Path) -> DataSet:
    """The data set by name; `cache` is where a downloaded package may be kept."""
    return _digits() if name == "digits" else _fashion_mnist(cache)


def _digits() -> DataSet:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    x = digits.data.astype(np.uint8)
    train_x, test_x, train_y, test_y = train_test_split(
        x, digits.target.astype(np.int64), test_size=0.3, random_state=0, stratify=digits.target
    )
    return DataSet(
        "digits", "1,797 scanned digits, 8x8", train_x, train_y, test_x, test_y, [str(n) for n in range(10)], 16
    )


def _fashion_mnist(cache: Path) -> DataSet:
    folder = _SYSTEM if _SYSTEM.is_dir() else _fetch(cache)
    labels = ["t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"]
    return DataSet(
        "fashion-mnist",
        "70,000 product photographs, 28x28",
        _idx(folder / "train-images-idx3-ubyte.gz", 16).reshape(-1, 784),
        _idx(folder / "train-labels-idx1-ubyte.gz", 8).astype(np.int64),
        _idx(folder / "t10k-images-idx3-ubyte.gz", 16).reshape(-1, 784),
        _idx(folder / "t10k-labels-idx1-ubyte.gz", 8).astype(np.int64),
        labels,
        255,
    )


def _idx(path: Path, header_bytes: int) -> NDArray[np.uint8]:
    with gzip.open(path) as file:
        return np.frombuffer(file.read(), np.uint8, offset=header_bytes)


def _fetch(cache: Path) -> Path:
    folder = cache / "fashion-mnist" / _SYSTEM.relative_to("/")
    if folder.is_dir():
        return folder
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise SystemExit(f"Fashion-MNIST is Debian's package {_PACKAGE}; on this system run with --data digits.")
    target = cache / "fashion-mnist"
    target.mkdir(parents=True, exist_ok=True)
    fetched = subprocess.run(["apt-get", "download", _PACKAGE], cwd=target, capture_output=True, text=True, check=False)
    packages = sorted(target.glob(f"{_PACKAGE}_*.deb"))
    if fetched.returncode or not packages:
        raise SystemExit(
            f"apt-get could not download {_PACKAGE}: {fetched.stderr.strip()[:300]}\n"
            "Run `apt-get update` once as root, or use --data digits."
        )
    subprocess.run(["dpkg-deb", "-x", str(packages[-1]), str(target)], check=True)
    return folder
