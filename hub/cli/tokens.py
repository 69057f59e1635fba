"""`skerry tokens`: API tokens of people and programs."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from hub.cli.session import Session, command, new_group
from hub.cli.text import ago, when
from shared.errors import InvalidInput

__all__ = ["app"]

app = new_group("tokens", "API tokens of people and programs.")

RoleOption = Annotated[
    Literal["viewer", "data_scientist", "operator", "reviewer", "admin"], typer.Option("--role", help="What it may do.")
]


@command(
    app,
    "create",
    examples=[
        "skerry tokens create alice --role reviewer",
        "skerry tokens create ci --role data_scientist --model digits",
    ],
)
def create_token(
    session: Session,
    name: Annotated[str, typer.Argument(help="Whose it is; the audit log shows it.")],
    role: RoleOption,
    model: Annotated[list[str] | None, typer.Option("--model", help="Limit it to this model; may be repeated.")] = None,
    days: Annotated[int | None, typer.Option("--days", min=1, help="Valid for so many days.")] = None,
) -> None:
    """Make an API token. It is printed once and stored by the hub as a hash only."""
    wish = {"name": name, "role": role, "models": model or None, "days": days}
    answer = session.client.post("/v1/tokens", wish)
    session.out.note(f"Valid until {when(answer['details']['expires_s'])}. Keep it safe; it is not shown again.")
    session.out.result(answer, answer["token"])


@command(app, "list", examples=["skerry tokens list"])
def list_tokens(session: Session) -> None:
    """List API tokens, without their secrets."""
    items = list(session.client.pages("/v1/tokens"))
    now = session.now()
    rows = [
        (
            item["token_id"],
            item["name"],
            item["role"],
            "all" if item["models"] is None else ", ".join(sorted(item["models"])),
            "revoked" if item["revoked_s"] else "expired" if item["expires_s"] <= now else "active",
            ago(item["expires_s"], now),
            item["created_by"],
        )
        for item in items
    ]
    columns = ["token", "name", "role", "models", "status", "expires", "made by"]
    session.out.rows(items, columns, rows, empty="No tokens.")


@command(app, "revoke", examples=["skerry tokens revoke 5f0c2a9b3d4e1f60"])
def revoke_token(
    session: Session, token: Annotated[str, typer.Argument(metavar="TOKEN_ID", help="Id of the token.")]
) -> None:
    """Revoke an API token; it fails from the next request on."""
    if not token.isalnum():
        raise InvalidInput(
            "cli.token_id", f"{token!r:.80} is not the id of a token.", hint="`skerry tokens list` shows them."
        )
    row = session.client.delete(f"/v1/tokens/{token}")
    session.out.result(row, f"The token {token} is revoked.")
