"""What an attacker can do: hold the network (any answer under any path), and sign with keys that were stolen.

He cannot break TLS or signatures; where a test gives him the network, he has the hub's TLS key as well, which is the
worst case: a hub that is his. `online`, `reviewer` and `offline` are the keys of which a test gives him one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from securesystemslib.signer import Signer
from tuf.api.metadata import Snapshot, Timestamp

from hub.trust import metadata
from tests.attacks.victim import MODEL
from tests.ota.hub_sim import HubSim
from tests.trust_kit import KitVersion, TrustKit

__all__ = ["Attacker"]

TUF = "/v1/tuf/"


class Attacker:
    """Between one hub and its devices."""

    def __init__(self, kit: TrustKit, hub: HubSim) -> None:
        self._kit = kit
        self.hub = hub
        self.online: Signer = kit.keys.current("online")
        self.assigner: Signer = kit.keys.current("assignment")

    @property
    def reviewer(self) -> Signer:
        """One reviewer's key, of two that are needed."""
        return self._kit.reviewers[MODEL][0]

    @property
    def offline(self) -> Signer:
        """One offline key, of two that are needed."""
        return self._kit.roots[0]

    def serve(self, path: str, data: bytes) -> None:
        """Answer this path of the release metadata with these bytes."""
        self.hub.replace[TUF + path] = data

    def record(self) -> dict[str, bytes]:
        """The whole repository as a mirror has it now."""
        names = ["timestamp.json"]
        stamp = metadata.parse(self._kit.current("timestamp"), Timestamp).signed
        snapshot = metadata.parse(self._kit.current("snapshot"), Snapshot).signed
        names.append(f"{stamp.snapshot_meta.version}.snapshot.json")
        names += [f"{meta.version}.{name}" for name, meta in snapshot.meta.items()]
        return {name: self._kit.repository.published(name) for name in names}

    def play(self, recorded: dict[str, bytes]) -> None:
        """Be a mirror of what was recorded."""
        for name, data in recorded.items():
            self.serve(name, data)

    def stop(self) -> None:
        """The network is honest again."""
        self.hub.replace.clear()
        self.hub.faults.clear()

    def evil_bundle(self, data: bytes) -> KitVersion:
        """A bundle of his own on the hub's disk."""
        return KitVersion(self._kit.blobs.put(data), len(data))

    def release(self, version: int, bundle: KitVersion, *signers: Signer) -> bytes:
        """Release metadata of `digits` that names his bundle, signed by whoever he has."""
        data = metadata.build_release(
            self._kit.current(f"model-{MODEL}"),
            MODEL,
            version,
            bundle.bundle_sha256,
            bundle.bundle_bytes,
            expires_s=self._kit.year_s,
        )
        return metadata.sign(data, *signers)

    def publish(
        self, changed: Iterable[tuple[str, bytes]] = (), *, jump: int = 1, expires_s: float | None = None
    ) -> None:
        """Serve these roles with a snapshot and a timestamp by the stolen online key; versions go on by `jump`."""
        until_s = self._kit.year_s if expires_s is None else expires_s
        old = self._kit.current("snapshot")
        number = metadata.parse(old, Snapshot).signed.version + jump
        stamp_number = metadata.parse(self._kit.current("timestamp"), Timestamp).signed.version + jump
        rows = [(role, int(json.loads(data)["signed"]["version"]), data) for role, data in changed]
        snapshot = metadata.build_snapshot(old, rows, version=number, expires_s=self._kit.year_s)
        snapshot = metadata.sign(snapshot, self.online)
        stamp = metadata.build_timestamp(number, snapshot, version=stamp_number, expires_s=until_s)
        for role, version, data in rows:
            self.serve(f"{version}.{role}.json", data)
        self.serve(f"{number}.snapshot.json", snapshot)
        self.serve("timestamp.json", metadata.sign(stamp, self.online))
