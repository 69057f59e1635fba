"""`skerry rollout policy`: what becomes of a model's versions once they are approved: nothing, or a rollout."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from hub.cli.devices import LimitOption
from hub.cli.documents import document_text
from hub.cli.policy_view import ModelArgument, YesOption, policy_rows, policy_text
from hub.cli.rollout import app as rollout_app
from hub.cli.session import Session, command, new_group
from hub.cli.text import ago, short_digest
from shared.ids import parse_model_name
from shared.limits import MAX_POLICIES_BYTES

__all__ = ["app"]

app = new_group("policy", "What becomes of approved versions by itself: nothing, or a rollout by a template.")
rollout_app.add_typer(app)

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The policy as YAML or JSON.")]
_PATH = "/v1/deploy-policies"


def _path(model: str) -> str:
    return f"{_PATH}/{parse_model_name(model)}"


@command(app, "set", examples=["skerry rollout policy set digits deploy.yaml"])
def set_policy(session: Session, model: ModelArgument, file: FileArgument) -> None:
    """Make or change the policy of a model. It is not about versions that were approved before."""
    made = session.client.put_text(_path(model), document_text(file, MAX_POLICIES_BYTES))
    action = made["policy"].get("action", "nothing")
    said = "are rolled out by themselves" if action == "rollout" else "are not rolled out by themselves"
    session.out.result(made, f"Versions of {model} that are approved from now on {said}.")


@command(app, "show", examples=["skerry rollout policy show digits"])
def show_policy(session: Session, model: ModelArgument, limit: LimitOption = 10) -> None:
    """Show the policy of a model, and what became of its versions."""
    found = session.client.get(_path(model))
    items = list(session.client.pages(f"{_path(model)}/decisions", limit=limit))
    now = session.now()
    lines = [
        f"version {item['version']}, {ago(item['at_s'], now)}: {item['state']} {item['rollout_id']}".rstrip()
        + f" ({item['reason']}; approved by {_names(item['evidence'].get('approvers', []))})"
        for item in items
    ]
    session.out.result({**found, "decisions": items}, policy_text(found["policy"]), *lines)


@command(app, "list", examples=["skerry rollout policy list"])
def list_policies(session: Session) -> None:
    """List the models that have a policy."""
    items = session.client.get(_PATH)["items"]
    columns = ("model", "changed by", "when")
    session.out.rows(items, columns, policy_rows(items, session.now()), empty="No model has a policy.")


@command(app, "remove", examples=["skerry rollout policy remove digits --yes"])
def remove_policy(session: Session, model: ModelArgument, yes: YesOption = False) -> None:
    """Take the policy of a model away; rollouts that it made go on."""
    session.confirm(f"Take the policy for approved versions of {model} away?", yes=yes)
    session.client.delete(_path(model))
    session.out.result({"model": model, "removed": True}, f"Approved versions of {model} wait for people again.")


@command(app, "test", examples=["skerry rollout policy test digits", "skerry rollout policy test digits --version 4"])
def try_policy(
    session: Session,
    model: ModelArgument,
    version: Annotated[int | None, typer.Option("--version", min=1, help="Default: the newest.")] = None,
) -> None:
    """Say what would become of a version now, why, and who approved it. Nothing happens."""
    found = session.client.get(f"{_path(model)}/test", version=version)
    session.out.result(
        found,
        found["reason"][:1].upper() + found["reason"][1:] + ".",
        f"Approved by {_names(found['approvers'])}. Devices serve version {found['served'] or 'none'}.",
    )


def _names(approvers: list[dict[str, Any]]) -> str:
    return ", ".join(f"{one['actor']} (key {short_digest(one['key_id'])})" for one in approvers) or "nobody"
