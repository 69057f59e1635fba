"""Signing keys in hardware: ECDSA on P-256 or P-384 behind PKCS#11, which the key never leaves.

A key is named by a URI, `hsm:KEY_ID?label=TOKEN`; without a key id it is 2 (PIV's slot 9c for signatures), without a
label the only token there is. PYKCS11LIB names the PKCS#11 module of the hardware's maker. The public key is read from
the token, so no file can contradict it. A wrong PIN is tried once and never again by itself, because tokens lock.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, unquote_plus, urlsplit

from securesystemslib.exceptions import UnsupportedLibraryError, UnverifiedSignatureError
from securesystemslib.signer import HSMSigner, Key, Signature, Signer, SSlibKey

from hub.trust.key_files import parse_public
from shared.errors import InvalidInput, NotFound, SkerryError, Unauthorised, Unavailable, Untrusted

__all__ = ["HardwareSigner", "is_hardware", "list_hardware", "read_hardware", "token_uri"]

_MODULE = "PYKCS11LIB"
_SCHEME = "hsm"


def is_hardware(reference: str) -> bool:
    """Whether a key is named by a hardware URI and not by a file."""
    return reference.startswith(f"{_SCHEME}:")


def token_uri(key_id: int, label: str) -> str:
    """The URI of a key."""
    return f"{_SCHEME}:{key_id}?label={quote(label)}"


def _parts(uri: str) -> tuple[int, str | None]:
    """Key id and token label; error `keys.hsm_uri`."""
    split = urlsplit(uri)
    path, label = split.path or str(HSMSigner.SCHEME_KEYID), split.query.removeprefix("label=")
    named = not split.query or (label and label != split.query)
    if split.scheme != _SCHEME or not path.isascii() or not path.isdigit() or len(path) > 9 or not named:
        raise InvalidInput(
            "keys.hsm_uri", f"{uri[:120]!r} names no key in hardware.", hint="For example: hsm:2?label=TOKEN"
        )
    return int(path), unquote_plus(label) or None


def read_hardware(uri: str) -> SSlibKey:
    """The public key of a key in hardware; no PIN is needed. Errors `keys.hsm_*`."""
    key_id, label = _parts(uri)
    with _asking(uri):
        _, key = HSMSigner.import_(key_id, label)
        return parse_public(key.keyid, key.to_dict())


class HardwareSigner(Signer):
    """Signs with a key in hardware, and checks what comes back."""

    def __init__(self, uri: str, pin: str) -> None:
        self._uri = uri
        self._key = read_hardware(uri)
        key_id, label = _parts(uri)
        with _asking(uri):
            self._signer = HSMSigner(key_id, self._key, lambda _secret: pin, label)

    @property
    def public_key(self) -> SSlibKey:
        """The public key, as the token has it."""
        return self._key

    @classmethod
    def from_priv_key_uri(
        cls, priv_key_uri: str, public_key: Key, secrets_handler: Callable[[str], str] | None = None
    ) -> HardwareSigner:
        """As securesystemslib's registry of signers calls it; `public_key` must be the token's."""
        if secrets_handler is None:
            raise ValueError("a PIN is needed")
        made = cls(priv_key_uri, secrets_handler("pin"))
        if made.public_key != public_key:
            raise ValueError("the token has another key")
        return made

    def sign(self, payload: bytes) -> Signature:
        """The signature; errors `keys.wrong_pin`, `keys.hsm_*`."""
        with _asking(self._uri):
            signature = self._signer.sign(payload)
            self._key.verify_signature(signature, payload)
            return signature


def list_hardware() -> list[tuple[str, str, SSlibKey]]:
    """Token label, URI and public key of every usable key on every token; errors `keys.hsm_*`."""
    found: list[tuple[str, str, SSlibKey]] = []
    with _asking("hsm:"):
        import pkcs11

        library = os.environ.get(_MODULE)
        if not library:
            raise ValueError(f"{_MODULE} environment variable must be set")
        for token in pkcs11.lib(library).get_tokens(token_flags=pkcs11.TokenFlag.TOKEN_INITIALIZED):
            for key_id in _key_ids(token):
                uri = token_uri(key_id, token.label)
                found.append((token.label, uri, read_hardware(uri)))
    return found


def _key_ids(token: Any) -> list[int]:
    import pkcs11

    wanted = {pkcs11.Attribute.CLASS: pkcs11.ObjectClass.PUBLIC_KEY, pkcs11.Attribute.KEY_TYPE: pkcs11.KeyType.EC}
    with token.open() as session:
        return sorted({int.from_bytes(key.id, "big") for key in session.get_objects(wanted) if len(key.id) <= 3})


@contextmanager
def _asking(uri: str) -> Iterator[None]:
    """Turn what libraries, module and token say into our errors."""
    try:
        yield
    except SkerryError:
        raise
    except (ImportError, UnsupportedLibraryError) as error:
        raise Unavailable(
            "keys.hsm_library",
            f"This installation cannot use keys in hardware: {error}.",
            hint="Install the extra: pip install 'skerry[hsm]'",
        ) from error
    except UnverifiedSignatureError as error:
        raise Untrusted(
            "keys.hsm_signature",
            f"What {uri} signed does not verify with its public key.",
            hint="The token may hold two keys under one id; nothing was signed.",
        ) from error
    except ValueError as error:
        raise _not_found(uri, str(error)) from error
    except Exception as error:
        raise _foreign(uri, error) from error


def _not_found(uri: str, text: str) -> SkerryError:
    if _MODULE in text:
        return InvalidInput(
            "keys.hsm_module",
            "The PKCS#11 module of the hardware is not known.",
            hint=f"Set {_MODULE} to the library of its maker, for example libykcs11.so or opensc-pkcs11.so.",
        )
    return NotFound(
        "keys.hsm_missing",
        f"There is no usable key {uri}: {text}.",
        hint="Is the token plugged in? `skerry keys hsm list` shows what is there.",
    )


def _foreign(uri: str, error: Exception) -> SkerryError:
    """Errors of the PKCS#11 binding, by the names that the standard gives them; any other one is a defect."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if kinds & {"PinIncorrect", "PinInvalid", "PinLenRange"}:
        return Unauthorised(
            "keys.wrong_pin",
            f"The PIN does not open {uri}.",
            hint="Nothing was signed. Tokens lock after a few wrong PINs: be sure before you try again.",
        )
    if "PinLocked" in kinds:
        return Unauthorised("keys.pin_locked", f"The PIN of {uri} is locked.", hint="Unlock it with its maker's tool.")
    if kinds & {"PKCS11Error", "RuntimeError"}:
        text = str(error) or type(error).__name__
        return Unavailable("keys.hsm_failed", f"The hardware of {uri} does not answer: {text}."[:300])
    raise error
