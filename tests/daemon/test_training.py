"""The real agent process with federated training: offers come over MQTT, answers go up, and nothing heavy is loaded."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from agent.main import app
from agent.paths import AgentPaths
from agent.training.buffer import SampleBuffer
from agent.training.personal import PersonalHead, write_personal
from agent.training.settings import SampleSettings
from shared import durable
from shared.clock import SystemClock
from shared.wire.training import TrainingOffer, TrainingReport
from shared.wire.up import Heartbeat, decode_body
from tests.daemon.device import RunningAgent, install_digits, launch
from tests.link.mqtt_hub import MqttHub
from tests.training.device import labelled_digits


@pytest.fixture
def paths(tmp_path: Path) -> AgentPaths:
    return AgentPaths(tmp_path / "state")


def loaded(agent: RunningAgent, word: str) -> bool:
    """Is a library mapped by the agent's process?"""
    return word in Path(f"/proc/{agent.process.pid}/maps").read_text()


def offer(paths: AgentPaths, agent: RunningAgent, round_no: int = 1) -> TrainingOffer:
    (model,) = agent.ask("/skerry/status")["models"]
    return TrainingOffer(
        device_id="dev1", run="f-000000000001", round_no=round_no, model="digits", version=model["active_version"],
        bundle_sha256=model["bundle_sha256"], address="127.0.0.1:1", valid_s=60.0, task_s=60.0,
    )  # fmt: skip


def test_an_offer_is_answered_told_and_shown_and_nothing_heavy_is_loaded_for_it(
    tmp_path: Path, paths: AgentPaths
) -> None:
    with MqttHub(tmp_path / "broker") as hub:
        hub.adopt(paths)
        install_digits(paths)
        SampleBuffer(paths.samples, SampleSettings(retention_days=3660), SystemClock()).add(labelled_digits(0, 30))
        agent = launch(paths)
        try:
            hub.wait_for("inventory")
            hub.offer(offer(paths, agent))
            (envelope,) = hub.wait_for("training")
            report = decode_body(envelope)
            assert isinstance(report, TrainingReport)
            assert (report.state, report.code) == ("declined", "training.few_samples")
            assert "There are 30 of 200" in report.reason
            shown = CliRunner().invoke(app, ["training", "show", "--state", str(paths.root)])
            assert shown.exit_code == 0, shown.output
            assert "There are 30 of 200" in shown.stdout
            beats = [decode_body(one) for one in hub.wait_for("heartbeat")]
            assert isinstance(beats[0], Heartbeat)
            assert not loaded(agent, "grpc")
            assert not loaded(agent, "cryptography")
            assert not paths.training.exists()
        finally:
            assert agent.stop() == 0


def test_a_head_of_its_own_serves_after_a_restart_and_goes_with_an_erasure(tmp_path: Path, paths: AgentPaths) -> None:
    with MqttHub(tmp_path / "broker") as hub:
        hub.adopt(paths)
        install_digits(paths)
        agent = launch(paths)
        try:
            first = agent.predict()
            (model,) = agent.ask("/skerry/status")["models"]
        finally:
            assert agent.stop() == 0
        other, vector = (first + 1) % 10, np.zeros(650, np.float32)
        vector[other] = 50.0  # the biases come first: it says `other` to everything
        durable.make_dir(paths.training)
        write_personal(
            paths.training,
            PersonalHead(
                model="digits", version=1, bundle_sha256=model["bundle_sha256"], run="f-000000000001", round_no=1,
                accuracy=0.9, bundle_accuracy=0.1, held_out=40, serves=True, epoch="", weights=vector.tobytes(),
            ),
        )  # fmt: skip
        agent = launch(paths)
        try:
            for _ in range(200):
                if agent.predict() == other:
                    break
            assert agent.predict() == other
            status = CliRunner().invoke(app, ["status", "--state", str(paths.root)])
            assert "Own head  digits 1: 0.900 instead of 0.100 on 40 held-out samples" in status.stdout
            erased = CliRunner().invoke(app, ["data", "erase", "--yes", "--state", str(paths.root)])
            assert erased.exit_code == 0, erased.output
            assert not list(paths.training.iterdir())
        finally:
            assert agent.stop() == 0
        agent = launch(paths)
        try:
            assert agent.predict() == first
            shown = CliRunner().invoke(app, ["training", "show", "--json", "--state", str(paths.root)])
            assert json.loads(shown.stdout)["heads"] == []
        finally:
            assert agent.stop() == 0
