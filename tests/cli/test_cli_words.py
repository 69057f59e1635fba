"""What a person reads: plain values, harmless text, help with examples; and that it comes at once."""

from __future__ import annotations

import io
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.cli import devices, models, text
from hub.cli.main import EXTENSIONS, GROUPS
from hub.cli.output import Output
from shared.errors import InvalidInput, NotFound
from tests.cli.rig import Skerry

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("ai_edge_litert", "cryptography", "fastapi", "httpx", "numpy", "pydantic_core", "sqlalchemy", "tuf", "uvicorn")


def test_help_loads_nothing_heavy() -> None:
    code = f"import sys, hub.cli.main; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    loaded = set(done.stdout.strip().strip("[]").replace("'", "").split(", ")) - {""}
    assert loaded <= {"pydantic_core"}, "only typer itself may bring more"


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: str(group.app.info.name))
def test_every_command_has_help_examples_and_json(stranger: Skerry, group: object) -> None:
    app = group.app  # type: ignore[attr-defined]
    assert app.registered_commands
    for registered in app.registered_commands:
        said = stranger(app.info.name, registered.name, "--help")
        assert said.code == 0
        assert f"$ skerry {app.info.name} {registered.name}" in " ".join(said.out.split()), registered.name
        assert "--json" in said.out


def test_extensions_add_to_a_group() -> None:
    assert EXTENSIONS


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_printed(stranger: Skerry, shell: str) -> None:
    said = stranger("completion", shell)
    assert said.code == 0
    assert "_SKERRY_COMPLETE" in said.out


def test_profiles_need_no_hub(stranger: Skerry) -> None:
    assert "raspberry-pi-4" in stranger("profiles", "list").out
    assert stranger.json("profiles", "show", "camera-armv7")["link"]["class"] == "cellular"
    assert stranger.json("profiles", "schema")["title"] == "Skerry firmware profile"
    assert stranger("profiles", "show", "toaster").code == 4


@pytest.mark.parametrize(
    ("value", "words"),
    [(0, "0 s"), (59.9, "59 s"), (90, "1 min 30 s"), (7200, "2 h"), (90061, "1 d 1 h"), (-5, "0 s")],
)
def test_durations(value: float, words: str) -> None:
    assert text.duration(value) == words


@pytest.mark.parametrize(("words", "seconds"), [("90", 90), ("15m", 900), ("2h", 7200), ("7d", 604800), ("1w", 604800)])
def test_durations_are_read(words: str, seconds: int) -> None:
    assert text.parse_duration(words) == seconds


@pytest.mark.parametrize("words", ["", "soon", "-5", "1.5h", "5y", "5 m", "9999999999"])
def test_what_is_no_duration_is_refused(words: str) -> None:
    with pytest.raises(InvalidInput):
        text.parse_duration(words)


@pytest.mark.parametrize(
    ("count", "words"), [(None, "-"), (0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (200 * 1024**2, "200 MiB")]
)
def test_sizes(count: int | None, words: str) -> None:
    assert text.size(count) == words


def test_times() -> None:
    assert text.ago(None, 0) == "never"
    assert text.ago(10, 100) == "1 min 30 s ago"
    assert text.ago(100, 10) == "in 1 min 30 s"
    assert text.when(0) == "1970-01-01 00:00:00Z"


@given(st.text())
def test_no_text_reaches_the_terminal_with_control_characters(value: str) -> None:
    assert all(char.isprintable() or char == "\n" for char in text.plain(value))


def said(output: Output, *views: object) -> str:
    out = io.StringIO()
    with redirect_stdout(out):
        output.result({}, *views)
    return out.getvalue()


def test_markup_in_data_is_shown_and_not_obeyed() -> None:
    assert "[bold]x[/bold] \ufffd[31m" in said(Output(as_json=False), "[bold]x[/bold] \x1b[31m")
    out = io.StringIO()
    with redirect_stdout(out):
        Output(as_json=False).rows([1], ["name"], [["[red]pi[/red]\x1b]0;x\x07"]], empty="none")
    assert "[red]pi[/red]\ufffd]0;x\ufffd" in out.getvalue()


def test_notes_never_mix_with_results() -> None:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        Output(as_json=False).note("a note")
        Output(as_json=True).note("silent")
    assert (out.getvalue(), err.getvalue()) == ("", "a note\n")


def test_an_error_says_what_and_what_next() -> None:
    err = io.StringIO()
    with redirect_stderr(err):
        code = Output(as_json=False).error(NotFound("device.unknown", "There is no pi.", hint="List them."))
    assert code == 4
    assert err.getvalue() == "Error: There is no pi.\nList them.\n[device.unknown]\n"


@pytest.mark.parametrize(
    ("state", "target", "said"),
    [
        ("committed", 2, "digits v2"),
        ("rolled_back", 3, "digits v2 (gave up v3)"),
        ("rolled_back", 2, "digits v2 (rolled_back)"),
        ("probing", 3, "digits v2 (probing)"),
    ],
)
def test_what_serves_is_said_with_what_was_given_up(state: str, target: int, said: str) -> None:
    assert devices.model_words({"model": "digits", "version": 2, "state": state, "target_version": target}) == said


def test_a_gate_policy_reads_like_a_sentence() -> None:
    checks = [
        {"metric": "accuracy", "op": ">=", "value": 0.9, "relative_to": None, "tolerance": 0.0, "factor": 1.0},
        {"metric": "latency_p50_ms", "op": "<=", "relative_to": "production", "tolerance": 0.5, "factor": 1.5},
    ]
    assert models.policy_words({"checks": checks}) == (
        "accuracy >= 0.9; latency_p50_ms <= production x 1.5, tolerance 0.5"
    )
    assert models.policy_words({}) == "the hub's default"
