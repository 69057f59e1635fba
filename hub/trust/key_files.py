"""People's keys as files: `NAME.key`, encrypted with a passphrase, and `NAME.pub`, which may be given to anybody.

The private key is an Ed25519 key in OpenSSH's format (bcrypt, 64 rounds: about half a second for each guess), the same
that `ssh-keygen -t ed25519` writes; encrypted PKCS#8 is read too. PKCS#8 is not written, because its encryption in
`cryptography` derives the key with 2048 rounds of PBKDF2, which a stolen file does not withstand. An unencrypted
private key is refused. A key in hardware has no `NAME.key` (`hub.trust.hardware_keys`). `NAME.pub` is JSON: the name,
the key id, and the public key as TUF writes it; the key id is computed again when it is read, so that one key never
goes under two ids.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, SECP384R1, EllipticCurve, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PrivateFormat,
    load_pem_private_key,
    load_pem_public_key,
    load_ssh_private_key,
)
from msgspec import Meta
from securesystemslib.signer import CryptoSigner, SSlibKey

from shared import canonical, durable, limits
from shared.errors import Conflict, InvalidInput, NotFound, Unauthorised

__all__ = [
    "KDF_ROUNDS",
    "MIN_PASSPHRASE_BYTES",
    "PersonKey",
    "create_key",
    "encrypt",
    "export_public",
    "open_key",
    "parse_key_name",
    "parse_public",
    "private_path",
    "read_public",
]

MIN_PASSPHRASE_BYTES = 8
KDF_ROUNDS = 64
_OPENSSH = b"-----BEGIN OPENSSH PRIVATE KEY-----"
_CURVES: Mapping[tuple[str, str], type[EllipticCurve]] = {
    ("ecdsa", "ecdsa-sha2-nistp256"): SECP256R1,
    ("ecdsa", "ecdsa-sha2-nistp384"): SECP384R1,
}
_NAME = r"^[a-z0-9][a-z0-9_-]{0,62}\Z"


class _PublicFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    schema_version: Literal[1] = 1
    name: Annotated[str, Meta(pattern=_NAME)]
    key_id: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
    key: dict[str, Any]


@dataclass(frozen=True, slots=True)
class PersonKey:
    """A person's public key with the name that its file gives."""

    name: str
    key: SSlibKey


def parse_key_name(name: str) -> str:
    """A key's name, which is its file's name too; error `keys.name`."""
    if not re.match(_NAME, name):
        raise InvalidInput("keys.name", f"{name[:80]!r} is not a name for a key.", hint="Use 1 to 63 of a-z 0-9 _ -.")
    return name


def encrypt(signer: CryptoSigner, passphrase: bytes, rounds: int = KDF_ROUNDS) -> bytes:
    """The content of a private key file; error `keys.weak_passphrase`."""
    if len(passphrase) < MIN_PASSPHRASE_BYTES:
        raise InvalidInput(
            "keys.weak_passphrase",
            f"The passphrase is too short; it needs {MIN_PASSPHRASE_BYTES} characters.",
            hint="Several random words are better than one clever one.",
        )
    private = load_pem_private_key(signer.private_bytes, None)
    encryption = PrivateFormat.OpenSSH.encryption_builder().kdf_rounds(rounds).build(passphrase)
    return private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, encryption)


def create_key(directory: Path, name: str, passphrase: bytes, rounds: int = KDF_ROUNDS) -> PersonKey:
    """Make `NAME.key` (mode 0600) and `NAME.pub` in a directory; errors `keys.exists`, `keys.weak_passphrase`."""
    private, public = directory / f"{parse_key_name(name)}.key", directory / f"{name}.pub"
    for path in (private, public):
        if path.exists():
            raise Conflict("keys.exists", f"{path} exists already.", hint="Choose another name, or move it away.")
    signer = CryptoSigner.generate_ed25519()
    made = PersonKey(name, signer.public_key)
    secret = encrypt(signer, passphrase, rounds)
    durable.make_dir(directory)
    durable.write_file(private, secret, mode=0o600)
    _write_public(public, made)
    return made


