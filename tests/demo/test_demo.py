"""The demo, as a person runs it: the whole job on real data, and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A new folder with a short name: the devices' sockets are in it, and a socket's path may have 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="sk-") as made:
        yield Path(made) / "demo"


@contextmanager
def demo(folder: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """The demo's process, which does not outlive the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "scripts.demo_app", "--dir", str(folder), *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)  # it ends its children


def left_behind(folder: Path) -> list[str]:
    """Command lines of running processes that name the demo's folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                words = (entry / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
            except OSError:
                continue  # it has just ended
            if str(folder) in words:
                found.append(words)
    return found


@pytest.mark.slow
def test_the_whole_job_runs_on_real_data(folder: Path, tmp_path: Path) -> None:
    facts_file = tmp_path / "facts.json"
    with demo(folder, "--json", str(facts_file)) as process:
        said, _ = process.communicate(timeout=900)
    assert process.returncode == 0, said
    facts = json.loads(facts_file.read_text())
    assert len(facts["version_2"]) == 5
    assert all(row["accuracy"] > 0.9 for row in facts["version_2"].values())
    assert all(row["accuracy"] > 0.7 for row in facts["version_1"].values())
    assert facts["rollout_2"] == {"status": "keeping", "devices": {"succeeded": 5}}
    assert facts["rollout_3"] == {"status": "rolled_back", "devices": {"rolled_back": 1, "waiting": 4}}
    assert facts["refused"] == {"device-1": "probe.golden_mismatch"}
    load = facts["requests_while_switching"]
    assert load["failures"] == 0
    assert load["answers"]["2"] > 0
    assert load["answers"]["3"] == 0
    lens = facts["dirty_lens"]
    assert set(lens["causes"]) == {"device-3", "device-4"}
    assert all(set(causes) >= {"blur", "brighter"} for causes in lens["causes"].values())
    learnt = facts["federated"]
    assert all(learnt["after"][name] - learnt["before"][name] > 0.2 for name in ("device-3", "device-4"))
    assert all(learnt["before"][name] - learnt["after"][name] < 0.06 for name in ("device-1", "device-2", "device-5"))
    assert facts["status"]["devices"]["online"] == 5
    assert "done in" in said
    assert left_behind(folder) == []


@pytest.mark.slow
def test_ctrl_c_ends_every_child(folder: Path) -> None:
    with demo(folder) as process:
        end = time.monotonic() + 120
        while not (folder / "device-5" / "run" / "agent.sock").exists():
            assert process.poll() is None, process.stdout.read() if process.stdout else ""
            assert time.monotonic() < end, "the agents did not start"
            time.sleep(0.1)
        assert len(left_behind(folder)) > 6
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert left_behind(folder) == []


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with demo(tmp_path) as process:
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "not empty" in said
    assert [entry.name for entry in tmp_path.iterdir()] == ["mine.txt"]
