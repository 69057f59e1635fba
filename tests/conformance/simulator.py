"""A TUF repository that a test bends as it likes, behind a real HTTP server.

    repository = Simulator()                       # every role at version 1, one key each, published
    repository.timestamp.expires = …               # change what the next version says
    repository.publish("snapshot", "timestamp")    # next versions, signed by `repository.signers[role]`
    repository.history["snapshot"][-1]             # the bytes that are served

Only what was published is served. `requests` lists what was asked for: ("root", 2), ("timestamp", None), ….
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import unquote

from securesystemslib.signer import CryptoSigner, Signer
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    SuccinctRoles,
    TargetFile,
    Targets,
    Timestamp,
)

__all__ = ["TOP", "Simulator", "new_signer"]

TOP = ("root", "timestamp", "snapshot", "targets")
ONLINE = ("targets", "snapshot", "timestamp")
_LIFETIME = dt.timedelta(days=30)


def new_signer(scheme: str = "ed25519") -> CryptoSigner:
    """A new key of one of the specification's schemes."""
    if scheme == "ed25519":
        return CryptoSigner.generate_ed25519()
    if scheme == "ecdsa-sha2-nistp256":
        return CryptoSigner.generate_ecdsa()
    return _rsa(scheme)


@cache
def _rsa(scheme: str) -> CryptoSigner:
    return CryptoSigner.generate_rsa(scheme=scheme)


