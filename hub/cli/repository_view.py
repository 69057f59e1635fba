"""The hub's TUF repository as a careful client sees it: verified from a root that is kept on this machine.

A person who signs must not depend on the hub's word for what is published. python-tuf's client does the checking; its
folder (below the CLI's configuration, one per hub) remembers the root and the newest versions, so a hub cannot go back
unnoticed. Without a kept root, the first one is shown with its digest for comparison (`pin`).

Expired metadata is refused, but for one purpose: to be signed again by those who let it expire. Then signatures and
versions count as always, and the person is told to compare the version with others, as a hub might show an old one.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from tuf.api.exceptions import DownloadError, DownloadHTTPError, ExpiredMetadataError, RepositoryError
from tuf.api.metadata import Root, Snapshot, Targets
from tuf.ngclient import FetcherInterface, Updater

from hub.cli.client import HubClient
from hub.cli.config import config_path
from hub.cli.session import Session
from hub.trust import metadata
from hub.trust.names import role_model, target_path
from shared import durable
from shared.errors import Conflict, NotFound, SkerryError, Unavailable, Untrusted
from shared.limits import MAX_ROOT_BYTES, MAX_TARGETS_BYTES

__all__ = ["RepositoryView", "kept_root", "open_view", "pin", "unpin", "warn_if_expired"]

T = TypeVar("T")

_NOTHING_EXPIRED = datetime(2000, 1, 1, tzinfo=UTC)
_METADATA = "/v1/tuf/"
_TARGETS = "/v1/tuf/targets/"


class HubFetcher(FetcherInterface):
    """python-tuf's network, through the CLI's own connection to the hub."""

    def __init__(self, client: HubClient) -> None:
        self._client = client

    def _fetch(self, url: str) -> Iterator[bytes]:
        try:
            data = self._client.get_bytes(urlsplit(url).path, limit=MAX_TARGETS_BYTES)
        except NotFound as error:
            raise DownloadHTTPError(error.message, 404) from error
        except SkerryError as error:
            raise DownloadError(error.message) from error
        return iter([data])


def _folder(url: str) -> Path:
    name = hashlib.sha256(url.encode()).hexdigest()[:16]
    return config_path(os.environ).parent / "trust" / name


def kept_root(url: str) -> bytes | None:
    """The newest root of this hub that this machine has verified or been given."""
    path = _folder(url) / "root.json"
    return durable.read_file(path, limit=MAX_ROOT_BYTES) if path.exists() else None


def pin(url: str, root: bytes) -> bool:
    """Trust this root for this hub from now on; False if it was kept already. Error `trust.pinned`: another one is."""
    metadata.parse(root, Root)
    folder = _folder(url)
    kept = kept_root(url)
    if kept == root:
        return False
    if kept is not None:
        raise Conflict(
            "trust.pinned",
            "This machine already trusts another root for this hub.",
            hint=f"If the hub was set up anew, remove {folder} and try again.",
        )
    durable.make_dir(folder)
    durable.write_file(folder / "root.json", root)
    return True


def unpin(url: str) -> None:
    """Forget all that is kept about a hub."""
    shutil.rmtree(_folder(url), ignore_errors=True)


class RepositoryView:
    """One verified look at the published repository."""

    def __init__(self, client: HubClient, *, although_expired: bool = False) -> None:
        self._folder = _folder(client.url)
        self._client = client
        root = kept_root(client.url)
        if root is None:
            raise Conflict(
                "trust.no_root",
                "This machine does not know the hub's trust root yet.",
                hint="Get root.json from someone who signed it, and run `skerry trust pin root.json`.",
            )
        self._updater = _verified(
            lambda: Updater(
                str(self._folder),
                f"{client.url}{_METADATA}",
                str(self._folder),
                f"{client.url}{_TARGETS}",
                fetcher=HubFetcher(client),
                bootstrap=root,
            )
        )
        if although_expired:
            self._updater._trusted_set.reference_time = _NOTHING_EXPIRED
        _verified(self._updater.refresh)

    def role(self, role: str) -> bytes | None:
        """The newest published metadata of root, targets or a model's role, verified; None if never published."""
        model = role_model(role)
        if model is not None:
            snapshot = metadata.parse(self.kept(Snapshot.type), Snapshot).signed
            if f"{role}.json" not in snapshot.meta:
                return None
            _verified(lambda: self._updater.get_targetinfo(target_path(model, 1)))
        return self.kept(role)

    @property
    def root(self) -> bytes:
        """The newest root."""
        return self.kept(Root.type)

    @property
    def targets(self) -> bytes:
        """The newest top-level targets."""
        return self.kept(Targets.type)

    def kept(self, role: str) -> bytes:
        """Verified metadata of a role as this machine keeps it."""
        return durable.read_file(self._folder / f"{role}.json", limit=MAX_TARGETS_BYTES)


def _verified(action: Callable[[], T]) -> T:
    """The result of one of python-tuf's steps, with its errors as ours."""
    try:
        return action()
    except DownloadError as error:
        raise Unavailable(
            "trust.unreachable", f"The hub's TUF repository cannot be read: {error}.", retriable=True
        ) from error
    except ExpiredMetadataError as error:
        raise Untrusted(
            "trust.expired",
            f"A role of the hub's TUF repository has expired: {error}.",
            hint="`skerry trust show` names it; its signers renew it: `skerry trust renew ROLE --sign-with NAME.key`.",
        ) from error
    except (RepositoryError, ValueError) as error:
        raise Untrusted(
            "trust.refused",
            f"The hub's TUF repository does not verify: {error}.",
            hint="Do not sign anything; ask the holders of the root keys.",
        ) from error


def open_view(session: Session, *, although_expired: bool = False) -> RepositoryView:
    """The verified repository of the session's hub; errors `trust.no_root`, `.expired`, `.refused`, `.unreachable`."""
    return RepositoryView(session.client, although_expired=although_expired)


def warn_if_expired(session: Session, role: str, data: bytes | None) -> None:
    """Tell a person who is about to sign a role again that its published metadata has expired."""
    if data is None:
        return
    signed = metadata.parse_any(data).signed
    if metadata.expiry_s(signed) <= session.now():
        session.out.warn(
            f"{role} version {signed.version} expired on {signed.expires:%Y-%m-%d}. "
            "Make sure with another signer that it is the newest version before you sign it again."
        )
