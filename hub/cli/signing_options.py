"""Options that the signing commands share. Light to import; the work is in the modules that they call."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["DaysOption", "KeyOption", "PassphraseFiles", "SignWith", "YesOption"]

PassphraseFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--passphrase-file",
        metavar="FILE",
        help="Read the passphrase from a file: one for all keys, or one for each. "
        "Or set SKERRY_PASSPHRASE, and SKERRY_PIN for hardware.",
    ),
]
_KEYS = "NAME.key, or hsm:2?label=TOKEN"
SignWith = Annotated[
    list[Path],
    typer.Option("--sign-with", metavar="KEY", help=f"Offline key to sign with: {_KEYS}; several times."),
]
KeyOption = Annotated[Path, typer.Option("--key", metavar="KEY", help=f"Your private key: {_KEYS}.")]
DaysOption = Annotated[int, typer.Option("--expires-days", min=1, max=3650, help="Signed for so many days.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
