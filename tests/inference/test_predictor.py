"""An application's own predictor follows the agent's active version."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import agent
from agent.ota.slots import slot_name
from agent.paths import AgentPaths
from shared import durable
from shared.errors import InvalidInput, NotFound, Unavailable
from tests.models import load_digits, unpacked_digits


def activate(state: Path, version: int) -> None:
    """What the installer leaves on the disk for an active version."""
    paths = AgentPaths(state).model("digits")
    slot = slot_name(version, f"{version:064x}")
    if not (paths.slots / slot).exists():
        unpacked_digits(paths.slots / slot, version)
    durable.write_file(paths.current, f"{slot}\n".encode())


def test_it_predicts_with_the_active_version_and_follows_it(tmp_path: Path) -> None:
    data = load_digits()
    activate(tmp_path, 1)
    with agent.Predictor(tmp_path, "digits") as predictor:
        before = predictor.predict(data.test_x[:200])
        assert (predictor.version, predictor.labels) == (1, [str(n) for n in range(10)])
        assert np.mean(before.argmax(1) == data.test_y[:200]) > 0.9
        assert predictor.statistics().requests == 1
        activate(tmp_path, 2)
        predictor.refresh()
        assert predictor.version == 2
        assert not np.array_equal(predictor.predict(data.test_x[:200]), before)


def test_lists_are_converted_and_nonsense_is_refused(tmp_path: Path) -> None:
    activate(tmp_path, 1)
    with agent.Predictor(tmp_path, "digits") as predictor:
        x = load_digits().test_x[:1]
        assert np.array_equal(predictor.predict(x.tolist()), predictor.predict(x))
        with pytest.raises(InvalidInput):
            predictor.predict([["a"]])


def test_a_device_without_the_model_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotFound) as caught:
        agent.Predictor(tmp_path, "digits")
    assert caught.value.code == "model.not_installed"


def test_a_broken_successor_does_not_end_the_present_version(tmp_path: Path) -> None:
    activate(tmp_path, 1)
    with agent.Predictor(tmp_path, "digits") as predictor:
        activate(tmp_path, 2)
        paths = AgentPaths(tmp_path).model("digits")
        (paths.slots / slot_name(2, f"{2:064x}") / "model.tflite").write_bytes(b"damaged")
        predictor.refresh()
        assert predictor.version == 1
        assert predictor.predict(load_digits().test_x[:1]).shape == (1, 10)


def test_nothing_else_hides_in_the_package() -> None:
    with pytest.raises(AttributeError):
        agent.Other  # noqa: B018


def test_truths_and_metrics_go_the_same_way_as_on_the_local_api(tmp_path: Path) -> None:
    activate(tmp_path, 1)
    data = load_digits()
    with agent.Predictor(tmp_path, "digits") as predictor:
        y = predictor.predict(data.test_x[:2], request_id="frame-1")
        assert predictor.feedback("frame-1", labels=y.argmax(1).tolist()) == [True, True]
        with pytest.raises(NotFound) as unknown:
            predictor.feedback("frame-2", correct=[True])
        assert unknown.value.code == "feedback.unknown_request"
        with pytest.raises(Unavailable) as away:
            predictor.count("sold")
        assert away.value.code == "agent.not_running"
        with pytest.raises(Unavailable):
            predictor.gauge("speed", 1.5)
