"""Changes that the holders of offline keys make: the first root, reviewers of a model, rotation of every key.

Each starts from the *verified* published metadata, is built and signed here, and is only uploaded; the hub's own word
is used for one thing: which public online keys it has, and signing a root is exactly the approval of those.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from securesystemslib.signer import Key, Signer
from tuf.api.metadata import Root, Targets

from hub.cli.key_sources import is_reference, public_of
from hub.cli.repository_view import RepositoryView, open_view, pin, warn_if_expired
from hub.cli.session import Session
from hub.trust import ceremony, metadata
from hub.trust.key_files import parse_public
from hub.trust.metadata import Quorum
from hub.trust.names import role_of
from shared import durable
from shared.assignment_keys import ASSIGNMENT_KEYS_PATH, build_assignment_keys
from shared.errors import InvalidInput

__all__ = ["OfflineChange", "QuorumChange", "first_trust", "published_key", "quorum_of_files", "renew", "submit"]

DAY_S = 86_400
_STAGED = "/v1/trust/staged"


def published_key(document: Mapping[str, Any]) -> Key:
    """A public key from the hub's answer; its key id is computed here."""
    try:
        return parse_public(document["key_id"], document["key"])
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInput("trust.bad_key", f"The hub shows an online key that cannot be used: {error}.") from error


def quorum_of_files(paths: Sequence[Path], threshold: int) -> Quorum:
    """A quorum of the public keys beside these files; errors `keys.*`, `trust.*`."""
    return Quorum(tuple(public_of(path).key for path in paths), threshold)


def submit(
    session: Session,
    role: str,
    data: bytes,
    signers: Sequence[Signer],
    *,
    files: Mapping[str, bytes] | None = None,
    note: str = "",
    together: bool = False,
) -> dict[str, Any]:
    """Sign the next version of a role and hand it to the hub, which publishes it once it has enough signatures.

    together: not before the staged change of the role that appoints its signers.
    """
    body = {
        "metadata": metadata.sign(data, *signers).decode(),
        "files": {path: content.decode() for path, content in (files or {}).items()},
        "note": note,
        "together": together,
    }
    answer: dict[str, Any] = session.client.put(f"{_STAGED}/{role}", body)
    return answer


def first_trust(
    session: Session, quorum: Quorum, signers: Sequence[Signer], days: int, out: Path
) -> dict[str, Any]:
    """Make, sign and publish root and targets version 1, keep the root here and write it to `out`."""
    online = session.client.get("/v1/trust/online-keys")
    made = ceremony.start(
        [f"holder-{number}" for number in range(len(quorum.keys))],
        quorum,
        published_key(online["online"]),
        published_key(online["assignment"]),
        expires_s=session.now() + days * DAY_S,
    )
    for signer in signers:
        made = made.sign(signer)
    return publish_first(session, made.root, made.targets, made.assignment_keys, quorum, out)


def publish_first(
    session: Session, root: bytes, targets: bytes, assignment_keys: bytes, quorum: Quorum, out: Path
) -> dict[str, Any]:
    """Give the hub its signed root and targets version 1, keep the root here and write it to `out`."""
    if not out.parent.is_dir():
        raise InvalidInput("cli.file", f"There is no folder {out.parent}.", hint="Check --out.")
    files = {ASSIGNMENT_KEYS_PATH: assignment_keys.decode()}
    session.client.post("/v1/trust/bootstrap", {"root": root.decode(), "targets": targets.decode(), "files": files})
    pin(session.client.url, root)
    durable.write_file(out, root, mode=0o644)
    return {
        "root": str(out),
        "root_sha256": hashlib.sha256(root).hexdigest(),
        "threshold": quorum.threshold,
        "key_ids": quorum.key_ids,
    }


def renew(view: RepositoryView, session: Session, role: str, days: int) -> bytes:
    """The next version of a published role with the same content and a new expiry, unsigned."""
    current = view.role(role)
    if current is None:
        raise InvalidInput("trust.never_published", f"Nothing of {role} was ever published.")
    warn_if_expired(session, role, current)
    return metadata.renew(current, expires_s=session.now() + days * DAY_S)


@dataclass(frozen=True, slots=True)
class QuorumChange:
    """Keys to add (files), to remove (files or key ids, also shortened) and a new threshold; None keeps it."""

    add: Sequence[Path] = ()
    remove: Sequence[str] = ()
    threshold: int | None = None

    def apply(self, old: Quorum) -> Quorum:
        """The new quorum; errors `keys.*`, `trust.*`."""
        gone = {_key_id(text, old) for text in self.remove}
        kept = [key for key in old.keys if key.keyid not in gone]
        known = {key.keyid for key in kept}
        new = [found.key for found in map(public_of, self.add) if found.key.keyid not in known]
        return Quorum((*kept, *new), old.threshold if self.threshold is None else self.threshold)