def export_public(directory: Path, made: PersonKey) -> Path:
    """Write `NAME.pub` for a key that lies elsewhere, as in hardware; error `keys.exists`."""
    public = directory / f"{parse_key_name(made.name)}.pub"
    if public.exists():
        raise Conflict("keys.exists", f"{public} exists already.", hint="Choose another name, or move it away.")
    durable.make_dir(directory)
    _write_public(public, made)
    return public


def _write_public(path: Path, made: PersonKey) -> None:
    document = _PublicFile(name=made.name, key_id=made.key.keyid, key=made.key.to_dict())
    durable.write_file(path, canonical.dumps(document) + b"\n", mode=0o644)


def private_path(path: Path) -> Path:
    """The private key file that goes with a path, given with or without its suffix."""
    return path if path.suffix == ".key" else path.with_name(f"{path.name.removesuffix('.pub')}.key")


def read_public(path: Path) -> PersonKey:
    """A public key from `NAME.pub`, or from the one beside `NAME.key`; errors `keys.missing`, `keys.malformed`."""
    public = path.with_suffix(".pub") if path.suffix == ".key" else path
    data = _read(public)
    try:
        document = canonical.loads_as(data, _PublicFile, limit=limits.MAX_KEY_FILE_BYTES, what="public key file")
        found = parse_public(document.key_id, document.key)
    except (InvalidInput, KeyError, TypeError, ValueError) as error:
        raise InvalidInput("keys.malformed", f"{public} is not a public key of Skerry: {error}.") from error
    return PersonKey(document.name, found)


def parse_public(key_id: str, key: Mapping[str, Any]) -> SSlibKey:
    """A public key as TUF writes it: Ed25519, or ECDSA on P-256 or P-384 as hardware has it.

    ValueError unless `key_id` is that of the key.
    """
    given = SSlibKey.from_dict(key_id, dict(key))
    found = SSlibKey.from_crypto(_crypto_key(given), scheme=given.scheme)
    if found != given:
        raise ValueError("its key id is not that of its key")
    return found


def _crypto_key(given: SSlibKey) -> Ed25519PublicKey | EllipticCurvePublicKey:
    text, kind = given.keyval["public"], (given.keytype, given.scheme)
    if kind == ("ed25519", "ed25519"):
        return Ed25519PublicKey.from_public_bytes(bytes.fromhex(text))
    curve = _CURVES.get(kind)
    found = load_pem_public_key(text.encode()) if curve is not None else None
    if curve is None or not isinstance(found, EllipticCurvePublicKey) or not isinstance(found.curve, curve):
        raise ValueError("it is neither an Ed25519 key nor an ECDSA key on P-256 or P-384")
    return found


def open_key(path: Path, passphrase: bytes) -> CryptoSigner:
    """The signer in a private key file; errors `keys.missing`, `keys.wrong_passphrase`, `keys.malformed`."""
    private = private_path(path)
    data = _read(private)
    load = load_ssh_private_key if data.lstrip().startswith(_OPENSSH) else load_pem_private_key
    try:
        if _is_open(load, data):
            raise InvalidInput(
                "keys.not_encrypted",
                f"{private} is not protected by a passphrase.",
                hint=f"Protect it: ssh-keygen -p -f {private}",
            )
        found = load(data, passphrase)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _unreadable(private, error) from error
    if not isinstance(found, Ed25519PrivateKey):
        raise InvalidInput("keys.malformed", f"{private} is not an Ed25519 key.")
    return CryptoSigner(found)


def _is_open(load: Any, data: bytes) -> bool:
    """Whether the key can be read without a passphrase."""
    try:
        load(data, None)
    except TypeError:
        return False
    return True


def _unreadable(private: Path, error: Exception) -> Unauthorised | InvalidInput:
    text = str(error).lower()
    if "checksum" in text or "decrypt" in text or "password" in text:
        return Unauthorised(
            "keys.wrong_passphrase",
            f"The passphrase does not open {private}.",
            hint="Type it again; nothing was signed.",
        )
    return InvalidInput("keys.malformed", f"{private} is not a private key: {error}.")


def _read(path: Path) -> bytes:
    try:
        return durable.read_file(path, limit=limits.MAX_KEY_FILE_BYTES)
    except NotFound as error:
        raise NotFound(
            "keys.missing", f"There is no key file {path}.", hint="`skerry keys create` makes one."
        ) from error
