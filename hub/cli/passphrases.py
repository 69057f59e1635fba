"""Passphrases of key files and PINs of tokens: asked for without showing them, or for scripts from a file, or from
SKERRY_PASSPHRASE and SKERRY_PIN.

Never an argument: arguments are visible to every process of the machine and stay in the shell's history.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import typer
from securesystemslib.signer import Signer

from hub.trust.hardware_keys import HardwareSigner, is_hardware
from hub.trust.key_files import open_key, private_path
from shared import durable
from shared.errors import InvalidInput, NotFound
from shared.limits import MAX_KEY_FILE_BYTES

__all__ = ["new_passphrase", "open_signers"]

_VARIABLE = "SKERRY_PASSPHRASE"
_PIN_VARIABLE = "SKERRY_PIN"


def _from_file(path: Path) -> bytes:
    try:
        text = durable.read_file(path, limit=MAX_KEY_FILE_BYTES)
    except NotFound as error:
        raise InvalidInput("cli.file", f"There is no file {path}.", hint="Check --passphrase-file.") from error
    return text.rstrip(b"\r\n")


def _given(index: int, count: int, files: Sequence[Path] | None) -> bytes | None:
    """The passphrase for one of several keys that a script gives, if it gives any."""
    if files:
        if len(files) not in (1, count):
            raise InvalidInput(
                "cli.contradiction",
                f"There are {count} keys, but {len(files)} passphrase files.",
                hint="Give 1 or all.",
            )
        return _from_file(files[0] if len(files) == 1 else files[index])
    value = os.environ.get(_VARIABLE)
    return value.encode() if value else None


def _ask(question: str, *, twice: bool = False, variable: str = _VARIABLE) -> bytes:
    if not sys.stdin.isatty():
        raise InvalidInput(
            "cli.no_passphrase",
            f"{question}: nobody is there to answer.",
            hint=f"Give --passphrase-file, or set {variable}.",
        )
    answer: str = typer.prompt(question, hide_input=True, confirmation_prompt=twice, err=True)
    return answer.encode()


def new_passphrase(name: str, files: Sequence[Path] | None) -> bytes:
    """The passphrase for a new key, typed twice."""
    given = _given(0, 1, files)
    return _ask(f"Passphrase for the new key {name}", twice=True) if given is None else given


def open_signers(keys: Sequence[Path], files: Sequence[Path] | None) -> list[Signer]:
    """Signers of key files and hardware keys, in order; errors `keys.*`, `cli.no_passphrase`."""
    return [_opened(path, index, len(keys), files) for index, path in enumerate(keys)]


def _opened(path: Path, index: int, count: int, files: Sequence[Path] | None) -> Signer:
    if is_hardware(str(path)):
        return HardwareSigner(str(path), _pin(path, index, count, files).decode())
    given = _given(index, count, files)
    passphrase = _ask(f"Passphrase for {private_path(path)}") if given is None else given
    return open_key(path, passphrase)


def _pin(path: Path, index: int, count: int, files: Sequence[Path] | None) -> bytes:
    """A token's PIN. A passphrase that is meant for key files is never tried as one, because tokens lock."""
    if files and len(files) == count:
        return _from_file(files[index])
    value = os.environ.get(_PIN_VARIABLE)
    return value.encode() if value else _ask(f"PIN for {path}", variable=_PIN_VARIABLE)
