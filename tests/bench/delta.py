"""How many bytes an update takes as a delta, on real retrainings of scikit-learn's digits, with peers in the same run.

`python -m tests.bench.delta` prints JSON. A network is trained on half of the data and quantised to int8
(ai-edge-quantizer). `head`: the extractor stays, the float head goes on learning from its embeddings on all data, as a
device or a federated round would. `full`: all layers go on learning, and are quantised anew. `model_bytes` are those of
the bundle's model, head and weights; limits are shares of these. Accuracy on held-out images shows that the models are
real. `entropy_share` is what `head` would take if float weights and golden outputs cost no more than the entropy of the
byte planes of their differences, code tables not counted. `--large` adds a bundle of 64 MiB, for memory and
time.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hub.modelkit import dense_relu, quantise_int8, softmax_head
from shared.bundle.archive import read_manifest, unpack_bundle
from shared.bundle.build import build_bundle
from shared.delta.encode import encode_delta
from shared.delta.format import HEAD_BYTES, OP_BYTES, Budget, Kind, parse_head
from shared.runtime.model import LoadedModel
from tests.bench.delta_ways import WAYS, run
from tests.delta.bundles import write
from tests.models import INPUT, OUTPUT, PREPROCESSING, load_digits

__all__ = ["measure"]

SIZES = {"small": (512, 128, 64), "medium": (1024, 512, 64)}
LIMITS = {"head": 0.02, "full": 0.60}
Floats = npt.NDArray[np.float32]


class Retrained:
    """One network and its two retrainings, as bundles in `folder`."""

    def __init__(self, hidden: tuple[int, ...], folder: Path) -> None:
        from sklearn.neural_network import MLPClassifier

        self.folder = folder
        self.data = load_digits()
        self.rows = self.data.train_x.reshape(-1, 64) / 16
        half = len(self.rows) // 2
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.network = MLPClassifier(hidden, max_iter=30, random_state=1)
            self.network.fit(self.rows[:half], self.data.train_y[:half])

    def extractor(self) -> bytes:
        """The hidden layers in int8."""
        layers = list(zip(self.network.coefs_[:-1], self.network.intercepts_[:-1], strict=True))
        return quantise_int8(dense_relu(layers), self.rows)

    def head(self) -> dict[str, Floats]:
        """The last layer's weights."""
        return {
            "w": self.network.coefs_[-1].T.astype(np.float32),
            "b": self.network.intercepts_[-1].astype(np.float32),
        }

    def go_on(self, epochs: int) -> None:
        """All layers learn from all data, gently."""
        self.network.set_params(learning_rate_init=1e-4)
        for _ in range(epochs):
            self.network.partial_fit(self.rows, self.data.train_y)

    def learned_head(self, epochs: int) -> dict[str, Floats]:
        """The head after more training on the int8 extractor's embeddings, by gradient descent in float32."""
        embeddings, weights = self._embeddings(), self.head()
        w, b = weights["w"].copy(), weights["b"].copy()
        wanted = np.eye(10, dtype=np.float32)[self.data.train_y]
        for _ in range(epochs):
            logits = embeddings @ w.T + b
            shares = np.exp(logits - logits.max(axis=1, keepdims=True))
            error = (shares / shares.sum(axis=1, keepdims=True) - wanted) / len(wanted)
            w -= np.float32(0.05) * (error.T @ embeddings)
            b -= np.float32(0.05) * error.sum(axis=0)
        return {"w": w.astype(np.float32), "b": b.astype(np.float32)}

    def _embeddings(self) -> Floats:
        """What the extractor computes: its layers in float, which is close enough to learn from."""
        x = self.rows.astype(np.float32)
        for w, b in zip(self.network.coefs_[:-1], self.network.intercepts_[:-1], strict=True):
            x = np.maximum(x @ w + b, 0).astype(np.float32)
        return x

    def bundle(self, name: str, version: int, extractor: bytes, weights: dict[str, Floats]) -> Path:
        """The file of a bundle."""
        path = self.folder / name
        build_bundle(
            path,
            model="digits",
            version=version,
            extractor=extractor,
            head=softmax_head(weights["w"].shape[1], 10),
            weights=weights,
            input=INPUT,
            output=OUTPUT,
            preprocessing=PREPROCESSING,
            labels=[str(digit) for digit in range(10)],
            golden_inputs=self.data.train_x[:16],
            card=f"# Digits\n\nVersion {version}.\n",
        )
        return path

    def accuracy(self, path: Path) -> float:
        """On the held-out images, with the real runtime."""
        folder = self.folder / f"{path.name}-unpacked"
        data = path.read_bytes()
        unpack_bundle(path, folder, expected_sha256=hashlib.sha256(data).hexdigest(), expected_bytes=len(data))
        model = LoadedModel.load(folder, read_manifest(folder), 1)
        try:
            images = [self.data.test_x[at : at + 256] for at in range(0, len(self.data.test_x), 256)]
            found = np.concatenate([model.predict(some) for some in images]).argmax(axis=1)
        finally:
            model.close()
        return round(float((found == self.data.test_y).mean()), 4)


