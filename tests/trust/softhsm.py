"""A token in software (SoftHSM2), as a reviewer's hardware: `Token` makes keys on it through PKCS#11.

Where SoftHSM2 or the binding is missing, tests that need it are skipped with the reason; in continuous integration
that is a failure, because there both are to be installed.
"""

from __future__ import annotations

import os
import subprocess
from importlib.util import find_spec
from pathlib import Path
from shutil import which

import pytest

__all__ = ["PIN", "Token", "require_softhsm"]

PIN = "271828"
_PLACES = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
    "/opt/homebrew/lib/softhsm/libsofthsm2.so",
)


def require_softhsm() -> str:
    """The path of SoftHSM2's PKCS#11 module; skips the test where there is none."""
    module = next((place for place in _PLACES if Path(place).exists()), None)
    missing = ""
    if module is None or which("softhsm2-util") is None:
        missing = "SoftHSM2 is not installed (Debian: softhsm2)"
    elif find_spec("pkcs11") is None:
        missing = "python-pkcs11 is not installed (the extra `hsm`)"
    if missing:
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return str(module)


class Token:
    """A fresh token. The PKCS#11 module reads its configuration once a process, so there is one token a process."""

    def __init__(self, folder: Path, label: str = "Skerry test") -> None:
        self.module = require_softhsm()
        self.label = label
        (folder / "tokens").mkdir(parents=True)
        config = folder / "softhsm2.conf"
        lines = (f"directories.tokendir = {folder / 'tokens'}", "objectstore.backend = file", "log.level = ERROR", "")
        config.write_text("\n".join(lines))
        self.environ = {"SOFTHSM2_CONF": str(config), "PYKCS11LIB": self.module}
        os.environ.update(self.environ)
        command = ["softhsm2-util", "--init-token", "--free", "--label", label, "--pin", PIN, "--so-pin", "3141592"]
        subprocess.run(command, check=True, capture_output=True)

    def make(self, key_id: int, curve: str = "secp256r1") -> str:
        """An ECDSA key on the token; its URI."""
        import pkcs11
        from pkcs11.util import biginteger
        from pkcs11.util.ec import encode_named_curve_parameters

        from hub.trust.hardware_keys import token_uri

        token = pkcs11.lib(self.module).get_token(token_label=self.label)
        with token.open(rw=True, user_pin=PIN) as session:
            parameters = session.create_domain_parameters(
                pkcs11.KeyType.EC, {pkcs11.Attribute.EC_PARAMS: encode_named_curve_parameters(curve)}, local=True
            )
            parameters.generate_keypair(store=True, id=biginteger(key_id), label=f"key {key_id}")
        return token_uri(key_id, self.label)
