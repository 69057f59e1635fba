"""An order of the hub to its answer: load, train, measure, write the update.

Rules: the held-out share is never learnt from; the measures of it are those of the weights as they came, so that the
hub sees each round's model on data that no device trained on. The update is the difference to those weights. What its
encoding leaves out waits for the next (`agent.training.residual`). Whatever fails is a coded error, and the node
answers with that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.training.examples import Embedder, Examples, from_samples
from agent.training.orders import Answer, Order, Training, check_weights, parse_evaluation, parse_training
from agent.training.own_head import OwnHead
from agent.training.protection import Protection
from agent.training.residual import Residual
from agent.training.samples import Sample
from agent.training.sdk import Task, Trainer
from shared.errors import Conflict, InvalidInput
from shared.federated.vector import Vector
from shared.preprocess.kernels import Array
from shared.runtime.head import TrainableHead

__all__ = ["Measured", "Work", "measure"]

Labels = NDArray[np.int64]
_SMALLEST = 1e-12


@dataclass(frozen=True, slots=True)
class Measured:
    """Mean cross-entropy, share of right answers, and of how many examples."""

    loss: float
    accuracy: float
    count: int


def measure(head: TrainableHead, x: Array, y: Labels) -> Measured | None:
    """What the head's present weights make of the examples; None when there are none."""
    if not len(x):
        return None
    probs = head.probabilities(x).astype(np.float64)
    right = probs[np.arange(len(y)), y]
    loss = float(-np.log(np.clip(right, _SMALLEST, 1.0)).mean())
    return Measured(loss, float((probs.argmax(axis=1) == y).mean()), len(y))


class Work:
    """The work of one run on one bundle.

    head: with the bundle's own weights, beside which an evaluation measures. samples: a name that changes when they
    were erased, and what is kept now; None: the same as before. proceed: raises when the device has no more time,
    power or patience; asked before each epoch. own: keeps a head of this device's own; None: not wanted here.
    protection: what the hub may see of an update; None: of a run that promised nothing.
    """

    def __init__(
        self,
        run: str,
        head: TrainableHead,
        embedder: Embedder,
        trainer: Trainer,
        samples: Callable[[], tuple[str, list[Sample] | None]],
        residual: Residual,
        *,
        proceed: Callable[[], None],
        own: OwnHead | None = None,
        protection: Protection | None = None,
    ) -> None:
        self._run = run
        self._head = head
        self._embedder = embedder
        self._trainer = trainer
        self._samples = samples
        self._residual = residual
        self._proceed = proceed
        self._own = own
        self._protection = protection or Protection()
        self._epoch: str | None = None
        self._raw: list[Sample] = []
        self._known: Examples | None = None
        self._usual = type(trainer).examples is Trainer.examples
        self._bundled = head.weights

    def __call__(self, order: Order) -> Answer:
        """The answer. Errors `training.order`, `training.no_samples`, `update.not_finite`, what `proceed` raises."""
        if order.kind == "train":
            return self._train(order)
        if order.kind == "evaluate":
            return self._evaluate(order)
        if order.kind == "query":
            return self._protection.answer(order)
        raise InvalidInput("training.order", f"There is no kind {order.kind[:32]!r} of order.")

    @property
    def expects(self) -> bool:
        """Whether the hub will ask again soon: secure aggregation has several stages."""
        return self._protection.expects

    def delivered(self) -> None:
        """The hub has the last answer."""
        self._residual.delivered()

    def _train(self, order: Order) -> Answer:
        wanted = parse_training(order.config)
        check_weights(order.weights, sum(self._head.sizes))
        self._protection.check(order, wanted)
        self._proceed()
        examples = self._examples()
        (x, y), (held_x, held_y) = examples.split(wanted.held_out)
        if not len(x):
            raise Conflict("training.no_samples", "There is nothing to learn from.")
        self._head.weights = order.weights
        before = measure(self._head, held_x, held_y)
        moved = self._moved(order.weights, wanted, x, y)
        after = measure(self._head, x, y)
        with np.errstate(over="ignore", invalid="ignore"):
            difference = np.asarray(moved - order.weights, np.float32)
        answer, left_out = self._protection.write(
            difference, len(x), _metrics(after, before), wanted, self._head.sizes, self._residual.take()
        )
        if self._own is not None and wanted.personal:
            self._own.consider(moved, self._run, wanted.round, self._epoch or "", held_x, held_y)
        self._residual.leave(left_out)
        return answer

    def _moved(self, weights: Vector, wanted: Training, x: Array, y: Labels) -> Vector:
        """The weights after training, which the head then has."""
        self._head.weights = weights
        task = Task(
            head=self._head,
            x=x,
            y=y,
            epochs=wanted.epochs,
            learning_rate=wanted.learning_rate,
            proximal_mu=wanted.proximal_mu,
            seed=_seed(self._run, wanted.round),
            proceed=self._proceed,
        )
        moved = np.asarray(self._trainer.train(task), np.float32)
        if moved.shape != weights.shape or not np.isfinite(moved).all():
            raise InvalidInput("update.not_finite", "Training gave a weight that is not a finite number.")
        self._head.weights = moved
        return moved

    def _evaluate(self, order: Order) -> Answer:
        wanted = parse_evaluation(order.config)
        check_weights(order.weights, sum(self._head.sizes))
        self._proceed()
        _, (held_x, held_y) = self._examples().split(wanted.held_out)
        self._head.weights = self._bundled
        base = measure(self._head, held_x, held_y)
        self._head.weights = order.weights
        found = measure(self._head, held_x, held_y)
        if found is None or base is None:
            raise Conflict("training.no_samples", "No sample is held out.")
        beside = {"base_loss": base.loss, "base_accuracy": base.accuracy}
        return Answer(update=b"", examples=found.count, metrics=_metrics(None, found) | beside)

    def _examples(self) -> Examples:
        epoch, samples = self._samples()
        if self._epoch is not None and epoch != self._epoch:
            self._embedder.forget()
            self._residual.forget()
        self._epoch = epoch
        if samples is not None:
            self._raw, self._known = samples, None
        if self._known is None or not self._usual:
            self._known = self._embedder.embed(self._trainer.examples(from_samples(self._raw)))
            self._raw = [] if self._usual else self._raw  # inputs are large; their embeddings are all that it takes
        return self._known


def _metrics(trained: Measured | None, held_out: Measured | None) -> dict[str, float]:
    found = {} if trained is None else {"loss": trained.loss, "accuracy": trained.accuracy}
    if held_out is not None:
        found |= {"held_out_loss": held_out.loss, "held_out_accuracy": held_out.accuracy}
    return found


def _seed(run: str, round_no: int) -> int:
    """For shuffling: the same round on the same samples gives the same update."""
    return int.from_bytes(hashlib.sha256(f"{run}/{round_no}".encode()).digest()[:8], "big")
