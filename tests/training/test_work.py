"""An order becomes an answer: the head really learns, what is held out is not learnt from, and nothing is guessed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from agent.training.examples import Embedder, is_held_out
from agent.training.orders import Order
from agent.training.own_head import Bundle, OwnHead
from agent.training.personal import read_personal
from agent.training.residual import Residual
from agent.training.sample_key import SampleKey
from agent.training.samples import Sample
from agent.training.sdk import Task, Trainer
from agent.training.work import Work, measure
from hub.modelkit import mlp_head, mlp_weights, passthrough
from shared.bundle.archive import read_manifest
from shared.errors import InvalidInput, SkerryError, Unavailable
from shared.federated.codec import Scheme, decode, encode
from shared.federated.vector import Vector, flatten, unflatten
from shared.runtime.head import TrainableHead
from shared.runtime.model import LoadedModel
from tests.models import load_digits, unpacked_digits
from tests.training.kit import SPACE

RUN = "f-000000000001"
KEY = SampleKey(b"k" * 32)
CONFIG: dict[str, int | float | str] = {
    "round": 1, "epochs": 2, "learning_rate": 0.1, "proximal_mu": 0.0, "scheme": "float32", "keep": 0.1,
    "held_out": 0.2,
}  # fmt: skip


def digits_samples(count: int = 300) -> list[Sample]:
    """Labelled images, as the buffer gives them."""
    data = load_digits()
    return [
        Sample(
            model="digits", version=1, space=SPACE, label=int(y), dtype="float32", shape=[8, 8],
            data=np.ascontiguousarray(x, np.float32).tobytes(),
        )
        for x, y in zip(data.train_x[:count], data.train_y[:count], strict=True)
    ]  # fmt: skip


class Bench:
    """A device's work on the digits model."""

    def __init__(self, folder: Path, samples: list[Sample], trainer: Trainer | None = None, **more: Any) -> None:
        self.folder = folder
        self.samples = samples
        self.epoch = "one"
        self.unchanged = False
        if not (folder / "slot").exists():
            unpacked_digits(folder / "slot", 1)
        self.model = LoadedModel.load(folder / "slot", unpacked(folder), 1)
        self.head = TrainableHead(folder / "slot", unpacked(folder))
        self.bundle = Bundle("digits", 1, "0" * 64, self.head.weights)
        self.start = np.zeros(sum(self.head.sizes), np.float32)
        self.residual = Residual(folder, RUN, self.start.size, KEY)
        self.stop: Callable[[], None] = lambda: None
        self.own = OwnHead(
            folder, self.bundle, self.head, min_samples=more.pop("min_samples", 20), margin=0.02, changed=lambda: None
        )
        self.work = Work(
            RUN, self.head, Embedder(self.model, self.head.classes), trainer or Trainer(),
            lambda: (self.epoch, None if self.unchanged else self.samples), self.residual,
            proceed=lambda: self.stop(), own=self.own,
        )  # fmt: skip

    def ask(self, kind: str = "train", weights: Vector | None = None, **config: Any) -> Any:
        order = self.start if weights is None else weights
        return self.work(Order(kind=kind, weights=order, config={**CONFIG, **config}, expires_s=0.0))

    def refused(self, **arguments: Any) -> str:
        with pytest.raises(SkerryError) as caught:
            self.ask(**arguments)
        return caught.value.code

    def accuracy(self, weights: Vector) -> float:
        data = load_digits()
        self.model.predict(data.test_x[:256])
        self.head.weights = weights
        found = measure(self.head, self.model.embedding, data.test_y[:256])
        assert found is not None
        return found.accuracy


def unpacked(folder: Path) -> Any:
    return read_manifest(folder / "slot")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, digits_samples())


