"""`skerry keys list` and `skerry keys revoke`: where each key counts, and taking one out of everything at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from hub.cli.keys import DirOption, app
from hub.cli.session import Session, command
from hub.cli.signing_options import DaysOption, PassphraseFiles, YesOption
from shared.errors import NotFound, SkerryError

__all__: list[str] = []

Use = Mapping[str, Any]


@command(app, "list", examples=["skerry keys list --dir keys", "skerry keys list --all"])
def list_keys(
    session: Session,
    directory: DirOption = Path(),
    everyone: Annotated[bool, typer.Option("--all", help="Also keys that the hub's roles name and that are not here.")]
    = False,
) -> None:
    """List the keys in a folder and, when the hub can be reached, the roles that each may sign for."""
    from hub.trust.key_files import private_path

    uses = _uses(session)
    items: list[dict[str, Any]] = []
    for path, found in _public_keys(directory):
        roles = None if uses is None else uses.get(found.key.keyid, [])
        here = private_path(path).exists()
        items.append({"name": found.name, "key_id": found.key.keyid, "private": here, "roles": roles})
    if everyone and uses is not None:
        known = {item["key_id"] for item in items}
        items += [
            {"name": None, "key_id": key_id, "private": False, "roles": roles}
            for key_id, roles in sorted(uses.items())
            if key_id not in known
        ]
    rows = [
        (item["name"] or "-", item["key_id"], "here" if item["private"] else "elsewhere", _roles(item["roles"]))
        for item in items
    ]
    columns = ["name", "key id", "private key", "signs for"]
    session.out.rows(items, columns, rows, empty=f"There are no keys in {directory}.")


def _public_keys(directory: Path) -> list[tuple[Path, Any]]:
    from hub.trust.key_files import read_public

    return [(path, read_public(path)) for path in sorted(directory.glob("*.pub"))]


def _uses(session: Session) -> dict[str, list[Use]] | None:
    """Roles by key id, by the hub's word; None, and a note, when it cannot be asked."""
    try:
        roles = session.client.get("/v1/trust/status")["roles"]
    except SkerryError as error:
        session.out.note(f"Which roles the keys sign for is not known: {error.message}")
        return None
    found: dict[str, list[Use]] = {}
    for role in roles:
        for key_id in role["key_ids"]:
            use = {"role": role["role"], "threshold": role["threshold"], "keys": len(role["key_ids"])}
            found.setdefault(key_id, []).append(use)
    return found


def _roles(uses: Sequence[Use] | None) -> str:
    if uses is None:
        return "?"
    return ", ".join(f"{use['role']} ({use['threshold']} of {use['keys']})" for use in uses) or "nothing"


@command(
    app,
    "revoke",
    examples=[
        "skerry keys revoke carla --sign-with anna.key --sign-with bert.key",
        "skerry keys revoke 3f9a01c2 --replace-with dora.pub --sign-with anna.key",
    ],
)
def revoke(
    session: Session,
    key: Annotated[str, typer.Argument(metavar="NAME|KEY_ID|PUB", help="The lost or stolen key.")],
    sign_with: Annotated[
        list[Path] | None, typer.Option("--sign-with", metavar="KEY", help="Key that signs now; several times.")
    ] = None,
    replace_with: Annotated[
        Path | None, typer.Option("--replace-with", metavar="PUB", help="Key that takes its place everywhere.")
    ] = None,
    directory: DirOption = Path(),
    days: DaysOption = 365,
    passphrase_file: PassphraseFiles = None,
    yes: YesOption = False,
) -> None:
    """Take a lost or stolen key out of every role that names it, and say who must sign next.

    Nothing is proposed if a role could not be signed any more without it: give --replace-with, or lower its threshold
    with `skerry keys rotate`.
    """
    from hub.cli.key_revocation import Revocation
    from hub.cli.key_sources import public_of
    from hub.cli.passphrases import open_signers

    names = {found.key.keyid: found.name for _, found in _public_keys(directory)}
    replacement = None if replace_with is None else public_of(replace_with).key
    change = Revocation(session, _wanted(key, directory), replacement, days, names)
    for line in change.words():
        session.out.note(line)
    session.confirm("Propose this?", yes=yes)
    answer = change.propose(open_signers(sign_with or [], passphrase_file))
    session.out.result(answer, *change.outcome_words(answer))


def _wanted(text: str, directory: Path) -> str:
    """The key id, or the beginning of one, that a person means."""
    from hub.cli.key_sources import is_reference, public_of

    if is_reference(text):
        return public_of(Path(text)).key.keyid
    named = directory / f"{text}.pub"
    if named.exists():
        return public_of(named).key.keyid
    if len(text) >= 8 and all(char in "0123456789abcdef" for char in text):
        return text
    raise NotFound(
        "keys.missing",
        f"There is no {named}, and {text[:80]!r} is no key id.",
        hint="Give its .pub file, --dir, or at least 8 digits of the key id; `skerry keys list --all` shows them.",
    )
