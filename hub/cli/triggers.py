"""`skerry federated triggers`: when a model is trained by itself, what would happen now, and what has happened."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hub.cli.devices import LimitOption
from hub.cli.documents import document_text
from hub.cli.federated import app as federated_app
from hub.cli.policy_view import ModelArgument, YesOption, checks_table, policy_rows, policy_text
from hub.cli.session import Session, command, new_group
from hub.cli.text import ago
from shared.ids import parse_model_name
from shared.limits import MAX_POLICIES_BYTES

__all__ = ["app"]

app = new_group("triggers", "Triggers: train a model by itself for a reason, with vetoes, a cooldown and a budget.")
federated_app.add_typer(app)

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The policy as YAML or JSON.")]
_PATH = "/v1/federated/triggers"


def _path(model: str) -> str:
    return f"{_PATH}/{parse_model_name(model)}"


@command(app, "set", examples=["skerry federated triggers set digits triggers.yaml"])
def set_triggers(session: Session, model: ModelArgument, file: FileArgument) -> None:
    """Make or change the policy of a model. What has fired before stays used up."""
    made = session.client.put_text(_path(model), document_text(file, MAX_POLICIES_BYTES))
    session.out.result(made, f"{model} is trained by this policy from now on; `triggers test` says what it would do.")


@command(app, "show", examples=["skerry federated triggers show digits"])
def show_triggers(session: Session, model: ModelArgument) -> None:
    """Show the policy of a model."""
    found = session.client.get(_path(model))
    session.out.result(found, policy_text(found["policy"]))


@command(app, "list", examples=["skerry federated triggers list"])
def list_triggers(session: Session) -> None:
    """List the models that have a policy."""
    items = session.client.get(_PATH)["items"]
    columns = ("model", "changed by", "when")
    session.out.rows(items, columns, policy_rows(items, session.now()), empty="No model is trained by itself.")


@command(app, "remove", examples=["skerry federated triggers remove digits --yes"])
def remove_triggers(session: Session, model: ModelArgument, yes: YesOption = False) -> None:
    """Take the policy of a model away; runs that go on are not touched."""
    session.confirm(f"Take the training policy of {model} away?", yes=yes)
    session.client.delete(_path(model))
    session.out.result({"model": model, "removed": True}, f"{model} is not trained by itself any more.")


@command(
    app,
    "test",
    examples=["skerry federated triggers test digits", "skerry federated triggers test digits draft.yaml"],
)
def try_triggers(
    session: Session,
    model: ModelArgument,
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="A draft instead of the policy.")] = None,
) -> None:
    """Say whether the policy would fire now, and why, with every condition and veto. Nothing happens."""
    draft = "" if file is None else document_text(file, MAX_POLICIES_BYTES)
    found = session.client.post_text(f"{_path(model)}/test", draft)
    views: list[object] = [found["reason"][:1].upper() + found["reason"][1:] + "."]
    if found["code"]:
        views.append(f"The run could not be made: {found['message']} [{found['code']}]")
    session.out.result(found, *views, checks_table(found))


@command(app, "fired", examples=["skerry federated triggers fired", "skerry federated triggers fired --model digits"])
def list_fired(
    session: Session,
    model: Annotated[str | None, typer.Option("--model", "-m", metavar="MODEL", help="Only of this model.")] = None,
    limit: LimitOption = 20,
) -> None:
    """List what has fired, newest first, with the reason and the run."""
    chosen = None if model is None else parse_model_name(model)
    items = list(session.client.pages("/v1/federated/triggers-fired", limit=limit, model=chosen))
    now = session.now()
    rows = [
        (f"t-{item['firing_id']}", item["model"], item["state"], item["run_id"], item["reason"], item["code"],
         ago(item["at_s"], now))
        for item in items
    ]  # fmt: skip
    columns = ("firing", "model", "state", "run", "because", "code", "when")
    session.out.rows(items, columns, rows, empty="Nothing has fired.")
