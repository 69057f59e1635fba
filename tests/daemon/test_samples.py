"""Labelled feedback of a real agent ends in its sample buffer, which a person can look at and erase."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agent.main import app
from agent.paths import AgentPaths
from agent.training.buffer import SampleBuffer
from agent.training.settings import SampleSettings
from shared.clock import SystemClock
from tests.daemon.device import PROFILE, give_identity, install_digits, running
from tests.models import load_digits


@pytest.fixture
def paths(tmp_path: Path) -> AgentPaths:
    found = AgentPaths(tmp_path / "state")
    give_identity(found)
    install_digits(found)
    return found


def labelled_feedback(paths: AgentPaths, count: int) -> None:
    """A life of the agent in which so many truths became known."""
    data = load_digits()
    with running(paths) as agent:
        for index in range(count):
            values = data.test_x[index].ravel().tolist()
            tensor = {"name": "image", "datatype": "FP32", "shape": [1, 8, 8], "data": values}
            agent.ask("/v2/models/digits/infer", {"id": f"r{index}", "inputs": [tensor]})
            agent.ask("/v2/models/digits/feedback", {"id": f"r{index}", "label": int(data.test_y[index])})
        assert agent.stop() == 0


def shown(paths: AgentPaths) -> dict[str, object]:
    result = CliRunner().invoke(app, ["data", "show", "--json", "--state", str(paths.root)])
    assert result.exit_code == 0, result.output
    found: dict[str, object] = json.loads(result.stdout)
    return found


def erase(paths: AgentPaths, *options: str, answer: str = "") -> int:
    result = CliRunner().invoke(app, ["data", "erase", *options, "--state", str(paths.root)], input=answer)
    return result.exit_code


def test_feedback_with_classes_is_kept_shown_and_erased(paths: AgentPaths) -> None:
    labelled_feedback(paths, 20)
    assert shown(paths)["samples"] == 20
    buffer = SampleBuffer(paths.samples, SampleSettings(), SystemClock())
    classes, _kept = buffer.counts()
    samples = [sample for one in classes for sample in buffer.read("digits", one.space) if sample.label == one.label]
    assert sorted(sample.label for sample in samples) == sorted(load_digits().test_y[:20].tolist())
    assert stat.S_IMODE((paths.samples / "key").stat().st_mode) == 0o600
    plain = CliRunner().invoke(app, ["data", "show", "--state", str(paths.root)])
    assert "20 of 5000 samples" in plain.stdout
    assert erase(paths, answer="n\n") != 0
    assert shown(paths)["samples"] == 20
    assert erase(paths, answer="y\n") == 0
    assert shown(paths)["samples"] == 0
    assert not (paths.samples / "key").exists()


def test_nothing_is_kept_where_a_person_does_not_want_it(paths: AgentPaths) -> None:
    paths.settings.write_text("samples:\n  enabled: false\n")
    labelled_feedback(paths, 3)
    assert not paths.samples.exists()


def test_nothing_is_kept_where_the_profile_does_not_allow_training(paths: AgentPaths) -> None:
    text = (Path(__file__).parents[2] / "firmware_profiles" / f"{PROFILE}.yaml").read_text()
    own, identity = paths.root / "own.yaml", paths.identity / "identity.json"
    own.write_text(text.replace("allowed: true", "allowed: false"))
    identity.write_text(identity.read_text().replace(f'"{PROFILE}"', json.dumps(str(own))))
    labelled_feedback(paths, 3)
    assert not paths.samples.exists()
