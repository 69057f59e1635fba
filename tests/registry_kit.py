"""A running hub with reviewers: models, versions, gates, approvals and deployments over its real HTTPS API.

    with released_hub(tmp_path) as flow:
        flow.create_model("digits")
        flow.put_bundle("digits", path)          # the answer of the API
        flow.approve("digits", 1)                # staged and signed by two reviewers' keys
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from securesystemslib.signer import CryptoSigner

from hub.trust import metadata
from shared.assignment_keys import ASSIGNMENT_KEYS_PATH, build_assignment_keys
from tests.hub_kit import YEAR_S, HubKit, running_hub
from tests.models import digits_bundle, load_digits

__all__ = ["Flow", "released_hub"]


class Flow:
    """The steps of a release. `kit.admin` is a client that may do everything."""

    def __init__(self, kit: HubKit) -> None:
        self.kit = kit
        self.admin = kit.admin
        self.roots = [CryptoSigner.generate_ed25519() for _ in range(2)]
        self.reviewers = [CryptoSigner.generate_ed25519() for _ in range(2)]
        self._bootstrap()

    @property
    def _expires_s(self) -> float:
        return self.kit.hub.clock.now() + YEAR_S

    def _bootstrap(self) -> None:
        trust = self.kit.hub.trust
        online, quorum = trust.online_keys(), metadata.Quorum(tuple(s.public_key for s in self.roots), 2)
        files = {ASSIGNMENT_KEYS_PATH: build_assignment_keys([online.assignment])}
        root = metadata.build_root(quorum, quorum, online.online, version=1, expires_s=self._expires_s)
        targets = metadata.build_targets(files, {}, version=1, expires_s=self._expires_s)
        trust.bootstrap(metadata.sign(root, *self.roots), metadata.sign(targets, *self.roots), files, "test")

    def create_model(self, model: str, **fields: Any) -> None:
        """Create a model and appoint its reviewers."""
        self.admin.post("/v1/models", json={"name": model, **fields}).raise_for_status()
        trust = self.kit.hub.trust
        quorum = metadata.Quorum(tuple(signer.public_key for signer in self.reviewers), 2)
        current = trust.current("targets")
        if current is None:
            raise LookupError("targets")
        data = metadata.revise_targets(current, models={model: quorum}, expires_s=self._expires_s)
        trust.propose("targets", metadata.sign(data, *self.roots), "test")

    def digits(self, version: int, model: str = "digits", **more: Any) -> httpx.Response:
        """Build and register a digits bundle."""
        path = self.kit.folder / f"{model}-{version}.bundle"
        digits_bundle(path, version, model, **more)
        return self.put_bundle(model, path)

    def put_bundle(self, model: str, path: Path, client: httpx.Client | None = None) -> httpx.Response:
        """Upload a bundle."""
        with path.open("rb") as stream:
            return (client or self.admin).put(f"/v1/models/{model}/versions", content=stream)

    def put_dataset(self, name: str = "held-out") -> str:
        """Upload the digits' test data; its digest."""
        path, data = self.kit.folder / "held-out.npz", load_digits()
        np.savez_compressed(path, x=data.test_x, y=data.test_y)
        answer = self.admin.put("/v1/datasets", params={"name": name}, content=path.read_bytes())
        answer.raise_for_status()
        return str(answer.json()["sha256"])

    def gate(self, model: str, version: int, dataset: str) -> dict[str, Any]:
        """Run the gate."""
        path = f"/v1/models/{model}/versions/{version}/gate"
        answer = self.admin.post(path, json={"dataset_sha256": dataset})
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    def approve(self, model: str, version: int) -> None:
        """Stage the release and sign it with both reviewers' keys."""
        trust = self.kit.hub.trust
        staged = trust.stage_release(model, version, "test")
        for signer in self.reviewers:
            signature = metadata.make_signature(staged.data, signer)
            trust.add_signature(staged.role, staged.version, signature.keyid, signature.signature, "test")

    def deploy(self, model: str, version: int, where: str = "all", **more: Any) -> httpx.Response:
        """Deploy."""
        return self.admin.post("/v1/deployments", json={"model": model, "version": version, "filter": where, **more})


@contextmanager
def released_hub(folder: Path, **settings: Any) -> Iterator[Flow]:
    """A running hub whose offline keys the test holds."""
    with running_hub(folder, trust=False, **settings) as kit:
        yield Flow(kit)
