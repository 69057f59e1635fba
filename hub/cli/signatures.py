"""Signing what waits at the hub, after verifying here what it would change.

Nothing that the hub says about the staged bytes is believed: the published side comes from the verified repository,
the difference is computed here, and the signature is over exactly the bytes that were compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tuf.api.metadata import Root, Targets

from hub.cli.key_sources import public_of
from hub.cli.passphrases import open_signers
from hub.cli.repository_view import RepositoryView, open_view, warn_if_expired
from hub.cli.session import Session
from hub.trust import metadata
from hub.trust.difference import changes
from hub.trust.names import parse_role
from shared.errors import Forbidden, InvalidInput, Untrusted

__all__ = ["check_may_sign", "post_signature", "sign_staged"]


def sign_staged(
    session: Session, role: str, key: Path, passphrase_files: Sequence[Path] | None, *, yes: bool
) -> dict[str, Any]:
    """Show what is staged for a role, ask, sign, post; the hub's answer. Errors `trust.*`, `keys.*`, `sign.*`."""
    name = parse_role(role)
    view = open_view(session, although_expired=True)
    staged = session.client.get(f"/v1/trust/staged/{name}")
    data: bytes = staged["metadata"].encode()
    published = view.role(name)
    warn_if_expired(session, name, published)
    check_next(name, published, data, staged["version"], session.now())
    check_may_sign(name, key, _appointing(session, view, name, data))
    session.out.note(f"You are about to sign {name} version {staged['version']}, staged by {staged['staged_by']}:")
    for line in changes(published, data):
        session.out.note(f"  {line}")
    session.confirm("Sign this?", yes=yes)
    return post_signature(session, name, staged["version"], data, key, passphrase_files)


def check_next(role: str, published: bytes | None, staged: bytes, version: int, now_s: float) -> None:
    """The staged metadata is of the right type, is the next version, and does not expire in the past."""
    new = metadata.parse(staged, Root).signed if role == Root.type else metadata.parse(staged, Targets).signed
    known = metadata.parse_any(published).signed.version if published is not None else 0
    if new.version != version or version != known + 1:
        raise Untrusted(
            "sign.bad_version",
            f"The hub wants version {new.version} of {role} signed, but version {known} is published.",
            hint="Do not sign; look at `skerry trust show`.",
        )
    if metadata.expiry_s(new) <= now_s:
        raise Untrusted("sign.odd_expiry", "What the hub wants signed has expired already.", hint="Do not sign.")


def _appointing(session: Session, view: RepositoryView, role: str, data: bytes) -> list[bytes]:
    """Metadata that says who may sign: what is published and, while it is being changed, what is staged."""
    if role == Root.type:
        return [view.root, data]
    delegator = Root.type if role == Targets.type else Targets.type
    found = [view.root if delegator == Root.type else view.targets]
    waiting = {item["role"]: item for item in session.client.get("/v1/trust/status")["staged"]}
    if delegator in waiting:
        found.append(waiting[delegator]["metadata"].encode())
    return found


def check_may_sign(role: str, key: Path, appointing: Sequence[bytes]) -> None:
    """Return if one of the appointing metadata names this key for the role; else `trust.unknown_key`."""
    holder = public_of(key)
    key_id = holder.key.keyid
    for data in appointing:
        try:
            quorum = metadata.quorum_of(metadata.parse_any(data).signed, role)
        except InvalidInput:
            continue  # this one appoints nobody for the role
        if key_id in quorum.key_ids:
            return
    raise Forbidden(
        "trust.unknown_key",
        f"The key {holder.name} ({key_id[:12]}…) may not sign for {role}.",
        hint="`skerry trust show` lists who may.",
    )


def post_signature(
    session: Session, role: str, version: int, data: bytes, key: Path, passphrase_files: Sequence[Path] | None
) -> dict[str, Any]:
    """Sign exactly `data` and hand the signature to the hub."""
    signer = open_signers([key], passphrase_files)[0]
    signature = metadata.make_signature(data, signer)
    body = {"version": version, "key_id": signature.keyid, "signature": signature.signature}
    answer: dict[str, Any] = session.client.post(f"/v1/trust/staged/{role}/signatures", body)
    return answer
