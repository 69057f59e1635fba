"""The first root of trust, made by people on separate machines: one file goes round, and each holder signs it.

The file holds the unsigned first root and targets, the list of assignment keys that the targets describe, and the
holders' names. Rules: nothing of it is believed. `read` builds root and targets again from what they say and compares
bytes, so nothing can hide in them that `Ceremony` does not show; a signature counts only if it is a holder's and
valid; copies that were signed side by side are put together only if they say the same. Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import msgspec
from msgspec import Meta
from securesystemslib.signer import Key, Signer
from tuf.api.metadata import Root, Snapshot, Targets, Timestamp

from hub.trust import metadata
from hub.trust.key_files import parse_key_name, parse_public
from hub.trust.metadata import Quorum
from shared import canonical, limits
from shared.assignment_keys import ASSIGNMENT_KEYS_PATH, build_assignment_keys, parse_assignment_keys
from shared.errors import Conflict, InvalidInput, SkerryError, Untrusted

__all__ = ["Ceremony", "merge", "read", "start"]

MAX_FILE_BYTES = 2 * limits.MIB
Text = Annotated[str, Meta(max_length=limits.MAX_ROOT_BYTES)]


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    schema_version: Literal[1] = 1
    kind: Literal["skerry-root-ceremony"] = "skerry-root-ceremony"
    holders: Annotated[dict[str, str], Meta(min_length=1, max_length=64)]
    root: Text
    targets: Text
    assignment_keys: Text


@dataclass(frozen=True, slots=True)
class Ceremony:
    """What the holders sign. `names` by key id are for people: the keys count."""

    names: Mapping[str, str]
    root: bytes
    targets: bytes
    assignment_keys: bytes
    quorum: Quorum
    online: Key
    assignment: Sequence[Key]
    expires_s: float

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all that is signed; it is the same on every holder's machine and after every signature."""
        root, targets = metadata.without_signatures(self.root), metadata.without_signatures(self.targets)
        parts = (root, targets, self.assignment_keys)
        return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()

    @property
    def signed(self) -> list[str]:
        """Key ids of the holders who have signed both root and targets."""
        signed = [set(metadata.parse_any(data).signatures) for data in (self.root, self.targets)]
        return [key_id for key_id in self.quorum.key_ids if key_id in signed[0] & signed[1]]

    @property
    def missing(self) -> int:
        """How many more holders must sign."""
        return max(0, self.quorum.threshold - len(self.signed))

    def sign(self, signer: Signer) -> Ceremony:
        """The same with one more holder's signatures; errors `ceremony.no_holder`, `ceremony.signed`."""
        key_id = signer.public_key.keyid
        self.check_holder(key_id)
        return replace(self, root=metadata.sign(self.root, signer), targets=metadata.sign(self.targets, signer))

    def check_holder(self, key_id: str) -> None:
        """Return if this holder may sign now; errors `ceremony.no_holder`, `ceremony.signed`."""
        if key_id not in self.quorum.key_ids:
            raise InvalidInput(
                "ceremony.no_holder",
                f"The key {key_id[:12]}… is not one of the holders' in this file.",
                hint="`skerry keys ceremony show FILE` lists them.",
            )
        if key_id in self.signed:
            raise Conflict("ceremony.signed", f"{self.names[key_id]} has signed this file already.")

    def to_bytes(self) -> bytes:
        """The content of the file."""
        document = _File(
            holders=dict(self.names),
            root=self.root.decode(),
            targets=self.targets.decode(),
            assignment_keys=self.assignment_keys.decode(),
        )
        return canonical.dumps(document) + b"\n"


def start(names: Sequence[str], quorum: Quorum, online: Key, assignment: Key, *, expires_s: float) -> Ceremony:
    """An unsigned ceremony for these holders (`names` in the order of the quorum's keys)."""
    files = {ASSIGNMENT_KEYS_PATH: build_assignment_keys([assignment])}
    root = metadata.build_root(quorum, quorum, online, version=1, expires_s=expires_s)
    targets = metadata.build_targets(files, {}, version=1, expires_s=expires_s)
    document = _File(
        holders=dict(zip(quorum.key_ids, names, strict=True)),
        root=root.decode(),
        targets=targets.decode(),
        assignment_keys=files[ASSIGNMENT_KEYS_PATH].decode(),
    )
    return read(canonical.dumps(document))


def read(data: bytes) -> Ceremony:
    """A ceremony from its file, with only valid signatures; errors `ceremony.malformed`, `ceremony.bad_signature`."""
    try:
        document = canonical.loads_as(data, _File, limit=MAX_FILE_BYTES, what="ceremony file")
        found = _read(document)
    except (InvalidInput, KeyError, ValueError) as error:
        raise InvalidInput(
            "ceremony.malformed",
            f"This is not a ceremony file of Skerry: {error.message if isinstance(error, SkerryError) else error}",
            hint="Ask for a fresh copy; `skerry keys ceremony start` makes one.",
        ) from error
    _check_signatures(found)
    return found


def _read(document: _File) -> Ceremony:
    data, targets = document.root.encode(), document.targets.encode()
    assignment_keys = document.assignment_keys.encode()
    root = metadata.parse(data, Root).signed
    quorum = metadata.quorum_of(root, Root.type)
    for key_id, key in root.keys.items():
        parse_public(key_id, key.to_dict())
    online = metadata.quorum_of(root, Timestamp.type).keys[0]
    assignment = list(parse_assignment_keys(assignment_keys).values())
    if document.holders.keys() != set(quorum.key_ids):
        raise ValueError("the names are not those of its holders")
    for name in document.holders.values():
        parse_key_name(name)
    expires_s = metadata.expiry_s(root)
    expected = (
        metadata.build_root(quorum, quorum, online, version=1, expires_s=expires_s),
        metadata.build_targets({ASSIGNMENT_KEYS_PATH: assignment_keys}, {}, version=1, expires_s=expires_s),
        build_assignment_keys(assignment),
    )
    given = (metadata.without_signatures(data), metadata.without_signatures(targets), assignment_keys)
    if given != expected or metadata.quorum_of(root, Snapshot.type).key_ids != [online.keyid]:
        raise ValueError("it holds more, or other things, than a first root of trust")
    return Ceremony(document.holders, data, targets, assignment_keys, quorum, online, assignment, expires_s)


def _check_signatures(ceremony: Ceremony) -> None:
    holders = {key.keyid: key for key in ceremony.quorum.keys}
    for data, kind in ((ceremony.root, Root), (ceremony.targets, Targets)):
        for key_id, signature in metadata.parse_any(data).signatures.items():
            try:
                metadata.check_signature(data, holders[key_id], signature)
            except (KeyError, Untrusted) as error:
                raise Untrusted(
                    "ceremony.bad_signature",
                    f"The file has a signature of the {kind.type} that is not a holder's, or not over this content.",
                    hint="The file was damaged or changed on its way: go back to the copy before.",
                ) from error


def merge(ceremonies: Sequence[Ceremony]) -> Ceremony:
    """One ceremony with the signatures of all copies; error `ceremony.different`: they do not say the same."""
    found = ceremonies[0]
    for other in ceremonies[1:]:
        if other.fingerprint != found.fingerprint:
            raise Conflict(
                "ceremony.different",
                "The files are not copies of one ceremony: their fingerprints differ.",
                hint="Give only copies of the file that one person started.",
            )
        root = metadata.attach(found.root, *metadata.parse_any(other.root).signatures.values())
        targets = metadata.attach(found.targets, *metadata.parse_any(other.targets).signatures.values())
        found = replace(found, root=root, targets=targets)
    return found
