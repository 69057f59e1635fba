"""A real hub on a real port for the command line, and the command line itself as a person runs it."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from securesystemslib.signer import CryptoSigner
from typer.testing import CliRunner

from hub.api.server import HttpsServer
from hub.cli.main import app
from hub.provision import provision
from hub.registry.models import ModelChange
from hub.settings import HubSettings
from hub.trust import metadata
from hub.wiring import Hub, build_hub
from shared.assignment_keys import ASSIGNMENT_KEYS_PATH, build_assignment_keys

__all__ = ["RunningHub", "Skerry", "Said"]


@dataclass(frozen=True)
class Said:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as JSON."""
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, Any]:
        """The error on standard error, of a command with `--json`."""
        found: dict[str, Any] = json.loads(self.err)["error"]
        return found


class RunningHub:
    """A provisioned hub that answers HTTPS in a thread."""

    def __init__(self, folder: Path) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        port = self.socket.getsockname()[1]
        settings = HubSettings(data_dir=str(folder), port=port)
        made = provision(settings)
        if made.admin_token_path is None:
            raise RuntimeError("a new hub has made no administrator's token")
        self.url = f"https://127.0.0.1:{port}"
        self.admin_token = made.admin_token_path.read_text().strip()
        self.hub: Hub = build_hub(settings)
        self.ca = folder / "pki" / "hub-ca.crt"
        self._server = HttpsServer(self.hub, self.socket)
        self._thread = threading.Thread(target=lambda: asyncio.run(self._server.run()), name="hub")

    def start(self, *, trust: bool = True) -> None:
        """Initialise trust and answer from now on; connections wait in the listening socket until then."""
        if trust:
            self.initialise_trust()
        self._thread.start()

    def stop(self) -> None:
        """End the server and close the hub."""
        self._server.stop()
        self._thread.join(timeout=30)
        self.hub.close()

    def initialise_trust(self) -> None:
        """What `skerry trust init` does, with one offline key."""
        root_key = CryptoSigner.generate_ed25519()
        trust, expires_s = self.hub.trust, self.hub.clock.now() + 86_400
        online = trust.online_keys()
        quorum = metadata.Quorum((root_key.public_key,), 1)
        files = {ASSIGNMENT_KEYS_PATH: build_assignment_keys([online.assignment])}
        root = metadata.build_root(quorum, quorum, online.online, version=1, expires_s=expires_s)
        targets = metadata.build_targets(files, {}, version=1, expires_s=expires_s)
        trust.bootstrap(metadata.sign(root, root_key), metadata.sign(targets, root_key), files, actor="rig")
        self._root_key = root_key

    def create_model(self, model: str) -> None:
        """Make a model and delegate it to one reviewer."""
        self.hub.models.create(model, ModelChange(), "rig")
        self.reviewer = CryptoSigner.generate_ed25519()
        quorum = metadata.Quorum((self.reviewer.public_key,), 1)
        current = self.hub.trust.current("targets")
        if current is None:
            raise RuntimeError("trust is not initialised")
        data = metadata.revise_targets(current, models={model: quorum}, expires_s=self.hub.clock.now() + 86_400)
        self.hub.trust.propose("targets", metadata.sign(data, self._root_key), "rig")

    def approve(self, model: str, version: int) -> None:
        """Stage and sign a gated version."""
        staged = self.hub.trust.stage_release(model, version, "rig")
        signature = metadata.make_signature(staged.data, self.reviewer)
        self.hub.trust.add_signature(staged.role, staged.version, signature.keyid, signature.signature, "rig")

    def enrol(self, device_id: str, join_token: str, profile: str = "x86-gateway") -> None:
        """Enrol a device as an agent does; its key is thrown away."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, device_id)])
        csr = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
        pem = csr.public_bytes(serialization.Encoding.PEM).decode()
        body = {"token": join_token, "csr_pem": pem, "profile": profile, "device_id": device_id}
        with httpx.Client(verify=_context(self.ca), trust_env=False) as client:
            client.post(f"{self.url}/v1/device/enrol", json=body).raise_for_status()


def _context(ca: Path) -> Any:
    import ssl

    return ssl.create_default_context(cafile=str(ca))


class Skerry:
    """The command line with an environment of its own."""

    def __init__(self, home: Path, environ: Mapping[str, str]) -> None:
        self.environ = {"HOME": str(home), "XDG_CONFIG_HOME": "", "COLUMNS": "200", **environ}

    def __call__(self, *words: str | Path, stdin: str | None = None, **environ: str) -> Said:
        """Run `skerry WORDS`; further environment variables as keywords."""
        arguments = [str(word) for word in words]
        done = CliRunner().invoke(app, arguments, input=stdin, env={**self.environ, **environ}, catch_exceptions=False)
        return Said(done.exit_code, done.stdout, done.stderr)

    def json(self, *words: str | Path) -> Any:
        """Run a command with `--json`; its result."""
        said = self(*words, "--json")
        if said.code != 0:
            raise RuntimeError(f"skerry {' '.join(str(word) for word in words)} ended with {said.code}: {said.err}")
        return said.json
