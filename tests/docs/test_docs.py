"""The documents say what the code does: settings, states, codes, commands and links are held against the source."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
import typer
from typer.main import get_command

import agent.main
import hub.cli.main
import hub.main
from agent.ota.machine import State
from agent.settings import AgentSettings
from hub.access.permissions import PERMISSIONS, Permission, Role
from hub.gates.policy import METRICS
from hub.settings import HubSettings
from shared.bundle.manifest import Manifest
from shared.errors import EXIT_CODES
from shared.preprocess import OPERATIONS
from shared.settings import setting_names

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
GUIDES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
ALL = [*GUIDES, *sorted((DOCS / "decisions").glob("*.md"))]
APPS: dict[str, typer.Typer] = {
    "skerry": hub.cli.main.app,
    "skerry-hub": hub.main.app,
    "skerry-agent": agent.main.app,
}
FILES = (
    "conf",
    "db",
    "err",
    "json",
    "key",
    "log",
    "md",
    "npy",
    "npz",
    "py",
    "service",
    "sock",
    "tflite",
    "token",
    "yaml",
)
CODE = re.compile(r"`([a-z]+\.[a-z_]+)`")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
ROW = re.compile(r"^\| `([a-z_.]+)` \| (\S[^|]*?) \|", re.MULTILINE)


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _text(name: str) -> str:
    return (DOCS / name).read_text()


def _default(kind: Any, dotted: str) -> str:
    """The default of a setting as the tables write it."""
    first, _, rest = dotted.partition(".")
    value = next(field.default for field in msgspec.structs.fields(kind) if field.name == first)
    if rest:
        return _default(type(value), rest)
    if value is msgspec.NODEFAULT:
        return "required"
    words = {None: "none", "": "empty"}
    return words[value] if value in words else f"{value:g}" if isinstance(value, float) else str(value)


@pytest.mark.parametrize("kind", [HubSettings, AgentSettings])
def test_every_setting_is_in_the_tables_with_its_default(kind: Any) -> None:
    rows = dict(ROW.findall(_text("operations.md")))
    assert {name: rows.get(name) for name in setting_names(kind)} == {
        name: _default(kind, name) for name in setting_names(kind)
    }


def test_the_tables_name_no_setting_that_does_not_exist() -> None:
    known = {*setting_names(HubSettings), *setting_names(AgentSettings)}
    shown = {name for name, default in ROW.findall(_text("operations.md")) if re.match(r"[0-9.]+$|none|empty", default)}
    assert shown <= known


@pytest.mark.parametrize("state", State)
def test_every_install_state_has_its_row(state: State) -> None:
    assert f"\n| `{state}` |" in _text("install.md")


def test_the_table_of_roles_is_the_one_in_the_code() -> None:
    head = [role.value for role in Role]
    rows = _text("trust.md").split("| permission |")[1].split("\n\n")[0].splitlines()
    assert [cell.strip() for cell in rows[0].strip("|").split("|") if cell.strip()] == head
    seen: dict[str, set[str]] = {}
    for row in rows[2:]:
        first, *cells = row.strip("|").split("|")
        held = {role for role, cell in zip(head, cells, strict=True) if cell.strip() == "x"}
        seen.update(dict.fromkeys(SPAN.findall(first), held))
    assert seen == {
        permission.value: {role.value for role in Role if permission in PERMISSIONS[role]} for permission in Permission
    }


def test_metrics_operations_and_manifest_fields_are_all_there() -> None:
    rows = _text("bundles.md")
    for name in (*METRICS, *OPERATIONS):
        assert f"\n| `{name}` |" in rows, name
    for field in Manifest.__struct_fields__:
        assert f"`{field}`" in rows, field


def test_exit_codes_in_the_readme_are_those_of_the_code() -> None:
    said = (ROOT / "README.md").read_text().split("exit codes that mean something:")[1]
    assert {int(code) for code in re.findall(r"\b(\d)\b", said.split("130")[0])} == {0, *EXIT_CODES.values()}


# --- codes ----------------------------------------------------------------------------------------------------------
@cache
def _source() -> str:
    folders = ("agent", "hub", "scripts", "shared")
    return "\n".join(path.read_text() for folder in folders for path in sorted((ROOT / folder).rglob("*.py")))


def _is_in_source(code: str) -> bool:
    family, _, name = code.partition(".")
    put_together = f'f"{family}.{{' in _source() and f'"{name}"' in _source()
    return f'"{code}"' in _source() or put_together


@pytest.mark.parametrize("path", GUIDES, ids=_name)
def test_every_code_that_is_named_exists(path: Path) -> None:
    settings = {*setting_names(HubSettings), *setting_names(AgentSettings)}
    named = {code for code in CODE.findall(path.read_text()) if code.rpartition(".")[2] not in FILES} - settings
    assert not sorted(code for code in named if not _is_in_source(code))


# --- commands -------------------------------------------------------------------------------------------------------
def _command_lines(text: str) -> Iterator[list[str]]:
    """Every command of ours in the fenced shell blocks, as words, without what a shell would take away."""
    for language, body in FENCE.findall(text):
        if language != "sh":
            continue
        for line in body.replace("\\\n", " ").splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            words = words[1:] if words[:1] == ["sudo"] else words
            if words and words[0] in APPS:
                yield words[: next((at for at, word in enumerate(words) if word in (">", "|", "&&")), len(words))]


def _spans(text: str) -> Iterator[list[str]]:
    """Every command of ours that stands within a sentence; it may be cut short."""
    for span in SPAN.findall(FENCE.sub("", text)):
        words = span.split()
        if words[0] in APPS:
            yield words


def _find(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that the words name, and its arguments."""
    command: Any = get_command(APPS[words[0]])
    rest = words[1:]
    while hasattr(command, "commands") and rest and not rest[0].startswith(("-", "…")):
        assert rest[0] in command.commands, f"there is no command {' '.join(words)}"
        command, rest = command.commands[rest[0]], rest[1:]
    return command, rest


@pytest.mark.parametrize("path", GUIDES, ids=_name)
def test_every_command_line_is_one_that_works(path: Path) -> None:
    for words in _command_lines(path.read_text()):
        command, rest = _find(words)
        assert not hasattr(command, "commands"), f"{' '.join(words)} names a group only"
        command.make_context(words[0], list(rest))  # raises for unknown options and for what is missing


@pytest.mark.parametrize("path", GUIDES, ids=_name)
def test_commands_within_sentences_exist_with_their_options(path: Path) -> None:
    for words in _spans(path.read_text()):
        command, rest = _find(words)
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        given = {word.partition("=")[0] for word in rest if re.match(r"--?[a-z]", word)}
        assert given <= known | {"--help"}, f"{' '.join(words)}: {sorted(given - known)}"


# --- links ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("path", ALL, ids=_name)
def test_relative_links_lead_somewhere(path: Path) -> None:
    targets = [link.partition("#")[0] for link in LINK.findall(path.read_text()) if not link.startswith("https://")]
    assert not [target for target in targets if target and not (path.parent / target).exists()]
