"""Reviewing and approving a version: what a reviewer needs to see, and the checks that do not trust the hub.

The staged bytes must be the verified published release plus exactly one bundle, and the key must be one that the
verified targets appoint. Card, gate result and comparison are the hub's word, unless the bundle is downloaded: then
digest, manifest and card come from the bundle itself.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuf.api.metadata import Targets

from hub.cli.repository_view import RepositoryView, open_view
from hub.cli.session import Session
from hub.cli.signatures import check_may_sign, check_next, post_signature
from hub.cli.versions import version_path
from hub.trust import metadata
from hub.trust.difference import check_only_adds
from hub.trust.names import role_of, target_path
from shared.bundle.archive import unpack_bundle
from shared.errors import Conflict, NotFound, Untrusted

__all__ = ["Review", "approve", "review"]


@dataclass(frozen=True, slots=True)
class Review:
    """A version before its approval. `data` is what will be signed; `checked`: the bundle was downloaded.

    baseline: what it is compared with, `production` or, without that alias, `approved last`; empty: nothing is there.
    """

    model: str
    version: int
    role: str
    role_version: int
    data: bytes
    bundle_sha256: str
    bundle_bytes: int
    expires_s: float
    signed: int
    threshold: int
    card: str
    gate: dict[str, Any] | None
    baseline: str
    comparison: dict[str, Any] | None
    checked: bool


def review(session: Session, model: str, version: int, key: Path, *, check_bundle: bool) -> Review:
    """Stage the release if need be, verify what is staged, and gather what a reviewer should see.

    Errors: `trust.*`, `release.*`, `sign.*`, `keys.*`, `bundle.*`.
    """
    role = role_of(model)
    item = session.client.get(version_path(model, version))
    view = open_view(session)
    check_may_sign(role, key, [view.targets])
    published = view.role(role)
    if published is not None and target_path(model, version) in metadata.parse(published, Targets).signed.targets:
        raise Conflict("release.approved", f"{model} version {version} is approved already.")
    staged = _staged(session, role, model, version)
    data: bytes = staged["metadata"].encode()
    bundle = (item["bundle_sha256"], item["bundle_bytes"])
    check_next(role, published, data, staged["version"], session.now())
    check_only_adds(published, data, model, version, bundle, session.now())
    card = _bundle_card(session, view, model, version, bundle) if check_bundle else item["card"]
    quorum = metadata.quorum_of(metadata.parse(view.targets, Targets).signed, role)
    baseline, other = _baseline(session, model, published)
    return Review(
        model=model,
        version=version,
        role=role,
        role_version=staged["version"],
        data=data,
        bundle_sha256=bundle[0],
        bundle_bytes=bundle[1],
        expires_s=metadata.expiry_s(metadata.parse(data, Targets).signed),
        signed=len(set(metadata.parse_any(data).signatures) & set(quorum.key_ids)),
        threshold=quorum.threshold,
        card=card,
        gate=next(iter(session.client.pages(f"{version_path(model, version)}/gates", limit=1)), None),
        baseline=baseline,
        comparison=_comparison(session, model, other, version),
        checked=check_bundle,
    )


def approve(session: Session, found: Review, key: Path, passphrase_files: Sequence[Path] | None) -> dict[str, Any]:
    """Sign what was reviewed and hand the signature to the hub; its answer says whether that published it."""
    return post_signature(session, found.role, found.role_version, found.data, key, passphrase_files)


def _staged(session: Session, role: str, model: str, version: int) -> dict[str, Any]:
    try:
        found: dict[str, Any] = session.client.get(f"/v1/trust/staged/{role}")
        if target_path(model, version) in metadata.parse(found["metadata"].encode(), Targets).signed.targets:
            return found
    except NotFound as error:
        if error.code != "trust.not_staged":
            raise
    staged: dict[str, Any] = session.client.post(f"{version_path(model, version)}/release")
    return staged


def _bundle_card(session: Session, view: RepositoryView, model: str, version: int, bundle: tuple[str, int]) -> str:
    """Download the bundle, check it entry by entry, and read the card that is really in it."""
    digest, size = bundle
    with tempfile.TemporaryDirectory(prefix="skerry-review-") as name:
        archive, folder = Path(name) / "bundle", Path(name) / "files"
        with session.out.progress(f"Downloading {model} {version}") as progress:
            path = f"{version_path(model, version)}/bundle"
            session.client.download(path, archive, sha256=digest, progress=progress)
        folder.mkdir()
        manifest = unpack_bundle(archive, folder, expected_sha256=digest, expected_bytes=size)
        if (manifest.model, manifest.version) != (model, version):
            raise Untrusted(
                "sign.other_bundle",
                f"The bundle with this digest is version {manifest.version} of {manifest.model}.",
                hint="Do not sign.",
            )
        return (folder / manifest.card).read_text(encoding="utf-8") if manifest.card else ""


def _production(session: Session, model: str) -> int | None:
    items = session.client.get(f"/v1/models/{model}/aliases")["items"]
    found: list[int | None] = [item["version"] for item in items if item["alias"] == "production"]
    return found[0] if found else None


def _baseline(session: Session, model: str, published: bytes | None) -> tuple[str, int | None]:
    """What devices run at most places: production, by the hub's word, else the newest version that is signed."""
    production = _production(session, model)
    if production is not None:
        return "production", production
    signed = metadata.parse(published, Targets).signed.targets if published is not None else {}
    numbers = [int(path.removeprefix(f"{model}/").removesuffix(".bundle")) for path in signed]
    return ("approved last", max(numbers)) if numbers else ("", None)


def _comparison(session: Session, model: str, other: int | None, version: int) -> dict[str, Any] | None:
    if other is None or other == version:
        return None
    answer: dict[str, Any] = session.client.get(f"/v1/models/{model}/compare", a=other, b=version)
    return answer
