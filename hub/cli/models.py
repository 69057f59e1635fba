"""`skerry models`: models, their gate policy, and the aliases that name their versions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from hub.cli.output import fields_table, rows_table
from hub.cli.session import Session, command, new_group
from hub.cli.text import ago, duration, parse_duration, when
from shared import strict_yaml
from shared.errors import InvalidInput
from shared.ids import parse_alias, parse_model_name, parse_version
from shared.limits import MAX_SETTINGS_BYTES

__all__ = ["ModelArgument", "VersionArgument", "app", "policy_words", "read_policy"]

app = new_group("models", "Models: list, show, gate policy, aliases.")

ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="Name of the model.")]
VersionArgument = Annotated[int, typer.Argument(metavar="VERSION", min=1, help="Number of the version.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why; it stays in the history.")]


@command(app, "list", examples=["skerry models list"])
def list_models(session: Session) -> None:
    """List models."""
    items = list(session.client.pages("/v1/models"))
    now = session.now()
    rows = [(item["model"], item["description"], item["created_by"], ago(item["created_s"], now)) for item in items]
    empty = "No models yet. Make one with `skerry models create`."
    session.out.rows(items, ["model", "description", "made by", "made"], rows, empty=empty)


@command(app, "show", examples=["skerry models show digits"])
def show_model(session: Session, model: ModelArgument) -> None:
    """Show a model: its policy, its aliases, its newest versions."""
    path = f"/v1/models/{parse_model_name(model)}"
    item = session.client.get(path)
    aliases = _items(session.client.get(f"{path}/aliases"))
    versions = list(session.client.pages(f"{path}/versions", limit=10))
    names = {row["version"]: row["alias"] for row in aliases}
    fields = [
        ("model", item["model"]),
        ("description", item["description"]),
        ("made", f"{when(item['created_s'])} by {item['created_by']}"),
        ("probation", duration(item["bake_s"])),
        ("gate", policy_words(item["gate"])),
    ]
    rows = [
        (row["version"], row["status"], names.get(row["version"]), row["created_by"], when(row["created_s"]))
        for row in versions
    ]
    session.out.result(
        {**item, "aliases": aliases, "versions": versions},
        lambda: fields_table(fields),
        lambda: rows_table(["version", "status", "alias", "made by", "made"], rows, title="Newest versions"),
    )


@command(
    app,
    "update",
    examples=["skerry models update digits --gate gate.yaml", "skerry models update digits --probation 10m"],
)
def update_model(
    session: Session,
    model: ModelArgument,
    description: Annotated[str | None, typer.Option("--description", help="What it is for.")] = None,
    gate: Annotated[Path | None, typer.Option("--gate", help="Gate policy, YAML or JSON.")] = None,
    probation: Annotated[str | None, typer.Option("--probation", help="How long devices watch an install.")] = None,
) -> None:
    """Change a model. A new gate policy sends gated versions back to the gate."""
    changes: dict[str, Any] = {
        "description": description,
        "gate": None if gate is None else read_policy(gate),
        "bake_s": None if probation is None else parse_duration(probation),
    }
    given = {key: value for key, value in changes.items() if value is not None}
    if not given:
        raise InvalidInput(
            "cli.nothing", "There is nothing to change.", hint="Give --description, --gate or --probation."
        )
    item = session.client.patch(f"/v1/models/{parse_model_name(model)}", given)
    session.out.result(item, f"{model} is changed.")


@command(
    app,
    "alias",
    examples=[
        "skerry models alias digits canary 3 --reason 'first look'",
        "skerry models alias digits canary --remove",
    ],
)
def move_alias(
    session: Session,
    model: ModelArgument,
    alias: Annotated[str, typer.Argument(metavar="ALIAS", help="Like production or canary.")],
    version: Annotated[int | None, typer.Argument(metavar="[VERSION]", min=1, help="What it shall name.")] = None,
    reason: ReasonOption = "",
    remove: Annotated[bool, typer.Option("--remove", help="Take the alias away.")] = False,
) -> None:
    """Move an alias to a version, or take it away; without either, show where it has been."""
    path = f"/v1/models/{parse_model_name(model)}/aliases/{parse_alias(alias)}"
    if remove and version is not None:
        raise InvalidInput("cli.contradiction", "Give a version or --remove, not both.")
    if version is None and not remove:
        moves = list(session.client.pages(f"{path}/history"))
        now = session.now()
        rows = [(row["version"] or "removed", ago(row["at_s"], now), row["by"], row["reason"]) for row in moves]
        session.out.rows(moves, ["version", "moved", "by", "reason"], rows, empty=f"{alias} has never named a version.")
        return
    wanted = None if version is None else parse_version(version)
    answer = session.client.put(path, {"version": wanted, "reason": reason})
    said = f"{alias} is taken away from {model}." if wanted is None else f"{alias} of {model} is version {wanted} now."
    session.out.result(answer, said)


def read_policy(path: Path) -> Any:
    """A gate policy from a YAML or JSON file; the hub checks what it says."""
    return strict_yaml.load_file(path, limit=MAX_SETTINGS_BYTES)


def _items(answer: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = answer["items"] if isinstance(answer, dict) else answer
    return found


def policy_words(policy: dict[str, Any]) -> str:
    """A gate policy in one line."""
    if not policy:
        return "the hub's default"
    return "; ".join(_check_text(check) for check in policy.get("checks", []))


def _check_text(check: dict[str, Any]) -> str:
    demand = f"{check['metric']} {check['op']}"
    if check.get("relative_to") is None:
        return f"{demand} {check.get('value')}"
    factor = "" if check.get("factor", 1.0) == 1.0 else f" x {check['factor']}"
    tolerance = f", tolerance {check['tolerance']}" if check.get("tolerance") else ""
    return f"{demand} {check['relative_to']}{factor}{tolerance}"
