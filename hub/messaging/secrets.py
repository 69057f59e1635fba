"""Credentials between the hub and its broker: made once, kept in one file that only the hub's user can read.

The callout seed is an account key of NATS: whoever holds it can let clients in. For a NATS cluster of one's own the
same file holds what its configuration must name (see `config.render`).
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import msgspec
import nkeys

from shared import durable
from shared.errors import NotFound, StorageFailure
from shared.limits import MAX_KEY_FILE_BYTES

__all__ = ["BrokerSecrets"]

_FILE = "secrets.json"


class BrokerSecrets(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The server's name, the seed that signs callout answers, and the passwords of the hub's two NATS users."""

    schema_version: int = 1
    server_name: str
    callout_seed: str
    hub_password: str
    system_password: str

    @classmethod
    def create_or_load(cls, directory: Path) -> BrokerSecrets:
        """The secrets in `directory`, made at the first call; errors `broker.secrets`, `storage.*`."""
        durable.make_dir(directory)
        path = directory / _FILE
        try:
            data = durable.read_file(path, limit=MAX_KEY_FILE_BYTES)
        except NotFound:
            fresh = cls._fresh()
            durable.write_file(path, msgspec.json.encode(fresh), 0o600)
            return fresh
        try:
            return msgspec.json.decode(data, type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise StorageFailure(
                "broker.secrets",
                f"{path.name} of the broker cannot be read.",
                hint="Remove the file; the hub makes a new one at its next start.",
            ) from error

    @classmethod
    def _fresh(cls) -> BrokerSecrets:
        return cls(
            server_name=f"skerry-{secrets.token_hex(4)}",
            callout_seed=bytes(nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_ACCOUNT)).decode(),
            hub_password=secrets.token_urlsafe(32),
            system_password=secrets.token_urlsafe(32),
        )
