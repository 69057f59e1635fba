"""The live picture of a rollout on a terminal, and what a view makes of an answer."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from hub.cli.rollout_view import groups_table, summary_line
from hub.rollouts.counts import GroupCounts
from tests.cli.paper_fleet import PaperFleet
from tests.cli.rig import RunningHub, Skerry

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 60.0


# --- on a terminal ----------------------------------------------------------------------------------------------------
def _on_a_terminal(environ: dict[str, str], *words: str) -> tuple[int, str]:
    """Run the command line with a terminal as its standard output; exit code, and all that was drawn."""
    mine, its = pty.openpty()
    command = [sys.executable, "-c", "from hub.cli.main import main; main()", *words]
    try:
        process = subprocess.Popen(command, stdout=its, stderr=its, stdin=subprocess.DEVNULL, env=environ, cwd=ROOT)
    finally:
        os.close(its)
    drawn = b""
    try:
        while chunk := _read(mine):
            drawn += chunk
        return process.wait(DEADLINE_S), drawn.decode(errors="replace")
    finally:
        os.close(mine)
        process.kill()
        process.wait()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65_536)
    except OSError:  # the other side has gone
        return b""


@contextmanager
def _working(fleet: PaperFleet) -> Iterator[None]:
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            fleet.settle(1)

    worker = threading.Thread(target=work, name="fleet")
    worker.start()
    try:
        yield
    finally:
        stop.set()
        worker.join()


def test_a_terminal_shows_a_live_picture_and_keeps_the_last_one(
    running_hub: RunningHub, skerry: Skerry, tmp_path: Path
) -> None:
    fleet = PaperFleet(running_hub, skerry, tmp_path)
    fleet.release(1)
    fleet.enrol(3)
    words = ["--model", fleet.model, "--version", "1", "--filter", f"tag.site=={fleet.tag}", "--strategy", "canary"]
    quick = ["--steps", "40,100", "--bake", "0s", "--no-gates", "--min-sample", "1"]
    rollout = skerry.json("rollout", "create", *words, *quick)["rollout_id"]
    size = {"COLUMNS": "140", "LINES": "50", "TERM": "xterm-256color"}
    environ = {**os.environ, **skerry.environ, **size}
    with _working(fleet):
        code, drawn = _on_a_terminal(environ, "rollout", "watch", rollout, "--interval", "0.1", "--timeout", "60s")
    assert code == 0, drawn
    picture, _, last = drawn.rpartition("\x1b[?1049l")  # the screen of its own has ended here
    assert "\x1b[?1049h" in picture
    assert "Ctrl-C ends looking" in picture
    for word in ("█", "canary", "succeeded", rollout, "rollout keeping"):
        assert word in last, last


# --- what a view makes of an answer -----------------------------------------------------------------------------------
def group(name: str = "canary", status: str = "running", **counts: int) -> dict[str, Any]:
    numbers = {**msgspec.to_builtins(GroupCounts()), **counts}
    return {"group_no": 0, "name": name, "status": status, "percent_bp": 1000, "waits_for": None, "counts": numbers}


def drawn(*groups: dict[str, Any]) -> str:
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(groups_table(groups))
    return console.export_text()


@pytest.mark.parametrize("total", [1, 29, 30, 31, 100_000])
def test_a_bar_is_never_longer_than_its_place_and_shows_the_least_part(total: int) -> None:
    text = drawn(group(succeeded=total, failed=1, waiting=total))
    bar = "".join(char for char in text.splitlines()[2] if char in "█▒·")
    assert len(bar) <= 30
    assert f"{total} succeeded, 1 failed, {total} waiting" in " ".join(text.split())


def test_nobody_has_an_empty_bar() -> None:
    assert "nobody" in drawn(group())


def test_what_a_device_says_is_shown_and_never_obeyed() -> None:
    one = group(waiting=1)
    one["waits_for"] = {"code": "x", "message": "[red]\x1b[2Jgone[/red]", "numbers": {}}
    text = drawn(one)
    assert "\x1b" not in text
    assert "[red]" in text


def test_a_line_for_a_log_has_every_wave_that_began() -> None:
    answer: dict[str, Any] = {
        "status": "running",
        "waits_for": None,
        "groups": [
            group("canary", "passed", succeeded=2),
            group("wave-2", "running", succeeded=3, failed=1, assigned=4),
            group("wave-3", "waiting", waiting=90),
        ],
    }
    assert summary_line(answer) == (
        "running; canary passed: 2 of 2 (100.0 %), 2 succeeded;"
        " wave-2 running: 3 of 8 (37.5 %), 3 succeeded, 4 under way, 1 failed"
    )


# --- completion -------------------------------------------------------------------------------------------------------
def test_a_shell_completes_commands_options_and_strategies() -> None:
    for line, expected in (
        ("skerry rollout ro", "rollback"),
        ("skerry rollout create --strat", "--strategy"),
        ("skerry rollout create --strategy blue", "blue-green"),
        ("skerry groups up", "update"),
    ):
        words = line.split(" ")
        environ = {
            **os.environ,
            "_SKERRY_COMPLETE": "complete_bash",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(words) - 1),
        }
        done = subprocess.run(
            [sys.executable, "-c", "from hub.cli.main import app; app(prog_name='skerry')"],
            env=environ, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S, check=False,
        )  # fmt: skip
        assert expected in done.stdout, (line, done.stdout, done.stderr)
