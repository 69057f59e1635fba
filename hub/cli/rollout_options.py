"""A rollout's definition from the command line: a file as it is, or options put into the same form.

Nothing is interpreted here but what options must say together; the hub reads both in one way and names the field that
is wrong.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from hub.cli.deploy import version_number
from hub.cli.documents import document_text
from hub.cli.session import Session
from shared.errors import InvalidInput
from shared.ids import parse_device_id, parse_group_name, parse_model_name
from shared.limits import MAX_ROLLOUT_BYTES

__all__ = ["FileArgument", "RolloutOptions", "definition_text"]

FileArgument = Annotated[
    Path | None, typer.Argument(metavar="FILE", help="The rollout as YAML or JSON; or say it with options.")
]
_WHAT, _HOW, _WHEN = "What and where", "How", "When"


def _option(panel: str, *names: str, help: str, metavar: str | None = None) -> Any:
    return typer.Option(*names, help=help, metavar=metavar, rich_help_panel=panel)


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutOptions:
    """A rollout in options, for what needs no file."""

    model: Annotated[str | None, _option(_WHAT, "--model", "-m", help="Name of the model.")] = None
    version: Annotated[str | None, _option(_WHAT, "--version", help="A number, or an alias.")] = None
    filter: Annotated[
        str | None, _option(_WHAT, "--filter", "-f", metavar="RSQL", help="To whom, like tag.site==north.")
    ] = None
    group: Annotated[str | None, _option(_WHAT, "--group", help="To a saved group; it may grow.")] = None
    device: Annotated[list[str] | None, _option(_WHAT, "--device", help="To this device; may be repeated.")] = None
    everything: Annotated[bool, _option(_WHAT, "--all", help="To every active device.")] = False
    note: Annotated[str | None, _option(_WHAT, "--note", help="What it is for.")] = None
    strategy: Annotated[
        Literal["canary", "linear", "exponential", "all-at-once", "blue-green", "shadow"] | None,
        _option(_HOW, "--strategy", "-s", help="How it spreads."),
    ] = None
    steps: Annotated[
        str | None, _option(_HOW, "--steps", metavar="PERCENT,…", help="Waves of a canary, like 1,10,50,100.")
    ] = None
    success_percent: Annotated[
        str | None, _option(_HOW, "--success-percent", help="A wave passes when so many of its devices succeeded.")
    ] = None
    error_percent: Annotated[
        str | None, _option(_HOW, "--error-percent", help="A wave fails when more of its devices failed.")
    ] = None
    min_sample: Annotated[int | None, _option(_HOW, "--min-sample", help="But not before so many ended.")] = None
    observe: Annotated[str | None, _option(_HOW, "--observe", help="Silence that counts as lost, like 12h.")] = None
    bake: Annotated[str | None, _option(_HOW, "--bake", help="Wait so long after each wave, like 2h.")] = None
    approve: Annotated[bool, _option(_HOW, "--approve-each", help="A person lets each next wave begin.")] = False
    on_failure: Annotated[
        Literal["pause", "abort", "roll_back"] | None, _option(_HOW, "--on-failure", help="What a failed wave does.")
    ] = None
    no_gates: Annotated[
        bool, _option(_HOW, "--no-gates", help="Do not judge what devices report after the install.")
    ] = False
    per_minute: Annotated[int | None, _option(_HOW, "--per-minute", help="At most so many devices a minute.")] = None
    max_downloads: Annotated[
        int | None, _option(_HOW, "--max-downloads", help="Assign no more while so many download.")
    ] = None
    priority: Annotated[int | None, _option(_HOW, "--priority", help="Who goes first per device; default 0.")] = None
    window: Annotated[
        str | None, _option(_WHEN, "--window", metavar="CRON", help="When devices may switch, like '0 2 * * *'.")
    ] = None
    window_length: Annotated[str | None, _option(_WHEN, "--window-length", help="For how long, like 3h.")] = None
    timezone: Annotated[
        str | None, _option(_WHEN, "--timezone", help="Whose clock: a zone like Europe/Paris, or device.")
    ] = None
    start_at: Annotated[str | None, _option(_WHEN, "--start-at", help="Like 2027-03-01T02:00:00+01:00.")] = None
    end_at: Annotated[str | None, _option(_WHEN, "--end-at", help="Nothing new after that.")] = None


def definition_text(session: Session, file: Path | None, options: RolloutOptions) -> str:
    """The definition to send; errors `cli.file`, `cli.rollout`, `cli.target`, `cli.window`, `id.*`."""
    if file is None:
        return json.dumps(_definition(session, options))
    if options != RolloutOptions():
        raise InvalidInput("cli.rollout", "Give a file or options, not both.", hint="Write it into the file.")
    return document_text(file, MAX_ROLLOUT_BYTES)


def _definition(session: Session, options: RolloutOptions) -> dict[str, Any]:
    if options.model is None or options.version is None or options.strategy is None:
        raise InvalidInput(
            "cli.rollout",
            "A rollout needs at least --model, --version and --strategy, and to whom.",
            hint="Or give a file; docs/rollouts.md explains its fields.",
        )
    each = {
        "success_percent": options.success_percent,
        "error_percent": options.error_percent,
        "min_sample": options.min_sample,
        "observe_s": options.observe,
        "bake_s": options.bake,
        "approve": True if options.approve else None,
    }
    fields = {
        "model": parse_model_name(options.model),
        "version": version_number(session, options.model, options.version),
        "targets": _targets(options),
        "strategy": _strategy(options),
        "each_group": _given(each) or None,
        "gates": [] if options.no_gates else None,
        "on_failure": options.on_failure,
        "rate": None if options.per_minute is None else {"per_minute": options.per_minute},
        "max_concurrent_downloads": options.max_downloads,
        "window": _window(options),
        "start_at": options.start_at,
        "end_at": options.end_at,
        "priority": options.priority,
        "note": options.note,
    }
    return _given(fields)


def _given(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _targets(options: RolloutOptions) -> dict[str, Any]:
    found = _given(
        {
            "filter": "all" if options.everything else options.filter,
            "group": None if options.group is None else parse_group_name(options.group),
            "devices": [parse_device_id(name) for name in options.device] if options.device else None,
        }
    )
    if len(found) != 1 or (options.everything and options.filter is not None):
        raise InvalidInput("cli.target", "Say to whom.", hint="Give one of --filter, --group, --device and --all.")
    return found


def _strategy(options: RolloutOptions) -> dict[str, Any]:
    steps = None if options.steps is None else [part.strip() for part in options.steps.split(",")]
    return _given({"name": options.strategy, "steps": steps})


def _window(options: RolloutOptions) -> dict[str, Any] | None:
    parts = (options.window, options.window_length, options.timezone)
    if all(part is None for part in parts):
        return None
    if any(part is None for part in parts):
        raise InvalidInput("cli.window", "A window needs --window, --window-length and --timezone.")
    return {"cron": options.window, "duration_s": options.window_length, "timezone": options.timezone}