def test_an_update_of_a_real_head_raises_accuracy(bench: Bench) -> None:
    answer = bench.ask()
    moved = bench.start + decode(answer.update, bench.head.sizes)
    assert bench.accuracy(bench.start) < 0.2
    assert bench.accuracy(moved) > 0.8
    assert 0 < answer.examples < 300
    assert set(answer.metrics) == {"loss", "accuracy", "held_out_loss", "held_out_accuracy"}
    assert answer.metrics["held_out_accuracy"] < 0.2  # of the weights as they came
    again = bench.ask(kind="evaluate", weights=moved)
    assert again.update == b""
    assert again.examples == 300 - answer.examples
    assert again.metrics["held_out_accuracy"] > 0.7
    assert again.metrics["base_accuracy"] > 0.9  # of the head in the bundle, beside it


def test_the_same_order_gives_the_same_bytes(bench: Bench, tmp_path: Path) -> None:
    first = bench.ask(scheme="int8")
    second = Bench(tmp_path, digits_samples()).ask(scheme="int8")
    assert first == second
    assert bench.ask(scheme="int8", round=2) != first


def test_a_small_network_learns_in_all_of_its_layers(tmp_path: Path) -> None:
    """The same head by another name: several variables, and the input itself as its embedding."""
    dims = (64, 32, 10)
    weights = mlp_weights(dims, 1)
    more: dict[str, Any] = {"extractor": passthrough(64), "head": mlp_head(dims, 32), "weights": weights}
    unpacked_digits(tmp_path / "slot", 1, **more)
    bench = Bench(tmp_path, digits_samples(600))
    start = flatten(weights)
    assert bench.head.sizes == (32, 10, 2048, 320)  # b1, b2, w1, w2
    moved = start + decode(bench.ask(weights=start, epochs=20).update, bench.head.sizes)
    shapes = bench.head.shapes
    for name, before in unflatten(start, shapes).items():
        assert not np.array_equal(unflatten(moved, shapes)[name], before), name
    assert bench.accuracy(moved) > 0.85
    near = bench.ask(weights=start, epochs=5, proximal_mu=5.0, learning_rate=0.05).update
    far = bench.ask(weights=start, epochs=5, learning_rate=0.05).update
    lengths = [float(np.linalg.norm(decode(update, bench.head.sizes))) for update in (near, far)]
    assert lengths[0] < 0.7 * lengths[1]


def test_what_is_held_out_is_not_learnt_from(bench: Bench) -> None:
    """Other labels on the held-out samples change their measures and no bit of the update."""
    honest = bench.ask()
    bench.samples = [
        sample if not is_held_out(hashlib.sha256(sample.data).digest(), 0.2) else _other_label(sample)
        for sample in bench.samples
    ]
    changed = bench.ask()
    assert changed.update == honest.update
    assert changed.metrics["held_out_accuracy"] != honest.metrics["held_out_accuracy"]


def _other_label(sample: Sample) -> Sample:
    return msgspec.structs.replace(sample, label=(sample.label + 1) % 10)


def test_the_proximal_term_holds_the_weights_near_those_of_the_round(bench: Bench) -> None:
    lengths = [
        float(np.linalg.norm(decode(bench.ask(proximal_mu=mu, learning_rate=0.05).update, bench.head.sizes)))
        for mu in (0.0, 1.0, 8.0)
    ]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[-1] < 0.5 * lengths[0]


def test_a_last_batch_that_is_not_full_weighs_no_more_than_its_rows(tmp_path: Path) -> None:
    """One step on 3 rows is the mean gradient of those 3, as NumPy computes it."""
    bench = Bench(tmp_path, digits_samples())
    rng = np.random.default_rng(0)
    x, y = rng.random((3, 64)).astype(np.float32), np.array([1, 2, 2])
    bench.head.weights = bench.start
    bench.head.step(x, y, 0.5)
    error = (np.full((3, 10), 0.1) - np.eye(10)[y]) / 3
    expected = np.concatenate([-0.5 * error.sum(axis=0), (-0.5 * error.T @ x).ravel()])
    np.testing.assert_allclose(bench.head.weights, expected, atol=1e-5)


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0}, {"epochs": 101}, {"epochs": 1.5}, {"learning_rate": 0.0}, {"learning_rate": float("nan")},
        {"learning_rate": "fast"}, {"proximal_mu": -1.0}, {"scheme": "zip"}, {"keep": 0.0}, {"held_out": 0.9},
        {"round": -1}, {"momentum": 0.9}, {"kind": "shutdown"},
    ],
)  # fmt: skip
def test_an_order_with_a_value_out_of_bounds_is_refused(bench: Bench, wrong: dict[str, Any]) -> None:
    assert bench.refused(**wrong) == "training.order"