def _model_bytes(path: Path) -> int:
    return sum(entry.bytes for entry in read_manifest(path).files if entry.role in ("model", "head", "weights"))


def _compared(old: Path, new: Path, folder: Path) -> dict[str, Any]:
    whole = _model_bytes(new)
    found = {way: run(way, old, new, folder) for way in WAYS}
    for figures in found.values():
        if figures is not None:
            figures["share_of_model_bytes"] = round(figures["bytes"] / whole, 4)
    return {"bundle_bytes": new.stat().st_size, "model_bytes": whole, "ways": found}


def _entropy_bits(old: Floats, new: Floats) -> float:
    """Bits in the differences of these floats as signed integers, byte plane by byte plane, without any code table."""
    apart = new.astype("<f4").view("<i4").astype(np.int64) - old.astype("<f4").view("<i4").astype(np.int64)
    folded = ((apart << 1) ^ (apart >> 63)).astype("<u4")
    total = 0.0
    for plane in folded.view(np.uint8).reshape(-1, 4).T:
        shares = np.bincount(plane, minlength=256) / plane.size
        total -= plane.size * float((shares[shares > 0] * np.log2(shares[shares > 0])).sum())
    return total


def _entropy_bytes(old: Path, new: Path, folder: Path) -> float:
    """The delta with weights and golden outputs at their entropy, and all else as it is."""
    with (folder / "head.delta").open("wb+") as out:
        pair = encode_delta(old, new, out)
        out.seek(0)
        head, budget = parse_head(out.read(HEAD_BYTES), pair), Budget(pair)
        total = float(HEAD_BYTES)
        for _ in range(head.ops):
            op = budget.parse_op(out.read(OP_BYTES))
            out.seek(op.payload_bytes, 1)
            total += OP_BYTES + (0 if op.kind is Kind.PLANES else op.payload_bytes)
    before, after = folder / f"{old.name}-unpacked", folder / f"{new.name}-unpacked"
    files = [e.path for e in read_manifest(after).files if e.path.endswith(".npy") and e.path != "golden/inputs.npy"]
    pairs = ((np.load(before / path).ravel(), np.load(after / path).ravel()) for path in files)
    return total + sum(_entropy_bits(*pair) for pair in pairs) / 8


def _retrainings(hidden: tuple[int, ...], folder: Path) -> dict[str, Any]:
    folder.mkdir()
    made = Retrained(hidden, folder)
    extractor = made.extractor()
    old = made.bundle("old", 1, extractor, made.head())
    head = made.bundle("head", 2, extractor, made.learned_head(200))
    made.go_on(8)
    full = made.bundle("full", 2, made.extractor(), made.head())
    out: dict[str, Any] = {"layers": [64, *hidden, 10], "accuracy_before": made.accuracy(old)}
    for name, path in (("head", head), ("full", full)):
        figures = _compared(old, path, folder)
        share = figures["ways"]["skerry"]["share_of_model_bytes"]
        out[name] = {
            "accuracy": made.accuracy(path),
            **figures,
            "limit_share": LIMITS[name],
            "within_limit": share <= LIMITS[name],
        }
    out["head"]["entropy_share"] = round(_entropy_bytes(old, head, folder) / _model_bytes(head), 4)
    return out


def _large(folder: Path) -> dict[str, Any]:
    """A bundle of 64 MiB in which one weight of ten moved by one step."""
    folder.mkdir()
    old = np.random.default_rng(1).integers(0, 256, 64 << 20, dtype=np.uint8)
    moved = np.random.default_rng(2).random(old.size) < 0.1
    new = (old + moved.astype(np.uint8)).astype(np.uint8)
    paths = [
        write(folder / name, {"model.tflite": weights.tobytes()}, version)
        for name, weights, version in (("old", old, 1), ("new", new, 2))
    ]
    del old, new, moved
    return {"bundle_bytes": paths[1].stat().st_size, "ways": {"skerry": run("skerry", paths[0], paths[1], folder)}}


def measure(folder: Path, *, large: bool = False) -> dict[str, Any]:
    """All figures; sizes in bytes, times in milliseconds, memory in MB above the imports."""
    out: dict[str, Any] = {"benchmark": "delta"}
    for name, hidden in SIZES.items():
        out[name] = _retrainings(hidden, folder / name)
    if large:
        out["large"] = _large(folder / "large")
    return out


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--large", action="store_true", help="a synthetic bundle of 64 MiB too")
    with tempfile.TemporaryDirectory() as made_folder:
        print(json.dumps(measure(Path(made_folder), large=parser.parse_args().large), indent=2))
