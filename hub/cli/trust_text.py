"""What the trust commands print about roles that are published or wait for signatures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hub.cli.output import rows_table
from hub.cli.session import Session
from hub.cli.text import ago

__all__ = ["said", "say_all", "staged_table"]

_NOT_SHOWN = ("bundle_sha256", "revokes", "together")


def said(answer: dict[str, Any]) -> str:
    """One sentence on what became of a proposal or a signature."""
    name = f"{answer['role']} version {answer['version']}"
    if answer["published"]:
        return f"{name} is published."
    missing = answer["missing"]
    if missing:
        how = f"`skerry trust sign {answer['role']} --key NAME.key`"
        model = answer["context"].get("model")
        if model is not None:
            verb = "revoke" if answer["context"].get("revokes") else "sign"
            how = f"`skerry versions {verb} {model} {answer['context']['version']} --key NAME.key`"
        return f"{name} waits for {missing} more signature{'s' if missing > 1 else ''}: {how}"
    return f"{name} has its signatures and waits for another change. {answer['waiting_for']}"


def say_all(session: Session, answers: Sequence[dict[str, Any]]) -> None:
    """Print the outcome of a change that touched one or more roles."""
    newest = {answer["role"]: answer for answer in answers}
    session.out.result({"outcomes": list(newest.values())}, *(said(answer) for answer in newest.values()))


def staged_table(session: Session, staged: Sequence[dict[str, Any]]) -> object:
    """A table of what waits for signatures."""
    rows = [
        (
            item["role"],
            item["version"],
            item["missing"],
            ", ".join(f"{key} {value}" for key, value in item["context"].items() if key not in _NOT_SHOWN),
            item["staged_by"],
            ago(item["staged_s"], session.now()),
        )
        for item in staged
    ]
    return rows_table(["role", "version", "missing", "about", "staged by", "staged"], rows, title="Waiting")