def test_weights_that_do_not_fit_are_refused(bench: Bench) -> None:
    assert bench.refused(weights=np.zeros(3, np.float32)) == "training.order"
    assert bench.refused(weights=np.full(650, np.nan, np.float32)) == "training.order"


def test_samples_that_do_not_fit_the_model_are_left_out(bench: Bench) -> None:
    good = bench.samples[:40]
    wrong = [
        msgspec.structs.replace(good[0], label=10),
        msgspec.structs.replace(good[0], dtype="uint8", shape=[256]),
        msgspec.structs.replace(good[0], shape=[4, 16]),
        msgspec.structs.replace(good[0], shape=[9, 9]),
        msgspec.structs.replace(good[0], data=np.full((8, 8), np.nan, np.float32).tobytes()),
    ]
    bench.samples = good
    answer = bench.ask()
    bench.samples = [*wrong, *good]
    assert bench.ask().update == answer.update
    bench.samples = wrong
    assert bench.refused() == "training.no_samples"
    assert bench.refused(kind="evaluate") == "training.no_samples"


def test_training_stops_between_epochs_when_it_must(bench: Bench) -> None:
    asked = 0

    def stop() -> None:
        nonlocal asked
        asked += 1
        if asked == 4:
            raise Unavailable("training.too_hot", "It is 91 °C.")

    bench.stop = stop
    assert bench.refused(epochs=50) == "training.too_hot"
    assert asked == 4


def test_training_that_diverges_is_a_failure_and_not_an_update(bench: Bench) -> None:
    class Diverging(Trainer):
        def train(self, task: Task) -> Vector:
            return np.full(task.head.weights.size, np.inf, np.float32)

    assert Bench(bench.folder, bench.samples, Diverging()).refused() == "update.not_finite"


def test_an_own_trainer_brings_its_own_examples_and_steps(bench: Bench) -> None:
    class OnlyOnes(Trainer):
        def examples(self, kept: Any) -> Any:
            return [example for example in kept if example.label == 1]

        def train(self, task: Task) -> Vector:
            assert set(task.y) == {1}
            return task.head.weights + np.float32(1)

    answer = Bench(bench.folder, bench.samples, OnlyOnes()).ask()
    np.testing.assert_array_equal(decode(answer.update, bench.head.sizes), np.ones(650, np.float32))


# --- what the encoding leaves out -----------------------------------------------------------------------------------
def test_what_is_left_out_is_sent_next_time_and_only_once(bench: Bench) -> None:
    first = bench.ask(scheme="top")
    left = bench.residual
    assert left.take() is None  # under way: it counts neither here nor there
    bench.work.delivered()
    kept = left.take()
    assert kept is not None
    plain = decode(bench.ask(scheme="float32", round=2).update, bench.head.sizes)  # takes the residual along
    (bench.folder / "other").mkdir()
    alone = Bench(bench.folder / "other", bench.samples)
    np.testing.assert_allclose(plain - kept, decode(alone.ask(round=2).update, bench.head.sizes), atol=1e-6)
    assert len(first.update) < 650


def test_an_evaluation_between_two_updates_loses_nothing(bench: Bench) -> None:
    bench.ask(scheme="top")
    bench.work.delivered()
    kept = bench.residual.take()
    bench.ask(kind="evaluate")
    bench.work.delivered()
    assert kept is not None
    assert bench.residual.take() is kept
    assert list(bench.folder.glob("residual-*"))


def test_a_death_between_sending_and_confirmation_never_sends_twice(bench: Bench) -> None:
    bench.ask(scheme="top")
    bench.work.delivered()
    assert Residual(bench.folder, RUN, 650, KEY).take() is not None
    bench.ask(scheme="top", round=2)  # and the process ends here
    assert Residual(bench.folder, RUN, 650, KEY).take() is None


