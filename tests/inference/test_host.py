"""The host answers from the version that serves, drops nothing in a swap, and counts each request once."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.inference.handle import ModelHandle, Retired
from agent.inference.host import ModelHost
from shared import limits
from shared.bundle.archive import read_manifest
from shared.errors import InternalError, InvalidInput, NotFound, Unavailable
from shared.preprocess.kernels import Array
from shared.runtime.model import LoadedModel
from tests.inference.conftest import Slot
from tests.models import load_digits, unpacked_digits


def version_of(y: Array, host: ModelHost, slot: Slot, x: Array) -> int:
    for version in (1, 2):
        model = LoadedModel.load(slot(version), read_manifest(slot(version)))
        if np.array_equal(model.predict(x), y):
            return version
    raise AssertionError("no version predicts this")


class Gate(LoadedModel):
    """A real model that waits inside `predict` until it is let go."""

    entered: threading.Event
    go: threading.Event

    def predict(self, x: Array) -> Array:
        self.entered.set()
        if not self.go.wait(10):
            raise AssertionError("never let go")
        return super().predict(x)


def gated(directory: Path) -> tuple[ModelHandle, Gate]:
    model = Gate.load(directory, read_manifest(directory))
    if not isinstance(model, Gate):
        raise AssertionError
    model.entered, model.go = threading.Event(), threading.Event()
    model.go.set()
    handle = ModelHandle(directory, model)
    model.entered.clear()
    model.go.clear()
    return handle, model


def test_it_answers_from_the_version_that_serves(host: ModelHost, slot: Slot) -> None:
    x = load_digits().test_x[:3]
    first, handle = host.answer("digits", x)
    assert (handle.manifest.version, host.serving("digits")) == (1, slot(1))
    host.swap("digits", host.load("digits", slot(2)))
    second = host.predict("digits", x)
    assert (host.current("digits").manifest.version, host.serving("digits")) == (2, slot(2))
    assert [version_of(y, host, slot, x) for y in (first, second)] == [1, 2]


def test_what_is_not_served_is_named(host: ModelHost) -> None:
    for call in (lambda: host.predict("other", np.zeros(1)), lambda: host.current("other")):
        with pytest.raises(NotFound) as caught:
            call()
        assert caught.value.code == "model.not_served"
        assert "digits" in caught.value.hint
    assert host.serving("other") is None
    assert host.served("other").requests == host.take("other").requests == 0
    host.unload("other")


def test_a_bundle_of_another_model_is_refused(host: ModelHost, slot: Slot) -> None:
    with pytest.raises(InvalidInput) as caught:
        host.load("faces", slot(1))
    assert caught.value.code == "model.wrong_name"


def test_a_version_that_was_closed_cannot_serve(host: ModelHost, slot: Slot) -> None:
    handle = host.load("digits", slot(2))
    handle.close()
    with pytest.raises(InternalError):
        host.swap("digits", handle)
    with pytest.raises(Retired):
        handle.predict(load_digits().test_x[:1])
    assert host.predict("digits", load_digits().test_x[:1]).shape == (1, 10)


def test_a_swap_to_what_serves_already_changes_nothing(host: ModelHost) -> None:
    handle = host.current("digits")
    host.swap("digits", handle)
    assert host.current("digits") is handle
    assert not handle.retired


def test_unloading_frees_and_stops_serving(host: ModelHost) -> None:
    handle = host.current("digits")
    host.unload("digits")
    assert handle.freed
    assert host.models() == []
    with pytest.raises(NotFound):
        host.predict("digits", load_digits().test_x[:1])


def test_a_request_under_way_ends_on_the_old_version_which_is_freed_afterwards(slot: Slot) -> None:
    host, x = ModelHost(), load_digits().test_x[:1]
    handle, gate = gated(slot(1))
    host.swap("digits", handle)
    answers: list[tuple[Array, ModelHandle]] = []
    thread = threading.Thread(target=lambda: answers.append(host.answer("digits", x)))
    thread.start()
    assert gate.entered.wait(10)
    host.swap("digits", host.load("digits", slot(2)))
    assert (handle.retired, handle.freed) == (True, False)
    assert host.answer("digits", x)[1].manifest.version == 2
    gate.go.set()
    thread.join(10)
    assert [answer[1].manifest.version for answer in answers] == [1]
    assert handle.freed
    assert host.take("digits").requests == 2
    host.close()


def test_swapping_under_load_drops_no_request(host: ModelHost, slot: Slot) -> None:
    data, stop = load_digits(), threading.Event()
    shapes: set[tuple[int, ...]] = set()
    counts, seen = [0] * 4, set()

    def ask(number: int) -> None:
        x = data.test_x[number : number + 1]
        while not stop.is_set():
            y, handle = host.answer("digits", x)  # what it raises fails the test as a warning of the thread
            seen.add(handle.manifest.version)
            counts[number] += 1
            shapes.add(y.shape)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    handles = []
    for turn in range(40):
        handles.append(host.load("digits", slot(1 + (turn + 1) % 2)))
        host.swap("digits", handles[-1])
    stop.set()
    for thread in threads:
        thread.join(20)
    assert shapes == {(1, 10)}
    assert seen == {1, 2}
    assert all(handle.freed for handle in handles[:-1])
    total = host.take("digits")
    assert (total.requests, total.errors) == (sum(counts), 0)


def test_requests_errors_and_refusals_are_counted_apart(tmp_path: Path, slot: Slot) -> None:
    from hub.modelkit import dense_relu

    overflowing = dense_relu([(np.full((64, 10), 1e37), np.zeros(10))])
    unpacked_digits(
        tmp_path / "s", 3, seed=1, extractor=overflowing, head=None, preprocessing=[],
        golden_inputs=np.zeros((1, 8, 8), np.float32),
    )  # fmt: skip
    host = ModelHost()
    host.swap("digits", host.load("digits", tmp_path / "s"))
    host.predict("digits", np.zeros((1, 8, 8), np.float32))
    with pytest.raises(InternalError):
        host.predict("digits", np.full((1, 8, 8), 16, np.float32))
    with pytest.raises(InvalidInput):
        host.predict("digits", np.zeros((1, 8, 8)))
    found = host.served("digits")
    assert (found.requests, found.errors, found.rejected) == (2, 1, 1)
    assert 0 < found.latency_p50_us <= found.latency_p99_us
    host.swap("digits", host.load("digits", slot(1)))
    assert host.served("digits").requests == 0
    taken = host.take("digits")
    assert (taken.requests, taken.errors, taken.rejected) == (2, 1, 1)
    assert host.take("digits").requests == 0
    host.predict("digits", load_digits().test_x[:1])
    assert host.take("digits").requests == host.served("digits").requests == 1
    host.close()


async def test_small_requests_stay_on_the_loops_thread_and_long_ones_leave_it(slot: Slot) -> None:
    x = load_digits().test_x[:1]
    for inline_ns, inside in ((10**9, True), (0, False)):
        host = ModelHost(inline_ns=inline_ns)
        handle, gate = gated(slot(1))
        host.swap("digits", handle)
        names: list[str] = []
        gate.go.set()
        original = gate.predict

        def noting(x: Array, original: Any = original, names: list[str] = names) -> Array:
            names.append(threading.current_thread().name)
            y: Array = original(x)
            return y

        gate.predict = noting  # type: ignore[method-assign]
        y, _ = await host.answer_async("digits", x)
        assert y.shape == (1, 10)
        assert (names == [threading.current_thread().name]) is inside
        host.close()


async def test_a_slow_model_does_not_stop_another_and_its_queue_is_bounded(slot: Slot, tmp_path: Path) -> None:
    host, x = ModelHost(inline_ns=0), load_digits().test_x[:1]
    handle, gate = gated(slot(1))
    host.swap("digits", handle)
    unpacked_digits(tmp_path / "other", model="other")
    host.swap("other", host.load("other", tmp_path / "other"))
    waiting = [asyncio.create_task(host.answer_async("digits", x)) for _ in range(limits.MAX_INFER_WAITING_COUNT)]
    await asyncio.to_thread(gate.entered.wait, 10)
    with pytest.raises(Unavailable) as caught:
        await host.answer_async("digits", x)
    assert (caught.value.code, caught.value.retriable) == ("model.busy", True)
    assert (await host.answer_async("other", x))[0].shape == (1, 10)
    gate.go.set()
    answers = await asyncio.gather(*waiting)
    assert len(answers) == limits.MAX_INFER_WAITING_COUNT
    assert (await host.answer_async("digits", x))[0].shape == (1, 10)
    host.close()


async def test_waiting_requests_of_a_slow_model_survive_a_swap(slot: Slot) -> None:
    host, x = ModelHost(inline_ns=0), load_digits().test_x[:1]
    handle, gate = gated(slot(1))
    host.swap("digits", handle)
    waiting = [asyncio.create_task(host.answer_async("digits", x)) for _ in range(5)]
    await asyncio.to_thread(gate.entered.wait, 10)
    host.swap("digits", host.load("digits", slot(2)))
    gate.go.set()
    versions = [found.manifest.version for _, found in await asyncio.gather(*waiting)]
    assert versions == [1, 2, 2, 2, 2]
    assert handle.freed
    host.close()
