"""Requests remembered for a while, so that the truth about them can be counted when it becomes known.

Rules: memory is bounded (requests, and rows in all of them), the oldest go first; a request is answered once; the
inputs are kept only while somebody wants labelled samples (`Labelled`: where training takes its samples from), and
within a bound of their own, so that large inputs cost the oldest of them and no memory.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from shared import limits
from shared.errors import Conflict, InvalidInput, NotFound
from shared.preprocess.kernels import Array

__all__ = ["Label", "Labelled", "LabelledSink", "Recent", "Remembered", "label_space", "resolve_label"]

Label = int | str | None
"""A class by number or by name; None: none of those that the version knows."""
_ROWS_PER_REQUEST = 4


@dataclass(frozen=True, slots=True)
class Labelled:
    """A sample whose true class is known: the raw input of one row. For the training buffer.

    space: what the class numbers mean (`label_space`).
    """

    model: str
    version: int
    x: Array
    label: int
    space: str


LabelledSink = Callable[[Labelled], None]


@dataclass(slots=True)
class Remembered:
    """What a request was answered: the class of each row (empty for numbers), and the input while it is wanted."""

    classes: Sequence[int]
    rows: int
    x: Array | None
    answered: bool = False


class Recent:
    """The newest requests by id. `inputs_bytes`: of all inputs that are kept. Not thread-safe."""

    def __init__(self, count: int, inputs_bytes: int = limits.MIB) -> None:
        self._count = count
        self._inputs_bytes = inputs_bytes
        self._bytes = 0
        self._inputs: OrderedDict[str, Array] = OrderedDict()
        self._rows = 0
        self._known: OrderedDict[str, Remembered] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def remember(self, request_id: str, entry: Remembered) -> None:
        """Keep a request; an id that is used again means the newer one."""
        if not self._count:
            return
        old = self._known.pop(request_id, None)
        self._rows += entry.rows - (old.rows if old else 0)
        self._known[request_id] = entry
        self._forget_input(request_id)
        while len(self._known) > self._count or self._rows > max(self._count, 256) * _ROWS_PER_REQUEST:
            oldest, gone = self._known.popitem(last=False)
            self._rows -= gone.rows
            self._forget_input(oldest)
        if entry.x is not None:
            self._inputs[request_id] = entry.x
            self._bytes += entry.x.nbytes
            while self._bytes > self._inputs_bytes:
                self.take_input(next(iter(self._inputs)))

    def _forget_input(self, request_id: str) -> Array | None:
        x = self._inputs.pop(request_id, None)
        self._bytes -= 0 if x is None else x.nbytes
        return x

    def take_input(self, request_id: str) -> Array | None:
        """The input of a request, which is kept no longer; None when there is none."""
        if request_id in self._known:
            self._known[request_id].x = None
        return self._forget_input(request_id)

    def answer(self, request_id: str) -> Remembered:
        """The request, if it is not answered yet; errors `feedback.unknown_request`, `feedback.repeated`."""
        found = self._known.get(request_id)
        if found is None:
            raise NotFound(
                "feedback.unknown_request",
                f"No request {request_id[:64]!r} is remembered.",
                hint="Send an id with the request, and the truth soon; only the newest requests are remembered.",
            )
        if found.answered:
            raise Conflict("feedback.repeated", f"The truth about the request {request_id[:64]!r} is known already.")
        return found


def label_space(labels: Sequence[str] | None, outputs: int) -> str:
    """A name for what the numbers of classes mean: the same for versions with the same labels in the same order."""
    named = msgspec.json.encode([outputs, None if labels is None else list(labels)])
    return hashlib.sha256(named).hexdigest()[:16]


def resolve_label(label: Label, labels: Sequence[str] | None, outputs: int) -> int | None:
    """The class number of a label, None for "none of them"; error `feedback.label`."""
    if label is None:
        return None
    if isinstance(label, str):
        if labels is None or label not in labels:
            raise InvalidInput(
                "feedback.label",
                f"The version knows no class {label[:64]!r}.",
                hint="Send the number of a class, a label of the version, or null for none of them.",
            )
        return list(labels).index(label)
    if isinstance(label, bool) or not 0 <= label < min(outputs, limits.MAX_LABELS_COUNT):
        raise InvalidInput("feedback.label", f"{label!r:.40} is not a class; there are {outputs}.")
    return label
