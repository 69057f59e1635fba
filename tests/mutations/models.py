"""Damaged `.tflite` files inside a correctly signed bundle: the probe's own trial, in children of a warm parent.

`python -m tests.mutations.models FOLDER SEED FIRST COUNT`: prints the outcome of each as a line. A fork costs a few
milliseconds where a fresh interpreter costs a hundred; the child is confined and judged as the agent's is. Outcomes:
`refused <code>`, or `same answers` where golden outputs and held-out answers are those of the undamaged model, or
`same golden answers` where only the golden ones are.
"""

from __future__ import annotations

import os
import random
import signal
import sys
from pathlib import Path

import msgspec
import numpy as np

from agent.ota.probe import MAX_RESULT_BYTES, ProbeOrder, ProbeResult, try_version
from agent.ota.prober import judge
from shared.bundle.archive import read_manifest
from shared.errors import ErrorBody, SkerryError
from shared.profiles import load_profile
from shared.runtime.model import LoadedModel
from shared.sandbox.confine import confine
from shared.sandbox.wish import Confinement
from tests.models import load_digits, unpacked_digits
from tests.mutations.damage import damaged

__all__ = ["Models", "main"]

_CPU_S = 10
_WALL_S = 20.0
_MEMORY_BYTES = 4 << 30
_UNFORESEEN = 70
_MARKS = {1: "same answers", 2: "same golden answers"}


class Models:
    """One bundle, unpacked in `folder`, of which one model file at a time is damaged."""

    def __init__(self, folder: Path) -> None:
        self._slot = folder / "slot"
        manifest = unpacked_digits(self._slot)
        if manifest.head is None:
            raise AssertionError("the bundle has no head")
        self._files = [self._slot / manifest.extractor.path, self._slot / manifest.head.path]
        self._originals = {path: path.read_bytes() for path in self._files}
        self._profile = msgspec.structs.replace(load_profile("x86-gateway"), latency_p99_ms=60_000.0)
        self._order = ProbeOrder(
            directory=str(self._slot),
            threads=1,
            runs=1,
            confinement=Confinement(read=[str(self._slot)], cpu_s=_CPU_S, wall_s=_WALL_S, memory_bytes=_MEMORY_BYTES),
        )
        self._held_out = load_digits().test_x[:64]
        self._tolerance = manifest.golden.tolerance
        model = LoadedModel.load(self._slot, read_manifest(self._slot))
        self._answers = model.predict(self._held_out)
        model.close()

    def try_one(self, rng: random.Random) -> str:
        """Damage once; the outcome."""
        path = rng.choice(self._files)
        path.write_bytes(damaged(self._originals[path], rng))
        try:
            status, answer = self._forked()
        finally:
            path.write_bytes(self._originals[path])
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            codes = {signal.SIGALRM: "probe.timeout", signal.SIGXCPU: "probe.cpu_time"}
            return f"refused {codes.get(signal.Signals(number), f'probe.crashed ({signal.Signals(number).name})')}"
        if os.WEXITSTATUS(status) not in _MARKS:
            return f"refused probe.crashed (status {os.WEXITSTATUS(status)})"
        result = msgspec.json.decode(answer, type=ProbeResult)
        try:
            judge(result, self._profile)
        except SkerryError as error:
            return f"refused {error.code}"
        return _MARKS[os.WEXITSTATUS(status)]

    def _forked(self) -> tuple[int, bytes]:
        source, sink = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(source)
            try:
                os._exit(self._child(sink))
            except BaseException as error:  # noqa: BLE001 - as in a probe of its own, this ends the child and nothing else
                os._exit(_describe(error))
        os.close(sink)
        with open(source, "rb") as file:
            answer = file.read(MAX_RESULT_BYTES)
        return os.waitpid(child, 0)[1], answer

    def _child(self, sink: int) -> int:
        confine(self._order.confinement)
        mark = 1
        try:
            result = try_version(self._order)
            if result.golden_passed:
                mark = 1 if self._answers_alike() else 2
        except SkerryError as error:
            result = ProbeResult(error=error.body())
        except MemoryError:
            result = ProbeResult(error=ErrorBody(code="probe.too_much_memory", message=""))
        os.write(sink, msgspec.json.encode(result))
        return mark

    def _answers_alike(self) -> bool:
        try:
            model = LoadedModel.load(self._slot, read_manifest(self._slot))
            return bool(np.allclose(model.predict(self._held_out), self._answers, atol=self._tolerance))
        except SkerryError:
            return False


def _describe(error: BaseException) -> int:
    """Say on standard error what ended the child; its exit status."""
    sys.stderr.write(f"{type(error).__name__}: {error}\n")
    return _UNFORESEEN


def main() -> None:
    """Damage models as the arguments say."""
    folder, seed, first, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    subject = Models(folder)
    for index in range(first, first + count):
        print(subject.try_one(random.Random(f"{seed}:models:{index}")), flush=True)


if __name__ == "__main__":
    main()