def _key_id(text: str, quorum: Quorum) -> str:
    wanted = public_of(Path(text)).key.keyid if is_reference(text) else text
    found = [key_id for key_id in quorum.key_ids if key_id.startswith(wanted)] if len(wanted) >= 8 else []
    if len(found) != 1:
        raise InvalidInput(
            "trust.no_such_key",
            f"{text[:80]!r} is not one of the keys.",
            hint="Give its .pub file, or at least 8 digits of its key id.",
        )
    return found[0]


class OfflineChange:
    """One change, from the verified state of the hub's repository."""

    def __init__(self, session: Session, signers: Sequence[Signer], days: int) -> None:
        self._session = session
        self._signers = signers
        self._expires_s = session.now() + days * DAY_S

    @cached_property
    def _view(self) -> RepositoryView:
        return open_view(self._session)

    def appoint(self, model: str, quorum: Quorum) -> list[dict[str, Any]]:
        """Make `quorum` the reviewers of a model, new or in place of others; nothing to do if they are that already."""
        if _is_appointed(metadata.parse(self._view.targets, Targets).signed, role_of(model), quorum):
            return []
        data = metadata.revise_targets(self._view.targets, models={model: quorum}, expires_s=self._expires_s)
        answers = [self._submit("targets", data, note=f"reviewers of {model}")]
        release = self._view.role(role_of(model))
        if not answers[0]["published"] and release is not None and not metadata.carries(release, quorum):
            again, note = metadata.renew(release, expires_s=self._expires_s), "signed again by the new reviewers"
            answers.append(submit(self._session, role_of(model), again, [], note=note, together=True))
        return answers

    def change_reviewers(self, model: str, change: QuorumChange) -> list[dict[str, Any]]:
        """Add and remove reviewers of a model, or change its threshold."""
        old = metadata.quorum_of(metadata.parse(self._view.targets, Targets).signed, role_of(model))
        return self.appoint(model, change.apply(old))

    def change_holders(self, change: QuorumChange) -> list[dict[str, Any]]:
        """Add and remove holders of the offline keys, or change their threshold, for root and targets alike."""
        root = metadata.parse(self._view.root, Root).signed
        new = change.apply(metadata.quorum_of(root, Root.type))
        data = metadata.revise_root(self._view.root, root=new, targets=new, expires_s=self._expires_s)
        answers = [self._submit("root", data, note="holders of the offline keys")]
        if not answers[0]["published"] and not metadata.carries(self._view.targets, new):
            again = metadata.renew(self._view.targets, expires_s=self._expires_s)
            note = "signed again by the new holders"
            able = [signer for signer in self._signers if signer.public_key.keyid in new.key_ids]
            answers.append(submit(self._session, "targets", again, able, note=note, together=True))
            if answers[1]["published"]:  # and with it the root
                answers.append({**answers[0], "published": True})
        return answers

    def replace_online_key(self) -> list[dict[str, Any]]:
        """A new key for snapshot and timestamp: made by the hub, named by a new root."""
        key = published_key(self._session.client.post("/v1/trust/online-keys/online/next"))
        data = metadata.revise_root(self._view.root, online=key, expires_s=self._expires_s)
        return [self._submit("root", data, note="online key")]

    def replace_assignment_key(self) -> list[dict[str, Any]]:
        """A new key for assignments: made by the hub, listed alone by new targets."""
        key = published_key(self._session.client.post("/v1/trust/online-keys/assignment/next"))
        files = {ASSIGNMENT_KEYS_PATH: build_assignment_keys([key])}
        data = metadata.revise_targets(self._view.targets, files=files, expires_s=self._expires_s)
        return [submit(self._session, "targets", data, self._signers, files=files, note="assignment key")]

    def renew(self, role: str, days: int) -> list[dict[str, Any]]:
        """Sign a role again, with the same content and a new expiry; also one that has expired meanwhile."""
        view = open_view(self._session, although_expired=True)
        return [self._submit(role, renew(view, self._session, role, days), note="renewal")]

    def _submit(self, role: str, data: bytes, *, note: str) -> dict[str, Any]:
        return submit(self._session, role, data, self._signers, note=note)


def _is_appointed(targets: Targets, role: str, quorum: Quorum) -> bool:
    roles = (targets.delegations.roles or {}) if targets.delegations else {}
    found = roles.get(role)
    return found is not None and (found.threshold, set(found.keyids)) == (quorum.threshold, set(quorum.key_ids))
