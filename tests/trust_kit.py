"""A real TUF repository in the test's process: offline keys, a hub's `TrustRepository`, and an HTTP server.

    kit = TrustKit(tmp_path)                      # 3 offline keys, threshold 2; root and targets published
    kit.create_model("digits")                    # 3 reviewers, threshold 2
    digest = kit.approve("digits", 1, b"bundle")  # stored, staged, signed by two, published
    envelope = kit.assignment("pi-1", "digits", 1, counter=1)
    with kit.serve() as url: ...                  # <url>/v1/tuf/…, <url>/v1/tuf/targets/…, <url>/v1/artefacts/<sha256>

The clock is the kit's own and starts at the real time, because TUF clients use the real one.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from securesystemslib.signer import CryptoSigner
from sqlalchemy import Connection

from hub.audit.log import AuditLog
from hub.settings import TrustSettings
from hub.store.database import Database
from hub.store.schema import metadata as tables
from hub.trust import metadata
from hub.trust.names import split_target_file, target_path
from hub.trust.online_keys import OnlineKeys
from hub.trust.repository import TrustRepository
from hub.trust.staging import Outcome
from shared.assignment_keys import ASSIGNMENT_KEYS_PATH, build_assignment_keys
from shared.errors import Conflict, NotFound, SkerryError
from shared.wire.down import Assignment

__all__ = ["DAY_S", "KitAssignments", "KitBlobs", "KitClock", "KitRegistry", "KitVersion", "TrustKit"]

DAY_S = 86_400


class KitClock:
    """A clock that the test moves."""

    def __init__(self, age_s: float = 0.0) -> None:
        self.time_s = time.time() - age_s

    def now(self) -> float:
        return self.time_s

    def monotonic(self) -> float:
        return self.time_s


@dataclass(frozen=True, slots=True)
class KitVersion:
    """A bundle that passed its gate."""

    bundle_sha256: str
    bundle_bytes: int


class KitRegistry:
    """Which versions passed their gate, and which have been approved, in memory."""

    def __init__(self) -> None:
        self.gated: dict[tuple[str, int], KitVersion] = {}
        self.approvals: list[tuple[str, int]] = []
        self.revoked: list[tuple[str, int]] = []

    def require_gated(self, model: str, version: int) -> KitVersion:
        try:
            return self.gated[model, version]
        except KeyError as error:
            raise Conflict("release.not_gated", f"{model} version {version} has not passed its gate.") from error

    def mark_approved(self, connection: Connection, model: str, version: int, actor: str) -> None:
        self.approvals.append((model, version))

    def mark_revoked(self, connection: Connection, model: str, version: int, actor: str) -> None:
        self.revoked.append((model, version))
        self.gated.pop((model, version), None)


class KitAssignments:
    """Counts how often pending assignments had to be signed again."""

    def __init__(self) -> None:
        self.renewals = 0

    def renew_pending(self, connection: Connection, now_s: float) -> int:
        self.renewals += 1
        return 0


class KitBlobs:
    """Bundles as files named by their digest."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)

    def put(self, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        (self._directory / digest).write_bytes(data)
        return digest

    def local_path(self, sha256: str) -> Path:
        path = self._directory / sha256
        if not path.exists():
            raise NotFound("blob.missing", "There is no such blob.")
        return path


class TrustKit:
    """One hub's repository with its people's keys: `roots` hold root and targets, `reviewers` are by model.

    `age_s`: the hub was set up that long ago. `database_url`: SQLite in the directory if it is not given.
    """

    def __init__(
        self,
        directory: Path,
        *,
        roots: int = 3,
        threshold: int = 2,
        settings: TrustSettings | None = None,
        age_s: float = 0.0,
        database_url: str = "",
    ) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.clock = KitClock(age_s)
        self.settings = settings or TrustSettings()
        self.db = Database(database_url or f"sqlite:///{directory / 'hub.db'}")
        tables.create_all(self.db.engine)
        self.audit = AuditLog(self.db, self.clock)
        self.registry = KitRegistry()
        self.pending = KitAssignments()
        self.blobs = KitBlobs(directory / "blobs")
        self.keys = OnlineKeys(directory / "keys")
        self.keys.create_missing()
        self.repository = self.open()
        self.roots = [CryptoSigner.generate_ed25519() for _ in range(roots)]
        self.threshold = threshold
        self.reviewers: dict[str, list[CryptoSigner]] = {}
        self.bootstrap()

    def open(self) -> TrustRepository:
        """Another repository object over the same database and key files, as after a restart."""
        return TrustRepository(
            self.db,
            OnlineKeys(self.directory / "keys"),
            self.settings,
            clock=self.clock,
            audit=self.audit,
            registry=self.registry,
            pending=self.pending,
            blobs=self.blobs,
        )

    def close(self) -> None:
        """Give the database back."""
        self.db.close()

    # --- offline changes --------------------------------------------------------------------------------------------
    @property
    def root_quorum(self) -> metadata.Quorum:
        """The offline keys and their threshold."""
        return metadata.Quorum(tuple(signer.public_key for signer in self.roots), self.threshold)

    @property
    def year_s(self) -> float:
        """An expiry a year from now."""
        return self.clock.now() + 365 * DAY_S

    def first_metadata(self) -> tuple[bytes, bytes, dict[str, bytes]]:
        """Root, targets and files as `skerry trust init` would make them, signed by the first `threshold` keys."""
        online = self.repository.online_keys()
        files = {ASSIGNMENT_KEYS_PATH: build_assignment_keys([online.assignment])}
        quorum = self.root_quorum
        root = metadata.build_root(quorum, quorum, online.online, version=1, expires_s=self.year_s)
        targets = metadata.build_targets(files, {}, version=1, expires_s=self.year_s)
        signers = self.roots[: self.threshold]
        return metadata.sign(root, *signers), metadata.sign(targets, *signers), files

    def bootstrap(self) -> None:
        """Publish the first root and targets."""
        self.repository.bootstrap(*self.first_metadata(), actor="kit")

    @property
    def root(self) -> bytes:
        """The newest root: what a device trusts at first."""
        return self.repository.root()

    def current(self, role: str) -> bytes:
        """The newest published metadata of a role."""
        found = self.repository.current(role)
        if found is None:
            raise LookupError(role)
        return found

    def create_model(self, model: str, *, reviewers: int = 3, threshold: int = 2) -> list[CryptoSigner]:
        """Delegate a model to fresh reviewers' keys."""
        signers = [CryptoSigner.generate_ed25519() for _ in range(reviewers)]
        self.appoint(model, signers, threshold)
        return signers

    def appoint(self, model: str, signers: Sequence[CryptoSigner], threshold: int = 2) -> Outcome:
        """Make `signers` the reviewers of a model, signed by the offline keys."""
        quorum = metadata.Quorum(tuple(signer.public_key for signer in signers), threshold)
        data = metadata.revise_targets(self.current("targets"), models={model: quorum}, expires_s=self.year_s)
        self.reviewers[model] = list(signers)
        return self.propose("targets", data)

    def propose(self, role: str, data: bytes, signers: Sequence[CryptoSigner] | None = None, **extra: Any) -> Outcome:
        """Propose the next version of a role, signed by the first offline keys unless others are given."""
        chosen = self.roots[: self.threshold] if signers is None else signers
        return self.repository.propose(role, metadata.sign(data, *chosen), "kit", **extra)

    # --- releases ---------------------------------------------------------------------------------------------------
    def add_version(self, model: str, version: int, bundle: bytes) -> str:
        """Store a bundle and let it count as gated; its SHA-256."""
        digest = self.blobs.put(bundle)
        self.registry.gated[model, version] = KitVersion(digest, len(bundle))
        return digest

    def stage(self, model: str, version: int) -> Outcome:
        """Stage the release of a gated version."""
        return self.repository.stage_release(model, version, "kit")

    def sign(self, staged: Outcome, signer: CryptoSigner, *, actor: str = "kit") -> Outcome:
        """One person's signature over what is staged."""
        signature = metadata.make_signature(staged.data, signer)
        return self.repository.add_signature(staged.role, staged.version, signature.keyid, signature.signature, actor)

    def approve(self, model: str, version: int, bundle: bytes, *, signatures: int = 2) -> str:
        """Store, stage and sign a version by that many reviewers; the bundle's SHA-256."""
        digest = self.add_version(model, version, bundle)
        staged = self.stage(model, version)
        for signer in self.reviewers[model][:signatures]:
            staged = self.sign(staged, signer)
        return digest

    def revoke(self, model: str, version: int, *, signatures: int = 2) -> Outcome:
        """Take back an approval, signed by that many reviewers."""
        role = f"model-{model}"
        data = metadata.build_revocation(self.current(role), model, version, expires_s=self.year_s)
        return self.propose(role, data, self.reviewers[model][:signatures])

    def assignment(
        self,
        device_id: str,
        model: str,
        version: int,
        *,
        counter: int,
        lifetime_s: float = 7 * DAY_S,
        bundle: KitVersion | None = None,
        **fields: Any,
    ) -> bytes:
        """A signed assignment of a gated version, or of any other `bundle`."""
        given = bundle or self.registry.gated[model, version]
        now_s = self.clock.now()
        return self.repository.sign_assignment(
            Assignment(
                device_id=device_id,
                model=model,
                version=version,
                counter=counter,
                target=target_path(model, version),
                bundle_sha256=given.bundle_sha256,
                bundle_bytes=given.bundle_bytes,
                issued_s=now_s,
                expires_s=now_s + lifetime_s,
                **fields,
            )
        )

    # --- serving ----------------------------------------------------------------------------------------------------
    def fetch(self, path: str) -> bytes:
        """The body of a URL path as the hub would serve it; `NotFound` otherwise."""
        parts = path.strip("/").split("/")
        match parts:
            case ["v1", "tuf", filename]:
                return self.repository.published(filename)
            case ["v1", "tuf", "targets", folder, filename]:
                target, digest = split_target_file(folder, filename)
                if folder == "skerry":
                    return self.repository.target_file(target, digest)
                return self.blobs.local_path(digest).read_bytes()
            case ["v1", "artefacts", digest]:
                return self.blobs.local_path(digest).read_bytes()
        raise NotFound("http.not_found", "There is nothing here.")

    @contextmanager
    def serve(self) -> Iterator[str]:
        """Serve the live repository over HTTP on a free loopback port; gives the base URL."""
        kit = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                try:
                    body, status = kit.fetch(self.path), 200
                except SkerryError as error:
                    body, status = error.code.encode(), 404
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """Quiet."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, name="trust-kit")
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()