class Simulator:
    """One repository; its attributes may be changed at any time."""

    def __init__(self) -> None:
        self.expires = dt.datetime.now(dt.UTC).replace(microsecond=0) + _LIFETIME
        self.signed: dict[str, Any] = {
            "root": Root(expires=self.expires, consistent_snapshot=True),
            "timestamp": Timestamp(expires=self.expires),
            "snapshot": Snapshot(expires=self.expires),
            "targets": Targets(expires=self.expires),
        }
        self.signers: dict[str, list[Signer]] = {}
        self.history: dict[str, list[bytes]] = {}
        self.files: dict[str, bytes] = {}
        """What is served for a target path."""
        self.requests: list[tuple[str, int | None]] = []
        self.downloads: list[str] = []
        self.with_hashes = False
        self.overrides: dict[str, tuple[int, bytes]] = {}
        """Status and body for the paths below the repository that are answered in another way."""
        self.url = ""
        for role in TOP:
            self.add_key(role)
        self.publish(*TOP)

    # --- what the next versions say -----------------------------------------------------------------------------------
    @property
    def root(self) -> Root:
        found: Root = self.signed["root"]
        return found

    @property
    def timestamp(self) -> Timestamp:
        found: Timestamp = self.signed["timestamp"]
        return found

    @property
    def snapshot(self) -> Snapshot:
        found: Snapshot = self.signed["snapshot"]
        return found

    @property
    def targets(self) -> Targets:
        return self.role("targets")

    def role(self, name: str) -> Targets:
        """A targets role."""
        found: Targets = self.signed[name]
        return found

    def add_key(self, role: str, delegator: str = "root", signer: Signer | None = None) -> Signer:
        """One more key for a role."""
        chosen = signer or new_signer()
        self.signed[delegator].add_key(chosen.public_key, role)
        self.signers.setdefault(role, []).append(chosen)
        return chosen

    def rotate(self, role: str) -> None:
        """As many new keys as the threshold asks for, instead of all old ones."""
        for keyid in list(self.root.roles[role].keyids):
            self.root.revoke_key(keyid, role)
        self.signers[role] = []
        for _ in range(self.root.roles[role].threshold):
            self.add_key(role)

    def delegate(self, delegator: str, name: str, *, expires: dt.datetime | None = None, **fields: Any) -> Targets:
        """Delegate to a role with one key of its own; `fields` are those of `DelegatedRole`."""
        parent = self.role(delegator)
        if parent.delegations is None:
            parent.delegations = Delegations({}, {})
        if parent.delegations.roles is None:
            raise LookupError(delegator)
        chosen: dict[str, Any] = {"paths": ["*"]} if not fields.keys() & {"paths", "path_hash_prefixes"} else {}
        role = DelegatedRole(name, [], fields.pop("threshold", 1), fields.pop("terminating", False), **chosen, **fields)
        parent.delegations.roles[name] = role
        self.signed.setdefault(name, Targets(expires=expires or self.expires))
        if name in self.signers:
            for signer in self.signers[name]:
                parent.add_key(signer.public_key, name)
        else:
            self.add_key(name, delegator)
        return self.role(name)

    def delegate_bins(self, delegator: str, bits: int, prefix: str) -> list[str]:
        """Succinct hash-bin delegations under one key; the names of the bins."""
        bins = SuccinctRoles([], 1, bits, prefix)
        self.role(delegator).delegations = Delegations({}, None, bins)
        signer = new_signer()
        self.role(delegator).add_key(signer.public_key)
        for name in bins.get_roles():
            self.signed[name], self.signers[name] = Targets(expires=self.expires), [signer]
        return list(bins.get_roles())

    def add_file(
        self, path: str, data: bytes, role: str = "targets", algorithms: tuple[str, ...] = ("sha256",)
    ) -> None:
        """A target of a role."""
        self.role(role).targets[path] = TargetFile.from_data(path, data, list(algorithms))
        self.files[path] = data

    # --- publishing ---------------------------------------------------------------------------------------------------
    def publish(self, *roles: str, bump: bool = True) -> None:
        """The next version of each role in this order; the snapshot and the timestamp learn of it."""
        for role in roles:
            signed = self.signed[role]
            if bump and role in self.history:
                signed.version += 1
            metadata = Metadata(signed)
            for signer in self.signers[role]:
                metadata.sign(signer, append=True)
            data = metadata.to_bytes()
            self.history.setdefault(role, []).append(data)
            described = self._describe(signed.version, data)
            if role == "snapshot":
                self.timestamp.snapshot_meta = described
            elif role not in ("root", "timestamp"):
                self.snapshot.meta[f"{role}.json"] = described

    def publish_all(self, *delegated: str) -> None:
        """Next versions of the given roles and of all but the root."""
        self.publish(*delegated, *ONLINE)

    def restart(self, role: str, version: int = 1) -> None:
        """Forget what was published of a role; it begins again at this version."""
        del self.history[role]
        self.signed[role].version = version

    def _describe(self, version: int, data: bytes) -> MetaFile:
        if not self.with_hashes:
            return MetaFile(version)
        return MetaFile(version, len(data), {"sha256": sha256(data).hexdigest()})

    # --- serving ------------------------------------------------------------------------------------------------------
    def answer(self, path: str) -> tuple[int, bytes]:
        """Status and body for a path below the repository."""
        kind, _, name = path.partition("/")
        if kind == "metadata":
            role, version = self._parse(name.removesuffix(".json"))
            self.requests.append((role, version))
            if path in self.overrides:
                return self.overrides[path]
            for data in reversed(self.history.get(unquote(role), [])):
                if version is None or _version(data) == version:
                    return 200, data
            return 404, b""
        self.downloads.append(name)
        if path in self.overrides:
            return self.overrides[path]
        folder, slash, file = name.rpartition("/")
        digest, _, file = file.partition(".") if self.root.consistent_snapshot else ("", "", file)
        target = f"{folder}{slash}{file}"
        known = {d for r in self.signed.values() if isinstance(r, Targets) for d in self._digests(r, target)}
        if target in self.files and (not digest or digest in known):
            return 200, self.files[target]
        return 404, b""

    @staticmethod
    def _digests(role: Targets, target: str) -> list[str]:
        return list(role.targets[target].hashes.values()) if target in role.targets else []

    def _parse(self, name: str) -> tuple[str, int | None]:
        version, dot, role = name.partition(".")
        if dot and version.isdigit() and (self.root.consistent_snapshot or role == "root"):
            return role, int(version)
        return name, None

    @contextmanager
    def serve(self) -> Iterator[str]:
        """Serve over HTTP on a free loopback port; gives the base URL."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, name="simulator")
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_address[1]}/repository%5B1%5D"
        try:
            yield self.url
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


def _version(data: bytes) -> int:
    try:
        return int(json.loads(data)["signed"]["version"])
    except (ValueError, LookupError, TypeError):
        return 0


def _handler(repository: Simulator) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = repository.answer(self.path.removeprefix("/repository%5B1%5D/"))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    return Handler
