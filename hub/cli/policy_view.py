"""Policies as people see them: the document itself, and what it would do now with every figure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from hub.cli.output import rows_table
from hub.cli.text import ago, plain

__all__ = ["ModelArgument", "YesOption", "checks_table", "figures", "policy_rows", "policy_text"]

ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="Name of the model.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def policy_text(policy: dict[str, Any]) -> str:
    """The document, which `set` takes again."""
    return plain(json.dumps(policy, indent=2, ensure_ascii=False))


def policy_rows(items: Sequence[dict[str, Any]], now: float) -> list[tuple[str, str, str]]:
    """Model, by whom, when."""
    return [(item["model"], item["changed_by"], ago(item["changed_s"], now)) for item in items]


def checks_table(found: dict[str, Any]) -> object:
    """Every condition and every veto of a dry run with its figures."""
    rows = []
    for number, clause in enumerate(found["clauses"]):
        for check in clause["checks"]:
            rows.append((f"when[{number}]", check["name"], "holds" if check["holds"] else "does not", check))
    rows += [("veto", veto["name"], "stands" if veto["holds"] else "does not", veto) for veto in found["vetoes"]]
    cells = [(where, name, holds, check["text"], figures(check["figures"])) for where, name, holds, check in rows]
    return rows_table(("where", "what", "holds", "why", "figures"), cells)


def figures(values: dict[str, Any]) -> str:
    """Figures in a line."""
    return ", ".join(f"{name} {json.dumps(value)}" for name, value in values.items())
