"""`skerry versions sign`: approve a version by signing it, after seeing exactly what that means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from hub.cli.models import ModelArgument, VersionArgument
from hub.cli.output import fields_table, rows_table
from hub.cli.session import Session, command
from hub.cli.signing_options import KeyOption, PassphraseFiles, YesOption
from hub.cli.text import size, when
from hub.cli.versions import app

if TYPE_CHECKING:
    from hub.cli.approval import Review

__all__: list[str] = []

_CARD_LINES = 12


@command(
    app,
    "sign",
    examples=[
        "skerry versions sign digits 2 --key alice.key",
        "skerry versions sign digits 2 --key alice.key --check-bundle",
    ],
)
def sign(
    session: Session,
    model: ModelArgument,
    version: VersionArgument,
    key: KeyOption,
    check_bundle: Annotated[
        bool, typer.Option("--check-bundle", help="Download the bundle, check it, and read the card from it.")
    ] = False,
    passphrase_file: PassphraseFiles = None,
    yes: YesOption = False,
) -> None:
    """Approve a version with your key. The last signature that is needed publishes it.

    What would be signed is checked on this machine: the published release, and this one bundle more, nothing else.
    """
    from hub.cli.approval import approve, review
    from hub.cli.trust_text import say_all

    found = review(session, model, version, key, check_bundle=check_bundle)
    _show(session, found)
    session.confirm(f"Approve version {version} of {model}?", yes=yes)
    say_all(session, [approve(session, found, key, passphrase_file)])


def _show(session: Session, found: Review) -> None:
    """Everything that a reviewer should have seen. On standard error, so that results stay alone on the other one."""
    if session.out.as_json:
        return
    facts: list[tuple[str, object]] = [
        ("approve", f"{found.model} version {found.version}"),
        ("sha256", found.bundle_sha256),
        ("size", size(found.bundle_bytes)),
        ("bundle", "downloaded and checked" if found.checked else "not downloaded (--check-bundle does)"),
        ("until", when(found.expires_s)),
        ("signatures", f"{found.signed} of {found.threshold} so far"),
        ("gate", _gate(found.gate)),
    ]
    session.out.shown(fields_table(facts))
    if found.card:
        lines = found.card.strip().splitlines()
        more = (
            f"\n… {len(lines) - _CARD_LINES} more lines: `skerry versions show --card`"
            if len(lines) > _CARD_LINES
            else ""
        )
        session.out.shown("\n".join(lines[:_CARD_LINES]) + more + "\n")
    if found.comparison is not None:
        _show_comparison(session, found.comparison, found.baseline)
    else:
        session.out.shown("There is no other version to compare it with.")


def _gate(result: dict[str, Any] | None) -> str:
    if result is None:
        return "never run"
    metrics = ", ".join(f"{name} {value:.4g}" for name, value in result["metrics"].items() if _is_number(value))
    said = "passed" if result["passed"] else "FAILED"
    return f"{said} on {result['dataset_name'] or result['dataset_sha256'][:12]}: {metrics}"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _show_comparison(session: Session, found: dict[str, Any], baseline: str) -> None:
    a, b = found["a"]["version"], found["b"]["version"]
    rows = [(row["field"], row["a"], row["b"]) for key in ("metrics", "lineage", "manifest") for row in found[key]] + [
        (row["path"], size(row["a_bytes"]), size(row["b_bytes"])) for row in found["files"]
    ]
    columns = ["what differs", f"version {a} ({baseline})", f"version {b}"]
    session.out.shown(rows_table(columns, [tuple(map(_short, row)) for row in rows]))


def _short(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else "-" if value is None else str(value)[:60]
