"""Protected runs through the real worker process, Flower, TLS, and the agent's own node and protection."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from hub.federated.checkpoint import read_checkpoint
from hub.federated.definition import RunDefinition
from hub.federated.flower.superlink import Tls
from hub.federated.runner import worker_command
from tests.federated.certificate import make_tls
from tests.federated.federation import Federation
from tests.ports import free_port

Vector = NDArray[np.float32]
DIMS = (16, 3)
FAINT = {"noise_multiplier": 0.1, "epsilon": 1000.0, "clip": 1.0}


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    return make_tls(tmp_path_factory.mktemp("tls"))


def _federation(folder: Path, tls: Tls, behaviours: list[str], command: list[str] | None = None) -> Federation:
    folder.mkdir(exist_ok=True)
    federation = Federation(folder, tls, command or worker_command(sys.executable), DIMS)
    rng = np.random.default_rng(3)
    for behaviour in behaviours:
        y = rng.integers(0, 3, 40)
        x = np.eye(3, 16)[y] + rng.normal(0, 0.2, (40, 16))
        federation.add(x.astype(np.float32), y, behaviour)
    return federation


def _definition(privacy: dict[str, Any], **rounds: Any) -> RunDefinition:
    plain = {
        "model": "digits",
        "seed": 3,
        "rounds": {"count": 2, "goal": 5, "quorum": 3, "deadline_s": 120, "wait_s": 90, **rounds},
        "training": {"epochs": 1, "learning_rate": 0.05, "scheme": "float32"},
        "strategy": {"name": "fedavg"},
        "privacy": privacy,
    }
    return msgspec.convert(plain, RunDefinition)


def test_sums_give_the_weights_that_open_updates_give_though_a_device_fails_in_training(
    tmp_path: Path, tls: Tls
) -> None:
    behaviours = ["honest", "honest", "honest", "honest", "fails-train"]
    secure = _federation(tmp_path / "secure", tls, behaviours)
    assert secure.run(_definition({"secure_aggregation": True}), free_port()).end == "finished"
    plain = _federation(tmp_path / "plain", tls, behaviours)
    assert plain.run(_definition({}), free_port()).end == "finished"
    assert [(report.admitted, report.dropped) for report in secure.reports] == [
        (["d-0", "d-1", "d-2", "d-3"], ["d-4"])
    ] * 2
    np.testing.assert_allclose(secure.weights, plain.weights, atol=1e-5)
    assert secure.reports[0].metrics == {
        "held_out_accuracy": pytest.approx(plain.reports[0].metrics["held_out_accuracy"], abs=1e-3)
    }


def test_noise_of_the_hub_is_paid_for_once_though_the_worker_is_killed_in_between(tmp_path: Path, tls: Tls) -> None:
    dying = [sys.executable, "-m", "tests.federated.dying_worker", str(tmp_path / "killed"), "2"]
    federation = _federation(tmp_path, tls, ["honest"] * 3, dying)
    ended = federation.run(_definition({"mode": "server", **FAINT, "adaptive": True}, goal=3), free_port())
    assert ended.end == "finished"
    assert ended.error is None
    assert federation.listened == 2
    assert [r.privacy.releases for r in federation.reports if r.privacy is not None] == [1, 2]
    assert federation.reserved == []


def test_noise_of_the_devices_is_paid_for_before_they_answer_and_the_budget_ends_the_run(
    tmp_path: Path, tls: Tls
) -> None:
    dying = [sys.executable, "-m", "tests.federated.dying_worker", str(tmp_path / "killed"), "2"]
    federation = _federation(tmp_path, tls, ["honest"] * 3, dying)
    privacy = {"mode": "client", "noise_multiplier": 1.0, "epsilon": 9.0, "secure_aggregation": True}  # for 3 rounds
    ended = federation.run(_definition(privacy, goal=3, count=9), free_port())
    assert ended.end == "finished"
    assert ended.error is not None
    assert ended.error.code == "federated.privacy_spent"
    assert federation.listened == 2
    assert [read_checkpoint(kept).privacy.releases for kept in federation.reserved] == [1, 2, 3]
    assert [r.privacy.releases for r in federation.reports if r.privacy is not None] == [1, 3]  # the second was lost
    assert federation.reports[-1].metrics == {}
