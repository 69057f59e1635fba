"""`skerry-agent` as people and programs use it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from agent.identity.store import IdentityStore
from agent.paths import AgentPaths
from shared import __version__
from shared.join import encode_join
from tests.agent_identity.tiny_hub import TinyHub
from tests.daemon.device import RunningAgent, give_identity, install_digits, running
from tests.models import load_digits


def skerry_agent(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "agent.main", *arguments]
    environ = {**os.environ, "COLUMNS": "100"}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environ)


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAgent]:
    paths = AgentPaths(tmp_path_factory.mktemp("device") / "state")
    give_identity(paths)
    install_digits(paths)
    with running(paths) as process:
        process.predict()
        yield process


@pytest.mark.parametrize(
    "command",
    [
        *("enrol", "run", "status", "history", "rollback", "install", "doctor", "infer"),
        *("service install", "service print", "version"),
    ],
)
def test_every_command_explains_itself_with_an_example(command: str) -> None:
    done = skerry_agent(*command.split(), "--help")
    assert done.returncode == 0
    assert "skerry-agent " + command in done.stdout
    assert "Example: " in done.stdout
    assert "--json" in done.stdout


def test_status_tells_people_and_programs_the_same(agent: RunningAgent) -> None:
    state = str(agent.paths.root)
    shown = skerry_agent("status", "--state", state)
    assert shown.returncode == 0
    assert "dev1" in shown.stdout
    assert "digits" in shown.stdout
    assert "not connected" in shown.stdout
    data = json.loads(skerry_agent("status", "--state", state, "--json").stdout)
    assert data["models"][0]["active_version"] == 1


def test_one_prediction_from_a_file(agent: RunningAgent, tmp_path: Path) -> None:
    data = load_digits()
    np.save(tmp_path / "digits.npy", data.test_x[:3])
    state = str(agent.paths.root)
    done = skerry_agent("infer", "digits", str(tmp_path / "digits.npy"), "--state", state, "--json")
    assert done.returncode == 0, done.stderr
    output = json.loads(done.stdout)["outputs"][0]
    assert output["shape"] == [3, 10]
    classes = np.asarray(output["data"]).reshape(3, 10).argmax(axis=1)
    assert classes.tolist() == data.test_y[:3].tolist()
    (tmp_path / "one.json").write_text(json.dumps(data.test_x[0].tolist()))
    people = skerry_agent("infer", "digits", str(tmp_path / "one.json"), "--state", state)
    assert people.returncode == 0
    assert people.stdout.splitlines()[0].startswith("sample")


def test_samples_of_the_wrong_shape_are_explained(agent: RunningAgent, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("[[1, 2], [3, 4]]")
    done = skerry_agent("infer", "digits", str(tmp_path / "bad.json"), "--state", str(agent.paths.root), "--json")
    assert done.returncode == 2
    assert json.loads(done.stderr)["error"]["code"] == "sample.shape"


def test_an_unknown_model_is_not_found(agent: RunningAgent, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("[1]")
    state = str(agent.paths.root)
    assert skerry_agent("infer", "nothing", str(tmp_path / "x.json"), "--state", state).returncode == 4
    assert skerry_agent("rollback", "nothing", "--state", state).returncode == 4


def test_history_of_a_device_that_installed_nothing_itself(agent: RunningAgent) -> None:
    done = skerry_agent("history", "--state", str(agent.paths.root))
    assert (done.returncode, done.stdout) == (0, "Nothing was installed yet.\n")


def test_without_a_running_agent_the_commands_say_so(tmp_path: Path) -> None:
    done = skerry_agent("status", "--state", str(tmp_path))
    assert done.returncode == 7
    assert "not running" in done.stderr
    assert "skerry-agent run" in done.stderr
    machine = skerry_agent("status", "--state", str(tmp_path), "--json")
    assert json.loads(machine.stderr)["error"]["code"] == "agent.not_running"


def test_enrol_and_run_from_a_join_string(tmp_path: Path) -> None:
    folder, state = tmp_path / "hub", tmp_path / "state"
    folder.mkdir()
    hub = TinyHub(folder)
    try:
        options = ["--profile", "x86-gateway", "--device-id", "kitchen", "--state", str(state), "--json"]
        done = skerry_agent("enrol", encode_join(hub.join()), *options)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["device_id"] == "kitchen"
        assert len(hub.requests[0].hardware_id) > 0
        again = skerry_agent("enrol", encode_join(hub.join()), *options)
        assert again.returncode == 5
    finally:
        hub.close()
    assert IdentityStore(AgentPaths(state).identity).load().device_id == "kitchen"


def test_run_becomes_the_lean_daemon(tmp_path: Path) -> None:
    paths = AgentPaths(tmp_path / "state")
    give_identity(paths)
    command = [sys.executable, "-m", "agent.main", "run", "--state", str(paths.root)]
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        RunningAgent(paths, process, tmp_path / "log").ask("/v2/health/live")
        line = Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\0")
        environ = Path(f"/proc/{process.pid}/environ").read_bytes()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert line[1:3] == [b"-m", b"agent"]
    assert b"MALLOC_ARENA_MAX=2" in environ


def test_a_service_can_be_printed_and_planned_without_root(tmp_path: Path) -> None:
    printed = skerry_agent("service", "print", "--state", str(tmp_path))
    assert printed.returncode == 0
    assert f"--state {tmp_path}" in printed.stdout
    planned = skerry_agent("service", "install", "--dry-run", "--user", "--state", str(tmp_path), "--json")
    assert json.loads(planned.stdout)["dry_run"] is True
    assert list(tmp_path.iterdir()) == []


def test_version_is_the_packages() -> None:
    assert skerry_agent("version").stdout.strip() == __version__
    assert json.loads(skerry_agent("version", "--json").stdout) == {"version": __version__}
