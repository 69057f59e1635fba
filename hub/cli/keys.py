"""`skerry keys`: people's signing keys as files, and the rotation of every key of the trust chain."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hub.cli.output import fields_table
from hub.cli.session import Session, command, new_group
from hub.cli.signing_options import DaysOption, PassphraseFiles, SignWith
from shared.errors import InvalidInput

if TYPE_CHECKING:
    from hub.cli.offline_changes import OfflineChange

__all__ = ["DirOption", "app"]

app = new_group("keys", "Signing keys: create, look at, rotate, revoke; the ceremony; hardware.")
rotate = new_group("rotate", "Replace keys; the holders of the present ones sign.")
app.add_typer(rotate)

DirOption = Annotated[Path, typer.Option("--dir", help="The folder of the key files.")]
AddOption = Annotated[list[Path] | None, typer.Option("--add", metavar="PUB", help="Public key to add.")]
RemoveOption = Annotated[
    list[str] | None, typer.Option("--remove", metavar="PUB|KEY_ID", help="Key to remove: its file or its key id.")
]
ThresholdOption = Annotated[int | None, typer.Option("--threshold", min=1, help="How many must sign from now on.")]


@command(app, "create", examples=["skerry keys create alice --dir keys"], local=True)
def create(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="For the files NAME.key and NAME.pub.")],
    directory: DirOption = Path(),
    passphrase_file: PassphraseFiles = None,
) -> None:
    """Make a signing key. NAME.key stays with you, protected by a passphrase; give NAME.pub to the others."""
    from hub.cli.passphrases import new_passphrase
    from hub.trust.key_files import create_key, parse_key_name

    parse_key_name(name)
    made = create_key(directory, name, new_passphrase(name, passphrase_file))
    answer = {
        "name": name,
        "key_id": made.key.keyid,
        "private": str(directory / f"{name}.key"),
        "public": str(directory / f"{name}.pub"),
    }
    session.out.result(answer, lambda: fields_table(answer.items()))


@command(app, "show", examples=["skerry keys show keys/alice.pub"], local=True)
def show(
    session: Session,
    path: Annotated[Path, typer.Argument(metavar="FILE", help="NAME.pub, NAME.key, or hsm:2?label=TOKEN.")],
) -> None:
    """Show a public key, for comparison over the telephone."""
    from hub.cli.key_sources import public_of

    found = public_of(path)
    answer = {"name": found.name, "key_id": found.key.keyid, "key": found.key.to_dict()}
    fields = [("name", found.name), ("key id", found.key.keyid), ("public key", found.key.keyval["public"])]
    session.out.result(answer, lambda: fields_table(fields))


@command(rotate, "online", examples=["skerry keys rotate online --sign-with root1.key --sign-with root2.key"])
def rotate_online(
    session: Session, sign_with: SignWith, days: DaysOption = 365, passphrase_file: PassphraseFiles = None
) -> None:
    """Replace the hub's key for snapshot and timestamp."""
    _propose(session, sign_with, days, passphrase_file, lambda offline: offline.replace_online_key())


@command(rotate, "assignment", examples=["skerry keys rotate assignment --sign-with root1.key --sign-with root2.key"])
def rotate_assignment(
    session: Session, sign_with: SignWith, days: DaysOption = 365, passphrase_file: PassphraseFiles = None
) -> None:
    """Replace the hub's key for assignments."""
    _propose(session, sign_with, days, passphrase_file, lambda offline: offline.replace_assignment_key())


@command(
    rotate,
    "root",
    examples=["skerry keys rotate root --add dora.pub --remove carol.pub --sign-with alice.key --sign-with bob.key"],
)
def rotate_root(
    session: Session,
    sign_with: SignWith,
    add: AddOption = None,
    remove: RemoveOption = None,
    threshold: ThresholdOption = None,
    days: DaysOption = 365,
    passphrase_file: PassphraseFiles = None,
) -> None:
    """Replace holders of the offline keys (root and targets). Enough old and enough new holders sign."""
    from hub.cli.offline_changes import QuorumChange

    change = QuorumChange(add or (), remove or (), threshold)
    _demand(change)
    _propose(session, sign_with, days, passphrase_file, lambda offline: offline.change_holders(change))


@command(
    rotate,
    "reviewers",
    examples=[
        "skerry keys rotate reviewers digits --add dora.pub --remove bob.pub --sign-with r1.key --sign-with r2.key"
    ],
)
def rotate_reviewers(
    session: Session,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name of the model.")],
    sign_with: SignWith,
    add: AddOption = None,
    remove: RemoveOption = None,
    threshold: ThresholdOption = None,
    days: DaysOption = 365,
    passphrase_file: PassphraseFiles = None,
) -> None:
    """Replace reviewers of a model. If too few of the old ones remain, the new ones sign what was approved again."""
    from hub.cli.offline_changes import QuorumChange

    change = QuorumChange(add or (), remove or (), threshold)
    _demand(change)
    _propose(session, sign_with, days, passphrase_file, lambda offline: offline.change_reviewers(model, change))


def _propose(
    session: Session,
    keys: list[Path],
    days: int,
    passphrase_file: list[Path] | None,
    make: Callable[[OfflineChange], list[dict[str, Any]]],
) -> None:
    """Open the offline keys, make the change with them, and say what came of it."""
    from hub.cli.offline_changes import OfflineChange
    from hub.cli.passphrases import open_signers
    from hub.cli.trust_text import say_all

    say_all(session, make(OfflineChange(session, open_signers(keys, passphrase_file), days)))


def _demand(change: Any) -> None:
    if not change.add and not change.remove and change.threshold is None:
        raise InvalidInput("cli.nothing", "There is nothing to change.", hint="Give --add, --remove or --threshold.")
