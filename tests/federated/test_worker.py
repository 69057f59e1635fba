"""A run through the real worker process, Flower and the agent's node: it learns, withstands, and survives a kill."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from hub.federated import protocol
from hub.federated.checkpoint import read_checkpoint
from hub.federated.definition import RunDefinition
from hub.federated.flower.superlink import Tls
from hub.federated.protocol import Ask, Declined, Ended, FromWorker, Listening, Remove
from hub.federated.runner import RESTARTS, RunProcess, worker_command
from shared.errors import InvalidInput, Unavailable
from tests.federated.certificate import make_tls
from tests.federated.federation import Federation
from tests.federated.network import accuracy
from tests.ports import free_port

Vector = NDArray[np.float32]
DIMS = (64, 10)
Digits = tuple[Vector, NDArray[np.int64]]


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    return make_tls(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def digits() -> Digits:
    """Ten blurred strokes, drawn many times."""
    rng = np.random.default_rng(5)
    shapes = rng.random((10, 64)) > 0.6
    y = rng.integers(0, 10, 1500)
    return (shapes[y] + rng.normal(0, 0.9, (1500, 64))).astype(np.float32), y


def _definition(**rounds: Any) -> RunDefinition:
    plain: dict[str, Any] = {
        "model": "digits",
        "seed": 3,
        "rounds": {"count": 3, "goal": 3, "quorum": 3, "deadline_s": 60, "wait_s": 60, **rounds},
        "training": {"epochs": 1, "learning_rate": 0.02, "scheme": "int8"},
        "strategy": {"name": "fedyogi", "parameters": {"learning_rate": 0.03}},
        "admission": {"max_examples": 300},
    }
    return msgspec.convert(plain, RunDefinition)


def _federation(
    folder: Path, tls: Tls, digits: Digits, behaviours: list[str], command: list[str] | None = None
) -> Federation:
    federation = Federation(folder, tls, command or worker_command(sys.executable), DIMS)
    x, y = digits
    for number, behaviour in enumerate(behaviours):
        federation.add(x[number * 200 : number * 200 + 200], y[number * 200 : number * 200 + 200], behaviour)
    return federation


def test_a_run_learns_whatever_single_devices_do(tmp_path: Path, tls: Tls, digits: Digits) -> None:
    behaviours = ["honest", "honest", "lies", "nan", "fails"]
    federation = _federation(tmp_path, tls, digits, behaviours)
    ended = federation.run(_definition(goal=5), free_port())
    assert ended == Ended(end="finished")
    assert [report.round_no for report in federation.reports] == [1, 2, 3]
    for report in federation.reports:
        assert report.admitted == ["d-0", "d-1", "d-2"]
        assert report.rejected == {"d-3": "update.not_finite"}
        assert report.dropped == ["d-4"]
        assert report.bytes_up > 3 * 650
    x, y = digits
    curve = [accuracy(read_checkpoint(kept).weights, DIMS, x[1000:], y[1000:]) for kept in federation.kept]
    assert curve == sorted(curve)
    assert curve[-1] > 0.6
    measured = [report.metrics["held_out_accuracy"] for report in federation.reports]
    assert measured[-1] > measured[0]
    (evaluated,) = federation.evaluated
    assert (evaluated.asked, evaluated.bytes_down) == (4, 4 * 4 * 650)  # d-3 is on quarantine by now
    assert [device.device_id for device in evaluated.devices] == ["d-0", "d-1", "d-2"]
    assert all(device.accuracy > device.base_accuracy for device in evaluated.devices)
    assert [ask.round_no for ask in federation.asks] == [1, 2, 3, 4]


def test_a_worker_killed_in_mid_aggregation_ends_with_the_same_weights(
    tmp_path: Path, tls: Tls, digits: Digits
) -> None:
    behaviours = ["honest", "honest", "honest", "nan"]
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole = _federation(tmp_path / "a", tls, digits, behaviours)
    assert whole.run(_definition(), free_port()).end == "finished"
    dying = [sys.executable, "-m", "tests.federated.dying_worker", str(tmp_path / "killed"), "2"]
    killed = _federation(tmp_path / "b", tls, digits, behaviours, dying)
    assert killed.run(_definition(), free_port()).end == "finished"
    assert (whole.listened, killed.listened) == (1, 2)
    assert [report.round_no for report in killed.reports] == [1, 2, 3]
    assert killed.kept == whole.kept  # weights, moments, standings, to the bit


def test_a_run_that_kills_its_worker_every_time_fails(tmp_path: Path, tls: Tls, digits: Digits) -> None:
    always = [sys.executable, "-c", "import sys; print('out of luck', file=sys.stderr); sys.exit(9)"]
    heard: list[FromWorker] = []
    process = RunProcess(always, tmp_path, heard.append)
    begin = protocol.Begin(
        definition=_definition(), sizes=(1,), checkpoint=b"", participants=[], host="127.0.0.1", port=free_port(),
        certificate="", key="", ca="",
    )  # fmt: skip
    with pytest.raises(Unavailable) as caught:
        process.run(begin)
    assert caught.value.code == "federated.worker_crashed"
    assert "out of luck" in caught.value.message
    assert f"{RESTARTS + 1} times" in caught.value.message
    assert heard == []


def test_a_run_without_devices_says_so(tmp_path: Path, tls: Tls) -> None:
    federation = Federation(tmp_path, tls, worker_command(sys.executable), DIMS)
    ended = federation.run(_definition(wait_s=1), free_port())
    assert ended.end == "failed"
    assert ended.error is not None
    assert ended.error.code == "federated.no_devices"
    assert federation.kept == []


def test_frames_come_through_whole_or_not_at_all() -> None:
    stream = io.BytesIO()
    protocol.write(stream, Declined(device_id="cam-1"))
    protocol.write(stream, Remove(device_id="cam-2"))
    whole = stream.getvalue()
    stream.seek(0)
    assert protocol.read_from_hub(stream) == Declined(device_id="cam-1")
    assert protocol.read_from_hub(stream) == Remove(device_id="cam-2")
    assert protocol.read_from_hub(stream) is None
    assert protocol.read_from_hub(io.BytesIO(whole[:3])) is None
    assert protocol.read_from_hub(io.BytesIO(whole[:8])) is None
    for damaged in (b"\xff\xff\xff\xff", b"\x00\x00\x00\x01\xc1", whole[:4] + b"\xff" * 60):
        with pytest.raises(InvalidInput) as caught:
            protocol.read_from_hub(io.BytesIO(damaged))
        assert caught.value.code == "federated.frame"


def test_both_sides_know_each_message() -> None:
    for message in (Listening(port=1), Ask(round_no=1, device_ids=["a"]), Ended(end="finished")):
        stream = io.BytesIO()
        protocol.write(stream, message)
        stream.seek(0)
        assert protocol.read_from_worker(stream) == message


def test_a_removed_device_stays_out_of_the_worker_that_is_started_after_a_crash(tmp_path: Path) -> None:
    """The next worker's `Begin` holds what was said since the first one's."""
    script = (
        "import sys; from hub.federated import protocol as p; b = p.read_from_hub(sys.stdin.buffer); "
        "p.write(sys.stdout.buffer, p.Ask(round_no=1, device_ids=[d.device_id for d in b.participants])); "
        "p.read_from_hub(sys.stdin.buffer); sys.exit(9)"
    )
    asks: list[list[str]] = []

    def heard(message: FromWorker) -> None:
        assert isinstance(message, Ask)
        asks.append(message.device_ids)
        process.send(Remove(device_id="d-1") if len(asks) == 1 else Declined(device_id="d-2"))

    process = RunProcess([sys.executable, "-c", script], tmp_path, heard)
    devices = [protocol.Participant(device_id=f"d-{n}", public_key=b"", samples=1) for n in (1, 2)]
    begin = protocol.Begin(
        definition=_definition(), sizes=(1,), checkpoint=b"", participants=devices, host="", port=1,
        certificate="", key="", ca="",
    )  # fmt: skip
    with pytest.raises(Unavailable):
        process.run(begin)
    assert asks == [["d-1", "d-2"], ["d-2"], ["d-2"], ["d-2"]]
