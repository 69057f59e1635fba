"""From changed offline metadata to a whole, verified repository state; pure except for the signers it is given.

`Publisher.prepare` overlays changed roles on the published ones, signs snapshot and timestamp, and lets the client's
rules judge the result. When a role alone would be refused because another staged change belongs to it (a new root, and
the targets signed by its new keys), `prepare_with_staged` takes that one along, so that both appear in one step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from securesystemslib.signer import Signer
from tuf.api.metadata import Root, Snapshot, Targets, Timestamp

from hub.settings import TrustSettings
from hub.store.trust import PublishedMetadata
from hub.trust import metadata
from hub.trust.names import delegator_of
from hub.trust.verify import Candidate, check_candidate
from shared.errors import Untrusted

__all__ = ["Latest", "Publication", "Publisher"]

Latest = Callable[[str], PublishedMetadata | None]
"""The newest published version of a role."""


@dataclass(frozen=True, slots=True)
class Publication:
    """Rows to add in one transaction, and the offline roles among them."""

    rows: tuple[PublishedMetadata, ...]
    roles: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Publisher:
    """Builds publications at one moment. `signer_for` gives the hub's signer for a set of online key ids."""

    latest: Latest
    signer_for: Callable[[list[str]], Signer]
    settings: TrustSettings
    now_s: float

    def prepare(self, overlay: Mapping[str, bytes]) -> Publication:
        """The publication of these signed roles; error `trust.would_be_refused` with `detail.role`."""
        changed = [self._row(role, data) for role, data in overlay.items()]
        online = self._online_rows([row for row in changed if row.role != Root.type], self._root(overlay))
        check_candidate(self._candidate(overlay, online), self.now_s)
        return Publication((*changed, *online), tuple(overlay))

    def prepare_with_staged(self, role: str, staged: Mapping[str, bytes]) -> Publication:
        """The publication of a staged role, with those staged changes that it cannot be published without."""
        overlay = {role: staged[role]}
        while True:
            try:
                return self.prepare(overlay)
            except Untrusted as error:
                needed = _next_needed(error.detail.get("role"), overlay, staged)
                if needed is None:
                    raise
                overlay[needed] = staged[needed]

    def resign(self, *, with_snapshot: bool) -> Publication:
        """A fresh timestamp, and a fresh snapshot if asked for; the offline roles stay as they are."""
        if with_snapshot:
            return Publication(tuple(self._online_rows([], self._root({}))), ())
        snapshot = self._must(Snapshot.type)
        return Publication((self._timestamp(snapshot.version, snapshot.data, self._signer(self._root({}))),), ())

    # --- parts ------------------------------------------------------------------------------------------------------
    def _must(self, role: str) -> PublishedMetadata:
        found = self.latest(role)
        if found is None:
            raise Untrusted(
                "trust.would_be_refused", f"There is no published {role} metadata yet.", detail={"role": role}
            )
        return found

    def _data(self, role: str, overlay: Mapping[str, bytes]) -> bytes:
        return overlay[role] if role in overlay else self._must(role).data

    def _root(self, overlay: Mapping[str, bytes]) -> Root:
        return metadata.parse(self._data(Root.type, overlay), Root).signed

    def _signer(self, root: Root) -> Signer:
        return self.signer_for(root.roles[Timestamp.type].keyids)

    def _row(self, role: str, data: bytes) -> PublishedMetadata:
        signed = metadata.parse_any(data).signed
        return PublishedMetadata(role, signed.version, data, metadata.expiry_s(signed), self.now_s)

    def _online_rows(self, changed: list[PublishedMetadata], root: Root) -> list[PublishedMetadata]:
        previous, signer = self.latest(Snapshot.type), self._signer(root)
        version = previous.version + 1 if previous else 1
        expires_s = self.now_s + self.settings.snapshot_expires_s
        entries = [(row.role, row.version, row.data) for row in changed]
        unsigned = metadata.build_snapshot(
            previous.data if previous else None, entries, version=version, expires_s=expires_s
        )
        snapshot = self._row(Snapshot.type, metadata.sign(unsigned, signer))
        return [snapshot, self._timestamp(version, snapshot.data, signer)]

    def _timestamp(self, snapshot_version: int, snapshot: bytes, signer: Signer) -> PublishedMetadata:
        previous = self.latest(Timestamp.type)
        version = previous.version + 1 if previous else 1
        expires_s = self.now_s + self.settings.timestamp_expires_s
        unsigned = metadata.build_timestamp(snapshot_version, snapshot, version=version, expires_s=expires_s)
        return self._row(Timestamp.type, metadata.sign(unsigned, signer))

    def _candidate(self, overlay: Mapping[str, bytes], online: list[PublishedMetadata]) -> Candidate:
        published_root, new_root = self.latest(Root.type), overlay.get(Root.type)
        targets = self._data(Targets.type, overlay)
        return Candidate(
            trusted_root=published_root.data if published_root else self._data(Root.type, overlay),
            new_root=new_root if published_root else None,
            timestamp=online[1].data,
            snapshot=online[0].data,
            targets=targets,
            releases=self._releases(overlay, metadata.parse(targets, Targets).signed),
        )

    def _releases(self, overlay: Mapping[str, bytes], targets: Targets) -> dict[str, bytes]:
        """Delegated roles that the change touches: their own metadata is new, or their signers are."""
        top = (Root.type, Targets.type)
        found = {role: data for role, data in overlay.items() if role not in top}
        published = self.latest(Targets.type)
        if Targets.type not in overlay or published is None:
            return found
        old = metadata.parse(published.data, Targets).signed
        for role in (targets.delegations.roles or {}) if targets.delegations else {}:
            if role not in found and _signers(old, role) != _signers(targets, role):
                release = self.latest(role)
                if release is not None:
                    found[role] = release.data
        return found


def _signers(targets: Targets, role: str) -> tuple[int, frozenset[str]] | None:
    roles = (targets.delegations.roles or {}) if targets.delegations else {}
    if role not in roles:
        return None
    return roles[role].threshold, frozenset(roles[role].keyids)


def _next_needed(refused: object, overlay: Mapping[str, bytes], staged: Mapping[str, bytes]) -> str | None:
    """The staged role to take along after `refused` was: itself, else the one that appoints its signers, and so on."""
    role = refused if isinstance(refused, str) else None
    while role is not None:
        if role in staged and role not in overlay:
            return role
        role = delegator_of(role)
    return None
