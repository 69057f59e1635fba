"""`skerry policies`: all policies in one file, to keep them with other configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from hub.cli.documents import document_text
from hub.cli.session import Session, command, new_group
from shared.errors import StorageFailure
from shared.limits import MAX_POLICIES_BYTES

__all__ = ["app"]

app = new_group("policies", "All policies (training, approved versions) as one file: written out, taken over.")


@command(app, "export", examples=["skerry policies export", "skerry policies export --out policies.json"])
def export_policies(
    session: Session,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write it there.")] = None,
) -> None:
    """Write all policies as one document, which `apply` takes again."""
    found = session.client.get("/v1/policies")
    text = json.dumps(found, indent=2, ensure_ascii=False)
    if out is None:
        session.out.result(found, text)
        return
    try:
        out.write_text(text + "\n")
    except OSError as error:
        raise StorageFailure("cli.file", f"Cannot write {out}: {error.strerror}.") from error
    counts = f"{len(found['train'])} of training, {len(found['deploy'])} of deployment"
    session.out.result({"file": str(out)}, f"{out} has the policies: {counts}.")


@command(app, "apply", examples=["skerry policies apply p.yaml --dry-run", "skerry policies apply p.yaml --prune"])
def apply_policies(
    session: Session,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The document as YAML or JSON.")],
    prune: Annotated[bool, typer.Option("--prune", help="Remove policies that it does not name.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Take a document over, whole or not at all; --prune asks before it removes something."""
    text = document_text(file, MAX_POLICIES_BYTES)
    if prune and not dry_run:
        planned = session.client.put_text("/v1/policies", text, prune=True, dry_run=True)["items"]
        gone = [f"{one['kind']} of {one['model']}" for one in planned if one["change"] == "removed"]
        if gone:
            session.confirm(f"Remove the policies {', '.join(gone)}?", yes=yes)
    done = session.client.put_text("/v1/policies", text, prune=prune, dry_run=dry_run)
    rows = [(one["kind"], one["model"], one["change"]) for one in done["items"]]
    session.out.rows(done["items"], ("policy", "model", "would be" if dry_run else "is"), rows, empty="It names none.")