def test_a_residual_goes_with_its_run_its_key_and_its_shape(bench: Bench) -> None:
    bench.ask(scheme="top")
    bench.work.delivered()
    (file,) = bench.folder.glob("residual-*")
    data = file.read_bytes()
    assert Residual(bench.folder, RUN, 649, KEY).take() is None
    assert Residual(bench.folder, RUN, 650, SampleKey(b"x" * 32)).take() is None
    file.write_bytes(data[:-1])
    assert Residual(bench.folder, RUN, 650, KEY).take() is None
    file.write_bytes(data)
    assert Residual(bench.folder, RUN, 650, KEY).take() is not None
    assert Residual(bench.folder, "f-000000000002", 650, KEY).take() is None
    assert not file.exists()


def test_samples_are_read_once_and_come_again_when_they_changed(bench: Bench) -> None:
    first = bench.ask()
    bench.unchanged = True
    assert bench.ask().update == first.update
    bench.unchanged = False
    bench.samples = bench.samples[:100]
    assert bench.ask().examples < first.examples


def test_an_erasure_forgets_embeddings_and_residual(bench: Bench) -> None:
    bench.ask(scheme="top")
    bench.work.delivered()
    bench.epoch = "two"
    bench.samples = []
    assert bench.refused() == "training.no_samples"
    assert bench.residual.take() is None
    assert not list(bench.folder.glob("residual-*"))


def test_the_form_of_the_update_is_the_one_that_was_ordered(bench: Bench) -> None:
    for scheme in Scheme:
        expected = encode(np.zeros(650, np.float32), bench.head.sizes, scheme)[0]
        assert bench.ask(scheme=str(scheme)).update[:1] == expected[:1]


# --- a head of its own ----------------------------------------------------------------------------------------------
def test_a_personal_head_is_kept_where_it_is_wanted_and_never_sent(bench: Bench) -> None:
    plain = bench.ask()
    assert read_personal(bench.folder, "digits", "0" * 64, "one") is None
    answer = bench.ask(personal=True)
    assert answer.update == plain.update
    kept = read_personal(bench.folder, "digits", "0" * 64, "one")
    assert kept is not None
    assert kept.held_out == 300 - answer.examples
    assert not kept.serves  # the version's own head is better than one epoch from zero
    assert read_personal(bench.folder, "digits", "1" * 64, "one") is None
    assert read_personal(bench.folder, "digits", "0" * 64, "two") is None


def test_a_device_that_sees_something_else_serves_its_own_head(tmp_path: Path) -> None:
    swapped = [msgspec.structs.replace(sample, label=9 - sample.label) for sample in digits_samples()]
    bench = Bench(tmp_path, swapped)
    bench.ask(personal=True, epochs=5)
    kept = read_personal(tmp_path, "digits", "0" * 64, "one")
    assert kept is not None
    assert kept.serves
    assert kept.accuracy > 0.8
    assert kept.bundle_accuracy < 0.2
    worse = bench.ask(personal=True, epochs=1, learning_rate=0.0001, round=2)
    assert worse.update
    again = read_personal(tmp_path, "digits", "0" * 64, "one")
    assert again is not None
    assert again.accuracy == kept.accuracy  # the better one stays


def test_too_few_held_out_samples_choose_nothing(tmp_path: Path) -> None:
    swapped = [msgspec.structs.replace(sample, label=9 - sample.label) for sample in digits_samples()]
    bench = Bench(tmp_path, swapped, min_samples=1000)
    bench.ask(personal=True)
    kept = read_personal(tmp_path, "digits", "0" * 64, "one")
    assert kept is not None
    assert not kept.serves


def test_a_model_without_a_head_cannot_be_trained(tmp_path: Path) -> None:
    unpacked_digits(tmp_path / "slot", 1)
    manifest = msgspec.structs.replace(unpacked(tmp_path), head=None)
    with pytest.raises(InvalidInput) as caught:
        TrainableHead(tmp_path / "slot", manifest)
    assert caught.value.code == "model.not_trainable"
