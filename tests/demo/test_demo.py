"""The demo, as a person runs it: the whole job on real data, and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def demo(folder: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "scripts.demo_app", "--dir", str(folder), *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


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
def test_the_whole_job_runs_on_real_data(tmp_path: Path) -> None:
    folder, facts_file = tmp_path / "demo", tmp_path / "facts.json"
    process = demo(folder, "--json", str(facts_file))
    said, _ = process.communicate(timeout=400)
    assert process.returncode == 0, said
    facts = json.loads(facts_file.read_text())
    assert len(facts["version_2"]) == 5
    assert all(row["accuracy"] > 0.9 for row in facts["version_2"].values())
    assert all(row["accuracy"] > 0.7 for row in facts["version_1"].values())
    assert set(facts["refused"].values()) == {"probe.golden_mismatch"}
    load = facts["requests_while_switching"]
    assert load["failures"] == 0
    assert load["answers"]["2"] > 0
    assert load["answers"]["3"] == 0
    assert facts["status"]["devices"]["online"] == 5
    assert "done in" in said
    assert left_behind(folder) == []


@pytest.mark.slow
def test_ctrl_c_ends_every_child(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    process = demo(folder)
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
    process = demo(tmp_path)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "not empty" in said
    assert [entry.name for entry in tmp_path.iterdir()] == ["mine.txt"]
