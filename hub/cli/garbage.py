"""`skerry gc`: remove bundles, data sets and deltas that nothing can still need."""

from __future__ import annotations

from typing import Annotated

import typer

from hub.cli.output import rows_table
from hub.cli.session import Session, command
from hub.cli.text import short_digest, size

__all__ = ["add_gc"]


def add_gc(root: typer.Typer) -> None:
    """Register `skerry gc` on the root."""

    @command(root, "gc", examples=["skerry gc", "skerry gc --remove"])
    def collect(
        session: Session,
        remove: Annotated[
            bool, typer.Option("--remove", help="Really remove; otherwise only say what would go.")
        ] = False,
    ) -> None:
        """Show or remove what no device, alias, release or rollback can still need."""
        found = session.client.post("/v1/gc", {"dry_run": not remove}, timeout_s=600)
        rows = [("bundle", short_digest(item["sha256"]), size(item["bytes"])) for item in found["bundles"]]
        rows += [("data set", short_digest(item["sha256"]), size(item["bytes"])) for item in found["datasets"]]
        rows += [("delta", short_digest(item["sha256"]), size(item["bytes"])) for item in found["deltas"]]
        said = f"{'Removed' if remove else 'Would remove'} {len(rows)} files, {size(found['bytes'])}."
        views: list[object] = [rows_table(["kind", "sha256", "size"], rows)] if rows else []
        session.out.result(found, *views, said)
