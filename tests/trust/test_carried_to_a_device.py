"""From the hub's command line by a folder to a real device without network, and its word back to the hub later.

Also: the hub's assignment key changes while a device is in the middle of an installation.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from agent.identity.enrol import Wish, enrol
from agent.ota.worker import Worker
from agent.ota.worker_protocol import Check, Checked, Failed
from agent.paths import AgentPaths
from hub.store.schema import device_models
from shared.join import decode_join
from tests.daemon.device import launch
from tests.ota.device import QUICK
from tests.trust.desk import Desk, open_desk

PATIENCE_S = 60.0
SETTINGS = """\
telemetry_interval_s: 0.2
link: {retry_base_s: 0.05, retry_cap_s: 0.3, fallback_after_s: 0.2, fallback_interval_s: 0.2}
"""


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """Versions 1 and 2 are approved; devices watch an installation for no time."""
    with open_desk(tmp_path_factory.mktemp("desk")) as made:
        assert made.skerry("models", "update", "digits", "--probation", "0s").code == 0
        made.approve(1, "alice", "bob")
        made.register(2)
        made.approve(2, "alice", "bob")
        yield made


def enrolled(desk: Desk, folder: Path, device: str) -> AgentPaths:
    """A device of that name with an identity at the desk's hub."""
    made = desk.skerry.json("devices", "token", "--device", device)
    paths = AgentPaths(folder)
    enrol(paths, decode_join(made["join"]), Wish(profile="x86-gateway", device_id=device, hardware_id=device))
    paths.settings.write_text(SETTINGS)
    return paths


def skerry_agent(paths: AgentPaths, *words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "agent.main", *map(str, words), "--state", str(paths.root)]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S * 2, check=False, env=os.environ)


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.05)


def deploy(desk: Desk, version: int, device: str) -> None:
    said = desk.skerry("deploy", "digits", str(version), "--filter", f"id=={device}")
    assert said.code == 0, said.err


def test_a_device_without_network_installs_from_a_folder_and_tells_the_hub_later(desk: Desk, tmp_path: Path) -> None:
    paths = enrolled(desk, tmp_path / "state", "pi-1")
    enrolled(desk, tmp_path / "other", "pi-2")
    nothing = desk.skerry("trust", "export", tmp_path / "usb", "--device", "pi-1", "--json")
    assert nothing.error["code"] == "export.nothing_assigned"
    deploy(desk, 1, "pi-1")
    made = desk.skerry.json("trust", "export", tmp_path / "usb", "--device", "pi-1")
    assert [(item["device_id"], item["version"]) for item in made["assignments"]] == [("pi-1", 1)]
    assert sorted(path.parent.name for path in (tmp_path / "usb" / "targets").glob("*/*")) == ["digits", "skerry"]

    # nobody runs: the command installs by itself
    alone = skerry_agent(paths, "install", tmp_path / "usb", "--json")
    assert alone.returncode == 0, alone.stderr
    answer = json.loads(alone.stdout)
    assert [(model["state"], model["active_version"]) for model in answer["models"]] == [("committed", 1)]
    wrong = skerry_agent(AgentPaths(tmp_path / "other"), "install", tmp_path / "usb", "--json")
    assert json.loads(wrong.stderr)["error"]["code"] == "install.no_assignment"

    # the agent runs: it installs, and what was done before it started reaches the hub
    agent = launch(paths, settings={})
    try:
        until(lambda: agent.ask("/skerry/status")["models"][0]["active_version"] == 1)
        until(lambda: desk.skerry.json("devices", "show", "pi-1")["models"])
        assert desk.skerry.json("devices", "show", "pi-1")["models"][0]["state"] == "committed"
        made = desk.skerry.json("trust", "export", tmp_path / "usb", "--device", "pi-1")
        again = skerry_agent(paths, "install", tmp_path / "usb", "--json")
        assert again.returncode == 0, again.stderr
        assert json.loads(again.stdout)["offers"][0]["outcome"] == "known"
        bundle = next((tmp_path / "usb" / "targets" / "digits").iterdir())
        bundle.write_bytes(b"damaged" + bundle.read_bytes()[7:])
        deploy(desk, 2, "pi-1")
        until(lambda: agent.ask("/skerry/status")["models"][0]["active_version"] == 2)
        assert skerry_agent(paths, "install", tmp_path / "usb", "--json").returncode in (0, 6)
        assert agent.ask("/skerry/status")["models"][0]["active_version"] == 2
    finally:
        agent.stop()


def test_a_new_assignment_key_reaches_a_device_in_the_middle_of_an_installation(desk: Desk, tmp_path: Path) -> None:
    paths = enrolled(desk, tmp_path / "state", "pi-3")
    deploy(desk, 1, "pi-3")
    hub, worker = desk.hub.hub, Worker(paths, QUICK, io.BytesIO())
    (before,) = hub.desired.desired_state("pi-3").assignments
    taken = worker.answer(Check(envelope=before, floors={}))
    assert isinstance(taken, Checked)
    assert taken.refusal is None
    with hub.db.write() as connection:  # what its report would have written
        counter = taken.assignment.counter
        row = {"device_id": "pi-3", "model": "digits", "state": "downloading", "counter": counter, "updated_s": 0.0}
        connection.execute(insert(device_models).values(**row))
    said = desk.skerry("keys", "rotate", "assignment", *desk.sign_with("anna", "bert"))
    assert said.code == 0, said.err
    late = worker.answer(Check(envelope=before, floors={}))
    assert isinstance(late, Failed)
    assert late.error.code == "dsse.unknown_key", "after a restart the device would check, and refuse, the old envelope"
    (after,) = hub.desired.desired_state("pi-3").assignments
    fresh = worker.answer(Check(envelope=after, floors={"digits": {"": taken.assignment.counter}}))
    assert isinstance(fresh, Checked)
    assert fresh.refusal is None
    assert fresh.assignment.counter > taken.assignment.counter
    assert fresh.assignment.bundle_sha256 == taken.assignment.bundle_sha256
