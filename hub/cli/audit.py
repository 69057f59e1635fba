"""`skerry audit`: who changed what, and whether the account of it is whole."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from hub.cli.output import fields_table
from hub.cli.session import Session, command, new_group
from hub.cli.text import parse_duration, when
from shared.errors import InvalidInput, Untrusted
from shared.ids import parse_sha256

__all__ = ["app"]

app = new_group("audit", "The audit log: who changed what.")


@command(
    app,
    "list",
    examples=["skerry audit list --since 2h", "skerry audit list --action deployment.create --actor alice --json"],
)
def list_entries(
    session: Session,
    actor: Annotated[str | None, typer.Option("--actor", help="Only what this person or device did.")] = None,
    action: Annotated[str | None, typer.Option("--action", help="Only this action, like token.create.")] = None,
    subject: Annotated[str | None, typer.Option("--subject", help="Only what happened to this.")] = None,
    since: Annotated[str | None, typer.Option("--since", help="Only the last so long, like 2h or 7d.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many.")] = 50,
) -> None:
    """List changes, newest first."""
    since_s = None if since is None else session.now() - parse_duration(since)
    items = list(
        session.client.pages("/v1/audit", limit=limit, actor=actor, action=action, subject=subject, since_s=since_s)
    )
    rows = [
        (item["seq"], when(item["at_s"]), item["actor"], item["action"], item["subject"], json.dumps(item["detail"]))
        for item in items
    ]
    session.out.rows(items, ["#", "when", "who", "action", "subject", "detail"], rows, empty="No entry matches.")


@command(app, "verify", examples=["skerry audit verify", "skerry audit verify --seq 120 --hash 9f86d0…"])
def verify(
    session: Session,
    seq: Annotated[int | None, typer.Option("--seq", min=1, help="Number of an entry that you noted earlier.")] = None,
    hash: Annotated[str | None, typer.Option("--hash", help="Its hash.")] = None,
) -> None:
    """Check the whole hash chain. Note the head somewhere else: with it, a later check sees entries cut off too."""
    if (seq is None) != (hash is None):
        raise InvalidInput("audit.head", "Give both --seq and --hash of the entry that you noted, or neither.")
    verdict = session.client.get("/v1/audit/verify", seq=seq, hash=None if hash is None else parse_sha256(hash))
    fields = [
        ("result", "ok" if verdict["intact"] else "failed"),
        ("entries", verdict["entries"]),
        ("head", f"--seq {verdict['head_seq']} --hash {verdict['head_hash']}"),
        ("problem", verdict["problem"]),
    ]
    session.out.result(verdict, lambda: fields_table(fields))
    if not verdict["intact"]:
        raise Untrusted(
            "audit.broken",
            f"The audit log does not hold at entry {verdict['broken_seq']}: {verdict['problem']}.",
            hint="Keep the database as evidence, and compare it with a backup.",
        )
