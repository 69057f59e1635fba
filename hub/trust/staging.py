"""Metadata that collects signatures: staged once, signed by people elsewhere, published the moment it is complete.

A signature counts only if it is valid over the staged bytes and its key is one that the role's delegation names, each
key once. Signing is the only way to publish; nobody's token can replace it. What is staged on top of a version that has
meanwhile been superseded is stale and is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from securesystemslib.signer import Key, Signature
from tuf.api.metadata import Root, Targets

from hub.settings import TrustSettings
from hub.store import trust as store
from hub.store.database import Connection
from hub.store.trust import StagedMetadata
from hub.trust import metadata, proposals
from hub.trust.names import delegator_of, parse_role, role_model, role_of, target_path
from hub.trust.online_keys import OnlineKeys
from hub.trust.published import PublishedRepository
from hub.trust.registry import Audit
from shared.assignment_keys import ASSIGNMENT_KEYS_PATH
from shared.errors import Conflict, Forbidden, InvalidInput, NotFound, Untrusted

__all__ = ["TOGETHER", "Outcome", "Requirement", "Staging"]

TOGETHER = "together"
"""In the context of what is staged: it is for the signers that the staged change of its delegator appoints, and so is
never published before that, where the old signers would do."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """One threshold to be met: who was appointed by which metadata, how many are needed, who has signed."""

    appointed_by: str
    threshold: int
    key_ids: tuple[str, ...]
    signed: tuple[str, ...]

    @property
    def missing(self) -> int:
        """How many signatures are still needed."""
        return max(0, self.threshold - len(self.signed))


@dataclass(frozen=True, slots=True)
class Outcome:
    """A role that is staged, or that has just been published (`published`). `waiting_for` says why it is not yet."""

    role: str
    version: int
    data: bytes
    context: Mapping[str, Any]
    requirements: tuple[Requirement, ...]
    published: bool
    waiting_for: str = ""
    staged_by: str = ""
    staged_s: float = 0.0

    @property
    def missing(self) -> int:
        """The most signatures that any requirement still lacks."""
        return max((requirement.missing for requirement in self.requirements), default=0)


class Staging:
    """Staging within the caller's write transaction, at one moment `now_s`."""

    def __init__(self, published: PublishedRepository, keys: OnlineKeys, settings: TrustSettings, audit: Audit) -> None:
        self._published = published
        self._keys = keys
        self._settings = settings
        self._audit = audit

    # --- looking ----------------------------------------------------------------------------------------------------
    def show(self, connection: Connection, role: str) -> Outcome:
        """What is staged for a role; error `trust.not_staged`."""
        return self._outcome(connection, self._must(connection, parse_role(role)))

    def _must(self, connection: Connection, role: str) -> StagedMetadata:
        found = store.get_staged(connection, role)
        if found is None:
            raise NotFound("trust.not_staged", f"Nothing of {role} is waiting for signatures.")
        return found

    def _requirements(self, connection: Connection, row: StagedMetadata) -> list[tuple[str, metadata.Quorum]]:
        """Who may sign: appointed by the published delegator, and by the staged one where that says otherwise."""
        delegator = delegator_of(row.role) or Root.type
        sources = {"published": self._published.must(connection, delegator).data}
        staged = row if row.role == delegator else store.get_staged(connection, delegator)
        if staged is not None:
            sources["staged"] = staged.data
        found: list[tuple[str, metadata.Quorum]] = []
        for name, data in sources.items():
            try:
                quorum = metadata.quorum_of(metadata.parse_any(data).signed, row.role)
            except InvalidInput:
                continue  # not appointed by this one; nobody can sign if by neither
            if not found or _same(found[0][1]) != _same(quorum):
                found.append((name, quorum))
        return found

    def _outcome(self, connection: Connection, row: StagedMetadata, waiting_for: str = "") -> Outcome:
        signed = set(metadata.parse_any(row.data).signatures)
        requirements = tuple(
            Requirement(name, quorum.threshold, tuple(quorum.key_ids), tuple(k for k in quorum.key_ids if k in signed))
            for name, quorum in self._requirements(connection, row)
        )
        return Outcome(
            row.role,
            row.version,
            row.data,
            row.context,
            requirements,
            published=False,
            waiting_for=waiting_for,
            staged_by=row.staged_by,
            staged_s=row.staged_s,
        )

    # --- staging ----------------------------------------------------------------------------------------------------
    def release(self, connection: Connection, model: str, version: int, actor: str, now_s: float) -> Outcome:
        """Stage the approval of a version; staged already, it stays as it is with its signatures."""
        role, path = role_of(model), target_path(model, version)
        metadata.quorum_of(self._published.targets(connection), role)
        published = store.latest(connection, role)
        if published is not None and path in metadata.parse(published.data, Targets).signed.targets:
            raise Conflict("release.approved", f"{model} version {version} is approved already.")
        row = store.get_staged(connection, role)
        if row is not None and row.version > _version(published):
            if path not in metadata.parse(row.data, Targets).signed.targets:
                raise _busy(row)
            return self._outcome(connection, row)
        digest, size = self._published.releasable(model, version)
        data = metadata.build_release(
            published.data if published else None,
            model,
            version,
            digest,
            size,
            expires_s=now_s + self._settings.targets_expires_s,
        )
        context = {"model": model, "version": version, "bundle_sha256": digest}
        return self.propose(connection, role, data, actor, now_s, context=context)

    def propose(
        self,
        connection: Connection,
        role: str,
        data: bytes,
        actor: str,
        now_s: float,
        *,
        files: Mapping[str, bytes] | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> Outcome:
        """Stage the next version of a role; signatures that come with it count at once."""
        name = parse_role(role)
        published = store.latest(connection, name)
        proposed = metadata.parse(data, Root) if name == Root.type else metadata.parse(data, Targets)
        proposals.check_next(proposed.signed, _version(published), now_s)
        self._check_content(connection, name, proposed.signed, files or {})
        unsigned = metadata.without_signatures(data)
        row = store.get_staged(connection, name)
        if row is not None and row.version > _version(published):
            if metadata.without_signatures(row.data) != unsigned:
                raise _busy(row)
        else:
            about = {**(context or {}), **self._about(connection, name, proposed.signed)}
            row = StagedMetadata(name, proposed.signed.version, unsigned, about, now_s, actor)
            store.put_staged(connection, row)
            store.add_files(connection, _described(files or {}), now_s)
            self._audit.append(connection, actor, "trust.staged", name, {"version": row.version, **row.context})
        outcome = self._outcome(connection, row)
        for signature in proposed.signatures.values():
            if outcome.published:
                break
            outcome = self.sign(connection, name, row.version, signature, actor, now_s)
        return outcome

    def _about(self, connection: Connection, role: str, signed: Root | Targets) -> dict[str, Any]:
        """What a proposal is about, where that can be said in a word: the end of one version's approval."""
        model = role_model(role)
        if model is None or not isinstance(signed, Targets):
            return {}
        removed = self._published.removed_versions(connection, role, signed)
        return {"model": model, "version": removed[0], "revokes": True} if len(removed) == 1 else {}

    def _check_content(
        self, connection: Connection, role: str, signed: Root | Targets, files: Mapping[str, bytes]
    ) -> None:
        if isinstance(signed, Root):
            proposals.check_root(signed, self.held("online"))
        elif role == Targets.type:
            proposals.check_targets(signed)
            described = signed.targets[ASSIGNMENT_KEYS_PATH]
            data = files.get(ASSIGNMENT_KEYS_PATH)
            if data is None:
                data = store.get_file(connection, ASSIGNMENT_KEYS_PATH, described.hashes.get("sha256", ""))
            proposals.check_assignment_keys(described, data, self.held("assignment"))
        else:
            self._published.added_versions(connection, role, signed)

    def held(self, name: str) -> set[str]:
        """Key ids of the hub's own key of that name and of the one prepared for its rotation."""
        signers = (self._keys.current(name), self._keys.pending(name))
        return {signer.public_key.keyid for signer in signers if signer is not None}

    # --- signing ----------------------------------------------------------------------------------------------------
    def sign(
        self, connection: Connection, role: str, version: int, signature: Signature, actor: str, now_s: float
    ) -> Outcome:
        """Count a signature, and publish if it was the last one that was missing."""
        name = parse_role(role)
        row = store.get_staged(connection, name)
        published = store.latest(connection, name)
        if row is None or row.version != version or version <= _version(published):
            return self._late(name, version, signature, row, published)
        key = self._key(connection, row, signature.keyid)
        metadata.check_signature(row.data, key, signature)
        if signature.keyid not in metadata.parse_any(row.data).signatures:
            row = StagedMetadata(
                row.role,
                row.version,
                metadata.attach(row.data, Signature(signature.keyid, signature.signature)),
                row.context,
                row.staged_s,
                row.staged_by,
            )
            store.put_staged(connection, row)
            detail = {"version": version, "key_id": signature.keyid, **row.context}
            self._audit.append(connection, actor, "trust.signed", name, detail)
        return self._publish_if_complete(connection, row, actor, now_s)

    def _late(
        self,
        role: str,
        version: int,
        signature: Signature,
        row: StagedMetadata | None,
        published: store.PublishedMetadata | None,
    ) -> Outcome:
        """A signature for what is not staged: fine if it is a replay of one that was published, else stale."""
        if published is not None and published.version == version:
            known = metadata.parse_any(published.data).signatures.get(signature.keyid)
            if known is not None and known.signature == signature.signature:
                return Outcome(role, version, published.data, {}, (), published=True)
        if row is None and published is None:
            raise NotFound("trust.not_staged", f"Nothing of {role} is waiting for signatures.")
        raise Conflict(
            "release.stale",
            f"Version {version} of {role} is not what waits for signatures now.",
            hint="Look at it again and sign what is staged now, if it is still wanted.",
            detail={"staged": row.version if row else None, "published": _version(published)},
        )

    def _key(self, connection: Connection, row: StagedMetadata, key_id: str) -> Key:
        for _, quorum in self._requirements(connection, row):
            for key in quorum.keys:
                if key.keyid == key_id:
                    return key
        raise Forbidden(
            "trust.unknown_key",
            f"The key {key_id[:12]}… may not sign for {row.role}.",
            hint="Sign with a key that the role's delegation names; `skerry trust show` lists them.",
        )

    def _publish_if_complete(self, connection: Connection, row: StagedMetadata, actor: str, now_s: float) -> Outcome:
        staged = {
            other.role: other.data
            for other in store.list_staged(connection)
            if other.version > _version(store.latest(connection, other.role))
        }
        awaited = delegator_of(row.role) if row.context.get(TOGETHER) else None
        if awaited is not None and awaited in staged:
            return self._publish_together(connection, row, self._must(connection, awaited), actor, now_s)
        try:
            publication = self._published.publisher(connection, now_s).prepare_with_staged(row.role, staged)
        except Untrusted as error:
            return self._outcome(connection, row, waiting_for=error.message)
        self._published.commit(connection, publication, staged, actor)
        self._publish_what_waited(connection, actor, now_s)
        return Outcome(row.role, row.version, row.data, row.context, (), published=True)

    def _publish_together(
        self, connection: Connection, row: StagedMetadata, awaited: StagedMetadata, actor: str, now_s: float
    ) -> Outcome:
        """Publish what appoints the signers of `row`, which takes `row` along; until that can be, both wait."""
        found = self._publish_if_complete(connection, awaited, actor, now_s)
        if store.get_staged(connection, row.role) is None:
            return Outcome(row.role, row.version, row.data, row.context, (), published=True)
        return self._outcome(connection, row, found.waiting_for or f"It is published together with {awaited.role}.")

    def _publish_what_waited(self, connection: Connection, actor: str, now_s: float) -> None:
        """Publish what had its signatures and waited for the change that has just been published."""
        for row in store.list_staged(connection):
            fresh = row.version > _version(store.latest(connection, row.role))
            complete = fresh and self._outcome(connection, row).missing == 0
            if complete and self._publish_if_complete(connection, row, actor, now_s).published:
                return  # it has looked after the rest itself

    def withdraw(self, connection: Connection, role: str, actor: str) -> None:
        """Take back what is staged for a role, with the signatures it has; error `trust.not_staged`."""
        row = self._must(connection, parse_role(role))
        store.drop_staged(connection, [row.role])
        self._audit.append(connection, actor, "trust.withdrawn", row.role, {"version": row.version, **row.context})


def _version(published: store.PublishedMetadata | None) -> int:
    return published.version if published else 0


def _same(quorum: metadata.Quorum) -> tuple[int, frozenset[str]]:
    return quorum.threshold, frozenset(quorum.key_ids)


def _described(files: Mapping[str, bytes]) -> list[tuple[str, str, bytes]]:
    return [(path, metadata.describe_file(path, data).hashes["sha256"], data) for path, data in files.items()]


def _busy(row: StagedMetadata) -> Conflict:
    what = f"version {row.context['version']}" if "version" in row.context else f"{row.role} version {row.version}"
    return Conflict(
        "release.busy",
        f"Another change ({what}) is waiting for signatures in {row.role}.",
        hint=f"Sign it, or withdraw it: `skerry trust withdraw {row.role}`.",
        detail={"role": row.role, "version": row.version, "model": role_model(row.role)},
    )
