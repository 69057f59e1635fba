"""Keys as people name them on the command line: a file (`NAME.key`, `NAME.pub`) or hardware (`hsm:2?label=TOKEN`)."""

from __future__ import annotations

from pathlib import Path

from hub.trust.hardware_keys import is_hardware, read_hardware
from hub.trust.key_files import PersonKey, private_path, read_public

__all__ = ["can_sign", "is_reference", "public_of"]


def can_sign(reference: Path) -> bool:
    """Whether this names a private key, not only a public one."""
    return reference.suffix == ".key" or is_hardware(str(reference))


def is_reference(text: str) -> bool:
    """Whether this names a file or hardware, and not a key id."""
    return is_hardware(text) or Path(text).suffix in (".pub", ".key")


def public_of(reference: Path) -> PersonKey:
    """The public key and its name; errors `keys.*`."""
    text = str(reference)
    if is_hardware(text):
        return PersonKey(text, read_hardware(text))
    return read_public(reference if reference.suffix == ".pub" else private_path(reference))
