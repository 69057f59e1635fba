"""`skerry profiles`: the firmware profiles that ship, and a check for a file of one's own. Needs no hub."""

from __future__ import annotations

import sys
from typing import Annotated

import msgspec
import typer

from hub.cli.output import fields_table
from hub.cli.session import Session, command, new_group
from hub.cli.text import size
from shared.profiles import Profile, load_profile, profile_names, profile_schema

__all__ = ["app"]

app = new_group("profiles", "Firmware profiles: what a class of device can do.")

NameOrFile = Annotated[str, typer.Argument(metavar="NAME|FILE", help="Name of a profile, or a YAML file.")]


@command(app, "list", examples=["skerry profiles list"], local=True)
def list_profiles(session: Session) -> None:
    """List the profiles that come with Skerry."""
    profiles = [load_profile(name) for name in profile_names()]
    columns = ["name", "title", "arch", "model memory", "storage", "link", "p99 budget", "training"]
    rows = [
        (
            item.name,
            item.title,
            item.arch,
            size(item.model_memory_bytes),
            size(item.storage_bytes),
            item.link.link_class,
            f"{item.latency_p99_ms:g} ms",
            "yes" if item.training.allowed else "no",
        )
        for item in profiles
    ]
    session.out.rows(profiles, columns, rows, empty="No profiles.")


@command(app, "show", examples=["skerry profiles show raspberry-pi-4", "skerry profiles show ./mine.yaml"], local=True)
def show_profile(session: Session, profile: NameOrFile) -> None:
    """Show one profile; a file is checked on the way."""
    loaded = load_profile(profile)
    session.out.result(loaded, lambda: fields_table(_flat(loaded)))


@command(app, "schema", examples=["skerry profiles schema > schema.json"], local=True)
def schema(session: Session) -> None:
    """Print the JSON Schema of a profile, for editors."""
    sys.stdout.write(profile_schema().decode())


def _flat(profile: Profile) -> list[tuple[str, object]]:
    out: list[tuple[str, object]] = []
    for name, value in msgspec.to_builtins(profile).items():
        if isinstance(value, dict):
            out += [(f"{name}.{key}", _text(key, inner)) for key, inner in value.items()]
        else:
            out.append((name, _text(name, value)))
    return out


def _text(name: str, value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {inner}" for key, inner in value.items())
    if name.endswith("_bytes") and isinstance(value, int):
        return size(value)
    return str(value)
